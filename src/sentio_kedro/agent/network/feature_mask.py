"""What a trained network hears of its features, read from its frozen scale and lags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


def selected_features(weights: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Any]:
    """Say which feature columns and lags a network hears, as ``screening`` froze them.

    Args:
        weights: State of a ``PolicyNetwork``. A column that is not heard has an infinite deviation.
        names: Feature columns in the order of the network.

    Returns:
        ``selected_features`` (names with commas; empty if there is none), ``selected_columns`` (how many),
        ``feature_columns`` (how many there are) and ``selected_lags`` (bars that enter one by one, the present one
        included).
    """
    kept = weights["encoder.deviation"].isfinite().tolist()
    shown = (
        weights["encoder.feature_mask"] if "encoder.feature_mask" in weights else None
    )  # agents from before it hear no sizes
    values, sizes = (kept, [False] * len(kept)) if shown is None else shown.bool().tolist()
    selected_values = [value and keep for value, keep in zip(values, kept, strict=True)]
    return {
        "selected_features": ", ".join(selected_names(names, selected_values, sizes)),
        "selected_columns": sum(kept),
        "feature_columns": len(kept),
        "selected_lags": int(weights["encoder.lag_mask"].sum()),
    }


def selected_names(names: Sequence[str], values: Sequence[bool], sizes: Sequence[bool]) -> list[str]:
    """Name what is heard of columns: ``name`` for the value, ``size of name`` for the size."""
    found = []
    for name, value, size in zip(names, values, sizes, strict=True):
        found += [name] * value + [f"size of {name}"] * size
    return found
