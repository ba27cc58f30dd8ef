"""Trailing volatility, volume, tail and correlation with a memory in sessions.

The window that ends with a bar begins after the bar at the same place in the session ``memory_sessions`` sessions
earlier. It holds every place of a session equally often, so that nothing here depends on the time of day. Tail and
correlation come from the whole sessions before the bar's own and hold for all of its bars.

A return belongs to the bar that ends it and counts where the bar before it lies in a session of the window, so that the
``trading_lookback`` newest bars alone give the same values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import NamedTuple

import numba
import numpy as np

from sentio_kedro.config import TradingParameters
from sentio_kedro.config.trading import is_mixed
from sentio_kedro.market.ingestion.adjustment import Factors
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars, Mask
from sentio_kedro.market.ingestion.sessions import DAY, MARGIN, Clock, Integers, SymbolClock
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.large_arrays import by_assets, large_array
from sentio_kedro.market.session_risk import correlations, tails
from sentio_kedro.market.trailing import SessionRows, sum_before

MIN_VOLATILITY = 1e-5  # per bar; keeps rewards finite where a price stands still
MIN_VOLUME = 1e-9  # shares a day; keeps shares of the volume finite where nothing was traded
OF_ASSET = ("volatility", "daily_volatility", "daily_volume", "bar_volume")  # columns of ``RiskFacts`` ``[T, A]``


class RiskFacts(NamedTuple):
    """What risk limits and costs read, as of the close of each row.

    Attributes:
        volatility: ``[T, A]`` daily volatility over the root of the bars per session, at least ``MIN_VOLATILITY``.
        daily_volatility: ``[T, A]`` standard deviation of the log return of a session, overnight included.
        daily_volume: ``[T, A]`` mean volume per session in shares of the row, at least ``MIN_VOLUME``.
        bar_volume: ``[T, A]`` daily volume over the bars per session.
        tail: ``[T]`` quantile of the absolute return of a session, in daily volatilities; ``[T, A]`` where symbols
            have calendars of their own.
        correlation: ``[T]`` average pairwise correlation of the assets, in [0, 1].
    """

    volatility: Floats
    daily_volatility: Floats
    daily_volume: Floats
    bar_volume: Floats
    tail: Floats
    correlation: Floats


class OwnReturns(NamedTuple):
    """Log returns between each asset's own bars.

    Attributes:
        value: ``[T, A]`` return since the asset's bar before; 0 where there is none.
        since: ``[T, A]`` number of the session of the bar before; -1 where there is no return.
    """

    value: Floats
    since: Integers


class Variances(NamedTuple):
    """Variance of the log return of a session.

    Attributes:
        row: ``[T, A]`` of the window that ends with the row.
        before: ``[S, A]`` of the ``memory`` whole sessions before.
    """

    row: Floats
    before: Floats


def trading_lookback(parameters: TradingParameters, clock: Clock) -> int:
    """Count the bars before a decision that trailing volatility, volume, spread and Kelly's moments read.

    Args:
        parameters: Memory and limits that are on.
        clock: Sessions of the bars; the longest one counts.
    """
    bars = max(SessionRows.of(clock.session).longest, math.ceil(clock.bars_per_session))
    sessions = parameters.memory_sessions + 1
    if is_mixed(parameters):  # in days: weekends, holidays, and the longest that an exchange closes
        sessions = math.ceil(1.5 * sessions) + int(MARGIN // DAY)
    longest = sessions * bars + 1
    if parameters.costs.half_spread == "estimated":
        longest = max(longest, parameters.costs.spread_bars + 2)
    if parameters.masks.kelly_fraction is not None:
        longest = max(longest, parameters.masks.kelly_bars + 1)
    return longest


def risk_facts(
    bars: AlignedBars,
    total: Floats,
    factors: Factors | None,
    clock: Clock,
    parameters: TradingParameters,
    first: int = 0,
) -> RiskFacts:
    """Compute the facts of every row.

    Args:
        bars: Bars as traded, T x A.
        total: ``[T, A]`` total-return prices, held where a bar is missing; NaN before an asset begins.
        factors: Forward adjustment of the bars; null if nothing was split or paid.
        clock: Sessions of the rows.
        parameters: ``memory_sessions`` and ``masks.var_confidence``.
        first: Row from whose session on tail and correlation are computed; earlier ones are bounds.
    """
    rows = SessionRows.of(clock.session)
    if clock.own:
        columns = _panel_columns(bars, total, factors, clock, parameters, first)
        moves = _moves(own_returns(total, bars.present, rows), rows)
    else:
        columns = dict(_grid_columns(bars, total, factors, clock, parameters, first))
        moves = columns.pop("moves")
    begin = int(rows.session[first])
    correlation = correlations(moves, rows, parameters.memory_sessions, begin)[rows.session]
    return RiskFacts(**columns, correlation=correlation)


def _panel_columns(
    bars: AlignedBars,
    total: Floats,
    factors: Factors | None,
    clock: Clock,
    parameters: TradingParameters,
    first: int,
) -> dict[str, Floats]:
    """Columns ``[T, A]`` of ``RiskFacts``, each calendar's on the bars of its own symbols and held until the next."""
    whole = {name: large_array(total.shape) for name in (*OF_ASSET, "tail")}
    for part in clock.own:
        count = part.clock.bars_per_session
        least = (MIN_VOLATILITY, MIN_VOLATILITY * count**0.5, MIN_VOLUME, MIN_VOLUME / count)
        floors = dict(zip(OF_ASSET, least, strict=True))
        floors["tail"] = NormalDist().inv_cdf(parameters.masks.var_confidence)
        place = np.searchsorted(part.rows, np.arange(len(total)), side="right")  # [T] number of the last bar, from 1
        known: dict[str, Floats] = {}
        if part.rows.size:
            own = _cut(bars, total, factors, part)
            known = {**_grid_columns(*own, part.clock, parameters, max(int(place[first]) - 1, 0))}
            known["tail"] = known["tail"][:, None]
        for name, values in whole.items():
            held = np.full((part.rows.size + 1, part.assets.size), floors[name])
            held[1:] = known.get(name, held[1:])
            values[:, part.assets] = held[place]
    return whole


