"""The rule: positions from forecasts by the marginal value of risk, for proportional costs and quadratic risk.

u is a position in units of risk: fraction of equity x volatility of a bar, scaled so that 1 is the largest. The value
of one more unit of risk k bars ahead is

    D_k(u) = m_k - lambda u + gamma E[clip(D_{k+1}(u) + e, -c, c)],    D_end(u) = -lambda u / (1 - gamma)

with the forecast m_k in volatilities, the price of risk lambda, the cost c of trading one unit of risk, and e uniform:
the surprise of the next forecast, whose deviation makes waiting worth something. D falls in u. An order is sent only
where D leaves [-c, c]: buy up to D(u) = c, sell down to D(u) = -c (a Dynkin game: Karatzas and Wang, Connections
Between Bounded-Variation Control and Dynkin Games, 2001).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from sentio_kedro.agent.marginal_value import marginal_value
from sentio_kedro.agent.neutral_control import PLACES, follow_neutral
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.trading.compilation import compiled

PRICE_OF_RISK = 1.0  # annual Sharpe ratio of a forecast at which the largest position is held
DISCOUNT = 0.999
MOST_BARS = 40  # of a segment that are stepped
SNAP = 0.05  # smaller positions are closed
HALVINGS = 20
SURPRISE_PASSES, SURPRISE_ROWS = 4, 4_000


@dataclass(frozen=True)
class Control:
    """Constants of the rule.

    Attributes:
        lengths: ``[segments]`` bars stepped of each segment.
        price: Price of risk lambda per bar, volatilities per unit.
        surprise: Deviation of the next bar's surprise in D, volatilities.
        discount: Factor gamma per bar.
    """

    lengths: np.ndarray
    price: float
    surprise: float = 0.0
    discount: float = DISCOUNT

    @classmethod
    def of(cls, bars: Sequence[int], periods_per_year: float, price_of_risk: float = PRICE_OF_RISK) -> Control:
        """Make the constants, without surprises, for segments of so many ``bars`` each."""
        lengths = np.minimum(np.array(bars), MOST_BARS)
        return cls(lengths, price_of_risk / sqrt(periods_per_year))

    def marginal_values(self, forecasts: Floats, costs: Floats, units: float = 0.0) -> tuple[Floats, Floats]:
        """D at a position of ``units`` now, and as expected for the next bar, each ``[n, A]``.

        Args:
            forecasts: ``[n, A, segments]`` per bar, volatilities.
            costs: ``[n, A]`` cost of a unit of risk, volatilities.
            units: The position.
        """
        now, following = np.zeros(costs.shape), np.zeros(costs.shape)
        _marginal_values(
            forecasts, costs, units, self.lengths, self.price, self.discount, self.surprise, now, following
        )
        return now, following

    def positions(self, forecasts: Floats, costs: Floats, start: Floats, *, neutral: bool) -> Floats:
        """Follow the rule over rows ``[n, A]``, in units of risk.

        Args:
            forecasts: ``[n, A, segments]`` per bar, volatilities.
            costs: ``[n, A]`` cost of a unit of risk, volatilities; infinite where an asset cannot be traded.
            start: ``[A]`` positions before the first row.
            neutral: Positions of the assets that can be traded sum to 0, but for ``SNAP``: see ``neutral_control.py``.

        Raises:
            ValueError: If a forecast is not finite: comparisons with NaN would end in the largest short position.
        """
        if not np.isfinite(forecasts).all():
            place = tuple(np.argwhere(~np.isfinite(forecasts))[0].tolist())
            raise ValueError(
                f"`forecasts` must be finite, was {forecasts[place]} at [row, asset, segment] = {list(place)}; run "
                "`kedro run --pipeline forecasting` again and check the bars for extreme prices."
            )
        found, held = np.zeros(costs.shape), np.array(start, np.float64)
        constants = (self.lengths, self.price, self.discount, self.surprise)
        if neutral:
            room = np.zeros(self.lengths.sum()), np.zeros((costs.shape[1], 1 + PLACES))
            follow_neutral(forecasts, costs, held, *constants, SNAP, *room, found)
        else:
            _follow(forecasts, costs, held, *constants, found)
        return found

    def with_surprise(self, forecasts: Floats, costs: Floats) -> Control:
        """Measure the surprise on out-of-fold rows ``[n, A, segments]``: it depends on itself through D."""
        control, last = self, slice(-SURPRISE_ROWS, None)
        forecasts, costs = np.ascontiguousarray(forecasts[last]), np.ascontiguousarray(costs[last])
        for _ in range(SURPRISE_PASSES):
            now, following = control.marginal_values(forecasts, costs)
            surprises = (now[1:] - following[:-1])[np.isfinite(costs[1:]) & np.isfinite(costs[:-1])]
            deviation = float(np.sqrt((surprises**2).mean())) if surprises.size else 0.0
            control = Control(self.lengths, self.price, deviation, self.discount)
        return control


@compiled
def target_units(
    forecast: Floats,
    cost: float,
    held: float,
    lengths: np.ndarray,
    price: float,
    discount: float,
    surprise: float,
) -> float:
    """Position that the rule moves to from one that is ``held``, units of risk in [-1, 1]."""
    value, _ = marginal_value(forecast, cost, held, lengths, price, discount, surprise)
    if abs(value) <= cost:
        return held
    goal = cost if value > 0.0 else -cost
    low, high = (held, 1.0) if value > 0.0 else (-1.0, held)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        value, _ = marginal_value(forecast, cost, middle, lengths, price, discount, surprise)
        low, high = (middle, high) if value > goal else (low, middle)
    return 0.5 * (low + high)


@compiled
def _marginal_values(
    forecasts: Floats,
    costs: Floats,
    units: float,
    lengths: np.ndarray,
    price: float,
    discount: float,
    surprise: float,
    now: Floats,
    following: Floats,
) -> None:
    for row in range(costs.shape[0]):
        for asset in range(costs.shape[1]):
            now[row, asset], following[row, asset] = marginal_value(
                forecasts[row, asset], costs[row, asset], units, lengths, price, discount, surprise
            )


@compiled
def _follow(
    forecasts: Floats,
    costs: Floats,
    held: Floats,
    lengths: np.ndarray,
    price: float,
    discount: float,
    surprise: float,
    found: Floats,
) -> None:
    """Follow the rule from ``held`` ``[A]``, which is changed; small positions are snapped to 0."""
    for row in range(costs.shape[0]):
        for asset in range(costs.shape[1]):
            cost = costs[row, asset]
            if cost < np.inf:
                units = target_units(forecasts[row, asset], cost, held[asset], lengths, price, discount, surprise)
                held[asset] = 0.0 if abs(units) < SNAP else units
            found[row, asset] = held[asset]
