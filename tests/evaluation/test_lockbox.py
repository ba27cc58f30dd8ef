"""The lockbox: one accounting with the backtest, and openings that are told even where they failed."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.backtest.test_backtest import BARS, COLUMNS, FOLDS, LIMITS, QUICK, make_agent, make_bars

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import BacktestParameters, ReportingParameters
from sentio_kedro.evaluation.backtest.backtest import backtest_folds
from sentio_kedro.evaluation.lockbox import (
    FIGURES,
    TRADED,
    lockbox_metrics,
    opening_record,
    openings,
    result_record,
    trade_lockbox,
)
from sentio_kedro.evaluation.metrics import build_metrics
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.purged_folds import Segment

AGENTS = [make_agent(1, 0), make_agent(1, 1)]
ROWS = Segment(220, BARS - 1)
SYMBOLS = make_bars().symbols
MODEL, OTHER = "a" * 64, "b" * 64


def at(minute):
    return datetime(2024, 5, 1, 12, minute, tzinfo=UTC)


def opened(minute=0, model=MODEL):
    return opening_record(at(minute), model, AGENTS, make_bars(), ROWS, "bars")


@pytest.fixture(scope="module")
def measured(make_run, facts):
    frames = {name: getattr(make_run(), name) for name in TRADED}
    return lockbox_metrics(frames, facts, ReportingParameters(bootstrap_samples=60))


def test_the_lockbox_is_traded_as_the_backtest_trades() -> None:
    bars = make_bars()
    features = compute_features(bars, COLUMNS)
    parameters = BacktestParameters()
    fold = replace(FOLDS[1], train=(Segment(30, 150),), validation=(Segment(150, 180),), test=(Segment(180, 218),))
    frames = trade_lockbox(bars, features, fold, ROWS, AGENTS, LIMITS, parameters, 17520.0)
    by_name = {agent.name: agent for agent in AGENTS}
    plain, same = replace(parameters, robustness=QUICK.robustness), replace(fold, test=(ROWS,))
    expected = backtest_folds(bars, features, [same], by_name, LIMITS, plain, 17520.0)
    for name in TRADED[:-1]:  # the last is robustness
        pd.testing.assert_frame_equal(frames[name], expected[name])
    assert frames["robustness"].empty
    assert {"ridge", "regime_rule"} <= set(frames["accounts"]["account"])  # fitted on the fold's train rows
    assert set(frames["accounts"]["row"]) == set(range(*ROWS))
    first = frames["accounts"].groupby("account").first()
    np.testing.assert_allclose(first["equity"], 1e6 * (1.0 + first["return"]))  # flat at the first bar


def test_agents_that_saw_the_lockbox_are_refused() -> None:
    bars = make_bars()
    seen = AgentBundle(replace(AGENTS[0].spec, train_end="2030-01-01T00:00:00+00:00"), AGENTS[0].weights)
    with pytest.raises(ValueError, match="was trained on bars from"):
        trade_lockbox(bars, compute_features(bars, COLUMNS), FOLDS[1], ROWS, [seen], LIMITS, QUICK, 17520.0)


def test_figures_are_those_of_the_report(measured: dict[str, Any], make_run: Any, facts: Any) -> None:
    expected = build_metrics(make_run(), facts, ReportingParameters(bootstrap_samples=60))
    assert measured["agent"] == expected["agent"] | {"members": None}  # this ledger knows nothing of the training
    assert measured["momentum"] == expected["momentum"]
    assert measured["comparisons"] == expected["comparisons"]
    json.dumps(measured, allow_nan=False)


def test_each_seed_has_its_own_interval(measured: dict[str, Any]) -> None:
    assert [entry["seed"] for entry in measured["seeds"]] == [0, 1]
    for entry in measured["seeds"]:
        assert entry["sharpe_low"] < entry["sharpe"] < entry["sharpe_high"]
    assert measured["seeds"][0]["sharpe_low"] != measured["seeds"][1]["sharpe_low"]


def test_an_opening_names_time_model_and_span() -> None:
    record = opened()
    timestamps = pd.DatetimeIndex(make_bars().timestamps).tz_localize("UTC")
    assert (record["first"], record["last"]) == (timestamps[220].isoformat(), timestamps[-1].isoformat())
    assert (record["event"], record["time"]) == ("opened", "2024-05-01T12:00:00.000000+00:00")
    assert (record["model"], record["agents"]) == (MODEL, ["fold_1/seed_0", "fold_1/seed_1"])


def test_openings_of_any_model_are_told_and_one_without_a_result_counts(measured: dict[str, Any]) -> None:
    failed, other, mine = opened(0), opened(1, OTHER), opened(2)
    records = [failed, other, result_record(at(3), other, measured), mine, result_record(at(4), mine, measured)]
    listed = openings(records, MODEL, SYMBOLS, failed)
    assert [entry["time"] for entry in listed] == [failed["time"], other["time"], mine["time"]]
    assert [entry["this_model"] for entry in listed] == [True, False, True]
    assert [entry["finished"] for entry in listed] == [False, True, True]
    assert {listed[0][name] for name in FIGURES} == {None}
    assert listed[2]["sharpe"] == measured["agent"]["sharpe"]
    assert listed[2]["max_drawdown"] == measured["agent"]["max_drawdown"]


def test_no_record_is_no_opening() -> None:
    assert openings([], MODEL, SYMBOLS, None) == []


def test_openings_that_looked_at_other_bars_are_not_of_this_lockbox() -> None:
    record = opened()
    first, last = pd.Timestamp(record["first"]), pd.Timestamp(record["last"])
    hour = pd.Timedelta(hours=1)

    def counted(start, stop, symbols=SYMBOLS):
        named = {
            "first": f"{start.isoformat()[:19]}Z",
            "last": f"{stop.isoformat()[:19]}Z",
        }  # as folds.json writes them
        return len(openings([record], OTHER, symbols, named))

    assert counted(first, last) == counted(last, last + hour) == counted(first - hour, first) == 1
    assert counted(first + hour, first + hour) == 1
    assert counted(last + hour, last + 2 * hour) == counted(first - 2 * hour, first - hour) == 0
    assert counted(first, last, [SYMBOLS[0], "another"]) == 1
    assert counted(first, last, ["another"]) == 0
    assert len(openings([record], OTHER, SYMBOLS, None)) == 1
    assert openings([record], OTHER, ["another"], None) == []


def test_openings_of_one_model_have_keys_of_their_own() -> None:
    assert opened(0)["opening"] != opened(1)["opening"]
    assert opened(0)["opening"] != opened(0, OTHER)["opening"]
    assert SimpleNamespace(**opened(0)).opening.startswith("aaaaaaaa ")
