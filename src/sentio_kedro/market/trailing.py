"""Trailing sums and means without running sums: what has left the window leaves no rounding error behind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.market.stamps import Floats


def trailing_sum(values: Floats, length: int) -> Floats:
    """Return the sum of the last ``length`` rows of ``values`` [n, ...], of those there are at the start.

    Windows of 1, 2, 4, ... rows are put together, so that the work grows with the logarithm of ``length``.
    """
    rows = len(values)
    total, passed = np.zeros(values.shape), 0  # sum of the last `passed` rows
    window, span = values, 1  # sum of `span` rows
    while length and passed < rows:
        if length & 1:
            total[passed:] += window[: rows - passed]
            passed += span
        length >>= 1
        if length and span < rows:
            doubled = window.copy()
            doubled[span:] += window[:-span]
            window = doubled
        span *= 2
    return total


def trailing_mean(values: Floats, length: int, known: NDArray[np.bool_] | None = None) -> Floats:
    """Return the mean of the last ``length`` rows of ``values`` [n, ...].

    Args:
        values: Finite where known.
        length: Rows averaged; fewer at the start.
        known: Which values count, [n, ...]; null counts all.

    Returns:
        [n, ...]; 0 where no value is known yet.
    """
    if known is None:
        counts = np.minimum(np.arange(1.0, len(values) + 1.0), length).reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(trailing_sum(values, length) / counts)
    sums = trailing_sum(np.where(known, values, 0.0), length)
    return np.asarray(sums / np.maximum(trailing_sum(known.astype(np.float64), length), 1.0))
