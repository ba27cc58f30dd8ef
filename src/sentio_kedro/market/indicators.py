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
from sentio_kedro.config.market import KNOWN_AT, SESSION_INDICATORS, SESSION_PRICE_INDICATORS
from sentio_kedro.market import formulas, session_formulas
from sentio_kedro.market.formulas import AssetBars
from sentio_kedro.market.ingestion.adjustment import adjusted
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars, hold
from sentio_kedro.market.ingestion.sessions import BarTimes, Schedule, bar_times
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps
from sentio_kedro.market.large_arrays import large_array
from sentio_kedro.market.session_formulas import MINUTE, SESSION

RANKED_ROWS = 4096  # ranked at a time


@dataclass(frozen=True)
class Indicator:
    """One formula.

    Attributes:
        function: From an asset's bars and a horizon to one value per bar; null for the columns below.
        lookback: Bars that reproduce the value to 1e-6, by horizon.
        cross_asset: Whether the value is ranked among the assets present at the same timestamp.
        calendar: From the times of bars [T] to values [T]; null for a column made of prices.
        own: From an own column [n] and a horizon to values [n]; null for all others.
    """

    function: Callable[[AssetBars, int], Floats] | None
    lookback: Callable[[int], int]
    cross_asset: bool = False
    calendar: Callable[[BarTimes], Floats] | None = None
    own: Callable[[Floats, int], Floats] | None = None

    def values(self, bars: AssetBars, column: FeatureColumn) -> Floats:
        """Return the values of a column that is made of an asset's bars, one per bar."""
        if self.own is not None:
            return self.own(bars.extra[str(column.column)], column.bars)
        return np.empty(0) if self.function is None else self.function(bars, column.bars)


def _circle(share: Callable[[Timestamps], Floats], wave: Callable[[Floats], Floats]) -> Indicator:
    return Indicator(None, lambda _: 1, calendar=lambda times: wave(2.0 * math.pi * share(times.timestamps)))


def _local_circle(share: Callable[[Timestamps], Floats], wave: Callable[[Floats], Floats]) -> Indicator:
    return Indicator(None, lambda _: 1, calendar=lambda times: wave(2.0 * math.pi * share(times.local)))


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
    "own_column": Indicator(None, lambda _: 1, own=lambda values, _: values),
    "own_column_change": Indicator(None, lambda bars: bars + 1, own=formulas.change),
    "own_column_zscore": Indicator(None, lambda bars: bars, own=formulas.score),
    "overnight_gap": Indicator(session_formulas.overnight_gap, lambda bars: bars),
    "prior_close_gap": Indicator(session_formulas.prior_close_gap, lambda bars: bars),
    "session_vwap_gap": Indicator(session_formulas.session_vwap_gap, lambda bars: bars),
    "minute_profile": Indicator(session_formulas.minute_profile, lambda bars: bars),
    "minutes_since_open": Indicator(None, lambda _: 1, calendar=lambda times: times.share),
    "minutes_to_close": Indicator(None, lambda _: 1, calendar=lambda times: 1.0 - times.share),
    "exchange_time_sine": _local_circle(formulas.time_of_day, np.sin),
    "exchange_time_cosine": _local_circle(formulas.time_of_day, np.cos),
    "exchange_day_sine": _local_circle(formulas.day_of_week, np.sin),
    "exchange_day_cosine": _local_circle(formulas.day_of_week, np.cos),
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


def own_columns(columns: Sequence[FeatureColumn]) -> list[str]:
    """Return the own columns of the bars that feature ``columns`` read, spread and funding among them."""
    return sorted({column.column for column in columns if column.column is not None})


def of_sessions(columns: Sequence[FeatureColumn]) -> bool:
    """Return whether a column depends on the sessions of the calendar."""
    return any(column.indicator in SESSION_INDICATORS for column in columns)


