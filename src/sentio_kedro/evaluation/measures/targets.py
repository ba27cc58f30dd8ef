"""Five targets compared with the measured values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

EPISODES = 1_000
SECONDS_PER_HOUR = 3_600.0
BYTES_PER_GIGABYTE = 1e9
TARGETS = (  # name, title, direction, target, baseline of the predecessor, unit
    ("sharpe", "Sharpe ratio", "at_least", 3.0, 1.5, "ratio"),
    ("max_drawdown", "Maximum drawdown", "below", 0.08, 0.15, "fraction"),
    ("win_rate", "Round trips that won", "at_least", 0.65, 0.55, "fraction"),
    ("hours_per_1000_episodes", "Time for 1,000 episodes", "below", 2.0, None, "hours"),
    ("accelerator_gigabytes", "Accelerator memory", "below", 8.0, None, "GB"),
)
KEYS = ("name", "title", "direction", "target", "baseline", "unit")
NO_TRADES = (None, "Not measured: the agent never traded.")  # an account without trades meets any limit
OF_THE_MACHINE = (None, "Differs when the same run is repeated, so it stands in MLflow alone.")


def measure_targets(agent: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Compare the targets with the measured values; those of the machine are left to MLflow (``machine_metrics``).

    Args:
        agent: Metrics of the agent: ``sharpe``, ``max_drawdown``, ``win_rate``, ``trades``.

    Returns:
        One entry per target: ``KEYS``, ``measured`` and ``met`` (None if not measured) and ``note``; ``direction`` is
        ``at_least`` or ``below``.
    """
    trades = agent["trades"]
    measurements = (
        (agent["sharpe"], "Net of costs, out of sample.") if trades else NO_TRADES,
        (agent["max_drawdown"], "From the highest equity of all time, initial capital included.")
        if trades
        else NO_TRADES,
        (agent["win_rate"], f"Net of costs, of {trades:g} round trips." if trades else "No round trip was made."),
        *(OF_THE_MACHINE, OF_THE_MACHINE),
    )
    entries = []
    for values, (measured, note) in zip(TARGETS, measurements, strict=True):
        entry: dict[str, Any] = dict(zip(KEYS, values, strict=True))
        value = measured if measured is not None and math.isfinite(measured) else None
        met = value is not None and (value >= entry["target"]) == (entry["direction"] == "at_least")
        entries.append(entry | {"measured": value, "met": None if value is None else met, "note": note})
    return entries


def machine_metrics(timings: pd.DataFrame, peak_bytes: float | None, episode_bars: int) -> dict[str, float | None]:
    """Return what training took of the machine, by the names of the targets; None where it was not measured.

    The hours for 1,000 episodes are extrapolated from the median speed of all updates.

    Args:
        timings: A row per update with ``steps_per_second``.
        peak_bytes: Peak accelerator memory; None on the CPU.
        episode_bars: Decisions of an episode.
    """
    speed = float(timings["steps_per_second"].median())
    known = math.isfinite(speed) and speed > 0.0
    return {
        "hours_per_1000_episodes": EPISODES * episode_bars / speed / SECONDS_PER_HOUR if known else None,
        "accelerator_gigabytes": None if peak_bytes is None else peak_bytes / BYTES_PER_GIGABYTE,
    }
