"""Features that a trained network selects, read from its frozen masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


def selected_features(weights: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Any]:
    """Describe the feature columns and lags that a network selects.

    Args:
        weights: State of a ``PolicyNetwork``.
        names: Feature columns in the order of the network.

    Returns:
        ``selected_features`` (names with commas; empty if there is none), ``selected_columns`` (how many),
        ``feature_columns`` (how many there are) and ``selected_lags`` (bars in the convolution, the present one
        included).
    """
    mask = weights["encoder.feature_mask"].bool()  # values, then sizes [2, F]
    values, sizes = mask.tolist()
    return {
        "selected_features": ", ".join(selected_names(names, values, sizes)),
        "selected_columns": int(mask.any(0).sum()),
        "feature_columns": mask.shape[1],
        "selected_lags": int(weights["encoder.lag_mask"].sum()),
    }


def selected_names(names: Sequence[str], values: Sequence[bool], sizes: Sequence[bool]) -> list[str]:
    """Name selected inputs: ``name`` for a column's value, ``size of name`` for its size."""
    selected = []
    for name, value, size in zip(names, values, sizes, strict=True):
        selected += [name] * value + [f"size of {name}"] * size
    return selected
