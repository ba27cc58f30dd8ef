"""Plots of forecasts and the evidence for them."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sentio_kedro.evaluation.plots.style import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, new_figure, style

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION)
PARTS = (("correlation", "train rows, out of fold", "circle"), ("validation_correlation", "validation rows", "x"))


def evidence_figure(evidence: pd.DataFrame) -> go.Figure:
    """Draw the correlation of each expert's forecast and the return by segment, one small plot per sleeve.

    Args:
        evidence: As from ``evidence_frame``; the mean over folds is drawn.
    """
    sleeves, segments = list(evidence["sleeve"].unique()), list(evidence["segment"].unique())
    if not sleeves:
        return new_figure("Correlation of forecasts and returns: no fold had enough train rows", height=240)
    titles = [f"{sleeve.capitalize()} returns" for sleeve in sleeves]
    figure = make_subplots(rows=1, cols=len(sleeves), subplot_titles=titles, shared_yaxes=True)
    for column, sleeve in enumerate(sleeves, start=1):
        of_sleeve = evidence[evidence["sleeve"] == sleeve]
        for colour, (expert, rows) in zip(COLOURS, of_sleeve.groupby("expert", sort=False), strict=False):
            mean = rows.groupby("segment")[[name for name, _, _ in PARTS]].mean().reindex(segments)
            for name, title, symbol in PARTS:
                figure.add_scatter(
                    x=segments, y=mean[name], mode="lines+markers", name=f"{expert}, {title}", legendgroup=expert,
                    showlegend=column == 1, line={"color": colour, "dash": "solid" if symbol == "circle" else "dot"},
                    marker={"symbol": symbol, "size": 8}, row=1, col=column,
                    hovertemplate=f"{expert}, {title}, bars %{{x}}: %{{y:.3f}}<extra></extra>",
                )  # fmt: skip
    style(figure, "Correlation of forecasts and returns", 420)
    figure.update_xaxes(title="Bars after the decision", type="category")
    figure.update_yaxes(title="Correlation", zeroline=True, zerolinecolor=GREY, col=1)
    return figure
