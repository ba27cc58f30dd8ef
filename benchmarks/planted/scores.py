"""Score of positions on a planted path: their expected profit under the law, not the realised profit."""

from __future__ import annotations

import numpy as np

from sentio_kedro.market.ingestion.timestamps import Floats


def expected_profit(positions: Floats, means: Floats, cost: float) -> Floats:
    """Profit per bar and asset ``[T, A]`` in expectation: position x mean of the next return, less cost x change.

    Args:
        positions: ``[T, A]`` fraction of equity held over (t, t + 1]; flat before.
        means: ``[T, A]`` mean of the next return.
        cost: Cost of trading, fraction of notional.
    """
    changes = np.abs(np.diff(positions, axis=0, prepend=0.0))
    return np.asarray(positions * means - cost * changes)


def share_of_optimum(positions: Floats, optimum: Floats, means: Floats, cost: float) -> float:
    """Expected profit of ``positions`` over that of the ``optimum`` on the same rows, all assets together.

    NaN where the optimum earns nothing.
    """
    earned, possible = (expected_profit(held, means, cost).sum() for held in (positions, optimum))
    return float(earned / possible) if possible > 0.0 else float("nan")


def shares_per_asset(positions: Floats, optimum: Floats, means: Floats, cost: float) -> list[float]:
    """``share_of_optimum`` of each asset alone, NaN where its optimum earns nothing."""
    assets = (slice(asset, asset + 1) for asset in range(positions.shape[1]))
    return [share_of_optimum(positions[:, one], optimum[:, one], means[:, one], cost) for one in assets]


def expected_sharpe(positions: Floats, means: Floats, returns: Floats, cost: float, periods_per_year: float) -> float:
    """Annualised net Sharpe ratio: expected profit over the deviation of the realised one.

    Args:
        positions: ``[T, A]`` fraction of equity held over (t, t + 1].
        means: ``[T, A]`` mean of the next return.
        returns: ``[T, A]`` return that came next.
        cost: Cost of trading, fraction of notional.
        periods_per_year: Bars per year.

    Returns:
        NaN where nothing is held.
    """
    deviation = expected_profit(positions, returns, cost).sum(-1).std()
    mean = expected_profit(positions, means, cost).sum(-1).mean()
    return float(mean / deviation * np.sqrt(periods_per_year)) if deviation > 0.0 else float("nan")
