"""Plots of forecasts and the evidence for them."""

from __future__ import annotations

from itertools import cycle

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sentio_kedro.evaluation.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    PURPLE,
    SKY,
    VERMILLION,
    drawn,
    new_figure,
    style,
    write_note,
)

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY, PINK)
PARTS = (("correlation", "train rows, out of fold"), ("validation_correlation", "validation rows"))
PANEL, MARGINS, LEGEND = 260, 150, 96  # pixels: height of a sleeve's row, of what surrounds the rows, below them


def evidence_figure(evidence: pd.DataFrame) -> go.Figure:
    """Draw the correlation of each expert's forecast and the return by segment, one row of plots per sleeve.

    Args:
        evidence: As from ``evidence_frame``; each fold is a thin line, the mean over folds a thick one.
    """
    sleeves, segments = list(evidence["sleeve"].unique()), list(evidence["segment"].unique())
    if not sleeves:
        figure = new_figure("Correlation of forecasts and returns", height=240)
        write_note(figure, "No fold had enough train rows to forecast, or the agents act on no forecasts of this run.")
        return figure
    titles = [f"{sleeve.capitalize()} returns, {title}" for sleeve in sleeves for _, title in PARTS]
    spacing = {"vertical_spacing": 0.2 / len(sleeves), "horizontal_spacing": 0.06}
    figure = make_subplots(len(sleeves), len(PARTS), subplot_titles=titles, shared_yaxes=True, **spacing)
    colours = dict(zip(evidence["expert"].unique(), cycle(COLOURS), strict=False))
    for (sleeve, expert), rows in evidence.groupby(["sleeve", "expert"], sort=False):
        for column, (name, title) in enumerate(PARTS, start=1):
            by_fold = rows.pivot(index="segment", columns="fold", values=name).reindex(segments)
            lines = {"mean": by_fold.mean(axis=1), **{f"fold {fold}": by_fold[fold] for fold in by_fold}}
            for line, values in lines.items():
                mean = line == "mean"
                figure.add_scatter(
                    x=segments, y=drawn(values), mode="lines+markers" if mean else "lines",
                    name=str(expert).replace("_", " "), legendgroup=expert,
                    showlegend=mean and sleeve == sleeves[0] and column == 1, opacity=1.0 if mean else 0.45,
                    line={"color": colours[expert], "width": 2.5 if mean else 1.0}, row=sleeves.index(sleeve) + 1,
                    col=column, hovertemplate=f"{expert}, {title}, {line}, bars %{{x}}: %{{y:.3f}}<extra></extra>",
                )  # fmt: skip
    style(figure, "Correlation of forecasts and returns", MARGINS + PANEL * len(sleeves))
    below = {"yref": "container", "y": 0.0, "yanchor": "bottom"}
    figure.update_layout(legend=below, margin={"b": LEGEND}, hovermode="closest")
    figure.update_xaxes(type="category")
    figure.update_xaxes(title="Bars after the decision", row=len(sleeves))
    figure.update_yaxes(zeroline=True, zerolinecolor=GREY)
    figure.update_yaxes(title="Correlation", col=1)
    return figure
