"""Variants are listed, paths condensed to quantiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.evaluation.measures.robustness import break_even_metrics, start_metrics, stress_metrics
from sentio_kedro.evaluation.run_frames import COLUMNS, RunFrames

MakeRun = Callable[..., RunFrames]


def _with(frames: RunFrames, rows: list[tuple[str, float, str, float]]) -> RunFrames:
    """Rows of kind, value, account and total return; the other figures are made of it."""
    made = [
        (kind, value, account, 10 * total, 2 * total, total, 0.1, 0.3, 1.7 * value, 1.0 - value)
        for kind, value, account, total in rows
    ]
    return dataclasses.replace(frames, robustness=pd.DataFrame(made, columns=list(COLUMNS["robustness"])))


def test_variants_stand_in_the_order_of_their_values(make_run: MakeRun) -> None:
    rows = [("cost", 2.0, "ensemble", 0.1), ("cost", 1.0, "ensemble", 0.5), ("without", 1.0, "ensemble", 0.2)]
    found = stress_metrics(_with(make_run(), rows))
    assert [entry["value"] for entry in found["cost"]] == [1.0, 2.0]
    assert found["cost"][1]["total_return"] == pytest.approx(0.1)
    assert found["cost"][1]["sharpe"] == pytest.approx(1.0)
    assert [(entry["value"], entry["sharpe"]) for entry in found["without"]] == [(1.0, 2.0)]
    assert found["without_range"] == {"low": 2.0, "high": 2.0}
    assert (found["latency"], found["start"], found["path"], found["break_even"]) == ([], [], None, None)
    assert found["start_dates"] is None


def test_ensembles_without_a_seed_are_condensed_to_their_range(make_run: MakeRun) -> None:
    rows = [("without", seed, "ensemble", total) for seed, total in ((0.0, 0.3), (1.0, -0.1), (2.0, 0.2))]
    assert stress_metrics(_with(make_run(), rows))["without_range"] == {"low": -1.0, "high": 3.0}
    assert stress_metrics(_with(make_run(), [("cost", 1.0, "ensemble", 0.5)]))["without_range"] is None


def test_starts_are_condensed_to_what_they_have_in_common(make_run: MakeRun) -> None:
    rows = [("start", share, "ensemble", total) for share, total in ((0.5, 0.3), (0.0, 0.1), (0.25, 0.2))]
    frames = _with(make_run(), rows)
    assert start_metrics(frames.robustness) == {"correlation": 0.625, "sharpe_spread": pytest.approx(2.0)}
    idle = frames.robustness.assign(correlation=np.nan)
    assert start_metrics(idle) == {"correlation": None, "sharpe_spread": pytest.approx(2.0)}


def test_paths_are_condensed_to_quantiles(make_run: MakeRun) -> None:
    rows = [("path", float(path), "ensemble", 0.01 * path - 0.02) for path in range(11)]
    path = stress_metrics(_with(make_run(seeds=3), rows))["path"]
    assert (path["paths"], path["losing"]) == (11, pytest.approx(2 / 11))
    assert path["total_return"]["median"] == pytest.approx(0.03)
    assert path["total_return"]["low"] == pytest.approx(-0.015)


def test_break_even_is_said_in_basis_points_of_what_was_paid(make_run: MakeRun) -> None:
    found = break_even_metrics(_with(make_run(), [("break_even", 2.0, "ensemble", 0.0)]))
    assert found is not None
    assert (found["outcome"], found["multiplier"]) == ("found", 2.0)
    assert (found["paid_bps"], found["bps_per_side"]) == (pytest.approx(1.8), pytest.approx(3.4))


@pytest.mark.parametrize(("value", "outcome"), [(0.0, "loses_free"), (np.inf, "earns_always")])
def test_a_multiplier_that_does_not_exist_is_not_claimed(make_run: MakeRun, value: float, outcome: str) -> None:
    found = break_even_metrics(_with(make_run(seeds=1), [("break_even", value, "seed_0", 0.0)]))
    assert found is not None
    assert (found["outcome"], found["multiplier"], found["bps_per_side"]) == (outcome, None, None)


def test_an_agent_that_never_traded_has_no_break_even(make_run: MakeRun) -> None:
    assert break_even_metrics(_with(make_run(), [("break_even", np.nan, "ensemble", 0.0)])) is None
