"""Plots of the ledger: from price profit to net result, in sum and over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from sentio_kedro.evaluation.labels import ALWAYS_DRAWN, LINE_TITLES
from sentio_kedro.evaluation.measures.attribution import COSTS, GROSS, TRADING_COSTS
from sentio_kedro.evaluation.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    add_fold_borders,
    drawn,
    drawn_times,
    keep_extremes,
    list_rows,
    new_figure,
    path_table,
)
from sentio_kedro.evaluation.run_frames import LINES, RunFrames

TEXT_ROOM = 0.45  # of the width, for the numbers next to the bars


def ledger_figure(costs: Mapping[str, Any]) -> go.Figure:
    """Draw a waterfall from price profit through every ledger line to the net result.

    Args:
        costs: ``costs`` of an account, see ``attribution.ledger_sums``. Lines of zero are left out, except those of
            ``ALWAYS_DRAWN``.
    """
    lines = [line for line in LINES if line in ALWAYS_DRAWN or costs[line] != 0.0]
    values = [LINES[line] * costs[line] for line in lines]
    names = [LINE_TITLES[line] for line in lines]
    steps = [sum(values[: index + 1]) for index in range(len(values))]
    figure = new_figure("From price profit to net result", height=130 + 34 * (len(lines) + 1))
    figure.add_waterfall(
        orientation="h",
        y=[*names, "Net result"],
        x=drawn([*values, costs["net"]]),
        measure=[*(["relative"] * len(values)), "total"],
        text=[f"{100.0 * value:+.2f}\u00a0%".replace("-", "\u2212") for value in [*values, costs["net"]]],
        textposition="outside",
        cliponaxis=False,
        increasing={"marker": {"color": GREEN}},
        decreasing={"marker": {"color": VERMILLION}},
        totals={"marker": {"color": BLUE}},
        connector={"line": {"color": GREY, "width": 1, "dash": "dot"}},
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    low, high = min(0.0, *steps), max(0.0, *steps)
    room = TEXT_ROOM * ((high - low) or 1.0)
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title="Sum of fractions of equity", tickformat=".1~%", range=[low - room, high + room])
    list_rows(figure)
    return figure


def cost_figure(frames: RunFrames) -> go.Figure:
    """Draw cumulative gross profit, trading costs, holding costs and net profit of the headline account."""
    figure = new_figure("Costs against gross profit over time", "Sum of fractions of equity", percent=True)
    paths = pd.DataFrame({line: path_table(frames, line)[frames.headline].cumsum() for line in LINES})
    gross, trading = paths[list(GROSS)].sum(axis=1), paths[list(TRADING_COSTS)].sum(axis=1)
    holding = paths[list(COSTS)].sum(axis=1) - trading
    net = gross - trading - holding + paths["shortfall"]
    lines = keep_extremes(pd.DataFrame({"trading": trading, "holding": holding, "gross": gross, "net": net}))
    x = drawn_times(lines.index)
    for column, title, line, fill in (
        ("trading", "Trading costs", {"color": ORANGE, "width": 1.2}, "tozeroy"),
        ("holding", "Holding costs", {"color": PURPLE, "width": 1.6, "dash": "dot"}, None),
        ("gross", "Gross profit", {"color": GREEN, "width": 2.2, "dash": "dash"}, None),
        ("net", "Net profit", {"color": BLUE, "width": 2.2}, None),
    ):
        figure.add_scatter(x=x, y=drawn(lines[column]), name=title, line=line, fill=fill, hovertemplate="%{y:.2%}")
    add_fold_borders(figure, frames)
    return figure