def column_times(
    timestamps: Timestamps,
    columns: Sequence[FeatureColumn],
    calendar: str | None,
    schedule: Schedule | None = None,
) -> BarTimes:
    """Return the times that ``columns`` read: in the sessions of ``calendar`` if one of them depends on it, else UTC.

    Raises:
        ValueError: If the calendar does not fit the timestamps; see ``bar_times``.
    """
    return bar_times(timestamps, calendar, schedule) if of_sessions(columns) else bar_times(timestamps)


def require_inputs(bars: AlignedBars, columns: Sequence[FeatureColumn], times: BarTimes) -> None:
    """Refuse columns that these bars cannot give.

    Args:
        bars: Aligned bars.
        columns: The columns.
        times: Their times (``column_times``).

    Raises:
        ValueError: If an own column is missing, or a feature of sessions may not look back on a whole session.
    """
    problems = []
    missing = [name for name in own_columns(columns) if name not in bars.own]
    if missing:
        problems.append(
            f"`features.columns` read the own columns {missing}, the aligned bars hold {sorted(bars.own)}; name them "
            f"in `ingestion.columns`, each with `known_at`: {KNOWN_AT}."
        )
    longest = int(np.unique(times.session, return_counts=True)[1].max())
    problems += [
        f"`features.columns` `{column.name}`: `bars` must be above {longest}, the bars of the longest session, for "
        f"`{column.indicator}`, was {column.bars}; {longest + 1} look back on one session, {20 * longest + 1} on 20."
        for column in columns
        if column.indicator in SESSION_PRICE_INDICATORS and column.bars <= longest
    ]
    if problems:
        raise ValueError("\n".join(problems))


def compute_features(
    bars: AlignedBars,
    columns: Sequence[FeatureColumn],
    times: BarTimes | None = None,
    copied: Floats | None = None,
) -> Floats:
    """Compute all feature columns, on prices and volumes free of splits and dividends.

    Args:
        bars: Aligned bars as traded, T x A.
        columns: The columns, F of them, in order.
        times: Times of the bars (``column_times``), those of the source rows for resampled paths; null reads the bars'
            timestamps and counts UTC days as sessions.
        copied: Values [T, A, F] that columns made of own columns take, for resampled paths; null computes them.

    Returns:
        [T, A, F]. NaN until an asset has ``lookback`` bars; at a missing bar the asset's last value is held; calendar
        columns have a value at every timestamp.

    Raises:
        ValueError: If a column claims too few bars, or cannot be had from these; see ``require_inputs``.
    """
    times = bar_times(bars.timestamps) if times is None else times
    longest_lookback(columns)
    computed = columns if copied is None else [column for column in columns if column.column is None]
    require_inputs(bars, computed, times)
    shape = (len(bars.symbols), len(bars.timestamps), len(columns))
    features: Floats = large_array(shape).transpose(1, 0, 2)  # an asset's columns lie together, as they are made
    for asset in range(len(bars.symbols)):
        own = adjusted(bars.assets(slice(asset, asset + 1)))
        features[:, asset] = _asset_columns(own, columns, times)
    for number, column in enumerate(columns):
        indicator = INDICATORS[column.indicator]
        if copied is not None and column.column is not None:
            features[:, :, number] = copied[:, :, number]
        elif indicator.calendar is not None:
            features[:, :, number] = indicator.calendar(times)[:, None]
        elif indicator.cross_asset:
            _rank(features[:, :, number], bars.close)
    return features


