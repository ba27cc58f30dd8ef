"""The reporting pipeline reads every frame of the backtest and shows its figures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from sentio_kedro.config import (
    IngestionParameters,
    OrderParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.evaluation.plots.draw import CAPTIONS
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.purged_folds import Fold, Segment, Spans
from sentio_kedro.pipelines.reporting import nodes
from sentio_kedro.pipelines.reporting.pipeline import create_pipeline


def test_every_frame_of_the_backtest_is_read() -> None:
    read = create_pipeline().inputs()
    frames = {"accounts", "positions", "trades", "holdings", "actions", "masks", "value_at_risk", "robustness"}
    assert frames | {"params:trading"} <= read
    drawn = {f"{name}_figure" for name in CAPTIONS} - {"folds_figure"}
    assert drawn <= create_pipeline().all_outputs()
    assert "folds_figure" in create_pipeline().inputs()


def test_facts_are_those_of_the_run() -> None:
    trading = TradingParameters(max_drawdown=0.08, orders=OrderParameters(latency_bars=2))
    frames: Any = SimpleNamespace(agent_table=pd.DataFrame({"peak_device_bytes": [np.nan]}))
    bars: Any = SimpleNamespace(timestamps=np.datetime64("2024-01-01", "ns") + np.arange(96) * np.timedelta64(30, "m"))
    fold = Fold(0, (Segment(0, 20), Segment(30, 35)), (), (Segment(20, 30),))
    folds = Folds.of([fold], Spans(1, 1, 1), bars.timestamps)
    parameters = IngestionParameters(), TrainingParameters(), trading
    facts = nodes.state_facts(bars, folds, frames, *parameters, "combinatorial")
    assert (facts.max_drawdown, facts.scheme, facts.train_bars) == (0.08, "combinatorial", 25)
    assert (facts.latency_bars, facts.accelerator_peak_bytes) == (2, None)


def test_kedro_viz_gets_its_figures_in_the_order_of_their_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {name: go.Figure() for name in reversed(CAPTIONS)}
    monkeypatch.setattr(nodes, "draw_figures", lambda *_: drawn)
    unused: Any = None
    made = dict(
        zip(
            create_pipeline().only_nodes("draw").nodes[0].outputs,
            nodes.draw(unused, unused, {}, go.Figure()),
            strict=True,
        )
    )
    assert set(made) == {f"{name}_figure" for name in CAPTIONS if name != "folds"}
    assert all(figure is drawn[name.removesuffix("_figure")] for name, figure in made.items())


def test_the_report_gets_every_figure_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    received: dict[str, go.Figure] = {}
    monkeypatch.setattr(nodes, "render_report", lambda metrics, figures, **_: received.update(figures) or "page")
    inputs = create_pipeline().only_nodes("write_report").nodes[0].inputs
    figures = {name: go.Figure() for name in inputs if name.endswith("_figure")}
    assert nodes.write_report({}, {}, {}, {}, *figures.values()) == "page"
    assert list(received) == list(CAPTIONS)
    assert all(figure is figures[f"{name}_figure"] for name, figure in received.items())
