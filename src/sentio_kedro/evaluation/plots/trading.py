"""Plots of trading: exposure, positions, actions, masks and round trips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sentio_kedro.evaluation.labels import layer_title, regime_title
from sentio_kedro.evaluation.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    add_heatmap,
    add_histogram,
    bucket_means,
    drawn,
    drawn_times,
    list_rows,
    new_figure,
    path_table,
    regime_colour,
    style,
    write_note,
)
from sentio_kedro.evaluation.run_frames import RunFrames

ROUND_TRIP_BINS = 50
TAIL = 0.005  # share of round trips in each outermost bar


def exposure_figure(frames: RunFrames) -> go.Figure:
    """Draw gross and net exposure above turnover, averaged over time buckets."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.62, 0.38], vertical_spacing=0.07)
    style(figure, "Exposure and turnover", 440)
    for column, title, colour, dash, row in (
        ("gross_exposure", "Gross exposure", BLUE, "solid", 1),
        ("net_exposure", "Net exposure", ORANGE, "dot", 1),
        ("turnover", "Turnover per bar", GREEN, "solid", 2),
    ):
        mean = bucket_means(path_table(frames, column)[frames.headline].to_frame("value"))
        line = {"color": colour, "width": 1.6, "dash": dash}
        figure.add_scatter(
            x=drawn_times(mean.index), y=drawn(mean["value"]), name=title, line=line, row=row, col=1,
            hovertemplate="%{y:.2%}",
        )  # fmt: skip
    figure.update_yaxes(title="Fraction of equity", tickformat=".0%", row=1, col=1)
    figure.update_yaxes(title="Per bar", tickformat=".1~%", rangemode="tozero", row=2, col=1)
    return figure


def position_figure(frames: RunFrames) -> go.Figure:
    """Draw a heat map of positions: assets by time."""
    positions = frames.positions.groupby(["timestamp", "symbol"])["position"].mean().unstack("symbol")
    figure = new_figure("Positions", height=170 + 30 * positions.shape[1])
    if not positions.empty:
        means = bucket_means(positions).round(4)
        add_heatmap(figure, means.set_axis(drawn_times(means.index)).T, "%{y}, %{x}: %{z:.1%}")
    return figure


def action_figure(frames: RunFrames) -> go.Figure:
    """Draw how often each level is chosen and how often it is legal, over all folds and assets."""
    figure = new_figure("Chosen levels", "Share of decisions", percent=True, height=340)
    order = [str(action) for action in dict.fromkeys(frames.actions["action"])]
    totals = frames.actions.groupby("action")[["count", "legal"]].sum().reindex(order)
    decisions = float(totals["count"].sum())
    if not decisions:
        write_note(figure, "No network chose a level: the forecast rule decides, or nothing can be traded.")
        return figure
    names = [f"level {action}" for action in order]
    figure.add_bar(
        x=names, y=drawn(totals["count"] / decisions), name="Chosen", marker={"color": BLUE},
        hovertemplate="chosen %{y:.1%}",
    )  # fmt: skip
    figure.add_scatter(
        x=names, y=drawn(totals["legal"] / decisions), mode="markers", name="Legal",
        marker={"symbol": "line-ew-open", "size": 26, "color": GREY, "line": {"width": 2}},
        hovertemplate="legal %{y:.1%}",
    )  # fmt: skip
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(rangemode="tozero", tickformat=".0%")
    return figure


def round_trip_figure(frames: RunFrames) -> go.Figure:
    """Draw a histogram of round trips by net result; the outermost bars collect the tails."""
    figure = new_figure("Round trips", "Round trips", height=340)
    results = frames.trades[frames.trades["account"] == frames.headline]["return"].to_numpy(dtype=np.float64)
    if len(results):
        add_histogram(figure, results, ROUND_TRIP_BINS, "%{x:.3%}: %{y}", TAIL)
        figure.update_xaxes(title="Net result, fraction of equity at entry", tickformat=".2~%")
    return figure


def mask_figure(masks: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw the share of target levels that each layer forbids, one bar per regime.

    Args:
        masks: ``masks`` of the metrics; layers that forbid nothing are left out.
    """
    layers = list(dict.fromkeys(entry["layer"] for entry in masks))
    layers = [layer for layer in layers if any(entry["layer"] == layer and entry["forbidden"] for entry in masks)]
    regimes = 1 + max((entry["regime"] for entry in masks), default=0)
    figure = new_figure("Levels that the action mask forbids", height=150 + (14 * regimes + 12) * max(1, len(layers)))
    for regime in range(regimes):
        shares = {entry["layer"]: entry["forbidden"] for entry in masks if entry["regime"] == regime}
        figure.add_bar(
            orientation="h", x=drawn([shares[layer] or 0.0 for layer in layers]),
            y=[layer_title(layer) for layer in layers], name=regime_title(regime, regimes),
            marker={"color": regime_colour(regime, regimes)}, hovertemplate="%{y}: %{x:.1%}",
        )  # fmt: skip
    figure.update_layout(barmode="group", bargap=0.25, showlegend=regimes > 1)
    figure.update_xaxes(title="Share of target levels", tickformat=".1~%", rangemode="tozero")
    list_rows(figure)
    if not layers:
        write_note(figure, "No layer forbids anything." if masks else "Not recorded.")
    return figure
