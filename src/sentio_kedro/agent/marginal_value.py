"""The marginal value of risk: D of ``control.py``, and the expectation in it."""

from __future__ import annotations

from math import sqrt

import numpy as np

from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.trading.compilation import compiled


@compiled
def expected_clip(value: float, cost: float, half: float) -> float:
    """E[clip(value + e, -cost, cost)] of e uniform on [-half, half]."""
    if half <= 1e-12:  # noqa: PLR2004
        return min(max(value, -cost), cost)
    return (_integral(value + half, cost) - _integral(value - half, cost)) / (2.0 * half)


@compiled
def _integral(x: float, cost: float) -> float:
    """Antiderivative of clip(x, -cost, cost)."""
    return 0.5 * x * x if abs(x) <= cost else cost * abs(x) - 0.5 * cost * cost


@compiled
def marginal_value(
    forecast: Floats, cost: float, units: float, lengths: np.ndarray, price: float, discount: float, surprise: float
) -> tuple[float, float]:
    """D of a position of ``units`` now, and the D expected for the next bar, by backward recursion."""
    half, value, following = surprise * sqrt(3.0), -price * units / (1.0 - discount), 0.0
    for part in range(len(lengths) - 1, -1, -1):
        for _ in range(lengths[part]):
            following = value
            value = forecast[part] - price * units + discount * expected_clip(value, cost, half)
    return value, following
