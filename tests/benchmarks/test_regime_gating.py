"""Gating is judged by paired differences and Student's interval, between networks of equal size. Nothing is trained."""

from __future__ import annotations

import json

import numpy as np
import pytest

import regime_gating
from planted.study import LearningResult
from regime_gating import GATED, UNGATED, compare, parameter_count


def results(*shares: float) -> list[LearningResult]:
    return [LearningResult(share, [share], 0.6, 10.0, 9.0, np.zeros(2), np.zeros((2, 1)), 9.96) for share in shares]


def test_differences_are_paired_and_their_interval_is_students() -> None:
    told = compare(results(0.9, 0.8, 0.7), results(0.8, 0.8, 0.5))
    assert told["share_of_optimum"] == [0.9, 0.8, 0.7]
    assert told["ungated_share_of_optimum"] == [0.8, 0.8, 0.5]
    assert told["difference"] == pytest.approx([0.1, 0.0, 0.2])
    assert told["mean_difference"] == pytest.approx(0.1)
    # t of two degrees of freedom at 97.5 %: 4.30265; the deviation of the differences is 0.1
    reach = 4.30265 * 0.1 / 3**0.5
    assert told["interval"] == pytest.approx([0.1 - reach, 0.1 + reach], abs=1e-5)
    assert told["train_seconds"] == told["ungated_train_seconds"] == [10.0, 10.0, 10.0]


def test_both_sides_have_as_many_parameters() -> None:
    gated, ungated = parameter_count([GATED]), parameter_count([UNGATED])
    assert gated == pytest.approx(ungated, rel=0.01)
    assert parameter_count([UNGATED, "network.hidden=128"]) > ungated


def test_the_sides_differ_in_the_gating_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def measure(market: object, seeds: list[int], changes: list[str]) -> list[LearningResult]:
        asked.append((market, seeds, changes))
        return results(*(0.5 + 0.1 * seed * (GATED in changes) for seed in seeds))

    monkeypatch.setattr(regime_gating, "measure", measure)
    monkeypatch.setattr("sys.argv", ["regime_gating.py", "--seeds", "1", "2", "--set", "training.members=1"])
    regime_gating.main()
    (first, second) = asked
    assert first[:2] == second[:2]
    assert first[2] == ["training.members=1", GATED]
    assert second[2] == ["training.members=1", UNGATED]
    told = json.loads(capsys.readouterr().out)
    assert told["regimes"]["mean_difference"] == pytest.approx(0.15)
    assert told["settings"]["changes"] == ["training.members=1"]


def test_one_seed_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["regime_gating.py", "--seeds", "1"])
    with pytest.raises(SystemExit):
        regime_gating.main()
    assert "at least two" in capsys.readouterr().err
