"""Five targets compared with the measured values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sentio_kedro.evaluation.run_frames import RunFacts, RunFrames

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


def measure_targets(agent: Mapping[str, Any], frames: RunFrames, facts: RunFacts) -> list[dict[str, Any]]:
    """Compare the targets with the measured values.

    Args:
        agent: Metrics of the agent: ``sharpe``, ``max_drawdown``, ``win_rate``, ``trades``.
        frames: Frames of the run.
        facts: Facts of the run.

    Returns:
        One entry per target: ``KEYS``, ``measured`` and ``met`` (None if not measured), ``extrapolated`` and ``note``;
        ``direction`` is ``at_least`` or ``below``.
    """
    trades, peak = agent["trades"], facts.accelerator_peak_bytes
    measurements = (
        (agent["sharpe"], "Net of costs, out of sample.") if trades else NO_TRADES,
        (agent["max_drawdown"], "From the highest equity of all time, initial capital included.")
        if trades
        else NO_TRADES,
        (agent["win_rate"], f"Net of costs, of {trades:g} round trips." if trades else "No round trip was made."),
        _training_hours(frames, facts),
        (None, "Not measured: trained on the CPU.")
        if peak is None
        else (peak / BYTES_PER_GIGABYTE, "Peak of the memory reserved while training."),
    )
    entries = []
    for values, (measured, note) in zip(TARGETS, measurements, strict=True):
        entry: dict[str, Any] = dict(zip(KEYS, values, strict=True))
        value = measured if measured is not None and math.isfinite(measured) else None
        met = value is not None and (value >= entry["target"]) == (entry["direction"] == "at_least")
        entry |= {"measured": value, "met": None if value is None else met, "note": note}
        entries.append(entry | {"extrapolated": value is not None and entry["unit"] == "hours"})
    return entries


def _training_hours(frames: RunFrames, facts: RunFacts) -> tuple[float | None, str]:
    """Hours for 1,000 episodes, extrapolated from the median speed of all updates.

    An episode is the longer of a training episode and the longest train span.
    """
    speed = float(frames.training_curves["steps_per_second"].median())
    bars = max(facts.episode_bars, facts.train_bars or 0)
    if not (math.isfinite(speed) and speed > 0.0):
        return None, "Not measured: no training speed was recorded."
    return (
        EPISODES * bars / speed / SECONDS_PER_HOUR,
        f"Extrapolated: {EPISODES:,} episodes of {bars:,} decisions at the measured {speed:,.0f} steps/s.",
    )
