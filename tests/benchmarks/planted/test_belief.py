"""Hidden regimes: the filter against all regime paths written out, and the chain that the optimum is found on."""

from itertools import product

import numpy as np
import pytest

from planted.belief import HiddenRegimesLaw
from planted.scores import expected_profit

LAW = HiddenRegimesLaw((0.3, -0.4), (0.01, 0.03), 10.0)


def second_by_enumeration(law: HiddenRegimesLaw, returns: np.ndarray) -> float:
    """Probability of the second regime at the last bar: the sum over all paths of regimes."""
    weights = np.zeros(2)
    for regimes in product(range(2), repeat=len(returns)):
        weight, before = 0.5, 0.0
        for t, (regime, seen) in enumerate(zip(regimes, returns, strict=True)):
            if t:
                weight *= 1.0 / law.stay_bars if regime != regimes[t - 1] else 1.0 - 1.0 / law.stay_bars
            sigma = law.sigmas[regime]
            weight *= np.exp(-0.5 * ((seen - law.phis[regime] * before) / sigma) ** 2) / sigma
            before = seen
        weights[regimes[-1]] += weight
    return float(weights[1] / weights.sum())


def test_the_filter_is_the_sum_over_all_paths_of_regimes() -> None:
    returns = LAW.draw(9, seed=4).returns[:, 0]
    believed = 1.0 / (1.0 + np.exp(-LAW.log_odds(returns)))
    for bars in range(1, 10):
        assert believed[bars - 1] == pytest.approx(second_by_enumeration(LAW, returns[:bars]), abs=1e-12)


def test_stays_are_as_long_and_as_wild_as_the_law_says() -> None:
    path = LAW.draw(40_000, seed=1)
    calm = LAW.log_odds(path.returns[:, 0]) < 0.0
    assert calm.mean() == pytest.approx(0.5, abs=0.08)
    assert path.returns[calm].std() < 0.6 * path.returns[~calm].std()
    surprise = path.returns[1:] - path.means[:-1]
    assert surprise.var() < (path.returns[1:] - 0.3 * path.returns[:-1]).var()


def test_a_belief_is_expected_to_stay_where_it_is_predicted() -> None:
    """Bayes: over the next returns the mean of the posterior is the predicted probability."""
    last_returns, beliefs = np.linspace(-0.2, 0.2, 81), np.linspace(-8.0, 8.0, 161)
    chain = LAW._transition(last_returns, beliefs)
    assert np.asarray(chain.sum(axis=1)).ravel() == pytest.approx(np.ones(chain.shape[0]))
    second = np.tile(1.0 / (1.0 + np.exp(-beliefs)), len(last_returns))
    predicted = (1.0 / (1.0 + np.exp(-LAW._predicted(beliefs))))[None].repeat(len(last_returns), axis=0)
    inner = slice(30, 51)  # returns whose successors the grid holds
    assert (chain @ second).reshape(81, 161)[inner] == pytest.approx(predicted[inner], abs=2e-3)


def test_who_trusts_one_regime_or_the_average_earns_less() -> None:
    law, cost, levels = HiddenRegimesLaw((0.15, -0.15), (0.003, 0.006), 500.0), 2e-4, np.array([-1.0, 0.0, 1.0])
    path = law.draw(10_000, seed=2)

    def profit(positions: np.ndarray) -> float:
        return float(expected_profit(positions, path.means, cost).mean())

    best = profit(law.optimum(path, cost, levels))
    for sign in (1.0, -1.0):
        assert profit(sign * np.sign(path.returns)) < 0.5 * best
    assert profit(np.sign(path.means)) < best
