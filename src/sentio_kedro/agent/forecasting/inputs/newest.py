"""Inputs of forecasts at the newest bar, from the last bars of each asset: one row costs one row."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sentio_kedro.agent.forecasting.inputs.history import (
    HISTORY,
    LAGS,
    LONGEST,
    ForecastInputs,
    asset_columns,
    cross_section,
    log_returns,
    price_gap,
    relative_gaps,
    scaled_returns,
    stacked,
    window_bars,
)
from sentio_kedro.market.ingestion.adjustment import Factors, adjusted, adjustment_factors
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars, hold
from sentio_kedro.market.ingestion.timestamps import Floats


@dataclass(frozen=True, eq=False)
class NewestInputs:
    """Series of the last bars that each asset has of its own.

    Attributes:
        minutes: ``[places]`` minute of the UTC day of each place in the day.
        factors: ``[1, A]`` of forward adjustment up to the newest bar.
        close: ``[A]`` adjusted close of each asset's last bar; NaN without one.
        known: ``[A, LONGEST]`` 1 where an asset has a bar, else 0; the newest is the last.
        returns: ``[A, LONGEST]`` log returns, 0 where it has none.
        traded: ``[A, LONGEST]`` logs of 1 + volume, likewise.
        price: ``[A, LONGEST]`` logs of adjusted closes, likewise.
        gap: ``[A]`` distance of each asset's last one from their mean; NaN without one.
        scaled: ``[A, LAGS - 1]`` returns in trailing deviations.
    """

    minutes: np.ndarray
    factors: Factors
    close: Floats
    known: Floats
    returns: Floats
    traded: Floats
    price: Floats
    gap: Floats
    scaled: Floats

    @classmethod
    def of(cls, bars: AlignedBars, minutes: np.ndarray) -> NewestInputs:
        """Take the last bars of a history T x A as traded."""
        factors, total = adjustment_factors(bars), adjusted(bars)
        assets = len(bars.symbols)
        known, returns, traded, price = (np.zeros((assets, LONGEST)) for _ in range(4))
        scaled = np.full((assets, LAGS - 1), np.nan)
        for asset in range(assets):
            rows = np.flatnonzero(bars.present[:, asset])
            own = log_returns(total.close[rows, asset])
            _put(known[asset], np.ones(rows.size))
            _put(returns[asset], own)
            _put(traded[asset], np.log1p(total.volume[rows, asset]))
            _put(price[asset], np.log(total.close[rows, asset]))
            _put(scaled[asset], scaled_returns(HISTORY, own)[0])
        latest = np.ones((2, 1, assets)) if factors is None else [part[-1:] for part in factors]
        with np.errstate(invalid="ignore"):  # of assets without a bar
            gap = price_gap(NewestWindows(known, scaled), price)
        return cls(minutes, Factors._make(latest), hold(total.close)[-1], known, returns, traded, price, gap, scaled)

    def with_bar(self, own: AlignedBars, bar: AlignedBars) -> tuple[NewestInputs, ForecastInputs]:
        """Return the series one row later, and the inputs of that row, T = 1, with regime 0; these series stay.

        The inputs have the bits of ``forecast_inputs`` on the whole history.

        Args:
            own: The last bars of each asset as traded, the newest in the last row whatever its timestamp; at least two
                rows, NaN in those that an asset does not have.
            bar: The newest row, 1 x A, whose bars are in ``own``.
        """
        present = bar.present[0]
        factors = self._factors(own.rows(slice(-2, None)), present)
        total = factors.applied(bar)
        with np.errstate(invalid="ignore", divide="ignore"):  # of assets without a bar
            returns = (np.log(total.close) - np.log(self.close))[0]
            volume = np.log1p(total.volume[0])
            after = replace(
                self,
                factors=factors,
                close=np.where(present, total.close[0], self.close),
                known=_pushed(self.known, np.ones(len(present)), present),
                returns=_pushed(self.returns, returns, present),
                traded=_pushed(self.traded, volume, present),
                price=_pushed(self.price, np.log(total.close[0]), present),
            )
            return after._with_inputs(total, self.scaled)

    def _factors(self, own: AlignedBars, present: np.ndarray) -> Factors:
        """Carry the factors over the newest bars, from each asset's last two."""
        found = adjustment_factors(own)
        if found is None:
            return self.factors
        price, split = (np.where(present, part[-1:], 1.0) for part in found)
        return Factors(self.factors.price * price, self.factors.split * split)

    def _with_inputs(self, total: AlignedBars, scaled: Floats) -> tuple[NewestInputs, ForecastInputs]:
        """Compute the inputs of the adjusted newest row, 1 x A, given the scaled returns before it."""
        present, windows = total.present, NewestWindows(self.known, scaled)
        prices = (total.high[0], total.low[0], total.close[0])
        own, deviation = asset_columns(windows, self.returns, self.traded, *prices)
        columns = {name: np.where(present, values, np.nan) for name, values in own.items()}
        volatility = np.where(present, deviation, np.nan)
        columns["regime"] = np.where(present, 0.0, np.nan)
        gap = np.where(present, price_gap(windows, self.price), self.gap)  # [1, A]
        if present.size > 1:
            columns |= cross_section(columns) | {"relative_price": relative_gaps(gap, gap, volatility)}
        after = replace(self, gap=gap[0], scaled=_pushed(scaled, own["return_0"], present[0]))
        return after, stacked(columns, volatility, total.timestamps, self.minutes)


