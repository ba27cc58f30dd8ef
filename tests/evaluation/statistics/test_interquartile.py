"""The middle half of the scores, and how it moves from seed to seed."""

from __future__ import annotations

import numpy as np
import pytest

from sentio_kedro.evaluation.statistics.interquartile import interquartile_interval, interquartile_mean


def test_it_is_the_mean_of_the_middle_half() -> None:
    scores = np.array([[-90.0, 1.0, 2.0, 3.0], [2.0, 4.0, 90.0, 0.0]])
    assert interquartile_mean(scores) == pytest.approx((1.0 + 2.0 + 2.0 + 3.0) / 4.0)


def test_seeds_are_drawn_within_their_folds() -> None:
    folds = np.array([0.0, 10.0, 20.0, 30.0])
    scores = np.stack([folds, folds, folds + 1e-6])  # seeds agree: however they are drawn, hardly anything moves
    interval = interquartile_interval(scores, samples=50, rng=np.random.default_rng(0))
    assert interval == pytest.approx((15.0, 15.0), abs=2e-6)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        low, high = interquartile_interval(rng.normal(1.0, 0.5, (10, 4)), 0.9, samples=200, rng=rng) or (0.0, 0.0)
        covered += low <= 1.0 <= high
    assert 0.8 <= covered / 200 <= 0.95


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_seed_and_identical_ones_have_no_interval(seeds: int) -> None:
    folds = np.tile([0.0, 10.0, 20.0, 30.0], (seeds, 1))
    assert interquartile_interval(folds, rng=np.random.default_rng(0)) is None
