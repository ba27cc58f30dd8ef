"""Paths drawn from a known law, and their bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from sentio_kedro.market.ingestion.timestamps import Floats

PLAIN_VOLUME = 1_000.0  # volume per bar where it has no information


@dataclass(frozen=True, eq=False)
class PlantedPath:
    """T bars of A assets, and their conditional means.

    Attributes:
        returns: ``[T, A]`` log returns.
        means: ``[T, A]`` mean of the log return of bar t + 1, given bars up to t.
        volume: ``[T, A]`` volume.
    """

    returns: Floats
    means: Floats
    volume: Floats

    @classmethod
    def of(cls, returns: Floats, means: Floats) -> PlantedPath:
        """Make a path whose volume has no information."""
        return cls(returns, means, np.full(returns.shape, PLAIN_VOLUME))


class Law(Protocol):
    """A law of returns whose best positions are known."""

    @property
    def assets(self) -> int:
        """Number of assets A."""
        ...

    def draw(self, bars: int, seed: int) -> PlantedPath:
        """Draw a path of ``bars`` bars."""
        ...

    def optimum(self, path: PlantedPath, cost: float, levels: Floats) -> Floats:
        """Positions ``[T, A]`` that maximise mean expected profit, decided on bars up to t, flat before.

        Args:
            path: A path of this law.
            cost: Cost of trading, fraction of notional.
            levels: ``[P]`` positions of one asset to choose from, fraction of equity, one of them 0.
        """
        ...


def autoregression(noise: Floats, phi: float, lag: int = 1) -> Floats:
    """Follow x[t] = phi x[t - lag] + noise[t]; the first ``lag`` values are scaled to the stationary law.

    Args:
        noise: ``[T]`` independent noise of equal deviation.
        phi: Autoregression, between -1 and 1.
        lag: Bars back.

    Returns:
        ``[T]``.
    """
    values = noise.copy()
    values[:lag] /= np.sqrt(1.0 - phi * phi)
    for t in range(lag, len(noise)):
        values[t] += phi * values[t - lag]
    return values


def autoregressive_returns(bars: int, phi: float, sigma: float, seed: int) -> Floats:
    """Draw ``[bars]`` log returns of the first-order autoregression, from its stationary law."""
    return autoregression(np.random.default_rng(seed).standard_normal(bars) * sigma, phi)


def planted_bars(
    returns: Floats,
    symbol: str = "PLANTED",
    start: str = "2020-01-01",
    minutes: int = 30,
    volume: Floats | float = PLAIN_VOLUME,
) -> pd.DataFrame:
    """Turn log returns into bars that open at the previous close.

    Args:
        returns: ``[T]`` log returns.
        symbol: Name of the asset.
        start: End of the first bar.
        minutes: Length of a bar.
        volume: ``[T]`` volume, or one for all bars.

    Returns:
        A long frame as the catalog's ``bars``.
    """
    close = 100.0 * np.exp(np.cumsum(returns))
    opening = np.concatenate([[100.0], close[:-1]])
    return pd.DataFrame(
        {
            "timestamp": pd.date_range(start, periods=len(close), freq=f"{minutes}min", tz="UTC"),
            "symbol": symbol,
            "open": opening,
            "high": np.maximum(opening, close),
            "low": np.minimum(opening, close),
            "close": close,
            "volume": volume,
        }
    )


def path_bars(path: PlantedPath) -> pd.DataFrame:
    """Return the long bars of all assets of a path; their symbols sort in the assets' order."""
    frames = [
        planted_bars(path.returns[:, asset], f"PLANTED_{asset:02d}", volume=path.volume[:, asset])
        for asset in range(path.returns.shape[1])
    ]
    return pd.concat(frames, ignore_index=True)
