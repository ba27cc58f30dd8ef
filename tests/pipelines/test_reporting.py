"""The reporting pipeline reads every frame of the backtest and shows its figures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from sentio_kedro.config import (
    IngestionParameters,
    OrderParameters,
    TradingParameters,
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
    bars: Any = SimpleNamespace(
        timestamps=np.datetime64("2024-01-01", "ns") + np.arange(96) * np.timedelta64(30, "m"), leavers=None
    )
    fold = Fold(0, (Segment(0, 20), Segment(30, 35)), (), (Segment(20, 30),))
    folds = Folds.of([fold], Spans(1, 1, 1), bars.timestamps)
    facts = nodes.state_facts(bars, folds, IngestionParameters(), trading, "combinatorial")
    assert (facts.max_drawdown, facts.scheme, facts.latency_bars) == (0.08, "combinatorial", 2)


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


def test_neither_addresses_in_mlflow_nor_the_order_of_the_files_of_parameters_change_the_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nodes, "render_report", lambda metrics, figures, data_quality, context: list(context.items()))
    figures = [go.Figure()] * len(CAPTIONS)
    one = {"agents": ["fold_0/seed_0"], "content": "c0ffee", "model_uri": "models:/m-1", "model": "a", "version": "1"}
    other = one | {"model_uri": "models:/m-2", "version": "7"}
    parameters = {"trading": {"costs": {"impact": 0.5}, "levels": [0.0, 1.0]}, "reporting": {"seed": 4}}
    turned = {"reporting": {"seed": 4}, "trading": {"levels": [0.0, 1.0], "costs": {"impact": 0.5}}}
    quality = {"bars_hash": "b"}
    page: Any = nodes.write_report({}, quality, one, parameters, *figures)
    assert page == nodes.write_report({}, quality, other, turned | {"comparison": {"newest": 3}}, *figures)
    assert page[:2] == [("bars", "b"), ("agents", "c0ffee")]
    names = [name for name, _ in page[2:]]
    assert names == sorted(names)
    assert {("trading.costs.impact", 0.5), ("reporting.seed", 4)} <= {row for row in page if row[0] != "trading.levels"
                                                                     and isinstance(row[1], int | float)}  # fmt: skip


def test_the_report_gets_every_figure_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    received: dict[str, go.Figure] = {}
    monkeypatch.setattr(nodes, "render_report", lambda metrics, figures, **_: received.update(figures) or "page")
    inputs = create_pipeline().only_nodes("write_report").nodes[0].inputs
    figures = {name: go.Figure() for name in inputs if name.endswith("_figure")}
    assert nodes.write_report({}, {}, {}, {}, *figures.values()) == "page"
    assert list(received) == list(CAPTIONS)
    assert all(figure is figures[f"{name}_figure"] for name, figure in received.items())
