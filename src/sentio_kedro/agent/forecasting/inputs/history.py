"""Inputs of forecasts: generic causal columns of prices and volume, in units of volatility.

Every average is a finite window, so that ``LOOKBACK`` bars reproduce a row exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from sentio_kedro.market.ingestion.adjustment import adjusted
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars, hold
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps, closing_days
from sentio_kedro.market.trailing import trailing_sum

HALF_LIFE = 200  # bars, of the volatility that is the unit of returns
HALF_LIVES = 5  # length of an average's window
LONGEST = 1_024  # bars, of the longest window
SLOWEST = 3_000  # bars, half-life of the slowest average
LIMIT = 8.0  # volatilities at which inputs are clipped
LAGS = 4  # returns, the newest first
MOMENTUM = (4, 8, 16, 48, 96, 192, 480)  # bars
GAP = 96  # bars, half-life of the average that relative prices are compared with
MIN_VARIANCE = 1e-16
DIRECTIONS = ("return_0", "return_1", "momentum_4", "momentum_16", "momentum_48", "momentum_192")
RELATIVE = ("relative_return_0", "relative_momentum_16", "relative_momentum_48")
MEANS = ("return_0", "return_1", "momentum_4", "momentum_48")
STATES = (
    "size_0",
    "volatility_8",
    "volatility_48",
    "slow_volatility",
    "volume_48",
    "volume_400",
    "slow_volume",
    "range",
    "regime",
)
LOOKBACK = LONGEST + 1  # bars that reproduce a row: the oldest return needs a bar before it
PLACES = range(2, 101)  # bars of a day for which the place in the day is an input


class ForecastInputs(NamedTuple):
    """Columns that experts forecast from.

    Attributes:
        names: Names of the columns, F of them.
        values: ``[T, A, F]`` clipped at ``LIMIT``; NaN where an asset has no bar or too few.
        volatility: ``[T, A]`` trailing deviation of the log return of a bar; NaN likewise.
        place: ``[T]`` place of the bar in its day, from 0; all 0 if a day has one bar or more than 100.
        minutes: ``[places]`` minute of the UTC day of each place; empty likewise.
    """

    names: tuple[str, ...]
    values: Floats
    volatility: Floats
    place: np.ndarray
    minutes: np.ndarray

    def with_regimes(self, posterior: Floats) -> ForecastInputs:
        """Set the column ``regime`` to the expected number of the state, 0 the calmest.

        Args:
            posterior: ``[T, K]`` filtered regime probabilities, states from calm to volatile.
        """
        values, place = self.values.copy(), self.names.index("regime")
        values[..., place] += (posterior @ np.arange(posterior.shape[1]))[:, None]
        return self._replace(values=values)


class Windows(Protocol):
    """Averages over the last bars of an asset: at all its bars ``[n]``, or at the newest bar of each asset ``[A]``.

    Arguments are series ``[n]``, or those of each asset that end with its newest bar ``[A, W]``.
    """

    def newest(self, series: Floats) -> Floats:
        """Values of the series themselves."""
        ...

    def mean(self, series: Floats, half_life: float) -> Floats:
        """Means as of ``decayed_mean``."""
        ...

    def total(self, series: Floats, length: int) -> Floats:
        """Sums of the last ``length`` returns, NaN with fewer."""
        ...

    def lagged(self, scaled: Floats, lag: int) -> Floats:
        """Scaled returns of ``lag`` bars before, given the newest."""
        ...


class History:
    """Averages at all bars of one asset."""

    def newest(self, series: Floats) -> Floats:
        """Values of the series themselves."""
        return series

    def mean(self, series: Floats, half_life: float) -> Floats:
        """Means as of ``decayed_mean``."""
        return decayed_mean(series, half_life)

    def total(self, series: Floats, length: int) -> Floats:
        """Sums of the last ``length`` returns, NaN with fewer: the first bar has none."""
        return np.where(np.arange(series.size) < length, np.nan, trailing_sum(series, length))

    def lagged(self, scaled: Floats, lag: int) -> Floats:
        """Scaled returns of ``lag`` bars before."""
        return scaled if lag == 0 else np.concatenate([np.full(min(lag, scaled.size), np.nan), scaled[:-lag]])


HISTORY = History()


def window_bars(half_life: float) -> int:
    """Bars of the window of ``decayed_mean``."""
    return int(min(HALF_LIVES * half_life, LONGEST))


def decayed_mean(values: Floats, half_life: float) -> Floats:
    """Exponentially weighted mean of ``values`` ``[n]`` over a window of five half-lives, at most ``LONGEST`` rows.

    Windows of 1, 2, 4, ... rows are put together: the same rows give the same bits, whatever came before them. Fewer
    rows at the start are weighted alike.
    """
    length = window_bars(half_life)
    pair = np.stack([values, np.ones_like(values)])
    total, passed = np.zeros_like(pair), 0
    window, span, decay = pair.copy(), 1, 0.5 ** (1.0 / half_life)
    while length and passed < values.size:
        if length & 1:
            total[:, passed:] += decay**passed * window[:, : values.size - passed]
            passed += span
        length >>= 1
        if length and span < values.size:
            doubled = window.copy()
            doubled[:, span:] += decay**span * window[:, :-span]
            window = doubled
        span *= 2
    return np.asarray(total[0] / total[1])


def forecast_inputs(bars: AlignedBars, minutes: np.ndarray | None = None) -> ForecastInputs:
    """Compute the inputs of bars, each asset on its own present bars; splits and dividends count as returns.

    The column ``regime`` is 0 until ``with_regimes``.

    Args:
        bars: Bars T x A as traded.
        minutes: ``[places]`` minute of the UTC day of each place in the day; null takes those of the bars.
    """
    minutes = day_minutes(bars.timestamps) if minutes is None else minutes
    bars = adjusted(bars)
    shape = bars.close.shape
    columns: dict[str, Floats] = {}
    volatility, gap = np.full(shape, np.nan), np.full(shape, np.nan)
    for asset in range(shape[1]):
        rows = np.flatnonzero(bars.present[:, asset])
        if not rows.size:
            continue
        high, low, close, volume = (getattr(bars, name)[rows, asset] for name in ("high", "low", "close", "volume"))
        own, volatility[rows, asset] = asset_columns(HISTORY, log_returns(close), np.log1p(volume), high, low, close)
        gap[rows, asset] = price_gap(HISTORY, np.log(close))
        for name, values in own.items():
            columns.setdefault(name, np.full(shape, np.nan))[rows, asset] = values
    columns["regime"] = np.where(bars.present, 0.0, np.nan)
    if shape[1] > 1:
        columns |= cross_section(columns) | {"relative_price": relative_gaps(gap, hold(gap), volatility)}
    return stacked(columns, volatility, bars.timestamps, minutes)


def stacked(
    columns: Mapping[str, np.ndarray], volatility: Floats, timestamps: Timestamps, minutes: np.ndarray
) -> ForecastInputs:
    """Make inputs of columns ``[T, A]``."""
    values = np.clip(np.stack(list(columns.values()), axis=-1), -LIMIT, LIMIT).astype(np.float32)
    return ForecastInputs(tuple(columns), values, volatility, place_of_day(timestamps, minutes), minutes)


def day_minutes(timestamps: Timestamps) -> np.ndarray:
    """Return the minutes of the UTC day at which bars ``[T]`` end, in order; none if a day has no such places."""
    found = np.unique(_minute(timestamps))
    return found if len(found) in PLACES else found[:0]


def place_of_day(timestamps: Timestamps, minutes: np.ndarray) -> np.ndarray:
    """Return the place of each bar in its UTC day ``[T]`` by the clock, the next one at an unknown minute.

    Args:
        timestamps: ``[T]`` ends of bars.
        minutes: ``[places]`` of ``day_minutes``; 0 everywhere without them.
    """
    return np.minimum(np.searchsorted(minutes, _minute(timestamps)), max(len(minutes) - 1, 0))


def _minute(timestamps: Timestamps) -> np.ndarray:
    times = timestamps - np.timedelta64(1, "ns")
    return np.asarray((times - closing_days(timestamps)).astype("timedelta64[m]").astype(np.int64))


def log_returns(close: Floats) -> Floats:
    """Log returns of an asset's bars ``[n]``; the first is NaN."""
    return np.diff(np.log(close), prepend=np.nan)


