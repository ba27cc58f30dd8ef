"""Plots of learning: train, validation and test Sharpe ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sentio_kedro.evaluation.plots.style import BLUE, GREY, ORANGE, VERMILLION, drawn, list_rows, new_figure, style

COLUMNS = 2  # of small plots
SIDES = (("train_sharpe", "Train", ORANGE, "circle"), ("validation_sharpe", "Validation", BLUE, "square"))


def training_figure(curves: pd.DataFrame) -> go.Figure:
    """Draw train and validation Sharpe ratios by update, one small plot per fold.

    Args:
        curves: ``fold seed member update train_sharpe validation_sharpe``; rows without a validation are left out.
    """
    validated = curves.dropna(subset=["validation_sharpe"])
    folds = sorted(int(fold) for fold in validated["fold"].unique())
    if not folds:
        return new_figure("Learning curves", "Sharpe ratio, annualised", height=240)
    rows = -(-len(folds) // COLUMNS)
    columns = min(COLUMNS, len(folds))
    titles = [f"Fold {fold}" for fold in folds]
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=titles, shared_yaxes=True, vertical_spacing=0.28 / rows,
        horizontal_spacing=0.04,
    )  # fmt: skip
    for index, fold in enumerate(folds):
        curves_of_fold = list(validated[validated["fold"] == fold].groupby(["seed", "member"]))
        names = [f"seed {seed}, member {member}" for (seed, member), _ in curves_of_fold]
        for column, title, colour, symbol in SIDES:  # one trace with gaps: hundreds of them are slow to draw
            x, y, text = _with_gaps([curve for _, curve in curves_of_fold], names, column)
            figure.add_scatter(
                x=x, y=y, text=text, mode="lines+markers", name=title, legendgroup=title, showlegend=index == 0,
                line={"color": colour, "width": 1.4}, marker={"symbol": symbol, "size": 6}, opacity=0.8,
                row=index // columns + 1, col=index % columns + 1,
                hovertemplate=f"{title}, %{{text}}, update %{{x}}: %{{y:.2f}}<extra></extra>",
            )  # fmt: skip
    style(figure, "Learning curves", 170 + 210 * rows)
    figure.update_layout(hovermode="closest", legend={"y": 1.0 + 0.22 / rows})
    figure.update_xaxes(title="Update", row=rows)
    figure.update_yaxes(title="Sharpe ratio", col=1)
    return figure


def _with_gaps(
    curves: Sequence[pd.DataFrame], names: Sequence[str], column: str
) -> tuple[list[float | None], list[float | None], list[str]]:
    """Updates, values and names of several curves, a gap after each."""
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for curve, name in zip(curves, names, strict=True):
        x += [*curve["update"].tolist(), None]
        y += [*drawn(curve[column]), None]
        text += [name] * (len(curve) + 1)
    return x, y, text


def generalisation_figure(folds: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw each agent's Sharpe ratio on train, validation and test rows on one line.

    Args:
        folds: ``folds`` of the metrics.
    """
    names = [f"Fold {entry['fold']}, seed {entry['seed']}" for entry in folds]
    figure = new_figure("Train, validation, test", height=140 + 26 * len(names))
    sides = (*SIDES, ("sharpe", "Test", VERMILLION, "diamond"))
    x: list[float | None] = []
    y: list[str | None] = []
    for name, entry in zip(names, folds, strict=True):
        ratios = [entry[column] for column, *_ in sides if entry[column] is not None]
        if ratios:
            x += [min(ratios), max(ratios), None]
            y += [name, name, None]
    figure.add_scatter(x=x, y=y, mode="lines", line={"color": GREY, "width": 1}, showlegend=False, hoverinfo="skip")
    for column, title, colour, symbol in sides:
        figure.add_scatter(
            x=[entry[column] for entry in folds], y=names, mode="markers", name=title,
            marker={"color": colour, "symbol": symbol, "size": 10}, hovertemplate=f"{title}: %{{x:.2f}}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title="Sharpe ratio, annualised", zeroline=True, zerolinecolor=GREY)
    list_rows(figure)
    return figure
