"""The test of an external agent: what it says of the lockbox, and whose limits and origin it reports."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.config import (
    CrossValidationParameters,
    IngestionParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.pipeline_registry import register_pipelines
from sentio_kedro.pipelines.external_test import nodes

TIMES = np.arange("2024-01-01", "2024-04-10", dtype="datetime64[D]").astype("datetime64[ns]")
BARS = SimpleNamespace(timestamps=TIMES, leavers=None)
AGENT = SimpleNamespace(
    spec=SimpleNamespace(fold=1, required_bars=3, trading=TradingParameters(max_drawdown=0.2), hashes={})
)


@pytest.mark.parametrize(("rows", "traded"), [(range(100), 20), (range(85, 90), 5), (range(80), 0)])
def test_an_agent_that_trades_the_lockbox_is_warned_of(caplog, rows, traded):
    accounts = pd.DataFrame({"row": [*rows, *rows]})
    parameters = CrossValidationParameters(lockbox=0.2), TrainingParameters()
    folds = nodes.locate_test_rows(AGENT, BARS, accounts, *parameters)
    assert folds.folds[0].test == ((rows[0], rows[-1] + 1),)
    assert folds.lockbox_dates == {"first": "2024-03-21T00:00:00Z", "last": "2024-04-09T00:00:00Z"}
    assert (f"traded {traded} bars of this project's lockbox" in caplog.text) == (traded > 0)
    assert bool(caplog.text) == (traded > 0)


def test_without_a_lockbox_there_is_no_warning(caplog):
    accounts = pd.DataFrame({"row": range(100)})
    folds = nodes.locate_test_rows(AGENT, BARS, accounts, CrossValidationParameters(lockbox=None), TrainingParameters())
    assert (folds.lockbox, caplog.text) == (None, "")


def test_an_agent_brings_its_own_drawdown_limit():
    facts = nodes.state_facts(AGENT, BARS, IngestionParameters())
    assert (facts.max_drawdown, facts.scheme) == (0.2, "walk_forward")


def test_it_reads_bars_and_ledgers_and_replaces_nothing_of_the_backtest():
    pipeline = register_pipelines()["external_test"]
    datasets = {name for name in pipeline.inputs() if not name.startswith("params:")}
    assert datasets == {"aligned_bars", "data_quality", "trials", "lockbox_openings@read", "parameters"}
    assert all(name.startswith("external_test.") for name in pipeline.all_outputs())
