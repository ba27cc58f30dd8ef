"""Markets with a known law, on which it is known what can be earned: proof that an agent learns and does not cheat.

Returns follow r[t+1] = phi r[t] + sigma e with standard normal e. The conditional mean of the next return is
phi r[t], so a position's expected profit is known and the luck of a few thousand bars drops out of the judgement.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from sentio_kedro.market.bars import Floats

GRID = 241  # points of the last return
SPREAD = 6.0  # standard deviations that the grid covers
TOLERANCE = 1e-10


def autoregressive_returns(bars: int, phi: float, sigma: float, seed: int) -> Floats:
    """Draw ``[bars]`` log returns of the first-order autoregression, from its stationary law."""
    noise = np.random.default_rng(seed).standard_normal(bars) * sigma
    returns = np.empty(bars)
    returns[0] = noise[0] / np.sqrt(1.0 - phi * phi)
    for t in range(1, bars):
        returns[t] = phi * returns[t - 1] + noise[t]
    return returns


def planted_bars(
    returns: Floats, symbol: str = "PLANTED", start: str = "2020-01-01", minutes: int = 30
) -> pd.DataFrame:
    """Turn log returns into bars that open at the previous close.

    Args:
        returns: ``[T]`` log returns.
        symbol: Name of the asset.
        start: End of the first bar.
        minutes: Length of a bar.

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
            "volume": 1_000.0,
        }
    )


def optimal_positions(returns: Floats, phi: float, sigma: float, cost: float, levels: Floats) -> Floats:
    """Positions of the policy that maximises mean profit under the known law.

    Relative value iteration on a grid of the last return and the position held (Puterman, Markov Decision Processes,
    1994, section 8.5), followed along ``returns``.

    Args:
        returns: ``[T]`` log returns.
        phi: Autoregression.
        sigma: Deviation of the noise.
        cost: Cost of trading, fraction of notional.
        levels: ``[P]`` positions to choose from, one of them 0.

    Returns:
        ``[T]`` position held over (t, t + 1], decided on ``returns[: t + 1]``, starting flat.
    """
    deviation = sigma / np.sqrt(1.0 - phi * phi)
    grid = np.linspace(-SPREAD * deviation, SPREAD * deviation, GRID)
    density = np.exp(-0.5 * ((grid[None] - phi * grid[:, None]) / sigma) ** 2)
    transition = density / density.sum(1, keepdims=True)  # [G, G]
    trade = cost * np.abs(levels[None] - levels[:, None])  # [P, P] from, to
    reward = grid[:, None, None] * phi * levels - trade  # [G, P, P]
    value = np.zeros((GRID, len(levels)))
    while True:
        following = transition @ value  # [G, P]
        updated = (reward + following[:, None]).max(-1)
        updated -= updated[GRID // 2, 0]
        if np.abs(updated - value).max() < TOLERANCE * sigma:
            break
        value = updated
    choice = (reward + following[:, None]).argmax(-1)  # [G, P]
    cells = np.clip(np.rint((returns - grid[0]) / (grid[1] - grid[0])), 0, GRID - 1).astype(int)
    held = int(np.flatnonzero(levels == 0.0)[0])
    positions = np.empty(len(returns))
    for t, cell in enumerate(cells):
        held = int(choice[cell, held])
        positions[t] = levels[held]
    return positions


def expected_profit(positions: Floats, returns: Floats, phi: float, cost: float) -> Floats:
    """Profit per bar ``[T]`` that positions earn in expectation: position x phi x return, less cost x change.

    Args:
        positions: ``[T]`` fraction of equity held over (t, t + 1]; flat before.
        returns: ``[T]`` log return known at the decision.
        phi: Autoregression.
        cost: Cost of trading, fraction of notional.
    """
    changes = np.abs(np.diff(positions, prepend=0.0))
    profit: Floats = positions * phi * returns - cost * changes
    return profit


def share_of_optimum(positions: Floats, optimum: Floats, returns: Floats, phi: float, cost: float) -> float:
    """Expected profit of ``positions`` over that of the ``optimum`` on the same rows."""
    earned = expected_profit(positions, returns, phi, cost).mean()
    possible = expected_profit(optimum, returns, phi, cost).mean()
    return float(earned / possible)
