"""Tail and correlation of returns from the whole sessions before a session, which hold for all of its bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from statistics import NormalDist

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.trailing import SessionRows

CHUNK = 2**22  # numbers of session windows that are in memory at a time


def tails(
    prices: Floats, volatility: Floats, rows: SessionRows, memory: int, confidence: float, first: int = 0
) -> Floats:
    """Return the quantile of absolute one-session returns in daily volatilities, from the sessions before ``[S]``.

    The law is the empirical one of all assets, at every place of the ``memory`` sessions, from one of them to the next.
    Both signs count, since a position may be long or short.

    Args:
        prices: ``[T, A]`` total-return prices; NaN where the asset has no bar.
        volatility: ``[S, A]`` daily volatility of the same sessions.
        rows: Sessions of the rows.
        memory: Sessions of the window; fewer at the start.
        confidence: Probability of a smaller return.
        first: First session to compute.

    Returns:
        At least the quantile of the normal law, which also stands where fewer than two sessions are known.
    """

    def moves(begin: int, stop: int) -> Floats:
        before = min(begin, 1)
        laid = np.log(rows.grid(prices, begin - before, stop))  # [sessions, n, A]
        return np.asarray(np.abs(np.diff(laid, axis=0, prepend=laid[:0] if before else np.full_like(laid[:1], np.nan))))

    quantile = np.full(rows.sessions, NormalDist().inv_cdf(confidence))
    for part, window in _sessions_before(moves, rows, prices.shape[1], memory - 1, first):
        scale = volatility[part][:, None, :, None]
        known = np.isfinite(window) & (scale > 0.0)
        ratio = np.divide(window, scale, out=np.full(window.shape, -1.0), where=known).reshape(len(window), -1)
        count = known.reshape(len(window), -1).sum(axis=1)
        above = count - np.ceil(confidence * count - 1e-9).astype(np.int64)  # [s] returns beyond the quantile
        places = ratio.shape[1] - 1 - above
        ordered = np.partition(ratio, np.unique(places), axis=1)
        quantile[part] = np.maximum(quantile[part], ordered[np.arange(len(ordered)), places])
    return quantile


def correlations(moves: Floats, rows: SessionRows, memory: int, first: int = 0) -> Floats:
    """Return the average pairwise correlation of bar returns over the sessions before ``[S]``, in [0, 1].

    Each asset's returns are divided by their root mean square in the window.

    Args:
        moves: ``[T, A]`` returns of the assets; NaN where there is none or it spans a session without a bar of the
            asset, which has no counterpart.
        rows: Sessions of the rows.
        memory: Sessions of the window; fewer at the start.
        first: First session to compute.

    Returns:
        0 with one asset; 1, the bound, until two assets have a return of the same bar.
    """
    if moves.shape[1] == 1:
        return np.zeros(rows.sessions)
    average = np.ones(rows.sessions)
    for part, window in _sessions_before(partial(rows.grid, moves), rows, moves.shape[1], memory - 1, first):
        known = np.isfinite(window)
        values = np.where(known, window, 0.0)  # [s, n, A, sessions]
        square = (values**2).sum(axis=(1, 3), keepdims=True)
        known &= square > 0.0
        bars = known.sum(axis=(1, 3), keepdims=True)
        standard = np.divide(values, np.sqrt(square / np.maximum(bars, 1)), out=np.zeros(values.shape), where=known)
        products = standard.sum(axis=2) ** 2 - (standard**2).sum(axis=2)  # over ordered pairs of different assets
        assets = known.sum(axis=2)
        pairs = (assets * (assets - 1)).sum(axis=(1, 2))
        mean = products.sum(axis=(1, 2)) / np.maximum(pairs, 1)
        average[part] = np.where(pairs > 0, np.clip(mean, 0.0, 1.0), 1.0)
    return average


def _sessions_before(
    lay: Callable[[int, int], Floats], rows: SessionRows, assets: int, length: int, first: int
) -> Iterator[tuple[slice, Floats]]:
    """Yield sessions, and values of the ``length`` sessions before each ``[s, n, A, length]``; NaN before the first.

    Args:
        lay: Lays out the values of a range of sessions ``[s, n, A]``.
        rows: Sessions of the rows.
        assets: Number of assets A.
        length: Sessions, at least 1.
        first: First session.
    """
    size = max(1, CHUNK // max(1, rows.longest * assets * length))
    for start in range(first, rows.sessions, size):
        part, begin = slice(start, min(start + size, rows.sessions)), max(0, start - length)
        known = lay(begin, max(begin, part.stop - 1))
        unknown = np.full((length - start + begin, *known.shape[1:]), np.nan)
        yield part, sliding_window_view(np.concatenate([unknown, known]), length, axis=0)
