"""Laws whose signal depends on a second column, on the clock, or is none under clustered volatility."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planted.control import POINTS, SPREAD, follow, following_worth, gaussian_transition, interpolated
from planted.paths import PLAIN_VOLUME, PlantedPath
from sentio_kedro.market.ingestion.timestamps import Floats

VOLUME_STATE, VOLUME_NOISE = 0.5, 0.1  # log volume per unit of the state, and the deviation of its noise
DAY = 48  # bars of half an hour
PAYING = (0, 1, 16, 17, 32, 33)  # bars of the day after whose ends the mean is high: 00:00, 00:30, 08:00 ... UTC


@dataclass(frozen=True)
class InteractionLaw:
    """r[t + 1] = phi s[t] r[t] + sigma e with a state s of -1 or 1 that the volume shows: neither predicts alone.

    Attributes:
        phi: Autoregression where s is 1; its negative where s is -1.
        sigma: Deviation of the noise per bar, fraction.
        stay_bars: Mean number of bars until the state flips.
        assets: Number of assets.
    """

    phi: float
    sigma: float
    stay_bars: float
    assets: int = 1

    def draw(self, bars: int, seed: int) -> PlantedPath:
        """Draw a path."""
        rng = np.random.default_rng(seed)
        flips = rng.random(bars) < np.where(np.arange(bars) == 0, 0.5, 1.0 / self.stay_bars)
        state = np.where(np.cumsum(flips) % 2, -1.0, 1.0)
        returns = rng.standard_normal(bars) * self.sigma
        for t in range(1, bars):
            returns[t] += self.phi * state[t - 1] * returns[t - 1]
        volume = PLAIN_VOLUME * np.exp(VOLUME_STATE * state + VOLUME_NOISE * rng.standard_normal(bars))
        return PlantedPath(returns[:, None], (self.phi * state * returns)[:, None], volume[:, None])

    def optimum(self, path: PlantedPath, cost: float, levels: Floats) -> Floats:
        """Best positions ``[T, 1]``; the state is the last return and s, which the volume shows all but for sure."""
        width = SPREAD * self.sigma / np.sqrt(1.0 - self.phi**2)
        grid = np.linspace(-width, width, POINTS[1])
        means = self.phi * np.concatenate([grid, -grid])  # states of s = 1, then of s = -1
        transition = gaussian_transition(means, self.sigma, grid)  # [2 G, G]
        flip = 1.0 / self.stay_bars
        stay = np.repeat([[1.0 - flip, flip], [flip, 1.0 - flip]], len(grid), axis=0)  # [2 G, 2]
        joint = (stay[:, :, None] * transition[:, None]).reshape(len(means), -1)
        worth = following_worth(means, lambda following: joint @ following, cost, levels)
        state = np.sign(np.log(path.volume[:, 0] / PLAIN_VOLUME))
        upper, lower = (interpolated([grid], part, path.returns) for part in np.split(worth, 2))
        return follow(path.means[:, 0], np.where(state[:, None] > 0.0, upper, lower), cost, levels)[:, None]


@dataclass(frozen=True)
class HoursLaw:
    """The mean of a return depends on the time of day at which its bar begins.

    Attributes:
        high: Mean after the ends of the ``PAYING`` bars of a day, fraction.
        low: Mean after the others.
        sigma: Deviation of the noise per bar, fraction.
        assets: Number of assets.
    """

    high: float
    low: float
    sigma: float
    assets: int = 1

    def means(self, bars: int) -> Floats:
        """Mean of the return after each bar; the first one ends at midnight."""
        return np.where(np.isin(np.arange(bars) % DAY, PAYING), self.high, self.low)

    def draw(self, bars: int, seed: int) -> PlantedPath:
        """Draw a path."""
        means = self.means(bars)
        returns = np.random.default_rng(seed).standard_normal(bars) * self.sigma
        returns[1:] += means[:-1]
        return PlantedPath.of(returns[:, None], means[:, None])

    def optimum(self, path: PlantedPath, cost: float, levels: Floats) -> Floats:
        """Best positions ``[T, 1]``; the state is the time of day."""
        worth = following_worth(self.means(DAY), lambda following: np.roll(following, -1, axis=0), cost, levels)
        return follow(path.means[:, 0], worth[np.arange(len(path.means)) % DAY], cost, levels)[:, None]


@dataclass(frozen=True)
class ClusteredNoiseLaw:
    """Returns without a mean whose variance is a GARCH process with Student shocks: h' = w + a min(r^2, c h) + b h.

    Attributes:
        sigma: Root of the mean variance that w would give without the cap, fraction.
        arch: Weight a of the last squared return.
        garch: Weight b of the last variance.
        freedom: Degrees of freedom of the shocks, which are scaled to variance 1.
        cap: Largest squared return that counts, in variances.
        assets: Number of assets, independent of each other.
    """

    sigma: float
    arch: float = 0.10
    garch: float = 0.88
    freedom: float = 4.0
    cap: float = 25.0
    assets: int = 1

    def draw(self, bars: int, seed: int) -> PlantedPath:
        """Draw a path."""
        shape, scale = (bars, self.assets), np.sqrt(1.0 - 2.0 / self.freedom)
        shocks = np.random.default_rng(seed).standard_t(self.freedom, shape) * scale
        base = self.sigma**2 * (1.0 - self.arch - self.garch)
        returns, variance = np.empty(shape), np.full(self.assets, self.sigma**2)
        for t in range(bars):
            returns[t] = np.sqrt(variance) * shocks[t]
            variance = base + self.arch * np.minimum(returns[t] ** 2, self.cap * variance) + self.garch * variance
        return PlantedPath.of(returns, np.zeros(shape))

    def optimum(self, path: PlantedPath, cost: float, levels: Floats) -> Floats:
        """Stay flat: there is nothing to earn."""
        return np.zeros(path.returns.shape)
