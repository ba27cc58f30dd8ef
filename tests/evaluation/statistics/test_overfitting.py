"""Choosing by the past: a coin on noise, sure with one true strategy."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from sentio_kedro.evaluation.statistics.overfitting import backtest_overfitting


def test_on_noise_it_is_a_coin() -> None:
    rng = np.random.default_rng(0)
    result = [backtest_overfitting(rng.normal(0.0, 0.01, (320, 20)), 8).probability for _ in range(150)]
    assert np.mean(result) == pytest.approx(0.5, abs=0.05)


def test_with_one_true_strategy_it_is_near_zero() -> None:
    returns = np.random.default_rng(0).normal(0.0, 0.01, (2_000, 50))
    returns[:, 7] += 0.002
    result = backtest_overfitting(returns)
    assert result.probability < 0.01
    assert (result.trials, result.blocks, result.logits.shape) == (50, 16, (12_870,))
    assert np.median(result.logits) == pytest.approx(np.log(50.0))  # best of 50: rank 50 of 51


def test_strategies_that_are_best_by_turns_are_always_chosen_wrong() -> None:
    rng = np.random.default_rng(0)
    returns = rng.normal(0.0, 1e-4, (320, 8))
    for block in range(8):  # each trial earns in one block only
        returns[40 * block : 40 * (block + 1), block] += 0.01
    assert backtest_overfitting(returns, 8).probability == 1.0


def test_it_agrees_with_counting_split_by_split() -> None:
    returns = np.random.default_rng(3).normal(0.001, 0.01, (97, 7))
    edges = np.linspace(0, 97, 7).astype(int)
    parts = [returns[first:last] for first, last in pairwise(edges)]
    logits = []
    for half in combinations(range(6), 3):
        inside, outside = (
            np.concatenate([parts[index] for index in range(6) if (index in half) is wanted])
            for wanted in (True, False)
        )
        best = (inside.mean(axis=0) / inside.std(axis=0, ddof=1)).argmax()
        sharpes = outside.mean(axis=0) / outside.std(axis=0, ddof=1)
        share = (sharpes.argsort().argsort()[best] + 1) / 8
        logits.append(np.log(share / (1 - share)))
    result = backtest_overfitting(returns, 6)
    assert result.logits == pytest.approx(logits)
    assert result.probability == np.mean(np.array(logits) <= 0.0)


def test_trials_that_are_equal_share_their_rank() -> None:
    path = np.random.default_rng(0).normal(0.0, 0.01, 100)
    assert backtest_overfitting(np.stack([path] * 3, axis=1), 4).logits == pytest.approx(np.zeros(6))


@pytest.mark.parametrize(
    ("shape", "blocks", "said"),
    [((100, 1), 4, "at least 2 trials, held 1"), ((100, 3), 5, "even.*was 5"), ((30, 3), 16, "held 30 for 16 blocks")],
)
def test_what_cannot_be_split_is_refused(shape: tuple[int, int], blocks: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        backtest_overfitting(np.zeros(shape), blocks)
