"""The market that a fold's forecasts are made from."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from sentio_kedro.agent.forecasting.inputs.history import ForecastInputs, forecast_inputs
from sentio_kedro.agent.forecasting.targets import Horizon, bar_targets, horizons
from sentio_kedro.config import TradingParameters
from sentio_kedro.config.trading import is_mixed
from sentio_kedro.market.ingestion.adjustment import adjusted
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.panels import bar_share, session_bars
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps, bars_per_session
from sentio_kedro.market.tensors import quoted_spread
from sentio_kedro.trading.accounts import allocation, charges_of, for_symbols, half_spread_floor


class ForecastMarket(NamedTuple):
    """Inputs, targets and costs of all rows.

    Attributes:
        timestamps: ``[T]`` ends of the bars.
        inputs: Inputs, with a fold's regimes.
        targets: ``[T, A]`` returns of a bar in volatilities, from ``bar_targets``.
        costs: ``[T, A]`` cost of trading one unit of risk, volatilities; infinite where an asset cannot be traded.
        risk: ``[T, A]`` deviation of a bar's profit of the largest position, in units of the drawdown limit; 0 without
            one.
        segments: Segments forecast.
        purge: Bars after a decision that its longest target needs.
        periods_per_year: Bars per year.
    """

    timestamps: Timestamps
    inputs: ForecastInputs
    targets: Floats
    costs: Floats
    risk: Floats
    segments: Sequence[Horizon]
    purge: int
    periods_per_year: float

    @classmethod
    def of(cls, bars: AlignedBars, trading: TradingParameters, periods_per_year: float) -> ForecastMarket:
        """Prepare bars T x A; regimes are added by ``with_regimes``."""
        trading = for_symbols(trading, bars.symbols)
        inputs, latency = forecast_inputs(bars), trading.orders.latency_bars
        costs = unit_costs(bars, inputs, trading)
        risk = largest_risk(inputs.volatility, session_bars(bars, trading), trading)
        if is_mixed(trading):
            risk = risk * bar_share(bars.present) ** 0.5  # of a row of the grid, whose number a year is known
        segments = horizons(bars_per_session(bars.timestamps))
        targets = bar_targets(bars, inputs.volatility, latency)
        purge = 1 + latency + segments[-1].last
        return cls(bars.timestamps, inputs, targets, costs, risk, segments, purge, periods_per_year)

    def with_regimes(self, posterior: Floats) -> ForecastMarket:
        """Add a fold's filtered regimes ``[T, K]`` to the inputs."""
        return self._replace(inputs=self.inputs.with_regimes(posterior))

    def price_of_risk(self, rows: np.ndarray, least: float) -> float:
        """Annual Sharpe ratio of a forecast at which the largest position is held.

        ``least``, or more where a drawdown limit makes risk dearer. The best position under a limit on the drawdown is
        what may still be lost x mean / variance, for growth (Grossman and Zhou, Optimal Investment Strategies for
        Controlling Drawdowns, Mathematical Finance, 1993). So the largest one is best at a Sharpe ratio of its
        deviation / limit, both for the same time: a year.

        Args:
            rows: Train rows, over which the deviation is averaged.
            least: ``forecasting.price_of_risk``.
        """
        square = np.nanmean(self.risk[rows] ** 2) if np.isfinite(self.risk[rows]).any() else 0.0
        return max(least, float((square * self.periods_per_year) ** 0.5))


def largest_risk(volatility: Floats, bars_per_session: float | Floats, trading: TradingParameters) -> Floats:
    """Deviation of a bar's profit of the largest position ``[T, A]``, in units of the drawdown limit; 0 without one.

    Args:
        volatility: ``[T, A]`` of a bar's return, NaN where unknown.
        bars_per_session: Bars of a session, or those of each asset ``[A]``, for caps of the daily risk.
        trading: Allocation, caps and limit.
    """
    if trading.max_drawdown is None:
        return np.zeros(volatility.shape)
    masks, quantile = trading.masks, NormalDist().inv_cdf(trading.masks.var_confidence)
    daily = min(masks.target_volatility or inf, (masks.position_var or inf) / quantile)
    risk = np.minimum(volatility, daily / bars_per_session**0.5)
    return np.asarray(allocation(trading, volatility.shape[1]) * risk / trading.max_drawdown)


def unit_costs(bars: AlignedBars, inputs: ForecastInputs, trading: TradingParameters) -> Floats:
    """Cost of trading one unit of risk ``[T, A]``, volatilities; infinite where an input is unknown."""
    cost = trade_cost(bars.held_close(), quoted_spread(bars, adjusted(bars), trading), trading)
    known = np.isfinite(inputs.values).all(axis=-1)
    return np.asarray(np.where(known, cost / np.where(known, inputs.volatility, 1.0), np.inf))


def trade_cost(close: Floats, spread: Floats | None, trading: TradingParameters) -> Floats:
    """Commission and half spread of a trade ``[T, A]``, fraction of notional, as known at the decision.

    Impact and the minimum commission depend on the order's size and are left out; accounts pay them.

    Args:
        close: ``[T, A]`` closing prices.
        spread: ``[T, A]`` full spread, fraction of the mid price; null: the least half spread alone.
        trading: Costs.
    """
    costs = trading.costs
    half_spread, charges = half_spread_floor(trading, close), charges_of(trading, close.shape[1])
    if costs.half_spread != "constant" and spread is not None:
        half_spread = np.maximum(half_spread, 0.5 * spread)
    return np.asarray(half_spread + charges.commission + charges.commission_per_share / close)
