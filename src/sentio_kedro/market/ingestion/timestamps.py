"""Arithmetic on the ends of bars."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Timestamps = NDArray[np.datetime64]


def shortest_common_gap(gaps: NDArray[np.timedelta64]) -> np.timedelta64:
    """Return the most common of ``gaps`` [n]; the shortest one if several are.

    Raises:
        ValueError: If there is no gap.
    """
    if not gaps.size:
        raise ValueError(
            "The length of a bar does not follow from one bar per symbol; set `ingestion.bar_minutes` to its minutes."
        )
    lengths, counts = np.unique(gaps.astype("timedelta64[ns]"), return_counts=True)
    return np.timedelta64(lengths[np.argmax(counts)], "ns")


def most_common_gap(timestamps: Timestamps) -> np.timedelta64:
    """Return the most common distance of neighbouring timestamps [T]; the shortest one if several are.

    Raises:
        ValueError: If there are fewer than two timestamps.
    """
    return shortest_common_gap(np.diff(timestamps))


def days_since_previous(timestamps: Timestamps) -> Floats:
    """Return the days since the previous bar [T]; 0 for the first."""
    elapsed = np.zeros(len(timestamps))
    elapsed[1:] = np.diff(timestamps) / np.timedelta64(1, "D")
    return elapsed


def closing_days(timestamps: Timestamps) -> NDArray[np.datetime64]:
    """Return the UTC day of each bar [T]; a bar that ends at midnight belongs to the day that it closes."""
    return (timestamps - np.timedelta64(1, "ns")).astype("datetime64[D]")


def bars_per_session(timestamps: Timestamps) -> float:
    """Return the median number of bars of a UTC day that has bars.

    Args:
        timestamps: Bar ends [T]; a bar that ends at midnight belongs to the day that it closes.
    """
    _, counts = np.unique(closing_days(timestamps), return_counts=True)
    return float(np.median(counts))


def periods_per_year(timestamps: Timestamps, sessions_per_year: float) -> float:
    """Return the bars of a year: trading days a year times the median bars of a UTC day that has bars.

    Args:
        timestamps: Bar ends [T]; a bar that ends at midnight belongs to the day that it closes.
        sessions_per_year: Trading days a year (365 for crypto, 252 for US equities).
    """
    return float(sessions_per_year * bars_per_session(timestamps))