def scaled_returns(windows: Windows, returns: Floats) -> tuple[Floats, Floats]:
    """Newest returns in trailing deviations, and the deviations."""
    square = np.nan_to_num(returns) ** 2
    deviation = np.sqrt(np.maximum(windows.mean(square, HALF_LIFE), MIN_VARIANCE))
    return np.clip(windows.newest(returns) / deviation, -LIMIT, LIMIT), deviation


def asset_columns(
    windows: Windows, returns: Floats, traded: Floats, high: Floats, low: Floats, close: Floats
) -> tuple[dict[str, Floats], Floats]:
    """Columns of bars, and their trailing volatility; NaN until the first return.

    Args:
        windows: Averages.
        returns: Series of log returns.
        traded: Series of logs of 1 + volume.
        high: ``[n]`` or ``[A]`` highest prices of the bars.
        low: Lowest prices.
        close: Last prices.
    """
    moved = np.nan_to_num(returns)
    square = moved**2
    scaled, deviation = scaled_returns(windows, returns)
    columns = {f"return_{lag}": windows.lagged(scaled, lag) for lag in range(LAGS)}
    for length in MOMENTUM:
        columns[f"momentum_{length}"] = windows.total(moved, length) / (deviation * np.sqrt(length))
    columns["size_0"] = np.abs(scaled)
    fast = {half: np.log(np.maximum(windows.mean(square, half), MIN_VARIANCE)) for half in (8, 48, 64, HALF_LIFE)}
    columns |= {f"volatility_{half}": 0.5 * (fast[half] - fast[HALF_LIFE]) for half in (8, 48)}
    slowest = np.log(np.maximum(windows.mean(square, SLOWEST), MIN_VARIANCE))
    columns["slow_volatility"] = 0.5 * (fast[64] - slowest)
    mean = {half: windows.mean(traded, half) for half in (16, 48, 400)}
    columns |= {f"volume_{half}": windows.newest(traded) - mean[half] for half in (48, 400)}
    columns["slow_volume"] = mean[16] - mean[400]
    width = high - low
    columns["place_in_bar"] = np.where(width > 0.0, (close - low) / np.where(width > 0.0, width, 1.0) - 0.5, 0.0)
    columns["range"] = np.log((np.log(high / low) + 0.1 * deviation) / deviation)
    return columns, np.where(np.isnan(windows.newest(returns)), np.nan, deviation)