@dataclass(frozen=True, eq=False)
class NewestWindows:
    """Averages ``[A]`` at the newest bar of each asset; the bits of ``History``.

    Attributes:
        known: ``[A, W]`` 1 where an asset has a bar, else 0.
        scaled: ``[A, LAGS - 1]`` scaled returns before the newest.
    """

    known: Floats
    scaled: Floats

    def newest(self, series: Floats) -> Floats:
        """Newest values ``[A]``."""
        return series[:, -1]

    def mean(self, series: Floats, half_life: float) -> Floats:
        """Means as of ``decayed_mean``."""
        pair = np.stack([series, self.known])
        total = decayed_sum(pair, window_bars(half_life), 0.5 ** (1.0 / half_life))
        return np.asarray(total[0] / total[1])

    def total(self, series: Floats, length: int) -> Floats:
        """Sums of the last ``length`` returns, NaN with fewer."""
        enough = self.known[:, -length - 1] > 0.0
        return np.where(enough, decayed_sum(series, length, 1.0), np.nan)

    def lagged(self, scaled: Floats, lag: int) -> Floats:
        """Scaled returns of ``lag`` bars before."""
        return scaled if lag == 0 else self.scaled[:, -lag]


def decayed_sum(series: Floats, length: int, decay: float) -> Floats:
    """Sum the last ``length`` values of ``series`` ``[..., W]``, each bar back times ``decay``.

    Windows of 1, 2, 4, ... bars are put together as in ``decayed_mean``, here those that end at the last bar alone.
    """
    total, end, passed, span = np.zeros(series.shape[:-1]), series.shape[-1], 0, 1
    while span <= length:
        if length & span:
            block, step = series[..., end - passed - span : end - passed], 1
            while step < span:
                block = block[..., 1::2] + decay**step * block[..., ::2]
                step *= 2
            total += decay**passed * block[..., 0]
            passed += span
        span *= 2
    return total


def _put(target: Floats, values: Floats) -> None:
    """Copy the last values to the end of ``target`` ``[W]``."""
    count = min(len(target), len(values))
    target[len(target) - count :] = values[len(values) - count :]


def _pushed(series: Floats, newest: Floats, present: np.ndarray) -> Floats:
    """Return series ``[A, W]`` with the newest values ``[A]`` of the assets that have a bar."""
    return np.where(present[:, None], np.concatenate([series[:, 1:], newest[:, None]], axis=1), series)
