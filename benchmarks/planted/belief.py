"""A law with hidden regimes: what matters is the belief, which the returns so far imply exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from planted.control import follow, following_worth, interpolated
from planted.paths import PlantedPath
from sentio_kedro.market.ingestion.timestamps import Floats

RETURN_POINTS, RETURN_SPREAD = 97, 6.0  # grid of the last return, in deviations of the wilder regime
BELIEF_POINTS, BELIEF_SPREAD = 41, 8.0  # grid of the log odds of the second regime


@dataclass(frozen=True)
class HiddenRegimesLaw:
    """r[t] = phi r[t - 1] + sigma e with phi and sigma of bar t's regime, one of two, which are hidden.

    The regime ends after every bar with probability 1 / ``stay_bars``. Given the returns up to t, the belief in each
    regime follows from the forward filter (Hamilton, A New Approach to the Economic Analysis of Nonstationary Time
    Series, Econometrica, 1989), so the mean of the next return is known exactly. Last return and belief together are
    an observable Markov state: the best positions are exact but for the grid in these two.

    Attributes:
        phis: Autoregression in each regime.
        sigmas: Deviation of the noise in each regime, fraction.
        stay_bars: Mean length of a stay, bars.
        assets: Number of assets.
    """

    phis: tuple[float, float]
    sigmas: tuple[float, float]
    stay_bars: float
    assets: int = 1

    def draw(self, bars: int, seed: int) -> PlantedPath:
        """Draw a path; its means are conditional on the law and the bars, not on the regimes."""
        rng = np.random.default_rng(seed)
        turns = rng.random(bars) < np.where(np.arange(bars) == 0, 0.5, 1.0 / self.stay_bars)
        regimes = np.cumsum(turns) % 2
        phi, sigma = np.array(self.phis)[regimes], np.array(self.sigmas)[regimes]
        returns = rng.standard_normal(bars) * sigma
        for t in range(1, bars):
            returns[t] += phi[t] * returns[t - 1]
        return PlantedPath.of(returns[:, None], self._means(returns, self.log_odds(returns))[:, None])

    def log_odds(self, returns: Floats) -> Floats:
        """Filter the log odds ``[T]`` of the second regime at each bar from ``returns[: t + 1]``."""
        before = np.concatenate([[0.0], returns[:-1]])
        log_ratios = self._log_ratios(before, returns)
        odds = np.empty(len(returns))
        belief = 0.0
        for t, log_ratio in enumerate(log_ratios):
            odds[t] = belief = (self._predicted(belief) if t else 0.0) + log_ratio
        return odds

    def _predicted(self, log_odds: Floats | float) -> Floats:
        """Log odds of the next bar's regime."""
        stay = 1.0 - 1.0 / self.stay_bars
        second = 1.0 / (1.0 + np.exp(-np.asarray(log_odds)))
        chance = second * stay + (1.0 - second) * (1.0 - stay)
        return np.asarray(np.log(chance / (1.0 - chance)))

    def _log_ratios(self, before: Floats, returns: Floats) -> Floats:
        """Log likelihood ratio of the second regime to the first, of ``returns`` after ``before``."""
        first, second = (self._log_density(before, returns, regime) for regime in range(2))
        return second - first

    def _log_density(self, before: Floats, returns: Floats, regime: int) -> Floats:
        sigma = self.sigmas[regime]
        return np.asarray(-0.5 * ((returns - self.phis[regime] * before) / sigma) ** 2 - np.log(sigma))

    def _means(self, returns: Floats, log_odds: Floats) -> Floats:
        second = 1.0 / (1.0 + np.exp(-self._predicted(log_odds)))
        return returns * (self.phis[0] * (1.0 - second) + self.phis[1] * second)

    def optimum(self, path: PlantedPath, cost: float, levels: Floats) -> Floats:
        """Best positions ``[T, 1]``; the state is the last return and the belief."""
        wild = max(sigma / np.sqrt(1.0 - phi * phi) for phi, sigma in zip(self.phis, self.sigmas, strict=True))
        last_returns = np.linspace(-RETURN_SPREAD, RETURN_SPREAD, RETURN_POINTS) * wild
        beliefs = np.linspace(-BELIEF_SPREAD, BELIEF_SPREAD, BELIEF_POINTS)
        transition = self._transition(last_returns, beliefs)
        means = self._means(last_returns[:, None], beliefs[None]).ravel()
        worth = following_worth(means, lambda following: np.asarray(transition @ following), cost, levels)
        odds = self.log_odds(path.returns[:, 0])
        states = np.stack([path.returns[:, 0], odds], axis=-1)
        return follow(path.means[:, 0], interpolated([last_returns, beliefs], worth, states), cost, levels)[:, None]

    def _transition(self, last_returns: Floats, beliefs: Floats) -> csr_matrix:
        """Chance of each (return, belief) after each, ``[R B, R B]``; a belief between two points is shared by them."""
        predicted = self._predicted(beliefs)[None, :, None]  # [1, B, 1]
        before, after = last_returns[:, None, None], last_returns[None, None, :]  # [R, 1, 1], [1, 1, R']
        likelihood = [np.exp(self._log_density(before, after, regime)) for regime in range(2)]
        second = 1.0 / (1.0 + np.exp(-predicted))
        density = (1.0 - second) * likelihood[0] + second * likelihood[1]  # [R, B, R']
        density = density / density.sum(-1, keepdims=True)
        posterior = np.clip(predicted + self._log_ratios(before, after), beliefs[0], beliefs[-1])
        place = (posterior - beliefs[0]) / (beliefs[1] - beliefs[0])
        low = np.minimum(place.astype(np.int64), len(beliefs) - 2)
        share = place - low
        states = np.arange(len(last_returns) * len(beliefs))
        columns = np.arange(len(last_returns)) * len(beliefs) + low  # [R, B, R']
        rows = np.repeat(states, len(last_returns))
        entries = np.concatenate([(density * (1.0 - share)).ravel(), (density * share).ravel()])
        places = (np.tile(rows, 2), np.concatenate([columns.ravel(), columns.ravel() + 1]))
        return csr_matrix((entries, places), shape=(len(last_returns) * len(beliefs),) * 2)
