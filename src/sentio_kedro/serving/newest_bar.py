"""Whether the newest bar of a feed can be decided at: complete, recent, and as long as those before."""

from __future__ import annotations

import numpy as np

from sentio_kedro.market.ingestion.session_checks import future_problem
from sentio_kedro.market.ingestion.timestamps import Timestamps
from sentio_kedro.serving.incoming_bars import GapBounds, require_gaps

_MINUTE = np.timedelta64(1, "m")


def require_newest(timestamps: Timestamps, now: np.datetime64, max_age: float | None) -> str:
    """Refuse a newest bar that has not ended, or is too old.

    Args:
        timestamps: Bar ends [T] in UTC, increasing.
        now: The time, UTC.
        max_age: Minutes that may have passed since it ended; null is any number.

    Returns:
        A sentence that says how old it is.

    Raises:
        ValueError: With the end of the bar, and ``now`` or its age.
    """
    if unfinished := future_problem(timestamps, now):
        raise ValueError(unfinished)
    age = float((now - timestamps[-1]) / _MINUTE)
    newest = f"The newest bar ended at {np.datetime_as_string(timestamps[-1], unit='s')}Z, {duration(age)} ago"
    if max_age is not None and age > max_age:
        raise ValueError(f"{newest}; `max_age` allows {duration(max_age)}: fetch newer bars, or raise it.")
    return f"{newest}."


def duration(minutes: float) -> str:
    """Return a time as a person says it."""
    for unit, length in (("days", 1_440.0), ("hours", 60.0)):
        if minutes >= 2.0 * length:
            return f"{minutes / length:.1f} {unit}"
    return f"{minutes:.0f} minutes"


def require_same_feed(timestamps: Timestamps, row: int, longest_gap: float | None) -> None:
    """Refuse bars after ``row`` that are nearer to each other, or farther, than any up to it.

    Args:
        timestamps: Bar ends [T] in UTC, increasing.
        row: Newest bar of the history that agents are known to fit.
        longest_gap: Minutes from one bar to the next that are allowed; null is the longest of the history.

    Raises:
        ValueError: With the bars around the gap.
    """
    gaps = np.diff(timestamps[: row + 1])
    if gaps.size:
        longest = gaps.max() if longest_gap is None else np.timedelta64(round(longest_gap * 60.0), "s")
        remedy = "if there were none, set `signals.longest_gap` (minutes)"
        require_gaps(timestamps[row + 1 :], timestamps[row], GapBounds(gaps.min(), longest), remedy)
