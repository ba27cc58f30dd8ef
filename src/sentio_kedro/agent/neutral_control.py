"""The rule for positions that sum to 0: assets that pay for each other share a multiplier.

D(u) of `control.py` is worth paying for alone. Where positions sum to 0 a unit of one asset is a unit less of others,
which cost, too. With a multiplier mu of that condition each position moves to where D(u) lies in [mu - c, mu + c], so
that an order is sent only where one asset's D less its cost exceeds another's plus its cost. So it is in later bars:

    D_k(u) = m_k - lambda u + gamma (mu_k + E[clip(D_{k+1}(u) + e - mu_k, -c, c)])

mu_k is that of the positions held: where D_{k+1} lies outside of the bands, what assets would move balances, taking the
slope of D for that of all of them; else it is the number nearest to 0 that leaves all of them inside.
"""

from __future__ import annotations

import numpy as np

from sentio_kedro.agent.marginal_value import expected_clip
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.trading.compilation import compiled

PLACES = 41  # positions from -1 to 1 at which D is tabulated
HALVINGS = 40  # of the multiplier now
LATER_HALVINGS = 12  # of those of later bars


@compiled
def follow_neutral(
    forecasts: Floats,
    costs: Floats,
    held: Floats,
    lengths: np.ndarray,
    price: float,
    discount: float,
    surprise: float,
    snap: float,
    multipliers: Floats,
    table: Floats,
    found: Floats,
) -> None:
    """Follow the rule over rows from positions ``held`` ``[A]``, which are changed.

    Args:
        forecasts: ``[n, A, segments]`` per bar, volatilities.
        costs: ``[n, A]`` cost of a unit of risk; infinite where an asset cannot be traded: it keeps its position, and
            the others sum to 0 without it.
        held: Positions before the first row.
        lengths: ``[segments]`` bars stepped of each segment, ``sum(lengths)`` = K in all.
        price: Price of risk.
        discount: Factor per bar.
        surprise: Deviation of the next bar's surprise.
        snap: Size below which a position is closed, and up to which a sum counts as 0.
        multipliers: ``[K]`` room for those of later bars.
        table: ``[A, 1 + PLACES]`` room for D of the positions held, and of those tabulated.
        found: ``[n, A]`` the positions.
    """
    assets = costs.shape[1]
    for row in range(costs.shape[0]):
        _value_held(forecasts[row], costs[row], held, lengths, price, discount, surprise, multipliers, table)
        total, best, least = 0.0, -np.inf, np.inf
        for asset in range(assets):
            if costs[row, asset] < np.inf:
                total += held[asset]
                best, least = (
                    max(best, table[asset, 0] - costs[row, asset]),
                    min(least, table[asset, 0] + costs[row, asset]),
                )
        if best > least or abs(total) > snap:
            for asset in range(assets):
                for place in range(PLACES if costs[row, asset] < np.inf else 0):
                    units = 2.0 * place / (PLACES - 1) - 1.0
                    table[asset, 1 + place] = _value(
                        forecasts[row, asset], costs[row, asset], units, lengths, price, discount, surprise, multipliers
                    )
            balance(table[:, 1:], costs[row], held)
        for asset in range(assets):
            if costs[row, asset] < np.inf and abs(held[asset]) < snap:
                held[asset] = 0.0
            found[row, asset] = held[asset]


@compiled
def _value_held(
    forecasts: Floats,
    costs: Floats,
    held: Floats,
    lengths: np.ndarray,
    price: float,
    discount: float,
    surprise: float,
    multipliers: Floats,
    table: Floats,
) -> None:
    """Write D of the positions held to the first column of ``table``, and the multipliers of later bars, last first."""
    half, step = surprise * np.sqrt(3.0), 0
    for asset in range(len(held)):
        table[asset, 0] = -price * held[asset] / (1.0 - discount)
    for part in range(len(lengths) - 1, -1, -1):
        for _ in range(lengths[part]):
            shared = _multiplier(table, costs)
            multipliers[step] = shared
            step += 1
            for asset in range(len(held)):
                if costs[asset] < np.inf:
                    kept = shared + expected_clip(table[asset, 0] - shared, costs[asset], half)
                    table[asset, 0] = forecasts[asset, part] - price * held[asset] + discount * kept


