"""Indicator formulas on each asset's own bars.

Each takes the bars that an asset has (no gaps) and a horizon in bars, and returns one value per bar, NaN until the
horizon is covered; n bars of several assets ``[A, n]`` give the bits of each alone. All are free of scale: multiplying
every price by a constant changes nothing. All are finite on flat prices and on zero volume.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import talib
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps

MIN_VOLATILITY = 1e-6  # of a one-bar log return: flat prices count as this
FORGOTTEN = 1e-8  # weight of the past at which a recursive indicator has forgotten where it started
LARGEST = 10.0  # bound of columns that divide by a volatility
MIN_VOLUME = 1e-3  # share of the mean volume that zero volume counts as
ROUNDING = 1e-12  # of the largest value: a smaller standard deviation is one of rounding
PIECE = 4096  # windows whose bars are copied at a time
SHORTEST_WILDER = 2  # TA-Lib's shortest period of a recursive average


@dataclass(frozen=True, eq=False)
class AssetBars:
    """The bars that one asset has, each [n], or the last n of several assets, each [A, n].

    Attributes:
        open: Price of the first trade.
        high: Highest price.
        low: Lowest price.
        close: Price of the last trade.
        volume: Shares or coins traded.
        extra: Own columns as known at each bar, and the facts of sessions, by name.
    """

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    extra: Mapping[str, Floats] = field(default_factory=dict)

    def last(self, count: int) -> AssetBars:
        """Return the last ``count`` bars."""
        return AssetBars(
            self.open[..., -count:],
            self.high[..., -count:],
            self.low[..., -count:],
            self.close[..., -count:],
            self.volume[..., -count:],
            {name: values[..., -count:] for name, values in self.extra.items()},
        )

    def of(self, assets: slice | int | NDArray[np.bool_]) -> AssetBars:
        """Return the bars of some of several assets [A], or of one."""
        return AssetBars(
            self.open[assets],
            self.high[assets],
            self.low[assets],
            self.close[assets],
            self.volume[assets],
            {name: values[assets] for name, values in self.extra.items()},
        )


def log_return(bars: AssetBars, horizon: int) -> Floats:
    """Return log(close / close ``horizon`` bars ago) [n]."""
    result = np.full(bars.close.shape, np.nan)
    result[..., horizon:] = np.log(bars.close[..., horizon:] / bars.close[..., :-horizon])
    return result


def volatility(bars: AssetBars, horizon: int) -> Floats:
    """Return the log of the root mean square one-bar log return over ``horizon`` bars [n]."""
    return np.asarray(np.log(_deviation(bars.close, horizon)))


def range_volatility(bars: AssetBars, horizon: int) -> Floats:
    """Return the log of Parkinson's high-low volatility over ``horizon`` bars [n] (Parkinson 1980)."""
    spans = np.log(bars.high / bars.low) ** 2 / (4.0 * math.log(2.0))
    return np.asarray(np.log(np.maximum(np.sqrt(_mean(spans, horizon)), MIN_VOLATILITY)))


def volume_surprise(bars: AssetBars, horizon: int) -> Floats:
    """Return log(volume / its mean over ``horizon`` bars) [n], 0 if there was no volume at all."""
    mean = _mean(bars.volume, horizon)
    share = np.divide(bars.volume, mean, out=np.where(np.isnan(mean), np.nan, 1.0), where=mean > 0.0)
    return np.log((share + MIN_VOLUME) / (1.0 + MIN_VOLUME))


def relative_strength(bars: AssetBars, horizon: int) -> Floats:
    """Return Wilder's relative strength index scaled to [-1, 1] [n], 0 where prices are flat.

    RSI / 50 - 1 is (gain - loss) / (gain + loss) of Wilder's averages, which TA-Lib calls CMO.
    """
    return np.asarray(_each(talib.CMO, bars.close, timeperiod=max(SHORTEST_WILDER, horizon)) / 100.0)


def trend_strength(bars: AssetBars, horizon: int) -> Floats:
    """Return Wilder's ADX / 100 with the sign of the trend [n], in [-1, 1]."""
    period = max(SHORTEST_WILDER, horizon)
    prices = (bars.high, bars.low, bars.close)
    rise = _each(talib.PLUS_DI, *prices, timeperiod=period) - _each(talib.MINUS_DI, *prices, timeperiod=period)
    return np.asarray(_each(talib.ADX, *prices, timeperiod=period) / 100.0 * np.sign(rise))


def moving_average_gap(bars: AssetBars, horizon: int) -> Floats:
    """Return log(close / simple moving average) in units of the horizon's volatility [n]."""
    gap = np.log(bars.close / _mean(bars.close, horizon))
    return np.clip(gap / (_deviation(bars.close, horizon) * math.sqrt(horizon)), -LARGEST, LARGEST)


def convergence_divergence(bars: AssetBars, horizon: int) -> Floats:
    """Return the histogram of a MACD of ``horizon`` bars in units of one bar's volatility [n]."""
    fast, slow, signal = macd_periods(horizon)
    histogram = _each(_histogram, bars.close, fastperiod=fast, slowperiod=slow, signalperiod=signal)
    unit = bars.close * _deviation(bars.close, slow)
    return np.clip(histogram / unit, -LARGEST, LARGEST)


