"""Five targets compared with the measured values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sentio_kedro.evaluation.run_frames import RunFacts, RunFrames

EPISODES = 1_000
SECONDS_PER_HOUR = 3_600.0
BYTES_PER_GIGABYTE = 1e9


def measure_targets(agent: Mapping[str, Any], frames: RunFrames, facts: RunFacts) -> list[dict[str, Any]]:
    """Compare the targets with the measured values.

    Args:
        agent: Metrics of the agent: ``sharpe``, ``max_drawdown``, ``win_rate``, ``trades``.
        frames: Frames of the run.
        facts: Facts of the run.

    Returns:
        One entry per target: ``name``, ``title``, ``direction`` (``at_least`` or ``below``), ``target``, ``baseline``
        (of the predecessor, None without one), ``measured`` and ``met`` (None if not measured), ``unit``,
        ``extrapolated`` and ``note``.
    """
    trades = agent["trades"]
    idle = not trades  # an account without trades meets any limit: no measurement
    return [
        _target(
            *("sharpe", "Sharpe ratio", "at_least", 3.0, 1.5, None if idle else agent["sharpe"], "ratio"),
            "Not measured: the agent never traded." if idle else "Net of costs, out of sample.",
        ),
        _target(
            *("max_drawdown", "Maximum drawdown", "below", 0.08, 0.15),
            *(None if idle else agent["max_drawdown"], "fraction"),
            "Not measured: the agent never traded."
            if idle
            else "From the highest equity so far, initial capital included.",
        ),
        _target(
            *("win_rate", "Round trips that won", "at_least", 0.65, 0.55, agent["win_rate"], "fraction"),
            f"Net of costs, of {trades:g} round trips." if trades else "No round trip was made.",
        ),
        _training_time(frames, facts),
        _memory(facts),
    ]


def _target(
    name: str,
    title: str,
    direction: str,
    target: float,
    baseline: float | None,
    measured: float | None,
    unit: str,
    note: str,
    *,
    extrapolated: bool = False,
) -> dict[str, Any]:
    if measured is not None and not math.isfinite(measured):
        measured = None
    met = None if measured is None else (measured >= target if direction == "at_least" else measured < target)
    return {
        "name": name,
        "title": title,
        "direction": direction,
        "target": target,
        "baseline": baseline,
        "measured": measured,
        "unit": unit,
        "met": met,
        "extrapolated": extrapolated,
        "note": note,
    }


def _training_time(frames: RunFrames, facts: RunFacts) -> dict[str, Any]:
    """Hours for 1,000 episodes, extrapolated from the median speed of all updates.

    An episode is the longer of a training episode and the longest train span.
    """
    speed = float(frames.training_curves["steps_per_second"].median())
    bars = max(facts.episode_bars, facts.train_bars or 0)
    measurable = math.isfinite(speed) and speed > 0.0
    hours = EPISODES * bars / speed / SECONDS_PER_HOUR if measurable else None
    note = (
        f"Extrapolated: {EPISODES:,} episodes of {bars:,} decisions at the measured {speed:,.0f} steps/s."
        if measurable
        else "Not measured: no training speed was recorded."
    )
    return _target(
        *("hours_per_1000_episodes", "Time for 1,000 episodes", "below", 2.0, None, hours, "hours", note),
        extrapolated=measurable,
    )


def _memory(facts: RunFacts) -> dict[str, Any]:
    peak = facts.accelerator_peak_bytes
    note = "Not measured: trained on the CPU." if peak is None else "Peak of the memory reserved while training."
    gigabytes = None if peak is None else peak / BYTES_PER_GIGABYTE
    return _target("accelerator_gigabytes", "Accelerator memory", "below", 8.0, None, gigabytes, "GB", note)