@compiled
def _multiplier(table: Floats, costs: Floats) -> float:
    """Multiplier at which D in the first column leaves the bands of costs by as much above as below."""
    low, high, best, least = np.inf, -np.inf, -np.inf, np.inf
    for asset in range(len(costs)):
        if costs[asset] < np.inf:
            below, above = table[asset, 0] - costs[asset], table[asset, 0] + costs[asset]
            low, high, best, least = min(low, below), max(high, above), max(best, below), min(least, above)
    if best <= least:
        return min(max(0.0, best), least)
    for _ in range(LATER_HALVINGS):
        middle, moved = 0.5 * (low + high), 0.0
        for asset in range(len(costs)):
            if costs[asset] < np.inf:
                excess = table[asset, 0] - middle
                moved += max(excess - costs[asset], 0.0) - max(-excess - costs[asset], 0.0)
        low, high = (middle, high) if moved > 0.0 else (low, middle)
    return 0.5 * (low + high)


@compiled
def _value(
    forecast: Floats,
    cost: float,
    units: float,
    lengths: np.ndarray,
    price: float,
    discount: float,
    surprise: float,
    multipliers: Floats,
) -> float:
    """D of a position of ``units`` with the ``multipliers`` of later bars."""
    half, value, step = surprise * np.sqrt(3.0), -price * units / (1.0 - discount), 0
    for part in range(len(lengths) - 1, -1, -1):
        for _ in range(lengths[part]):
            shared = multipliers[step]
            step += 1
            value = forecast[part] - price * units + discount * (shared + expected_clip(value - shared, cost, half))
    return value


@compiled
def balance(values: Floats, costs: Floats, held: Floats) -> None:
    """Move positions ``held`` ``[A]``, in place, to those of the multiplier at which they sum to 0.

    Args:
        values: ``[A, P]`` D at P evenly spaced positions from -1 to 1, falling.
        costs: ``[A]`` cost of a unit of risk; infinite where an asset cannot be traded and does not count.
        held: The positions.
    """
    low, high = np.inf, -np.inf
    for asset in range(len(held)):
        if costs[asset] < np.inf:
            low = min(low, values[asset, values.shape[1] - 1] - costs[asset])  # all positions are 1 there
            high = max(high, values[asset, 0] + costs[asset])  # and -1 here
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _total(values, costs, held, middle) > 0.0 else (low, middle)
    above, below = _total(values, costs, held, low), _total(values, costs, held, high)
    share = above / (above - below) if above > below else 0.0  # of the way between the two totals that leads to 0
    for asset in range(len(held)):
        if costs[asset] < np.inf:
            first = _units(values[asset], costs[asset], held[asset], low)
            held[asset] = first + share * (_units(values[asset], costs[asset], held[asset], high) - first)


@compiled
def _total(values: Floats, costs: Floats, held: Floats, multiplier: float) -> float:
    total = 0.0
    for asset in range(len(held)):
        if costs[asset] < np.inf:
            total += _units(values[asset], costs[asset], held[asset], multiplier)
    return total


@compiled
def _units(values: Floats, cost: float, held: float, multiplier: float) -> float:
    """Position nearest to ``held`` at which D lies within ``cost`` of the multiplier."""
    return min(max(held, _position_of(values, multiplier + cost)), _position_of(values, multiplier - cost))


@compiled
def _position_of(values: Floats, goal: float) -> float:
    """Position from -1 to 1 at which falling ``values`` ``[P]`` reach ``goal``."""
    low, high = 0, len(values) - 1
    if values[low] <= goal:
        return -1.0
    if values[high] >= goal:
        return 1.0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if values[middle] > goal else (low, middle)
    part = (values[low] - goal) / (values[low] - values[high])
    return float(2.0 * (low + part) / (len(values) - 1) - 1.0)
