"""Figures of distributions: Sharpe ratios by path or fold, regimes over time, and returns of days."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from sentio_kedro.evaluation.labels import TITLES, regime_title
from sentio_kedro.evaluation.measures.accounts import day_numbers
from sentio_kedro.evaluation.measures.returns import daily_returns
from sentio_kedro.evaluation.plots.limits import regime_colour
from sentio_kedro.evaluation.plots.style import (
    BLUE,
    COLOURS,
    GREY,
    VERMILLION,
    bucket_means,
    drawn,
    drawn_times,
    new_figure,
)
from sentio_kedro.evaluation.run_frames import SEED_PREFIX, RunFrames, account_table, median_seed

POSTERIOR_BUCKETS = 400
COMPARED = ("buy_and_hold", "equal_weight")  # baselines that are marked beside the agents
SYMBOLS = ("diamond-tall", "line-ns-open")
DAY_BINS = 60
TAIL = 0.002  # share of the days gathered in each outermost bar


def sharpe_path_figure(paths: Mapping[str, Any]) -> go.Figure:
    """Draw the Sharpe ratio of every agent on every backtest path, or in every fold, beside two baselines.

    Args:
        paths: ``paths`` of the metrics, see ``sharpe_paths``.

    Returns:
        One row per path or fold, and above them all agents' ratios as one box.
    """
    kind = paths["kind"]
    title = "Sharpe ratios of the backtest paths" if kind == "path" else "Sharpe ratio by fold"
    agents = [entry for entry in paths["entries"] if entry["account"].startswith(SEED_PREFIX)]
    rows = sorted({entry["number"] for entry in paths["entries"]})
    whole, names = f"All {kind}s", {number: f"{kind.capitalize()} {number}" for number in rows}
    figure = new_figure(title, "", height=220 + 26 * len(rows))
    ratios = drawn([entry["sharpe"] for entry in agents])
    figure.add_box(
        x=ratios, y=[whole] * len(agents), orientation="h", boxpoints=False, name="Quartiles of all", hoverinfo="x",
        line={"color": BLUE, "width": 1.6}, fillcolor="rgba(0,114,178,0.18)",
    )  # fmt: skip
    figure.add_scatter(
        x=ratios, y=[names[entry["number"]] for entry in agents], mode="markers", name="Agents",
        marker={"color": BLUE, "size": 9, "opacity": 0.7}, hovertemplate="%{y}, %{text}: %{x:.2f}<extra></extra>",
        text=[f"Seed {entry['account'].removeprefix(SEED_PREFIX)}" for entry in agents],
    )  # fmt: skip
    for account, symbol in zip(COMPARED, SYMBOLS, strict=True):
        mine = [entry for entry in paths["entries"] if entry["account"] == account]
        figure.add_scatter(
            x=drawn([entry["sharpe"] for entry in mine]), y=[names[entry["number"]] for entry in mine],
            mode="markers", name=TITLES[account], hovertemplate=f"{TITLES[account]}: %{{x:.2f}}<extra></extra>",
            marker={"color": COLOURS[account], "size": 11, "symbol": symbol, "line": {"width": 2}},
        )  # fmt: skip
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(title="Sharpe ratio, annualised", zeroline=True, zerolinecolor=GREY)
    order = {"categoryorder": "array", "categoryarray": [whole, *names.values()]}
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, automargin=True, **order)
    return figure


def regime_figure(frames: RunFrames) -> go.Figure:
    """Draw the probabilities of the regimes over the unseen bars, calm at the bottom, averaged over short spans."""
    figure = new_figure("Regimes", "Probability", percent=True, height=280)
    first, last = frames.accounts["timestamp"].min(), frames.accounts["timestamp"].max()
    posterior = frames.regime_posteriors[frames.regime_posteriors["timestamp"].between(first, last)]
    states = [str(name) for name in posterior.columns if str(name).startswith("state_")]
    if posterior.empty:
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
        figure.add_annotation(text="The agents' regimes are not known here.", showarrow=False)
        return figure
    means = bucket_means(posterior.groupby("timestamp")[states].mean(), POSTERIOR_BUCKETS)
    x = drawn_times(means.index)
    for number, state in enumerate(states):
        colour = BLUE if len(states) == 1 else regime_colour(number, len(states))
        figure.add_scatter(
            x=x, y=drawn(means[state]), name=regime_title(number, len(states)), stackgroup="regimes", mode="lines",
            line={"width": 0.5, "color": colour}, hovertemplate="%{y:.0%}",
        )  # fmt: skip
    figure.update_yaxes(range=[0, 1], tickformat=".0%")
    return figure


def daily_figure(frames: RunFrames, figures: Mapping[str, Any]) -> go.Figure:
    """Draw a histogram of the returns of days of the median agent, with its value at risk and the mean beyond it.

    Args:
        frames: Frames of the run.
        figures: Figures of that agent, see ``account_metrics``.

    Returns:
        Bars; the outermost ones hold everything beyond them.
    """
    figure = new_figure("Returns of days", "Days", height=320)
    returns = account_table(frames, "return")[[median_seed(frames)]]
    days = daily_returns(returns.to_numpy(dtype=np.float64), day_numbers(frames, returns.index))[:, 0]
    reach = max(abs(float(value)) for value in np.quantile(days, [TAIL, 1.0 - TAIL])) or 1e-6
    counts, edges = np.histogram(days.clip(-reach, reach), bins=np.linspace(-reach, reach, DAY_BINS + 1))
    middle = (edges[1:] + edges[:-1]) / 2.0
    figure.add_bar(
        x=drawn(middle), y=counts.tolist(), marker={"color": [BLUE if value > 0.0 else VERMILLION for value in middle]},
        hovertemplate="%{x:.2%}: %{y} days<extra></extra>",
    )  # fmt: skip
    lines = {"Value at risk": "daily_value_at_risk", "mean beyond": "daily_conditional_value_at_risk"}
    for place, (title, key) in enumerate(lines.items()):
        if figures[key] is not None and figures[key] < reach:
            figure.add_vline(x=-figures[key], line={"color": GREY, "dash": "dash", "width": 1.4})
            figure.add_annotation(
                x=-figures[key], y=1.0 - 0.12 * place, yref="paper", yanchor="top", xanchor="right", xshift=-4,
                text=f"{title} {figures[key]:.2%}", showarrow=False, font={"size": 11},
            )  # fmt: skip
    figure.update_layout(hovermode="closest", showlegend=False, bargap=0.05)
    figure.update_xaxes(title="Return of a day", tickformat=".1~%")
    figure.update_yaxes(type="log", dtick=1)
    return figure