def macd_periods(horizon: int) -> tuple[int, int, int]:
    """Return the fast, slow and signal periods of a MACD of ``horizon`` bars (12 gives 12, 26, 9)."""
    return max(2, horizon), 2 * max(2, horizon) + 2, max(2, 3 * horizon // 4)


def band_position(bars: AssetBars, horizon: int) -> Floats:
    """Return the close's distance from the middle Bollinger band in standard deviations [n]."""
    result = np.full(bars.close.shape, np.nan)
    if bars.close.shape[-1] < horizon:
        return result
    ends, last = result[..., horizon - 1 :], bars.close[..., horizon - 1 :]
    for start in range(0, last.shape[-1], PIECE):
        part = slice(start, start + PIECE)
        windows = _windows(bars.close, horizon)[..., part, :]  # [..., piece, horizon]
        middle = windows.mean(axis=-1)
        # Deviations from the mean first: running sums of squares lose all digits when prices barely move.
        deviation = np.sqrt(np.mean((windows - middle[..., None]) ** 2, axis=-1))
        ends[..., part] = (last[..., part] - middle) / np.maximum(deviation, MIN_VOLATILITY * middle)
    return result


def change(values: Floats, horizon: int) -> Floats:
    """Return ``values`` [n] less those of ``horizon`` bars ago [n]."""
    result = np.full(values.shape, np.nan)
    result[..., horizon:] = values[..., horizon:] - values[..., :-horizon]
    return result


def score(values: Floats, horizon: int) -> Floats:
    """Return the distance of ``values`` [n] from their mean of ``horizon`` bars in standard deviations [n].

    0 where they stood still, within ``LARGEST`` elsewhere.
    """
    result = np.full(values.shape, np.nan)
    if values.shape[-1] < horizon:
        return result
    windows = _windows(values, horizon)  # [..., n - horizon + 1, horizon]
    middle = windows.mean(axis=-1)
    deviation = np.sqrt(np.mean((windows - middle[..., None]) ** 2, axis=-1))
    still = deviation <= ROUNDING * np.abs(windows).max(axis=-1)
    distance = (values[..., horizon - 1 :] - middle) / np.where(still, 1.0, deviation)
    result[..., horizon - 1 :] = np.clip(np.where(still, 0.0, distance), -LARGEST, LARGEST)
    return result


def time_of_day(timestamps: Timestamps) -> Floats:
    """Return the share of the UTC day that has passed at each timestamp [T]."""
    day = np.timedelta64(1, "D")
    return np.asarray((timestamps - timestamps.astype("datetime64[D]")) / day)


def day_of_week(timestamps: Timestamps) -> Floats:
    """Return the share of the UTC week (from Monday 00:00) that has passed at each timestamp [T]."""
    monday = np.datetime64("1970-01-05T00:00", "ns")
    return np.asarray(((timestamps - monday) / np.timedelta64(7, "D")) % 1.0)


def ranks(values: Floats) -> Floats:
    """Rank the finite values of each row and scale the ranks to [-1, 1].

    Args:
        values: [T, A], NaN where an asset takes no part.

    Returns:
        [T, A]; ties share their mean rank; an asset alone has 0.
    """
    present = np.isfinite(values)
    below = np.zeros(values.shape)
    for asset in range(values.shape[1]):  # comparisons with NaN are false
        other = values[:, asset : asset + 1]
        below += (other < values) + 0.5 * (other == values)
    others = present.sum(axis=1, keepdims=True) - 1
    scaled = 2.0 * (below - 0.5) / np.maximum(others, 1) - 1.0
    return np.where(present, np.where(others > 0, scaled, 0.0), np.nan)


@cache
def wilder_lookback(horizon: int) -> int:
    """Return the bars after which Wilder's average has forgotten its start to ``FORGOTTEN``."""
    period = max(SHORTEST_WILDER, horizon)
    return period + 1 + _forgetting((period - 1) / period)


@cache
def smoothed_wilder_lookback(horizon: int) -> int:
    """Return the bars after which Wilder's average of a Wilder average has forgotten its start."""
    period = max(SHORTEST_WILDER, horizon)
    decay = (period - 1) / period
    bars = _forgetting(decay)
    while (1.0 + bars / period) * decay**bars > FORGOTTEN:
        bars += 1
    return 2 * period + 1 + bars


@cache
def macd_lookback(horizon: int) -> int:
    """Return the bars after which the MACD histogram has forgotten its start."""
    _, slow, signal = macd_periods(horizon)
    return slow + signal + _forgetting((slow - 1) / (slow + 1))


def _forgetting(decay: float) -> int:
    return math.ceil(math.log(FORGOTTEN) / math.log(decay))


def _each(formula: Callable[..., Floats], *series: Floats, **periods: int) -> Floats:
    """Apply a formula of one asset's series [n] to those of each asset [..., n]."""
    if series[0].ndim == 1:
        return formula(*series, **periods)
    return np.stack([formula(*of_asset, **periods) for of_asset in zip(*series, strict=True)])


def _histogram(close: Floats, **periods: int) -> Floats:
    return np.asarray(talib.MACD(close, **periods)[2])


def _windows(values: Floats, horizon: int) -> Floats:
    """Return the windows of ``horizon`` values [..., n - horizon + 1, horizon]."""
    if values.shape[-1] == horizon:
        return values[..., None, :]
    return sliding_window_view(values, horizon, axis=-1)


def _mean(values: Floats, horizon: int) -> Floats:
    """Return the trailing mean of ``horizon`` values [..., n], each window summed by itself: no sum to drift."""
    result = np.full(values.shape, np.nan)
    if values.shape[-1] >= horizon:
        result[..., horizon - 1 :] = np.vecdot(_windows(values, horizon), np.ones(horizon)) / horizon
    return result


def _deviation(close: Floats, horizon: int) -> Floats:
    """Return the root mean square one-bar log return over ``horizon`` bars [..., n], at least ``MIN_VOLATILITY``."""
    squares = np.full(close.shape, np.nan)
    squares[..., 1:] = _mean(np.log(close[..., 1:] / close[..., :-1]) ** 2, horizon)
    return np.asarray(np.maximum(np.sqrt(squares), MIN_VOLATILITY))
