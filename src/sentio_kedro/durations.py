"""The resolver ``${bars:1d}``: a duration in a parameters file, as a number of the environment's bars."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from omegaconf import OmegaConf

BAR_NAMES = ("bar_minutes", "session_minutes", "sessions_per_year")
"""Names of ``globals.yml`` that durations are measured by: the length of a bar, minutes; that of a session, minutes
(1440 for a market that never closes); trading sessions a year."""

UNITS = {
    "min": "minutes",
    "h": "hours",
    "d": "sessions",
    "w": "weeks of sessions",
    "mo": "months of sessions",
    "q": "quarters of sessions",
    "y": "years of sessions",
}
DAY = 1440.0  # minutes
_OF_YEAR = {"w": 7.0 / 365.0, "mo": 1.0 / 12.0, "q": 1.0 / 4.0, "y": 1.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([a-z]+)")


def bars(duration: str) -> int:
    """Return a duration such as ``1d`` as a number of bars, by the names of ``globals.yml``.

    Raises:
        ValueError: If the duration cannot be read, or ``globals.yml`` lacks a name.
    """
    names = OmegaConf.create({name: f"${{globals:{name},null}}" for name in BAR_NAMES})
    return count_bars(duration, {name: names[name] for name in BAR_NAMES})


def count_bars(duration: str, names: Mapping[str, float]) -> int:
    """Return a duration as a number of bars, at least 1.

    Args:
        duration: A number and a unit of ``UNITS``; d, w, mo, q and y count sessions of the market.
        names: The numbers ``BAR_NAMES``.

    Raises:
        ValueError: If the duration or a number cannot be used.

    Example:
        >>> half_hours = {"bar_minutes": 30, "session_minutes": 1440, "sessions_per_year": 365}
        >>> count_bars("1d", half_hours), count_bars("2h", half_hours)
        (48, 4)
        >>> count_bars("1mo", {"bar_minutes": 1440, "session_minutes": 390, "sessions_per_year": 252})
        21
    """
    return max(1, math.floor(exact_bars(duration, names) + 0.5))


def exact_bars(duration: str, names: Mapping[str, float]) -> float:
    """Return a duration in bars, not rounded; see ``count_bars``."""
    parts = _DURATION.fullmatch(str(duration))
    if parts is None or parts[2] not in UNITS or float(parts[1]) == 0.0:
        known = ", ".join(f"{unit} ({text})" for unit, text in UNITS.items())
        raise ValueError(
            f"A duration must be a number above 0 and a unit, such as 1d, was {duration!r}; units: {known}."
        )
    lacking = [name for name in BAR_NAMES if not _positive(names.get(name))]
    if lacking:
        raise ValueError(
            f"A duration such as {duration} needs {', '.join(lacking)} in the environment's globals.yml, a number "
            "above 0; add it."
        )
    minutes, session, sessions = (float(names[name]) for name in BAR_NAMES)
    number, unit = float(parts[1]), parts[2]
    if unit in ("min", "h"):
        return number * (60.0 if unit == "h" else 1.0) / minutes
    of_session = math.ceil(session / minutes) if minutes < DAY else min(1.0, 365.0 * DAY / (minutes * sessions))
    return number * (1.0 if unit == "d" else sessions * _OF_YEAR[unit]) * of_session


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 < value < math.inf
