"""Plot of the share of target levels that the action mask forbids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from sentio_kedro.evaluation.labels import layer_title, regime_title
from sentio_kedro.evaluation.plots.style import drawn, list_rows, new_figure, regime_colour, write_note


def mask_figure(masks: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw the share of target levels that each layer forbids, one bar per regime.

    Args:
        masks: ``masks`` of the metrics; layers that forbid nothing are left out.
    """
    layers = list(dict.fromkeys(entry["layer"] for entry in masks))
    layers = [layer for layer in layers if any(entry["layer"] == layer and entry["forbidden"] for entry in masks)]
    regimes = 1 + max((entry["regime"] for entry in masks), default=0)
    figure = new_figure("Levels that the action mask forbids", height=150 + (14 * regimes + 12) * max(1, len(layers)))
    for regime in range(regimes):
        shares = {entry["layer"]: entry["forbidden"] for entry in masks if entry["regime"] == regime}
        figure.add_bar(
            orientation="h", x=drawn([shares[layer] or 0.0 for layer in layers]),
            y=[layer_title(layer) for layer in layers], name=regime_title(regime, regimes),
            marker={"color": regime_colour(regime, regimes)}, hovertemplate="%{y}: %{x:.1%}",
        )  # fmt: skip
    figure.update_layout(barmode="group", bargap=0.25, showlegend=regimes > 1)
    figure.update_xaxes(title="Share of target levels", tickformat=".1~%", rangemode="tozero")
    list_rows(figure)
    if not layers:
        write_note(figure, "No layer forbids anything." if masks else "Not recorded.")
    return figure
