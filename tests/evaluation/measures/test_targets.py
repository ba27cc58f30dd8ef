"""Targets are judged by their own direction and never claimed unmeasured."""

from __future__ import annotations

import pandas as pd
import pytest

from sentio_kedro.evaluation.measures.targets import machine_metrics, measure_targets

AGENT = {"sharpe": 3.0, "max_drawdown": 0.08, "win_rate": None, "trades": 10.0}


def test_each_target_is_judged_in_its_direction() -> None:
    targets = {entry["name"]: entry for entry in measure_targets(AGENT)}
    assert (targets["sharpe"]["met"], targets["max_drawdown"]["met"], targets["win_rate"]["met"]) == (True, False, None)
    assert [(entry["target"], entry["baseline"]) for entry in targets.values()] == [
        (3.0, 1.5),
        (0.08, 0.15),
        (0.65, 0.55),
        (2.0, None),
        (8.0, None),
    ]


def test_time_and_memory_of_the_machine_are_left_to_mlflow() -> None:
    hours, memory = measure_targets(AGENT)[3:]
    assert (hours["measured"], hours["met"], memory["measured"], memory["met"]) == (None, None, None, None)
    assert hours["note"] == memory["note"] == "Differs when the same run is repeated, so it stands in MLflow alone."


def test_training_time_is_extrapolated_from_the_median_speed() -> None:
    timings = pd.DataFrame({"steps_per_second": [1.0, 40_000.0, 50_000.0]})
    assert machine_metrics(timings, 9e9, 9_000) == {
        "hours_per_1000_episodes": pytest.approx(1_000 * 9_000 / 40_000 / 3_600),
        "accelerator_gigabytes": 9.0,
    }


def test_what_was_not_measured_is_not_claimed() -> None:
    assert set(machine_metrics(pd.DataFrame({"steps_per_second": []}, dtype=float), None, 64).values()) == {None}


def test_an_agent_that_never_trades_meets_no_target_by_doing_nothing() -> None:
    idle = {"sharpe": 0.0, "max_drawdown": 0.0, "win_rate": None, "trades": 0.0}
    found = {entry["name"]: entry for entry in measure_targets(idle)}
    for name in ("sharpe", "max_drawdown", "win_rate"):
        assert found[name]["met"] is None
        assert found[name]["measured"] is None
