"""Plot of the folds: train, validation, test and excluded rows over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from sentio_kedro.evaluation.plots.style import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    TITLE_MARGIN,
    VERMILLION,
    drawn_times,
    style,
)
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.purged_folds import Fold, Segment, left_out

ROW, ROWS, AXIS = 26, 900, 52  # pixels of a fold's row, of all rows at most, and of the axis below them
LABELLED = 40  # most folds that are all labelled on the axis
STYLES = {  # colour and pattern of each part, for printing without colours
    "train": (BLUE, ""),
    "purged": (GREY, "x"),
    "validation": (SKY, "."),
    "test": (ORANGE, ""),
    "embargoed": (VERMILLION, "/"),
    "lockbox": (PURPLE, "\\"),
}


def fold_figure(folds: Folds, timestamps: NDArray[np.datetime64]) -> go.Figure:
    """Draw every fold as a row of its train, validation, test and excluded rows over time.

    Args:
        folds: The folds and the lockbox.
        timestamps: Bar ends [T] of the aligned grid, UTC.
    """
    figure = go.Figure()
    style(figure, "Folds", TITLE_MARGIN + AXIS + min(ROWS, ROW * len(folds.folds)))
    parts: dict[str, list[tuple[int, Segment]]] = {name: [] for name in STYLES}
    for fold in folds.folds:
        for name, segments in _parts(fold, folds.lockbox).items():
            parts[name] += [(fold.number, segment) for segment in segments]
    for name, drawn in parts.items():
        if drawn:
            figure.add_trace(_trace(name, drawn, timestamps))
    figure.update_layout(barmode="overlay", bargap=0.22, hovermode="closest")
    figure.update_xaxes(type="date")
    every = {"dtick": 1} if len(folds.folds) <= LABELLED else {}
    figure.update_yaxes(title="Fold", autorange="reversed", showgrid=False, zeroline=False, **every)
    return figure


def _parts(fold: Fold, lockbox: Segment | None) -> dict[str, Sequence[Segment]]:
    purged, embargoed = left_out(fold)
    locked = [] if lockbox is None else [lockbox]
    used = {"train": fold.train, "validation": fold.validation, "test": fold.test}
    return {**used, "purged": purged, "embargoed": embargoed, "lockbox": locked}


def _trace(name: str, drawn: Sequence[tuple[int, Segment]], timestamps: NDArray[np.datetime64]) -> go.Bar:
    """Make bars from the first row of each segment to the row after its last."""
    starts = timestamps[[segment.start for _, segment in drawn]]
    ends = timestamps[[min(segment.stop, len(timestamps) - 1) for _, segment in drawn]]
    lasts = timestamps[[segment.stop - 1 for _, segment in drawn]]
    rows = [f"{segment.stop - segment.start:,}" for _, segment in drawn]
    first, last = drawn_times(pd.Index(starts)), drawn_times(pd.Index(lasts))
    colour, pattern = STYLES[name]
    return go.Bar(
        name=name.capitalize(),
        orientation="h",
        base=first,
        x=((ends - starts) / np.timedelta64(1, "ms")).tolist(),  # a date axis adds milliseconds to the base
        y=[number for number, _ in drawn],
        customdata=list(zip(first, last, rows, strict=True)),
        hovertemplate=f"Fold %{{y}}, {name}<br>%{{customdata[0]}} to %{{customdata[1]}}"
        "<br>%{customdata[2]} rows<extra></extra>",
        marker={
            "color": colour,
            "line": {"width": 0},
            "pattern": {"shape": pattern, "fgcolor": "#FFFFFF", "fillmode": "overlay", "size": 6, "solidity": 0.25},
        },
    )
