"""Figures of live trading beside its backtest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sentio_kedro.evaluation.live.band import Band
from sentio_kedro.evaluation.live.measures import Comparison, live_returns
from sentio_kedro.evaluation.live.split import NEGLIGIBLE, PARTS, by_day
from sentio_kedro.evaluation.plots.style import (
    AGENT_RANGE,
    BLUE,
    BROWN,
    GREEN,
    GREY,
    LAVENDER,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    drawn,
    drawn_times,
    keep_extremes,
    list_rows,
    new_figure,
    write_note,
)
from sentio_kedro.evaluation.statistics.bootstrap import confidence_percent, percentile_interval

TITLES = {
    "bars_revised": "Bars revised",
    "missed_bars": "Bars missed",
    "decisions": "Decisions",
    "slippage": "Slippage",
    "fees": "Fees",
    "cash": "Cash",
    "unexplained": "Unexplained",
}
COLOURS = dict(zip(PARTS, (SKY, LAVENDER, ORANGE, VERMILLION, PURPLE, GREEN, BROWN), strict=True))
CAPTIONS = {  # in the order of the page
    "live_equity": "Value of 1 at the journal's first decision: the live account without cash that was moved in, the "
    "backtest on the dataset's bars, and the range of resampled out-of-sample paths.",
    "live_parts": "How the causes add up, as fractions of the first equity. Each bar is what one of them adds.",
    "live_days": "The same causes by UTC day, as fractions of the first equity.",
    "live_actions": "Share of the decisions in which each target level was chosen, live and in the backtest on the "
    "journal's bars. Decisions without a level (agents that abstain, closed positions) are left out.",
}
AGREE = "Live and backtest agree on every day."
MANY_DAYS = 400  # beyond it the days of a figure are summed
ROOM = 0.4  # of the bars' width, for texts beside them


def live_figures(comparison: Comparison, band: Band, metrics: Mapping[str, Any]) -> dict[str, go.Figure]:
    """Draw every figure of the page, in the order of ``CAPTIONS``."""
    return {
        "live_equity": equity_figure(comparison, band, metrics["band"]["confidence"]),
        "live_parts": parts_figure(metrics["difference"]["fraction"]),
        "live_days": days_figure(comparison.steps, comparison.account.equity[0]),
        "live_actions": actions_figure(metrics["actions"]),
    }


def equity_figure(comparison: Comparison, band: Band, confidence: float) -> go.Figure:
    """Draw live and backtest over time, and the band of resampled paths."""
    account, figure = comparison.account, new_figure("Equity, live and backtest", "Value of 1", height=440)
    live = np.concatenate([[1.0], np.cumprod(1.0 + live_returns(account))])
    tested = comparison.delivered.equity_at(account.stamps)
    ends = np.array([percentile_interval(values, confidence) for values in band.growth.T])
    ends, places = np.concatenate([np.ones((1, 2)), ends]), np.concatenate([[0], band.bars])
    x, title = drawn_times(pd.Index(account.stamps[places])), f"{confidence_percent(confidence)} of the record"
    figure.add_scatter(x=x, y=drawn(ends[:, 1]), line={"width": 0}, showlegend=False, hoverinfo="skip")
    figure.add_scatter(
        x=x, y=drawn(ends[:, 0]), line={"width": 0}, fill="tonexty", fillcolor=AGENT_RANGE, name=title,
        hoverinfo="skip",
    )  # fmt: skip
    table = pd.DataFrame({"backtest": tested / tested[0], "live": live}, index=pd.DatetimeIndex(account.stamps))
    table = keep_extremes(table)
    styles = {
        "backtest": {"color": ORANGE, "width": 1.8, "dash": "dash"},
        "live": {"color": BLUE, "width": 2.6},
    }
    for name, line in styles.items():
        figure.add_scatter(
            x=drawn_times(table.index), y=drawn(table[name]), name=name.capitalize(), line=line,
            hovertemplate="%{y:.4f}",
        )  # fmt: skip
    figure.update_yaxes(tickformat=".3~f")
    return figure


def parts_figure(fraction: Mapping[str, float]) -> go.Figure:
    """Draw how the causes add up to live less backtest."""
    figure = new_figure("Live less backtest", height=130 + 34 * (len(PARTS) + 1))
    names = [*(TITLES[part] for part in PARTS), "Live less backtest"]
    values = [*(fraction[part] for part in PARTS), fraction["difference"]]
    values = [value if abs(value) > NEGLIGIBLE else 0.0 for value in values]
    if not any(values):
        write_note(figure, AGREE)
        return figure
    figure.add_waterfall(
        orientation="h", y=names, x=drawn(values),
        measure=[*["relative"] * len(PARTS), "total"],
        text=[_signed(value) for value in values], textposition="outside", cliponaxis=False,
        increasing={"marker": {"color": GREEN}}, decreasing={"marker": {"color": VERMILLION}},
        totals={"marker": {"color": BLUE}}, connector={"line": {"color": GREY, "width": 1, "dash": "dot"}},
        hovertemplate="%{y}: %{text}<extra></extra>",
    )  # fmt: skip
    steps = np.cumsum([0.0, *values[:-1]])
    low, high = float(min(0.0, steps.min())), float(max(0.0, steps.max()))
    room = ROOM * ((high - low) or 1e-6)
    figure.update_layout(showlegend=False)
    figure.update_xaxes(
        title="Fraction of the first equity", tickformat=".3~%", nticks=5, range=[low - room, high + room]
    )
    list_rows(figure)
    return figure


def days_figure(steps: pd.DataFrame, equity: float) -> go.Figure:
    """Draw the causes of each day's difference as stacked bars, those that never were left out."""
    figure = new_figure("Difference by day", "Fraction of the first equity", height=360)
    days = by_day(steps)
    parts = [part for part in PARTS if days[part].abs().max() > NEGLIGIBLE * equity]
    group = np.arange(len(days)) // -(-len(days) // MANY_DAYS)
    table = days.groupby(group)[list(PARTS)].sum() / equity
    x = drawn_times(pd.Index(days.groupby(group)["day"].first().dt.tz_localize(None)))
    for part in parts:
        figure.add_bar(
            x=[time[:10] for time in x], y=drawn(table[part]), name=TITLES[part], marker={"color": COLOURS[part]},
            hovertemplate="%{y:.4%}",
        )  # fmt: skip
    if not parts:
        write_note(figure, AGREE)
    figure.update_layout(barmode="relative", bargap=0.15)
    figure.update_yaxes(tickformat=".3~%")
    return figure


def actions_figure(actions: list[Mapping[str, Any]]) -> go.Figure:
    """Draw how often each level was chosen."""
    figure = new_figure("Actions", "Share of decisions", percent=True, height=320)
    names = [f"{entry['level']:+g}" if entry["level"] else "0" for entry in actions]
    if not any(entry[side] is not None for entry in actions for side in ("live", "backtest")):
        write_note(figure, "No level was chosen: the agents abstain or follow their rule.")
        return figure
    for side, colour in (("live", BLUE), ("backtest", ORANGE)):
        shares = [entry[side] if entry[side] is not None else np.nan for entry in actions]
        figure.add_bar(
            x=names, y=drawn(shares), name=side.capitalize(), marker={"color": colour}, hovertemplate="%{y:.1%}"
        )
    figure.update_xaxes(type="category", title="Target level")
    figure.update_layout(barmode="group")
    return figure


def _signed(value: float) -> str:
    text = f"{100.0 * value:+.3f}\u00a0%"
    return (text if any(digit in text for digit in "123456789") else "0\u00a0%").replace("-", "\u2212")
