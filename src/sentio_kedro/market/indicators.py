"""Causal feature columns, computed on each asset's own bars.

A column at bar t is a function of the bars up to t, and the last ``lookback`` of them alone give the same value to
1e-6. Nothing here is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.config import FeatureColumn, IndicatorName
from sentio_kedro.market import formulas
from sentio_kedro.market.formulas import AssetBars
from sentio_kedro.market.ingestion.adjustment import adjusted
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars, hold
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps
from sentio_kedro.market.large_arrays import large_array

RANKED_ROWS = 4096  # ranked at a time


@dataclass(frozen=True)
class Indicator:
    """One formula.

    Attributes:
        function: From an asset's bars and a horizon to one value per bar; null for a calendar column.
        lookback: Bars that reproduce the value to 1e-6, by horizon.
        cross_asset: Whether the value is ranked among the assets present at the same timestamp.
        calendar: From timestamps [T] to values [T]; null for a column made of prices.
    """

    function: Callable[[AssetBars, int], Floats] | None
    lookback: Callable[[int], int]
    cross_asset: bool = False
    calendar: Callable[[Timestamps], Floats] | None = None


def _circle(share: Callable[[Timestamps], Floats], wave: Callable[[Floats], Floats]) -> Indicator:
    return Indicator(None, lambda _: 1, calendar=lambda timestamps: wave(2.0 * math.pi * share(timestamps)))


INDICATORS: dict[IndicatorName, Indicator] = {
    "log_return": Indicator(formulas.log_return, lambda bars: bars + 1),
    "volatility": Indicator(formulas.volatility, lambda bars: bars + 1),
    "range_volatility": Indicator(formulas.range_volatility, lambda bars: bars),
    "volume_surprise": Indicator(formulas.volume_surprise, lambda bars: bars),
    "relative_strength": Indicator(formulas.relative_strength, formulas.wilder_lookback),
    "trend_strength": Indicator(formulas.trend_strength, formulas.smoothed_wilder_lookback),
    "moving_average_gap": Indicator(formulas.moving_average_gap, lambda bars: bars + 1),
    "convergence_divergence": Indicator(formulas.convergence_divergence, formulas.macd_lookback),
    "band_position": Indicator(formulas.band_position, lambda bars: bars),
    "return_rank": Indicator(formulas.log_return, lambda bars: bars + 1, cross_asset=True),
    "time_of_day_sine": _circle(formulas.time_of_day, np.sin),
    "time_of_day_cosine": _circle(formulas.time_of_day, np.cos),
    "day_of_week_sine": _circle(formulas.day_of_week, np.sin),
    "day_of_week_cosine": _circle(formulas.day_of_week, np.cos),
}


def lookback(column: FeatureColumn) -> int:
    """Return the bars that reproduce ``column`` to 1e-6: its own ``lookback``, or the indicator's.

    Raises:
        ValueError: If the column claims fewer bars than its indicator needs.
    """
    needed = INDICATORS[column.indicator].lookback(column.bars)
    if column.lookback is None:
        return needed
    if column.lookback < needed:
        raise ValueError(
            f"`features.columns` `{column.name}`: `lookback` must be at least {needed}, what `{column.indicator}` of "
            f"{column.bars} bars needs, was {column.lookback}; leave it out or raise it."
        )
    return column.lookback


def longest_lookback(columns: Sequence[FeatureColumn]) -> int:
    """Return the longest lookback of ``columns``.

    Raises:
        ValueError: With every column that claims too few bars.
    """
    problems, longest = [], 1
    for column in columns:
        try:
            longest = max(longest, lookback(column))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return longest


def compute_features(bars: AlignedBars, columns: Sequence[FeatureColumn], calendar: Timestamps | None = None) -> Floats:
    """Compute all feature columns, on prices and volumes free of splits and dividends.

    Args:
        bars: Aligned bars as traded, T x A.
        columns: The columns, F of them, in order.
        calendar: Timestamps [T] that calendar columns read, for resampled paths; null reads the bars'.

    Returns:
        [T, A, F]. NaN until an asset has ``lookback`` bars; at a missing bar the asset's last value is held; calendar
        columns have a value at every timestamp.
    """
    timestamps = bars.timestamps if calendar is None else calendar
    longest_lookback(columns)
    shape = (len(bars.symbols), len(bars.timestamps), len(columns))
    features: Floats = large_array(shape).transpose(1, 0, 2)  # an asset's columns lie together, as they are made
    for asset in range(len(bars.symbols)):
        own = adjusted(bars.assets(slice(asset, asset + 1)))
        features[:, asset] = _asset_columns(own, columns)
    for number, column in enumerate(columns):
        indicator = INDICATORS[column.indicator]
        if indicator.calendar is not None:
            features[:, :, number] = indicator.calendar(timestamps)[:, None]
        elif indicator.cross_asset:
            _rank(features[:, :, number], bars.close)
    return features


def newest_features(
    own: AlignedBars,
    columns: Sequence[FeatureColumn],
    present: NDArray[np.bool_],
    timestamp: Timestamps,
    before: Floats,
) -> Floats:
    """Compute all feature columns at one bar, each from the last ``lookback`` bars that an asset has.

    Equal to ``compute_features`` at that bar: to 1e-6 for recursive indicators, to the last bit for the others.

    Args:
        own: The last bars of each asset as traded, the newest in the last row whatever its timestamp; NaN in the first
            rows of an asset that has fewer. At least as many rows as the longest lookback.
        columns: The columns, F of them, in order.
        present: Whether an asset has a bar at the timestamp [A].
        timestamp: The bar's end [1].
        before: The columns at the bar before [A, F], which an asset without a bar keeps.

    Returns:
        [A, F]; NaN where an asset has too few bars.
    """
    own, values = adjusted(own), before.copy()
    prices = (own.open, own.high, own.low, own.close, own.volume)
    series = AssetBars(*(np.ascontiguousarray(column.T) for column in prices))
    needed = [lookback(column) for column in columns]
    enough = present & (own.present.sum(axis=0) >= np.array(needed)[:, None])  # [F, A]
    some, every = enough.any(axis=1).tolist(), enough.all(axis=1).tolist()
    values[present] = np.nan
    for number, column in enumerate(columns):
        function = INDICATORS[column.indicator].function
        if function is not None and some[number]:
            known = slice(None) if every[number] else enough[number]
            values[known, number] = function(series.of(known).last(needed[number]), column.bars)[:, -1]
    for number, column in enumerate(columns):
        indicator = INDICATORS[column.indicator]
        if indicator.calendar is not None:
            values[:, number] = indicator.calendar(timestamp)[0]
        elif indicator.cross_asset:
            ranked = formulas.ranks(np.where(present, values[:, number], np.nan)[None])[0]
            values[:, number] = np.where(present, ranked, before[:, number])
    return values


def _asset_columns(bars: AlignedBars, columns: Sequence[FeatureColumn]) -> Floats:
    """Return the columns of bars [T, 1] on the grid [T, F], the last values held where there is no bar."""
    rows = np.flatnonzero(bars.present[:, 0])
    own, total = _own_bars(bars, 0, rows), len(bars.timestamps)
    values = np.full((rows.size, len(columns)), np.nan)
    for number, column in enumerate(columns):
        indicator = INDICATORS[column.indicator]
        warm = lookback(column) - 1
        if indicator.function is not None and warm < rows.size:
            values[warm:, number] = indicator.function(own, column.bars)[warm:]
    if rows.size == total:
        return values
    latest = np.cumsum(bars.present[:, 0]) - 1  # [T] index of the asset's last bar, -1 before its first
    held = np.full((total, len(columns)), np.nan)
    held[latest >= 0] = values[latest[latest >= 0]]
    return held


def _own_bars(bars: AlignedBars, asset: int, rows: NDArray[np.int64]) -> AssetBars:
    def column(values: Floats) -> Floats:
        return np.ascontiguousarray(values[rows, asset])

    return AssetBars(
        open=column(bars.open),
        high=column(bars.high),
        low=column(bars.low),
        close=column(bars.close),
        volume=column(bars.volume),
    )


def _rank(values: Floats, close: Floats) -> None:
    """Replace ``values`` [T, A] by ranks of the assets present; an asset keeps its last one where it has no bar."""
    last = np.full((1, values.shape[1]), np.nan)
    for start in range(0, len(values), RANKED_ROWS):
        rows = slice(start, start + RANKED_ROWS)
        ranked = formulas.ranks(np.where(np.isfinite(close[rows]), values[rows], np.nan))
        values[rows] = hold(np.concatenate([last, ranked]))[1:]
        last = values[rows][-1:].copy()