def _cut(
    bars: AlignedBars, total: Floats, factors: Factors | None, part: SymbolClock
) -> tuple[AlignedBars, Floats, Factors | None]:
    """Return bars, total-return prices and factors of the symbols of one calendar on their own rows."""
    cells = np.ix_(part.rows, part.assets)
    own = None if factors is None else Factors._make(values[cells] for values in factors)
    return bars.map_columns(lambda column: column[cells]), total[cells], own


def _grid_columns(
    bars: AlignedBars,
    total: Floats,
    factors: Factors | None,
    clock: Clock,
    parameters: TradingParameters,
    first: int,
) -> Mapping[str, Floats]:
    """Columns of ``RiskFacts`` but the correlation, and the ``moves`` of which that is, on a grid of one calendar."""
    rows, memory = SessionRows.of(clock.session), parameters.memory_sessions

    def of_assets(part: slice) -> dict[str, Floats]:
        own = None if factors is None else factors.assets(part)
        return _asset_columns(bars.assets(part), total[:, part], own, rows, clock, memory)

    columns = by_assets(of_assets, *total.shape)
    confidence, begin = parameters.masks.var_confidence, int(rows.session[first])
    tail = tails(columns["prices"], columns["deviation_before"], rows, memory, confidence, begin)
    return {name: columns[name] for name in (*OF_ASSET, "moves")} | {"tail": tail[rows.session]}


def _asset_columns(
    bars: AlignedBars, total: Floats, factors: Factors | None, rows: SessionRows, clock: Clock, memory: int
) -> dict[str, Floats]:
    """Columns ``[T, A]`` that each depend on one asset alone, and the deviation before each session ``[S, A]``."""
    present, count = bars.present, clock.bars_per_session
    returns = own_returns(total, present, rows)
    variances = daily_variances(returns, present, rows, memory, count)
    volatility = np.maximum(np.sqrt(variances.row / count), MIN_VOLATILITY)
    volume = daily_volumes(bars, factors, rows, memory, count)
    return {
        "volatility": volatility,
        "daily_volatility": volatility * count**0.5,
        "daily_volume": volume,
        "bar_volume": volume / count,
        "deviation_before": np.sqrt(variances.before),
        "prices": np.where(present, total, np.nan),
        "moves": _moves(returns, rows),
    }


def _moves(returns: OwnReturns, rows: SessionRows) -> Floats:
    """Returns ``[T, A]`` since the session before at most; NaN for others."""
    near = (returns.since >= 0) & (returns.since >= rows.session[:, None] - 1)
    return np.where(near, returns.value, np.nan)


def own_returns(total: Floats, present: Mask, rows: SessionRows) -> OwnReturns:
    """Return the log returns of the bars ``present`` ``[T, A]`` from held total-return prices ``total`` ``[T, A]``."""
    last = np.maximum.accumulate(np.where(present, np.arange(len(present))[:, None], -1), axis=0)
    before = np.concatenate([np.full_like(last[:1], -1), last[:-1]])  # [T, A] row of the bar before, -1 if none
    known = present & (before >= 0)
    moves = np.diff(np.log(total), axis=0, prepend=np.nan)
    return OwnReturns(np.where(known, moves, 0.0), np.where(known, rows.session[before], -1))


