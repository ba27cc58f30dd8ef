"""Stamps and times, one from the other. No clock."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp_of(seconds: float) -> str:
    """Return a stamp of a time, ``2026-01-02T15:30:00Z``."""
    return datetime.fromtimestamp(round(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(stamp: str) -> float:
    """Return the time of a stamp, seconds since 1970."""
    return datetime.fromisoformat(stamp).timestamp()
