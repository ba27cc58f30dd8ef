"""Laws of several assets. Costs are proportional and assets have allocations of their own, so each is solved alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planted.control import autoregressive_positions
from planted.paths import PlantedPath, autoregression
from sentio_kedro.market.ingestion.timestamps import Floats


@dataclass(frozen=True)
class LeadLagLaw:
    """The first asset is noise; the second one's next return is phi times the first one's last return, plus noise.

    Attributes:
        phi: What the second asset's next return takes over.
        sigma: Deviation of the noise of both per bar, fraction.
        assets: Number of assets.
    """

    phi: float
    sigma: float
    assets: int = 2

    def draw(self, bars: int, seed: int) -> PlantedPath:
        """Draw a path."""
        returns = np.random.default_rng(seed).standard_normal((bars, 2)) * self.sigma
        means = np.stack([np.zeros(bars), self.phi * returns[:, 0]], axis=-1)
        returns[1:, 1] += means[:-1, 1]
        return PlantedPath.of(returns, means)

    def optimum(self, path: PlantedPath, cost: float, levels: Floats) -> Floats:
        """Best positions ``[T, 2]``: flat in the first asset; the second one's means are independent."""
        best = autoregressive_positions(path.means[:, 1], 0.0, abs(self.phi) * self.sigma, 1.0, cost, levels)
        return np.stack([np.zeros_like(best), best], axis=-1)


@dataclass(frozen=True)
class IndependentLaw:
    """Independent first-order autoregressions, one per asset.

    Attributes:
        phis: Autoregression of each asset.
        sigma: Deviation of the noise of all per bar, fraction.
    """

    phis: tuple[float, ...]
    sigma: float

    @property
    def assets(self) -> int:
        """Number of assets."""
        return len(self.phis)

    def draw(self, bars: int, seed: int) -> PlantedPath:
        """Draw a path."""
        noise = np.random.default_rng(seed).standard_normal((bars, self.assets)) * self.sigma
        columns = [autoregression(noise[:, asset], phi) for asset, phi in enumerate(self.phis)]
        returns = np.stack(columns, axis=-1)
        return PlantedPath.of(returns, returns * np.array(self.phis))

    def optimum(self, path: PlantedPath, cost: float, levels: Floats) -> Floats:
        """Best positions ``[T, A]``, asset by asset."""
        best = [
            autoregressive_positions(path.returns[:, asset], phi, self.sigma, phi, cost, levels)
            for asset, phi in enumerate(self.phis)
        ]
        return np.stack(best, axis=-1)