def daily_variances(
    returns: OwnReturns, present: Mask, rows: SessionRows, memory: int, bars_per_session: float
) -> Variances:
    """Add up the mean overnight and the mean intraday variance of a session.

    The overnight variance is the mean square of the returns that begin in an earlier session. The intraday variance is
    the sum of the other squares over the sessions that the window holds: its bars, those of sessions without a bar of
    the asset left out, over the bars per session. A missing bar is therefore no return of 0, and the days on which
    another market alone is open are no sessions of the asset.

    Args:
        returns: Returns of the assets.
        present: ``[T, A]`` whether the asset has a bar.
        rows: Sessions of the rows.
        memory: Sessions of the window; fewer at the start.
        bars_per_session: Bars of a session.

    Returns:
        Variances; 0 until there is a return.
    """
    begun = np.maximum.accumulate(present, axis=0)
    started = np.concatenate([np.zeros_like(begun[:1]), begun[:-1]])  # from the asset's second row on
    current = rows.session[:, None]
    inside = np.where(returns.since == current, returns.value**2, 0.0)
    overnight, overnight_before = _overnight(returns, rows, memory)
    held, held_before = _rows_held(started, present, rows, memory)
    intraday = rows.trailing_sum(inside, memory) / np.maximum(held, 1.0)
    intraday_before = sum_before(rows.totals(inside), memory) / np.maximum(held_before, 1.0)
    return Variances(overnight + bars_per_session * intraday, overnight_before + bars_per_session * intraday_before)


def _overnight(returns: OwnReturns, rows: SessionRows, memory: int) -> tuple[Floats, Floats]:
    """Return mean squares of overnight returns: ``[T, A]`` of each row's window, ``[S, A]`` of the sessions before."""
    current = rows.session[:, None]
    overnight = (returns.since >= 0) & (returns.since < current)
    row, asset = np.nonzero(overnight)
    square = np.zeros((rows.sessions, returns.value.shape[1]))
    square[rows.session[row], asset] = returns.value[row, asset] ** 2
    since = np.full(square.shape, -1)
    since[rows.session[row], asset] = returns.since[row, asset]
    total, count = _sums_since(square, since, memory)
    known = overnight & (returns.since >= current - memory)
    squares = total[rows.session] + rows.so_far(np.where(known, returns.value**2, 0.0))
    counts = count[rows.session] + rows.so_far(known.astype(np.float64))
    return squares / np.maximum(counts, 1.0), total / np.maximum(count, 1.0)


@numba.njit(nogil=True, cache=True)
def _sums_since(square: Floats, since: Integers, memory: int) -> tuple[Floats, Floats]:
    """Add up and count, of the sessions before each, the squares that begin in its window: ``[S, A]`` both."""
    total, count = np.zeros(square.shape), np.zeros(square.shape)
    for session in range(len(square)):
        oldest = max(session - memory, 0)  # first session that the window may read
        for before in range(session - 1, max(session - memory, -1), -1):
            for asset in range(square.shape[1]):
                if since[before, asset] >= oldest:
                    total[session, asset] += square[before, asset]
                    count[session, asset] += 1.0
    return total, count


def _rows_held(counted: Mask, present: Mask, rows: SessionRows, memory: int) -> tuple[Floats, Floats]:
    """Count the rows of each window ``[T, A]``, and of the sessions before ``[S, A]``, in sessions with an own bar.

    Args:
        counted: ``[T, A]`` rows that may count.
        present: ``[T, A]`` whether the asset has a bar.
        rows: Sessions of the rows.
        memory: Sessions of the window.
    """
    bars, values = present.astype(np.float64), counted.astype(np.float64)
    active = np.where(rows.totals(bars)[rows.session] > 0.0, values, 0.0)  # of a session that is over
    known = np.where(rows.so_far(bars) > 0.0, rows.so_far(values), 0.0)  # of the current one, as far as it is known
    return rows.trailing_sum(active, memory, known), sum_before(rows.totals(active), memory)


def daily_volumes(
    bars: AlignedBars, factors: Factors | None, rows: SessionRows, memory: int, bars_per_session: float
) -> Floats:
    """Return the mean volume per session ``[T, A]`` in shares of the row, at least ``MIN_VOLUME``.

    A missing bar has no volume; sessions without a bar of the asset do not count.

    Args:
        bars: Bars as traded.
        factors: Their forward adjustment; null if nothing was split.
        rows: Sessions of the rows.
        memory: Sessions of the window; fewer at the start.
        bars_per_session: Bars of a session.
    """
    present = bars.present
    split = np.ones(present.shape) if factors is None else factors.split
    traded = rows.trailing_sum(np.where(present, bars.volume, 0.0) / split, memory) * split
    held, _ = _rows_held(np.maximum.accumulate(present, axis=0), present, rows, memory)
    return np.asarray(np.maximum(bars_per_session * traded / np.maximum(held, 1.0), MIN_VOLUME))
