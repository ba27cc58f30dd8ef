"""What the layers of the action mask forbade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from sentio_kedro.evaluation.labels import layer_title, regime_title
from sentio_kedro.evaluation.plots.style import BLUE, ORANGE, SKY, VERMILLION, drawn, new_figure

REGIME_COLOURS = (SKY, ORANGE, VERMILLION)  # calm, in between, volatile


def mask_figure(masks: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw the share of target levels that each layer forbade, one bar per regime.

    Args:
        masks: ``masks`` of the metrics; layers that never forbade anything are left out.

    Returns:
        Bars, one group per layer, in the order of the layers; empty without telemetry.
    """
    layers = [layer for layer in dict.fromkeys(entry["layer"] for entry in masks) if _forbade(masks, layer)]
    regimes = 1 + max((entry["regime"] for entry in masks), default=0)
    figure = new_figure("What the action mask forbade", "", height=150 + (14 * regimes + 12) * max(1, len(layers)))
    for regime in range(regimes):
        shares = {entry["layer"]: entry["forbidden"] for entry in masks if entry["regime"] == regime}
        colour = BLUE if regimes == 1 else regime_colour(regime, regimes)
        figure.add_bar(
            orientation="h", x=drawn([shares[layer] or 0.0 for layer in layers]),
            y=[layer_title(layer) for layer in layers], name=regime_title(regime, regimes), marker={"color": colour},
            hovertemplate="%{y}: %{x:.1%}",
        )  # fmt: skip
    figure.update_layout(hovermode="closest", barmode="group", bargap=0.25, showlegend=regimes > 1)
    figure.update_xaxes(title="Share of target levels", tickformat=".1~%", rangemode="tozero")
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, automargin=True)
    if not layers:
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
        figure.add_annotation(text="No layer forbade anything." if masks else "Not recorded.", showarrow=False)
    return figure


def _forbade(masks: Sequence[Mapping[str, Any]], layer: str) -> bool:
    return any(entry["layer"] == layer and entry["forbidden"] for entry in masks)


def regime_colour(regime: int, regimes: int) -> str:
    """Colour of one of several regimes, calm to volatile."""
    place = round(regime / (regimes - 1) * (len(REGIME_COLOURS) - 1))
    return REGIME_COLOURS[place]
