"""What a trained network hears of its features, read from its frozen scale and lags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


def heard(weights: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Any]:
    """Say which feature columns and lags a network hears, as ``screening`` froze them.

    Args:
        weights: State of a ``PolicyNetwork``. A column that is not heard has an infinite deviation.
        names: Feature columns in the order of the network.

    Returns:
        ``heard`` (names of the columns, with commas; empty if there is none), ``heard_columns`` (how many),
        ``feature_columns`` (how many there are) and ``heard_lags`` (bars that are heard one by one, the present one
        included).
    """
    kept = weights["encoder.deviation"].isfinite().tolist()
    columns = [name for name, keep in zip(names, kept, strict=True) if keep]
    return {
        "heard": ", ".join(columns),
        "heard_columns": len(columns),
        "feature_columns": len(kept),
        "heard_lags": int(weights["encoder.heard"].sum()),
    }
