"""The reporting pipeline reads every frame of the backtest and shows its figures."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from sentio_kedro.config import (
    BacktestParameters,
    IngestionParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.evaluation.plots.draw import CAPTIONS
from sentio_kedro.evaluation.run_frames import COLUMNS
from sentio_kedro.pipelines.reporting import nodes
from sentio_kedro.pipelines.reporting.pipeline import create_pipeline


def _empty(name: str) -> pd.DataFrame:
    return pd.DataFrame(columns=list(COLUMNS[name]))


def _bars() -> pd.DataFrame:
    times = pd.date_range("2024-01-01", periods=96, freq="30min", tz="UTC")
    price = np.linspace(1.0, 2.0, 96)
    prices = dict.fromkeys(("open", "high", "low", "close"), price)
    return pd.DataFrame({"timestamp": times, "symbol": "BTC", **prices, "volume": 1.0})


def _facts(backtest: BacktestParameters) -> Any:
    trading = TradingParameters(max_drawdown=0.08)
    frames: Any = SimpleNamespace(agent_table=pd.DataFrame({"peak_device_bytes": [np.nan]}))
    return nodes.state_facts(
        *(_bars(), None, frames, IngestionParameters(), TrainingParameters(), trading, "combinatorial", backtest)
    )


def test_every_frame_of_the_backtest_is_read() -> None:
    read = create_pipeline().inputs()
    assert {"accounts", "positions", "trades", "actions", "masks", "robustness", "params:trading"} <= read
    drawn = {f"{name}_figure" for name in CAPTIONS} - {"folds_figure"}
    assert drawn <= create_pipeline().outputs()
    assert "folds_figure" in create_pipeline().inputs()


def test_frames_that_no_stage_wrote_are_empty() -> None:
    accounts = _empty("accounts")
    accounts["account"] = ["seed_0", "buy_and_hold", "equal_weight", "momentum", "random"]
    written = [_empty(name) for name in ("positions", "trades", "actions", "masks", "robustness")]
    frames = nodes.collect_frames(accounts, *written, None, None, None, BacktestParameters())
    assert tuple(frames.training_curves.columns) == COLUMNS["training_curves"]
    assert frames.masks is written[3]
    assert frames.robustness is written[4]


def test_the_drawdown_limit_is_that_of_the_run() -> None:
    facts = _facts(BacktestParameters())
    assert (facts.max_drawdown, facts.scheme) == (0.08, "combinatorial")


def test_an_agent_from_elsewhere_brings_its_own_drawdown_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = SimpleNamespace(spec=SimpleNamespace(trading=TradingParameters(max_drawdown=0.2)))
    monkeypatch.setattr(nodes.AgentBundle, "load", lambda folder: bundle if str(folder) == "elsewhere" else None)
    facts = _facts(BacktestParameters(agent="elsewhere"))
    assert (facts.max_drawdown, facts.scheme) == (0.2, "walk_forward")


def test_kedro_viz_gets_its_figures_in_the_order_of_their_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {name: go.Figure() for name in reversed(CAPTIONS)}
    monkeypatch.setattr(nodes, "draw_figures", lambda *_: drawn)
    unused: Any = None
    made = dict(
        zip(
            create_pipeline().only_nodes("draw").nodes[0].outputs,
            nodes.draw(unused, unused, {}, None, BacktestParameters()),
            strict=True,
        )
    )
    assert made.pop("figures") == drawn
    assert all(figure is drawn[name.removesuffix("_figure")] for name, figure in made.items())


@pytest.mark.parametrize(("agent", "shown"), [(None, True), ("elsewhere", False)])
def test_an_agent_from_elsewhere_is_reported_without_this_projects_folds(
    monkeypatch: pytest.MonkeyPatch, agent: str | None, shown: bool
) -> None:
    given = []
    monkeypatch.setattr(nodes, "draw_figures", lambda *known: given.append(known[-1]) or defaultdict(go.Figure))
    unused: Any = None
    folds = go.Figure()
    nodes.draw(unused, unused, {}, folds, BacktestParameters(agent=agent))
    assert (given[0] is folds) == shown
