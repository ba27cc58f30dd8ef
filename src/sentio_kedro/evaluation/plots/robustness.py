"""Plots of the stress tests: costs, latency, start and resampled markets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sentio_kedro.evaluation.plots.style import (
    BLUE,
    GREY,
    VERMILLION,
    add_histogram,
    drawn,
    style,
    write_note,
)

PANELS = {
    "cost": "Total return by multiple of the trading costs",
    "latency": "Sharpe ratio by bars of latency",
    "start": "Sharpe ratio by the share of each fold after which an account begins",
    "path": "Resampled markets by total return",
}
PANEL_HEIGHT = 190  # pixels
PATH_BINS = 12


def robustness_figure(robustness: pd.DataFrame, break_even: Mapping[str, Any] | None) -> go.Figure:
    """Draw the agent by stress, and a histogram of total returns on resampled markets.

    Args:
        robustness: Frame ``robustness`` of the run; kinds that were not simulated are left out.
        break_even: ``break_even`` of the metrics.
    """
    kinds = [kind for kind in PANELS if (robustness["kind"] == kind).any()]
    rows = max(1, len(kinds))
    titles = [PANELS[kind] for kind in kinds] or None
    figure = make_subplots(rows=rows, cols=1, subplot_titles=titles, vertical_spacing=0.3 / rows)
    figure.update_annotations(x=0.0, xanchor="left", font={"size": 13})
    style(figure, "Stress tests", 120 + PANEL_HEIGHT * rows)
    for place, kind in enumerate(kinds, start=1):
        rows_of_kind = robustness[robustness["kind"] == kind]
        if kind == "path":
            returns = rows_of_kind["total_return"].to_numpy(dtype=np.float64)
            add_histogram(figure, returns, PATH_BINS, "%{x:.1%}: %{y} markets", row=place, col=1)
            figure.update_xaxes(tickformat=".0%", row=place, col=1)
            figure.update_yaxes(rangemode="tozero", row=place, col=1)
        else:
            _add_variants(figure, rows_of_kind, "total_return" if kind == "cost" else "sharpe", place)
    if "cost" in kinds and break_even is not None and break_even["multiplier"] is not None:
        multiplier = break_even["multiplier"]
        figure.add_vline(x=multiplier, line={"color": VERMILLION, "dash": "dash", "width": 1.4}, row=1, col=1)
        figure.add_annotation(
            text=f"breaks even at {multiplier:.2f}", x=multiplier,
            y=1.0, yref="y domain", xanchor="left", yanchor="top", xshift=4,
            showarrow=False, font={"color": VERMILLION, "size": 11},
        )  # fmt: skip
    if not kinds:
        write_note(figure, "Not simulated.")
    figure.update_layout(hovermode="closest", showlegend=False)
    return figure


def _add_variants(figure: go.Figure, part: pd.DataFrame, measure: str, row: int) -> None:
    part = part.sort_values("value")
    x = drawn(part["value"].to_numpy(dtype=np.float64))
    hover = ".1%" if measure == "total_return" else ".2f"
    figure.add_scatter(
        x=x, y=drawn(part[measure]), mode="lines+markers", line={"color": BLUE, "width": 2.4},
        marker={"size": 7}, hovertemplate=f"%{{x}}: %{{y:{hover}}}<extra></extra>", row=row, col=1,
    )  # fmt: skip
    ticks = ".0%" if measure == "total_return" else None
    figure.update_yaxes(tickformat=ticks, rangemode="tozero", zeroline=True, zerolinecolor=GREY, row=row, col=1)
    figure.update_xaxes(tickvals=x, row=row, col=1)
