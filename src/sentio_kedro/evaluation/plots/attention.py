"""Figure of the attention over time: how much chosen bars heed the bars before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sentio_kedro.evaluation.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    drawn,
    drawn_times,
    style,
)
from sentio_kedro.market.timestamps import Floats

TITLE = "Attention to earlier bars"
FEW_LAGS = 48  # up to so many, gaps between cells and marks on lines leave room for what they are about on a phone
ROW_HEIGHT, LINE_HEIGHT, GAP = 26, 190, 44  # pixels: a bar of a heat map, the lines, between two plots
MARGINS = 112 + 52  # pixels above and below all plots
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY)  # of heads; more are not drawn
FAINT = "rgba(138,143,152,0.55)"


def attention_figure(attention: pd.DataFrame, seed: int, encoder: str) -> go.Figure:
    """Draw the first layer's attention: a heat map of bar and lag per head, and the mean weight by lag.

    Heads of different networks have nothing in common, so the heat maps are of one network, the first member of one
    agent; the means of all other heads are drawn beside its own. Assets are averaged.

    Args:
        attention: ``fold seed member layer head symbol timestamp lag weight``.
        seed: Seed of the agent whose heads are drawn.
        encoder: Encoder of the agents, which tells why nothing may be there to draw.

    Returns:
        The figure; a sentence where there is nothing to draw.
    """
    first = attention[attention["layer"] == 0]
    mine = first[(first["seed"] == seed) & (first["member"] == 0)]
    if mine.empty:
        return _nothing(encoder)
    heads = sorted({(int(fold), int(head)) for fold, head in mine[["fold", "head"]].to_numpy()})[: len(COLOURS)]
    panels = [
        mine[(mine["fold"] == fold) & (mine["head"] == head)].groupby(["timestamp", "lag"])["weight"].mean().unstack()
        for fold, head in heads
    ]
    names = [f"Head {head}" if mine["fold"].nunique() == 1 else f"Fold {fold}, head {head}" for fold, head in heads]
    titles = [
        f'<span style="color:{colour}">\u25a0</span> {name}' for name, colour in zip(names, COLOURS, strict=False)
    ]
    figure = _panes(titles, panels)
    means = first.groupby(["fold", "seed", "member", "head", "lag"])["weight"].mean().unstack()
    lines = dict(zip(means.index.tolist(), means.to_numpy(), strict=True))
    own = {name: lines.pop((fold, seed, 0, head)) for name, (fold, head) in zip(names, heads, strict=True)}
    _add_lines(figure, own, list(lines.values()), len(heads) + 1)
    return figure


def _nothing(encoder: str) -> go.Figure:
    figure = go.Figure()
    style(figure, TITLE, 200)
    text = (
        "The agents' encoder is an mlp, which has no attention."
        if encoder == "mlp"
        else "No bar was looked at (reporting.attention_bars)."
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text=text, showarrow=False)
    return figure


def _panes(titles: list[str], panels: list[pd.DataFrame]) -> go.Figure:
    """Lay out one heat map per head and an empty plot beneath for the lines."""
    heights = [*(ROW_HEIGHT * len(panel) for panel in panels), LINE_HEIGHT]
    whole = sum(heights) + GAP * len(panels)
    figure = make_subplots(
        rows=len(heights), cols=1, row_heights=heights, vertical_spacing=GAP / whole, shared_xaxes=True,
        subplot_titles=[*titles, "Mean weight by lag"],
    )  # fmt: skip
    figure.update_annotations(x=0.0, xanchor="left", font={"size": 13})
    style(figure, TITLE, whole + MARGINS)
    for row, panel in enumerate(panels, start=1):
        times = drawn_times(panel.index)
        figure.add_heatmap(
            z=[drawn(weights) for weights in panel.to_numpy()], x=list(panel.columns), y=times, coloraxis="coloraxis",
            xgap=int(panel.shape[1] <= FEW_LAGS), ygap=1, row=row, col=1,
            hovertemplate="%{y}, %{x} bars before: %{z:.1%}<extra></extra>",
        )  # fmt: skip
        figure.update_yaxes(
            type="category", autorange="reversed", showgrid=False, automargin=True, ticks="", row=row, col=1
        )  # fmt: skip
        figure.update_xaxes(showgrid=False, ticks="", row=row, col=1)
    scale = [[0.0, "rgba(0,114,178,0.04)"], [1.0, "rgba(0,114,178,1)"]]  # clear, so that it suits light and dark
    bar = {"thickness": 10, "outlinewidth": 0, "tickformat": ".0%", "x": 1.01, "xpad": 0, "nticks": 6}
    colours = {"colorscale": scale, "cmin": 0.0, "cmax": max(panel.to_numpy().max() for panel in panels)}
    figure.update_layout(coloraxis={**colours, "colorbar": bar}, hovermode="closest", showlegend=False)
    figure.update_xaxes(zeroline=False)
    return figure


def _add_lines(figure: go.Figure, own: Mapping[str, Floats], others: Sequence[Floats], row: int) -> None:
    """Draw mean weights by lag: in colour the heads that are drawn above, faint all others."""
    lags: list[int | None] = list(range(len(next(iter(own.values())))))
    if others:
        figure.add_scatter(
            x=[*lags, None] * len(others), y=[weight for line in others for weight in (*drawn(line), None)],
            mode="lines", line={"color": FAINT, "width": 1}, hoverinfo="skip", row=row, col=1,
        )  # fmt: skip
    even = {"color": GREY, "width": 1.4, "dash": "dot"}
    figure.add_scatter(
        x=lags, y=drawn([1.0 / len(lags)] * len(lags)), mode="lines", line=even, hoverinfo="skip", row=row, col=1
    )  # fmt: skip
    for (name, weights), colour in zip(own.items(), COLOURS, strict=False):
        figure.add_scatter(
            x=lags, y=drawn(weights), mode="lines+markers" if len(lags) <= FEW_LAGS else "lines",
            line={"color": colour, "width": 2.2}, marker={"size": 5},
            hovertemplate=f"{name}, %{{x}} bars before: %{{y:.1%}}<extra></extra>", row=row, col=1,
        )  # fmt: skip
    figure.update_xaxes(range=[-0.5, len(lags) - 0.5])
    figure.update_xaxes(title="Lag, bars before the decision", row=row, col=1)
    figure.update_yaxes(tickformat=".0%", rangemode="tozero", row=row, col=1)
