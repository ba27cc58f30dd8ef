"""Trailing sums and means, by rows and by sessions, without differences of running sums, which accumulate errors."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from sentio_kedro.market.ingestion.aligned_bars import hold
from sentio_kedro.market.ingestion.sessions import Integers
from sentio_kedro.market.ingestion.timestamps import Floats


def trailing_sum(values: Floats, length: int) -> Floats:
    """Return the sum of the last ``length`` rows of ``values`` [n, ...]; of fewer at the start.

    Windows of 1, 2, 4, ... rows are put together, so that the work grows with the logarithm of ``length``.
    """
    rows = len(values)
    total, passed = np.zeros(values.shape), 0  # sum of the last `passed` rows
    window, span = values, 1  # sum of `span` rows
    while length and passed < rows:
        if length & 1:
            total[passed:] += window[: rows - passed]
            passed += span
        length >>= 1
        if length and span < rows:
            doubled = window.copy()
            doubled[span:] += window[:-span]
            window = doubled
        span *= 2
    return total


def trailing_mean(values: Floats, length: int, valid: NDArray[np.bool_] | None = None) -> Floats:
    """Return the mean of the last ``length`` rows of ``values`` [n, ...].

    Args:
        values: Finite where they count.
        length: Rows averaged; fewer at the start.
        valid: Which values count, [n, ...]; null counts all.

    Returns:
        [n, ...]; 0 until a value counts.
    """
    if valid is None:
        counts = np.minimum(np.arange(1.0, len(values) + 1.0), length).reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(trailing_sum(values, length) / counts)
    sums = trailing_sum(np.where(valid, values, 0.0), length)
    return np.asarray(sums / np.maximum(trailing_sum(valid.astype(np.float64), length), 1.0))


class SessionRows(NamedTuple):
    """Rows of a grid of bars by session and place in the session.

    Attributes:
        session: Number of the session [T] among those that have rows, from 0.
        place: Rows of the session before this one [T].
        sessions: Number S of sessions.
        longest: Most rows n of a session.
    """

    session: Integers
    place: Integers
    sessions: int
    longest: int

    @classmethod
    def of(cls, session: Integers) -> SessionRows:
        """Number the rows of sessions [T], at least one, that never decrease."""
        begins = np.flatnonzero(np.diff(session, prepend=session[0] - 1))  # [S] first row of each session
        lengths = np.diff(begins, append=len(session))
        number = np.repeat(np.arange(len(begins)), lengths)
        return cls(number, np.arange(len(session)) - begins[number], len(begins), int(lengths.max()))

    def grid(self, values: Floats, first: int, stop: int) -> Floats:
        """Lay out ``values`` [T, A] of sessions [first, stop) by place [stop - first, n, A], with NaN where none is."""
        rows = slice(*np.searchsorted(self.session, [first, stop]))
        laid = np.full((stop - first, self.longest, values.shape[1]), np.nan)
        laid[self.session[rows] - first, self.place[rows]] = values[rows]
        return laid

    def so_far(self, values: Floats) -> Floats:
        """Return the sum of ``values`` [T, A] over the rows of the session up to each row [T, A]."""
        return np.asarray(_so_far(values, self.place))

    def totals(self, values: Floats) -> Floats:
        """Return the sum of ``values`` [T, A] over each session [S, A]."""
        ends = np.append(self.place[1:] == 0, values=True)
        return np.asarray(self.so_far(values)[ends])  # in order: rows that follow change no bit

    def trailing_sum(self, values: Floats, memory: int, current: Floats | None = None) -> Floats:
        """Sum the rows from the one after the same place in the session ``memory`` sessions earlier, up to each row.

        Args:
            values: Addends [T, A].
            memory: Sessions, at least 2; fewer at the start.
            current: Sums [T, A] over the current session up to each row; null takes those of ``values``, whose rows
                may depend on later ones of their session.

        Returns:
            [T, A].
        """
        whole = sum_before(self.totals(values), memory - 1)
        oldest = _rest(values, self.session, self.place, memory)
        return np.asarray(oldest + whole[self.session] + (self.so_far(values) if current is None else current))


@numba.njit(nogil=True, cache=True)
def _so_far(values: Floats, place: Integers) -> Floats:
    """Return the sum of ``values`` [T, A] over the rows of the session up to each row [T, A]."""
    sums = values.copy()
    for row in range(len(values)):
        for asset in range(values.shape[1]):
            if place[row]:
                sums[row, asset] += sums[row - 1, asset]
    return sums


@numba.njit(nogil=True, cache=True)
def _rest(values: Floats, session: Integers, place: Integers, memory: int) -> Floats:
    """Return the sum of ``values`` [T, A] after each row's place in the session ``memory`` sessions earlier [T, A]."""
    rest = np.zeros((len(values) + 1, values.shape[1]))  # sums from a row to its session's end
    for row in range(len(values) - 1, -1, -1):
        last = row + 1 == len(values) or session[row + 1] != session[row]
        for asset in range(values.shape[1]):
            rest[row, asset] = values[row, asset] + (0.0 if last else rest[row + 1, asset])
    oldest, begin = np.zeros(values.shape), 0  # first row of the session that is so much earlier
    for row in range(len(values)):
        while session[begin] < session[row] - memory:
            begin += 1
        following = begin + place[row] + 1
        if session[begin] == session[row] - memory and following < row and session[following] == session[begin]:
            oldest[row] = rest[following]
    return oldest


def sum_before(values: Floats, length: int) -> Floats:
    """Return the sum of the ``length`` rows of ``values`` [n, ...] before each row; of fewer at the start."""
    return np.concatenate([np.zeros_like(values[:1]), trailing_sum(values, length)[:-1]])


def estimated_spread(high: Floats, low: Floats, close: Floats, bars: int) -> Floats:
    """Estimate the full quoted spread from high, low and close (Abdi and Ranaldo 2017, their two-day estimator).

    With logs c of the close and eta of the middle of high and low, s^2 = max(4 mean[(c_t - eta_t)(c_t - eta_(t+1))], 0)
    over the last ``bars`` pairs of neighbouring bars: c_t is half a spread off the efficient price, which both middles
    estimate. All of it is observed by the close of the pair's second bar.

    Args:
        high: Highest prices [T, A], free of splits and dividends, NaN where the asset has no bar.
        low: Lowest prices [T, A].
        close: Closing prices [T, A].
        bars: Pairs averaged; fewer at the start.

    Returns:
        Fraction of the mid price [T, A]; 0 until an asset has two bars; held where it has no bar.
    """
    spread = np.full(close.shape, np.nan)
    for asset in range(close.shape[1]):
        rows = np.flatnonzero(np.isfinite(close[:, asset]))
        last = np.log(close[rows, asset])
        middle = 0.5 * (np.log(high[rows, asset]) + np.log(low[rows, asset]))
        square = trailing_mean(4.0 * (last[:-1] - middle[:-1]) * (last[:-1] - middle[1:]), bars)
        spread[rows[1:], asset] = np.sqrt(np.maximum(square, 0.0))
    return np.nan_to_num(hold(spread), nan=0.0)
