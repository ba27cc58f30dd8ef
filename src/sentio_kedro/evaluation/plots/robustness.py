"""What is left of the result when costs, latency, the start or the market's path change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sentio_kedro.evaluation.plots.style import AGENT_RANGE, BLUE, GREY, ORANGE, VERMILLION, drawn, style

PANELS = {
    "cost": "Total return by multiple of the trading costs",
    "latency": "Sharpe ratio by bars of latency",
    "start": "Sharpe ratio by bars that the start is delayed",
    "path": "Resampled markets by total return",
}
PANEL_HEIGHT = 190  # pixels
PATH_BINS = 12


def robustness_figure(robustness: pd.DataFrame, figures: Mapping[str, Any]) -> go.Figure:
    """Draw the agents' Sharpe ratio or return under changed conditions, one small plot per kind.

    Args:
        robustness: Frame ``robustness`` of the run; kinds that were not simulated are left out.
        figures: ``robustness`` of the metrics.

    Returns:
        Median and range over agents by value; total returns of the resampled paths as a histogram, median agent.
    """
    kinds = [kind for kind in PANELS if (robustness["kind"] == kind).any()]
    rows = max(1, len(kinds))
    titles = [PANELS[kind] for kind in kinds] or None
    figure = make_subplots(rows=rows, cols=1, subplot_titles=titles, vertical_spacing=0.3 / rows)
    figure.update_annotations(x=0.0, xanchor="left", font={"size": 13})
    style(figure, "Under other conditions", 120 + PANEL_HEIGHT * rows)
    for place, kind in enumerate(kinds, start=1):
        part = robustness[robustness["kind"] == kind]
        if kind == "path":
            _add_paths(figure, part, place)
        else:
            _add_variants(figure, part, "total_return" if kind == "cost" else "sharpe", place)
    found = figures["break_even"]
    if "cost" in kinds and found is not None and found["multiplier"] is not None:
        figure.add_vline(x=found["multiplier"], line={"color": VERMILLION, "dash": "dash", "width": 1.4}, row=1, col=1)
        text = f"breaks even at {found['multiplier']:.2f}"
        figure.add_annotation(
            text=text, x=found["multiplier"], y=1.0, yref="y domain", xanchor="left", yanchor="top", xshift=4,
            showarrow=False, font={"color": VERMILLION, "size": 11},
        )  # fmt: skip
    if not kinds:
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
        figure.add_annotation(text="Not simulated.", showarrow=False)
    figure.update_layout(hovermode="closest", showlegend=False)
    return figure


def _add_variants(figure: go.Figure, part: pd.DataFrame, measure: str, row: int) -> None:
    table = part.pivot(index="value", columns="account", values=measure).sort_index()
    x = drawn(table.index.to_numpy(dtype=np.float64))
    written = ".1%" if measure == "total_return" else ".2f"
    if table.shape[1] > 1:
        for side, fill in ((table.max(axis=1), None), (table.min(axis=1), "tonexty")):
            figure.add_scatter(
                x=x, y=drawn(side), mode="lines", line={"width": 0}, fill=fill, fillcolor=AGENT_RANGE,
                hoverinfo="skip", row=row, col=1,
            )  # fmt: skip
    figure.add_scatter(
        x=x, y=drawn(table.median(axis=1)), mode="lines+markers", line={"color": BLUE, "width": 2.4},
        marker={"size": 7}, hovertemplate=f"%{{x}}: %{{y:{written}}}<extra></extra>", row=row, col=1,
    )  # fmt: skip
    ticks = ".0%" if measure == "total_return" else None
    figure.update_yaxes(tickformat=ticks, rangemode="tozero", zeroline=True, zerolinecolor=GREY, row=row, col=1)
    figure.update_xaxes(tickvals=x, row=row, col=1)


def _add_paths(figure: go.Figure, part: pd.DataFrame, row: int) -> None:
    returns = part.groupby("value")["total_return"].median().to_numpy(dtype=np.float64)
    low, high = float(returns.min()), float(returns.max())
    reach = max(abs(low), abs(high)) or 1e-6
    counts, edges = np.histogram(returns, bins=np.linspace(-reach, reach, 2 * (PATH_BINS // 2) + 1))
    middle = (edges[1:] + edges[:-1]) / 2.0
    figure.add_bar(
        x=drawn(middle), y=counts.tolist(), marker={"color": [BLUE if value > 0.0 else ORANGE for value in middle]},
        hovertemplate="%{x:.1%}: %{y} paths<extra></extra>", row=row, col=1,
    )  # fmt: skip
    figure.update_xaxes(tickformat=".0%", row=row, col=1)
    figure.update_yaxes(rangemode="tozero", row=row, col=1)
