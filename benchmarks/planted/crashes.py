"""Two assets that earn the same on average, of which one crashes now and then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planted.paths import PlantedPath
from sentio_kedro.market.ingestion.timestamps import Floats


@dataclass(frozen=True)
class CrashLaw:
    """Both assets earn ``drift`` a bar; the second now and then falls by ``crash``, and drifts more to make up for it.

    Attributes:
        drift: Mean log return per bar of either asset.
        sigma: Deviation of the noise per bar, fraction.
        crash: Log return of a crash, positive.
        chance: Probability of a crash per bar.
        assets: Number of assets.
    """

    drift: float
    sigma: float
    crash: float
    chance: float
    assets: int = 2

    def draw(self, bars: int, seed: int) -> PlantedPath:
        """Draw a path."""
        draws = np.random.default_rng(seed)
        returns = self.drift + self.sigma * draws.standard_normal((bars, 2))
        crashes = draws.random(bars) < self.chance
        returns[:, 1] += self.crash * self.chance - self.crash * crashes
        return PlantedPath.of(returns, np.full((bars, 2), self.drift))

    def optimum(self, path: PlantedPath, cost: float, levels: Floats) -> Floats:
        """Hold as much as can be held of both from the first bar on, which earns the mean of either."""
        del cost
        return np.full(path.returns.shape, levels.max())
