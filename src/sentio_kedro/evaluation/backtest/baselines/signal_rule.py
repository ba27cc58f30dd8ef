"""Positions from forecast returns: trade where the forecast exceeds the cost of the trade."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.agent.forecasting.market import trade_cost
from sentio_kedro.evaluation.backtest.baselines.schedules import every, scheduled
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.trading.accounts import allocation

MAX_PERSISTENCE = 0.99


def persistence(forecasts: Floats, segments: Sequence[Segment]) -> float:
    """First autocorrelation of ``forecasts`` ``[T, A]`` within ``segments``, pooled over assets, in [0, 0.99]."""
    parts = [forecasts[slice(*rows)] for rows in segments]
    mean = np.concatenate(parts).mean(axis=0)
    deviations = [part - mean for part in parts]
    variance = sum(float((part[:-1] ** 2).sum()) for part in deviations)
    covariance = sum(float((part[1:] * part[:-1]).sum()) for part in deviations)
    return float(np.clip(covariance / variance, 0.0, MAX_PERSISTENCE)) if variance > 0.0 else MAX_PERSISTENCE


def held_sides(forecasts: Floats, threshold: Floats) -> NDArray[np.int64]:
    """Enter a side where the forecast is beyond the threshold, and hold it until it is beyond the opposite one.

    Args:
        forecasts: ``[S, A]`` log returns.
        threshold: ``[S, A]`` forecast that pays for a trade, not negative.

    Returns:
        ``[S, A]`` 1 long, 0 not entered yet, -1 short.
    """
    up, down = _last(forecasts > threshold), _last(forecasts < -threshold)
    return np.asarray(np.sign(up - down))


def _last(events: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Last row ``[S, A]`` up to each row at which an event happened, -1 if none."""
    rows = np.arange(len(events))[:, None]
    return np.asarray(np.maximum.accumulate(np.where(events, rows, -1), axis=0))


class ForecastSignal(NamedTuple):
    """Forecasts of a regression.

    Attributes:
        forecasts: ``[T, A]`` log return of a position until the next decision.
        persistence: First autocorrelation of the forecasts.
    """

    forecasts: Floats
    persistence: float

    @classmethod
    def of(cls, forecasts: Floats, train: Sequence[Segment]) -> ForecastSignal:
        """Measure the persistence of forecasts on train rows."""
        return cls(forecasts, persistence(forecasts, train))

    def flat(self) -> ForecastSignal:
        """Return a signal that forecasts zero."""
        return ForecastSignal(np.zeros_like(self.forecasts), self.persistence)


def signal_schedule(context: BacktestContext, signal: ForecastSignal, rows: Segment) -> Floats:
    """Follow forecast returns over ``rows``, starting flat.

    Forecasts that follow a first-order autoregression of persistence p add up to forecast / (1 - p) from here on. A
    trade pays where that exceeds its cost, so the threshold is cost x (1 - p): beyond it the highest level is held,
    beyond minus the threshold the lowest. Orders are sent where the level changes and once a day, so that an order that
    a halt left unfilled is sent again.
    """
    part, trading = slice(*rows), context.trading
    levels = trading.levels if trading.unit == "allocation" else (-1.0, 1.0)
    market = context.market
    spread = None if market.spread is None else market.spread.double().numpy()
    costs = trade_cost(market.close.double().numpy(), spread, context.trading)
    threshold = (1.0 - signal.persistence) * costs[part]
    side = held_sides(signal.forecasts[part], threshold)
    level = np.select([side > 0, side < 0], [max(*levels, 0.0), min(*levels, 0.0)], 0.0)
    if context.market.shortable is not None:
        level = np.where((level < 0.0) & ~context.market.shortable.numpy(), 0.0, level)
    changed = np.diff(level, axis=0, prepend=0.0) != 0.0
    daily = every(context.bars.timestamps[part], 1.0)[:, None]
    assets = context.market.assets
    return scheduled(level * allocation(context.trading, assets), changed | daily, assets)