def cross_section(columns: Mapping[str, Floats]) -> dict[str, Floats]:
    """Deviations of columns ``[T, A]`` from their means over the assets, and these means."""
    mean = {name: _row_mean(columns[name]) for name in DIRECTIONS}
    found = {f"relative_{name}": columns[name] - mean[name] for name in DIRECTIONS}
    return found | {f"mean_{name}": np.where(np.isnan(columns[name]), np.nan, mean[name]) for name in MEANS}


def price_gap(windows: Windows, price: Floats) -> Floats:
    """Distance of series of log prices from their mean."""
    return np.asarray(windows.newest(price) - windows.mean(price, GAP))


def relative_gaps(gap: Floats, held: Floats, volatility: Floats) -> Floats:
    """Gaps of assets ``[T, A]`` less the mean of all assets' last ones, ``held``, in volatilities.

    So an asset that lacks a bar moves no mean, and one that gets its first bar brings no level of prices with it.
    """
    return np.asarray((gap - _row_mean(held)) / (volatility * np.sqrt(GAP)))


def _row_mean(values: Floats) -> Floats:
    """Mean over the assets that have a value ``[T, 1]``; NaN without one."""
    known = np.isfinite(values)
    count = known.sum(axis=1, keepdims=True)
    return np.asarray(np.where(known, values, 0.0).sum(axis=1, keepdims=True) / np.where(count > 0, count, np.nan))
