"""Plots of distributions: Sharpe ratios by path or fold, regime probabilities and daily returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from sentio_kedro.evaluation.labels import TITLES, regime_title
from sentio_kedro.evaluation.measures.accounts import day_numbers
from sentio_kedro.evaluation.measures.returns import daily_returns
from sentio_kedro.evaluation.plots.style import (
    BLUE,
    BUCKETS,
    COLOURS,
    GREY,
    add_histogram,
    drawn,
    drawn_times,
    list_rows,
    new_figure,
    regime_colour,
    regime_means,
    write_note,
)
from sentio_kedro.evaluation.run_frames import ENSEMBLE, SEED_PREFIX, RunFrames, account_table

COMPARED = {ENSEMBLE: "agent", "buy_and_hold": "buy_and_hold", "equal_weight": "equal_weight"}  # accounts and titles
SYMBOLS = ("star-diamond", "diamond-tall", "line-ns-open")
DAY_BINS = 60
TAIL = 0.002  # share of the days in each outermost bar


def sharpe_path_figure(paths: Mapping[str, Any]) -> go.Figure:
    """Draw Sharpe ratios, one row per backtest path or fold, and a box of all seeds.

    Args:
        paths: ``paths`` of the metrics, see ``sharpe_paths``.
    """
    kind = paths["kind"]
    title = "Sharpe ratios of the backtest paths" if kind == "path" else "Sharpe ratio by fold"
    agents = [entry for entry in paths["entries"] if entry["account"].startswith(SEED_PREFIX)]
    rows = sorted({entry["number"] for entry in paths["entries"]})
    box, names = f"All {kind}s", {number: f"{kind.capitalize()} {number}" for number in rows}
    figure = new_figure(title, height=220 + 26 * len(rows))
    ratios = drawn([entry["sharpe"] for entry in agents])
    figure.add_box(
        x=ratios, y=[box] * len(agents), orientation="h", boxpoints=False, name="Quartiles of all", hoverinfo="x",
        line={"color": BLUE, "width": 1.6}, fillcolor="rgba(0,114,178,0.18)",
    )  # fmt: skip
    figure.add_scatter(
        x=ratios, y=[names[entry["number"]] for entry in agents], mode="markers", name="Seeds",
        marker={"color": BLUE, "size": 9, "opacity": 0.7}, hovertemplate="%{y}, %{text}: %{x:.2f}<extra></extra>",
        text=[f"Seed {entry['account'].removeprefix(SEED_PREFIX)}" for entry in agents],
    )  # fmt: skip
    for (account, key), symbol in zip(COMPARED.items(), SYMBOLS, strict=True):
        entries = [entry for entry in paths["entries"] if entry["account"] == account]
        figure.add_scatter(
            x=drawn([entry["sharpe"] for entry in entries]), y=[names[entry["number"]] for entry in entries],
            mode="markers", name=TITLES[key], hovertemplate=f"{TITLES[key]}: %{{x:.2f}}<extra></extra>",
            marker={"color": COLOURS[key], "size": 11, "symbol": symbol, "line": {"width": 2}},
        )  # fmt: skip
    figure.update_xaxes(title="Sharpe ratio, annualised", zeroline=True, zerolinecolor=GREY)
    list_rows(figure, categoryorder="array", categoryarray=[box, *names.values()])
    return figure


def regime_figure(frames: RunFrames) -> go.Figure:
    """Draw the regime probabilities over the test bars, calm at the bottom."""
    figure = new_figure("Regime probabilities", "Probability", percent=True, height=280)
    means = regime_means(frames, BUCKETS)
    if means.empty:
        write_note(figure, "The run holds no regimes of these agents.")
        return figure
    x, regimes = drawn_times(means.index), means.shape[1]
    for number, state in enumerate(means.columns):
        figure.add_scatter(
            x=x, y=drawn(means[state]), name=regime_title(number, regimes), stackgroup="regimes", mode="lines",
            line={"width": 0.5, "color": regime_colour(number, regimes)}, hovertemplate="%{y:.0%}",
        )  # fmt: skip
    figure.update_yaxes(range=[0, 1], tickformat=".0%")
    return figure


def daily_figure(frames: RunFrames, metrics: Mapping[str, Any]) -> go.Figure:
    """Draw a histogram of the headline account's daily returns with its value at risk and conditional value at risk.

    Args:
        frames: Frames of the run.
        metrics: Metrics of that account, see ``account_metrics``.
    """
    figure = new_figure("Daily returns", "Days", height=320)
    returns = account_table(frames, "return")[[frames.headline]]
    days = daily_returns(returns.to_numpy(dtype=np.float64), day_numbers(frames, returns.index))[:, 0]
    reach = add_histogram(figure, days, DAY_BINS, "%{x:.2%}: %{y} days", TAIL)
    for title, key, side, shift in (
        ("Value at risk", "daily_value_at_risk", "left", 4),
        ("Conditional", "daily_conditional_value_at_risk", "right", -4),
    ):
        if metrics[key] is not None and metrics[key] < reach:
            figure.add_vline(x=-metrics[key], line={"color": GREY, "dash": "dash", "width": 1.4})
            figure.add_annotation(
                x=-metrics[key], y=1.0, yref="paper", yanchor="top", xanchor=side, xshift=shift,
                text=f"{title} {metrics[key]:.2%}", showarrow=False, font={"size": 11},
            )  # fmt: skip
    figure.update_xaxes(title="Daily return", tickformat=".1~%")
    figure.update_yaxes(type="log", dtick=1)
    return figure
