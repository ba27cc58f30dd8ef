"""Inputs of forecasts: generic causal columns of prices and volume, in units of volatility.

Every average is a finite window, so that ``LOOKBACK`` bars reproduce a row exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sentio_kedro.market.adjustment import adjusted
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.timestamps import Floats, closing_days

HALF_LIFE = 200  # bars, of the volatility that is the unit of returns
HALF_LIVES = 5  # length of an average's window
LONGEST = 1_024  # bars, of the longest window
SLOWEST = 3_000  # bars, half-life of the slowest average
LIMIT = 8.0  # volatilities at which inputs are clipped
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
    """

    names: tuple[str, ...]
    values: Floats
    volatility: Floats
    place: np.ndarray

    def with_regimes(self, posterior: Floats) -> ForecastInputs:
        """Set the column ``regime`` to the expected number of the state, 0 the calmest.

        Args:
            posterior: ``[T, K]`` filtered regime probabilities, states from calm to volatile.
        """
        values, place = self.values.copy(), self.names.index("regime")
        values[..., place] += (posterior @ np.arange(posterior.shape[1]))[:, None]
        return self._replace(values=values)


def decayed_mean(values: Floats, half_life: float) -> Floats:
    """Exponentially weighted mean of ``values`` ``[n]`` over a window of five half-lives, at most ``LONGEST`` rows.

    Windows of 1, 2, 4, ... rows are put together: the same rows give the same bits, whatever came before them. Fewer
    rows at the start are weighted alike.
    """
    length = int(min(HALF_LIVES * half_life, LONGEST))
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


def forecast_inputs(bars: AlignedBars) -> ForecastInputs:
    """Compute the inputs of bars, each asset on its own present bars; splits and dividends count as returns.

    The column ``regime`` is 0 until ``with_regimes``.
    """
    bars = adjusted(bars)
    shape = bars.close.shape
    columns: dict[str, Floats] = {}
    volatility, relative_price = np.full(shape, np.nan), np.full(shape, np.nan)
    for asset in range(shape[1]):
        rows = np.flatnonzero(bars.present[:, asset])
        if rows.size < 2:  # noqa: PLR2004 - a return needs two bars
            continue
        own, deviation = _asset_columns(
            *(getattr(bars, name)[rows, asset] for name in ("high", "low", "close", "volume"))
        )
        for name, values in own.items():
            columns.setdefault(name, np.full(shape, np.nan))[rows, asset] = values
        volatility[rows, asset] = deviation
        relative_price[rows, asset] = np.log(bars.close[rows, asset])
    columns["regime"] = np.where(bars.present, 0.0, np.nan)
    if shape[1] > 1:
        columns |= _cross_section(columns, relative_price, volatility)
    values = np.clip(np.stack(list(columns.values()), axis=-1), -LIMIT, LIMIT).astype(np.float32)
    return ForecastInputs(tuple(columns), values, volatility, place_of_day(bars))


def place_of_day(bars: AlignedBars) -> np.ndarray:
    """Return the place of each bar in its UTC day ``[T]`` by the clock; 0 everywhere if days have no such places."""
    times = bars.timestamps - np.timedelta64(1, "ns")
    minutes = (times - closing_days(bars.timestamps)).astype("timedelta64[m]").astype(np.int64)
    places = np.unique(minutes)
    return np.searchsorted(places, minutes) if len(places) in PLACES else np.zeros(len(minutes), np.int64)


def _asset_columns(high: Floats, low: Floats, close: Floats, volume: Floats) -> tuple[dict[str, Floats], Floats]:
    """Columns of one asset's bars ``[n]``, and their trailing volatility; NaN until the first return."""
    returns = np.diff(np.log(close), prepend=np.nan)
    square = np.nan_to_num(returns**2)
    deviation = np.sqrt(np.maximum(decayed_mean(square, HALF_LIFE), MIN_VARIANCE))
    scaled = np.clip(returns / deviation, -LIMIT, LIMIT)
    columns = {f"return_{lag}": _lagged(scaled, lag) for lag in range(4)}
    path = np.cumsum(np.nan_to_num(returns))
    for length in MOMENTUM:
        columns[f"momentum_{length}"] = (path - _lagged(path, length)) / (deviation * np.sqrt(length))
    columns["size_0"] = np.abs(scaled)
    fast = {half: np.log(np.maximum(decayed_mean(square, half), MIN_VARIANCE)) for half in (8, 48, 64, HALF_LIFE)}
    columns |= {f"volatility_{half}": 0.5 * (fast[half] - fast[HALF_LIFE]) for half in (8, 48)}
    slowest = np.log(np.maximum(decayed_mean(square, SLOWEST), MIN_VARIANCE))
    columns["slow_volatility"] = 0.5 * (fast[64] - slowest)
    traded = np.log1p(volume)
    mean = {half: decayed_mean(traded, half) for half in (16, 48, 400)}
    columns |= {f"volume_{half}": traded - mean[half] for half in (48, 400)}
    columns["slow_volume"] = mean[16] - mean[400]
    width = high - low
    columns["place_in_bar"] = np.where(width > 0.0, (close - low) / np.where(width > 0.0, width, 1.0) - 0.5, 0.0)
    columns["range"] = np.log((np.log(high / low) + 0.1 * deviation) / deviation)
    return columns, np.where(np.isnan(returns), np.nan, deviation)


def _cross_section(columns: Mapping[str, Floats], price: Floats, volatility: Floats) -> dict[str, Floats]:
    """Deviations from the cross-section of assets, and its means."""
    mean = {name: _row_mean(columns[name]) for name in DIRECTIONS}
    found = {f"relative_{name}": columns[name] - mean[name] for name in DIRECTIONS}
    found |= {f"mean_{name}": np.where(np.isnan(columns[name]), np.nan, mean[name]) for name in MEANS}
    spread = price - _row_mean(price)
    gap = np.full(price.shape, np.nan)
    for asset in range(price.shape[1]):
        rows = np.flatnonzero(np.isfinite(spread[:, asset]))
        if rows.size:
            own = spread[rows, asset]
            gap[rows, asset] = (own - decayed_mean(own - own[0], GAP) - own[0]) / (
                volatility[rows, asset] * np.sqrt(GAP)
            )
    return found | {"relative_price": gap}


def _row_mean(values: Floats) -> Floats:
    """Mean over the assets that have a value ``[T, 1]``; NaN without one."""
    known = np.isfinite(values)
    count = known.sum(axis=1, keepdims=True)
    return np.asarray(np.where(known, values, 0.0).sum(axis=1, keepdims=True) / np.where(count > 0, count, np.nan))


def _lagged(values: Floats, lag: int) -> Floats:
    return values if lag == 0 else np.concatenate([np.full(min(lag, values.size), np.nan), values[:-lag]])