def newest_features(
    own: AlignedBars,
    columns: Sequence[FeatureColumn],
    present: NDArray[np.bool_],
    times: BarTimes,
    before: Floats,
) -> Floats:
    """Compute all feature columns at one bar, each from the last ``lookback`` bars that an asset has.

    Equal to ``compute_features`` at that bar: to 1e-6 for recursive indicators, to the last bit for the others.

    Args:
        own: The last bars of each asset as traded, the newest in the last row whatever its timestamp; NaN in the first
            rows of an asset that has fewer. At least as many rows as the longest lookback. With the facts of sessions
            if a column depends on them (``with_sessions``).
        columns: The columns, F of them, in order.
        present: Whether an asset has a bar at the timestamp [A].
        times: Time of the bar [1].
        before: The columns at the bar before [A, F], which an asset without a bar keeps.

    Returns:
        [A, F]; NaN where an asset has too few bars.
    """
    own, values = adjusted(own), before.copy()
    prices = (own.open, own.high, own.low, own.close, own.volume)
    opened, high, low, close, volume = (np.ascontiguousarray(column.T) for column in prices)
    extra = {name: np.ascontiguousarray(column.T) for name, column in own.own.items()}
    series = AssetBars(opened, high, low, close, volume, extra)
    needed = [lookback(column) for column in columns]
    enough = present & (own.present.sum(axis=0) >= np.array(needed)[:, None])  # [F, A]
    some, every = enough.any(axis=1).tolist(), enough.all(axis=1).tolist()
    values[present] = np.nan
    for number, column in enumerate(columns):
        indicator = INDICATORS[column.indicator]
        if indicator.calendar is None and some[number]:
            known = slice(None) if every[number] else enough[number]
            values[known, number] = indicator.values(series.of(known).last(needed[number]), column)[:, -1]
    for number, column in enumerate(columns):
        indicator = INDICATORS[column.indicator]
        if indicator.calendar is not None:
            values[:, number] = indicator.calendar(times)[0]
        elif indicator.cross_asset:
            ranked = formulas.ranks(np.where(present, values[:, number], np.nan)[None])[0]
            values[:, number] = np.where(present, ranked, before[:, number])
    return values


def with_sessions(bars: AlignedBars, times: BarTimes) -> AlignedBars:
    """Return the bars with the facts of their sessions, as ``newest_features`` needs them."""
    facts = {SESSION: times.session, MINUTE: times.minute}
    return bars.with_columns({n: np.where(bars.present, values[:, None], np.nan) for n, values in facts.items()})


def _asset_columns(bars: AlignedBars, columns: Sequence[FeatureColumn], times: BarTimes) -> Floats:
    """Return the columns of bars [T, 1] on the grid [T, F], the last values held where there is no bar."""
    rows = np.flatnonzero(bars.present[:, 0])
    own, total = _own_bars(bars, 0, rows, times), len(bars.timestamps)
    values = np.full((rows.size, len(columns)), np.nan)
    for number, column in enumerate(columns):
        indicator = INDICATORS[column.indicator]
        warm = lookback(column) - 1
        readable = column.column is None or column.column in own.extra  # on resampled paths they are copied
        if indicator.calendar is None and readable and warm < rows.size:
            values[warm:, number] = indicator.values(own, column)[warm:]
    if rows.size == total:
        return values
    latest = np.cumsum(bars.present[:, 0]) - 1  # [T] index of the asset's last bar, -1 before its first
    held = np.full((total, len(columns)), np.nan)
    held[latest >= 0] = values[latest[latest >= 0]]
    return held


def _own_bars(bars: AlignedBars, asset: int, rows: NDArray[np.int64], times: BarTimes) -> AssetBars:
    def column(values: Floats) -> Floats:
        return np.ascontiguousarray(values[rows, asset])

    return AssetBars(
        open=column(bars.open),
        high=column(bars.high),
        low=column(bars.low),
        close=column(bars.close),
        volume=column(bars.volume),
        extra={name: column(values) for name, values in bars.own.items()}
        | {SESSION: times.session[rows].astype(np.float64), MINUTE: times.minute[rows]},
    )


def _rank(values: Floats, close: Floats) -> None:
    """Replace ``values`` [T, A] by ranks of the assets present; an asset keeps its last one where it has no bar."""
    last = np.full((1, values.shape[1]), np.nan)
    for start in range(0, len(values), RANKED_ROWS):
        rows = slice(start, start + RANKED_ROWS)
        ranked = formulas.ranks(np.where(np.isfinite(close[rows]), values[rows], np.nan))
        values[rows] = hold(np.concatenate([last, ranked]))[1:]
        last = values[rows][-1:].copy()
