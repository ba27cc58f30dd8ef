"""Targets are judged by their own direction and never claimed unmeasured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from sentio_kedro.evaluation.measures.targets import measure_targets
from sentio_kedro.evaluation.run_frames import RunFacts, RunFrames

MakeRun = Callable[..., RunFrames]
AGENT = {"sharpe": 3.0, "max_drawdown": 0.08, "win_rate": None, "trades": 10.0}


def test_each_target_is_judged_in_its_direction(make_run: MakeRun, facts: RunFacts) -> None:
    targets = {entry["name"]: entry for entry in measure_targets(AGENT, make_run(), facts)}
    assert (targets["sharpe"]["met"], targets["max_drawdown"]["met"], targets["win_rate"]["met"]) == (True, False, None)
    assert [(entry["target"], entry["baseline"]) for entry in targets.values()] == [
        (3.0, 1.5),
        (0.08, 0.15),
        (0.65, 0.55),
        (2.0, None),
        (8.0, None),
    ]


def test_training_time_is_extrapolated_and_says_so(make_run: MakeRun, facts: RunFacts) -> None:
    target = measure_targets(AGENT, make_run(), facts)[3]
    assert target["measured"] == pytest.approx(1_000 * 9_000 / 40_000 / 3_600)
    assert target["extrapolated"]
    assert target["note"].startswith("Extrapolated: 1,000 episodes of 9,000 decisions at the measured 40,000 steps/s")


def test_memory_is_not_claimed_on_the_cpu(make_run: MakeRun, facts: RunFacts) -> None:
    cpu = measure_targets(AGENT, make_run(), facts)[4]
    assert (cpu["measured"], cpu["met"], cpu["note"]) == (None, None, "Not measured: trained on the CPU.")
    measured = dataclasses.replace(facts, accelerator_peak_bytes=9e9)
    assert measure_targets(AGENT, make_run(), measured)[4]["met"] is False


def test_an_unmeasured_speed_is_not_extrapolated(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    without = dataclasses.replace(frames, training_curves=frames.training_curves.iloc[:0])
    target = measure_targets(AGENT, without, facts)[3]
    assert (target["measured"], target["met"], target["extrapolated"]) == (None, None, False)


def test_an_agent_that_never_trades_meets_no_target_by_doing_nothing(make_run: MakeRun, facts: RunFacts) -> None:
    idle = {"sharpe": 0.0, "max_drawdown": 0.0, "win_rate": None, "trades": 0.0}
    found = {entry["name"]: entry for entry in measure_targets(idle, make_run(), facts)}
    for name in ("sharpe", "max_drawdown", "win_rate"):
        assert found[name]["met"] is None
        assert found[name]["measured"] is None
