"""Laws of one asset whose state is observed.

Each gives the mean of the next return given the bars so far, and the positions that maximise mean expected profit.
Those positions are exact but for the grid of ``control.py`` where nothing else is said. Profit counts log returns: the
mean of a simple return is higher by half the variance, 0.1 to 0.2 bps a bar here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planted.control import (
    POINTS,
    SPREAD,
    autoregressive_positions,
    follow,
    following_worth,
    gaussian_transition,
    interpolated,
)
from planted.paths import PLAIN_VOLUME, PlantedPath, autoregression
from sentio_kedro.market.ingestion.timestamps import Floats

VOLUME_SWING = 0.3  # deviation of the log volume that shows a signal
SIZE_MEAN = (2.0 / np.pi) ** 0.5  # mean size of a standard normal draw


@dataclass(frozen=True)
class AutoregressiveLaw:
    """r[t + 1] = phi r[t + 1 - lag] + sigma e.

    With a lag of 3 today's best position knows the means of the next three bars.

    Attributes:
        phi: Autoregression, between -1 and 1; 0 is noise.
        sigma: Deviation of the noise per bar, fraction.
        lag: Bars between a return and the one that depends on it, 1 to 3.
        assets: Number of assets.
    """

    phi: float
    sigma: float
    lag: int = 1
    assets: int = 1

    def draw(self, bars: int, seed: int) -> PlantedPath:
        """Draw a path; with lag 1 it is that of ``autoregressive_returns``."""
        noise = np.random.default_rng(seed).standard_normal(bars) * self.sigma
        returns = autoregression(noise, self.phi, self.lag)
        moving = np.concatenate([np.zeros(self.lag - 1), returns])[:bars]  # [T] r[t + 1 - lag]
        return PlantedPath.of(returns[:, None], self.phi * moving[:, None])

    def optimum(self, path: PlantedPath, cost: float, levels: Floats) -> Floats:
        """Best positions ``[T, 1]``; the state is the last ``lag`` returns."""
        best = autoregressive_positions(path.returns[:, 0], self.phi, self.sigma, self.phi, cost, levels, self.lag)
        return best[:, None]


@dataclass(frozen=True)
class SignalLaw:
    """r[t + 1] = strength sigma s[t] + sigma e, where s is a slow autoregression that the volume shows.

    Features are made of prices and volume alone, so the signal is the log of the volume over its mean value:
    ``volume_surprise`` over many bars reads it back. s has deviation 1. A mirrored path keeps its volume, so random
    signs destroy this signal.

    Attributes:
        strength: Mean of the next return per deviation of the signal, in units of sigma.
        sigma: Deviation of the noise per bar, fraction.
        persistence: Autoregression of the signal.
        assets: Number of assets.
    """

    strength: float
    sigma: float
    persistence: float
    assets: int = 1

    def draw(self, bars: int, seed: int) -> PlantedPath:
        """Draw a path."""
        draws = np.random.default_rng(seed).standard_normal((2, bars))
        signal = autoregression(draws[0] * np.sqrt(1.0 - self.persistence**2), self.persistence)
        means = self.strength * self.sigma * signal
        returns = self.sigma * draws[1]
        returns[1:] += means[:-1]
        volume = PLAIN_VOLUME * np.exp(VOLUME_SWING * signal)
        return PlantedPath(returns[:, None], means[:, None], volume[:, None])

    def optimum(self, path: PlantedPath, cost: float, levels: Floats) -> Floats:
        """Best positions ``[T, 1]``; the state is the signal."""
        deviation = self.strength * self.sigma * np.sqrt(1.0 - self.persistence**2)
        return autoregressive_positions(path.means[:, 0], self.persistence, deviation, 1.0, cost, levels)[:, None]


@dataclass(frozen=True)
class SizeLaw:
    """r[t + 1] = slope (abs(r[t]) - its mean under the noise) + sigma e: sizes predict the next sign.

    A mirrored path has the same sizes and the opposite signs, so random signs destroy this signal unless sizes turn.

    Attributes:
        slope: Mean of the next return per size of the last one.
        sigma: Deviation of the noise per bar, fraction.
        assets: Number of assets.
    """

    slope: float
    sigma: float
    assets: int = 1

    def means(self, returns: Floats) -> Floats:
        """Mean of the return after each of ``returns``."""
        return np.asarray(self.slope * (np.abs(returns) - SIZE_MEAN * self.sigma))

    def draw(self, bars: int, seed: int) -> PlantedPath:
        """Draw a path."""
        returns = np.random.default_rng(seed).standard_normal(bars) * self.sigma
        for t in range(1, bars):
            returns[t] += self.means(returns[t - 1])
        return PlantedPath.of(returns[:, None], self.means(returns)[:, None])

    def optimum(self, path: PlantedPath, cost: float, levels: Floats) -> Floats:
        """Best positions ``[T, 1]``; the state is the last return."""
        grid = np.linspace(-SPREAD, SPREAD, POINTS[1]) * self.sigma
        means = self.means(grid)
        transition = gaussian_transition(means, self.sigma, grid)
        worth = following_worth(means, lambda following: transition @ following, cost, levels)
        return follow(path.means[:, 0], interpolated([grid], worth, path.returns), cost, levels)[:, None]


@dataclass(frozen=True)
class DriftLaw:
    """r[t + 1] = mean + sigma e: nothing to time, only to hold. Random signs destroy it.

    Attributes:
        mean: Mean return per bar, fraction.
        sigma: Deviation of the noise per bar, fraction.
        assets: Number of assets.
    """

    mean: float
    sigma: float
    assets: int = 1

    def draw(self, bars: int, seed: int) -> PlantedPath:
        """Draw a path."""
        returns = self.mean + self.sigma * np.random.default_rng(seed).standard_normal((bars, 1))
        return PlantedPath.of(returns, np.full((bars, 1), self.mean))

    def optimum(self, path: PlantedPath, cost: float, levels: Floats) -> Floats:
        """Best positions ``[T, 1]``: all the way in the drift's direction for ever, exact; ``cost`` is paid once."""
        return np.full(path.returns.shape, levels[np.argmax(self.mean * levels)])
