"""Synthetic market paths made of blocks of real bars (stationary bootstrap, Politis and Romano 1994).

One price history can be learnt by heart; a new path for every update cannot. All assets take the same rows, so the
cross-section of each bar is real. A bar is kept as log ratios to the previous close and chained anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sentio_kedro.market.bars import AlignedBars, Floats, Stamps, most_common_gap
from sentio_kedro.market.splits import Segment

Rows = NDArray[np.int64]
VOLUME_BARS = 96  # bars of the mean that volume is measured against
FIRST_PRICE = 100.0  # close before the first bar of a path


@dataclass(frozen=True, eq=False)
class RelativeBars:
    """Bars in units that can be chained in any order.

    Attributes:
        timestamps: Bar ends [T].
        symbols: Names of the assets.
        open: log(open / previous close) [T, A]; NaN where the asset has no bar or no close before it.
        high: log(high / previous close) [T, A].
        low: log(low / previous close) [T, A].
        close: log(close / previous close) [T, A].
        volume: Volume over the asset's trailing mean volume [T, A].
    """

    timestamps: Stamps
    symbols: tuple[str, ...]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


def relative_bars(bars: AlignedBars) -> RelativeBars:
    """Express bars relative to each asset's last known close and trailing mean volume.

    The first bar of an asset has no previous close and counts as missing.
    """
    before = np.full(bars.close.shape, np.nan)
    before[1:] = bars.held_close()[:-1]
    close = np.log(bars.close / before)
    volume = np.full(bars.volume.shape, np.nan)
    for asset in range(len(bars.symbols)):
        rows = np.flatnonzero(bars.present[:, asset])
        mean = _trailing_mean(bars.volume[rows, asset])
        volume[rows, asset] = np.divide(bars.volume[rows, asset], mean, out=np.zeros(rows.size), where=mean > 0.0)
    volume[np.isnan(close)] = np.nan
    return RelativeBars(
        timestamps=bars.timestamps,
        symbols=bars.symbols,
        open=np.log(bars.open / before),
        high=np.log(bars.high / before),
        low=np.log(bars.low / before),
        close=close,
        volume=volume,
    )


def _trailing_mean(volume: Floats) -> Floats:
    """Return the mean of the last ``VOLUME_BARS`` volumes [n], of those known so far at the start."""
    padded = np.concatenate([np.zeros(VOLUME_BARS - 1), volume])
    known = np.minimum(np.arange(1, len(volume) + 1), VOLUME_BARS)
    return np.asarray(sliding_window_view(padded, VOLUME_BARS).sum(axis=-1) / known)


def resample(
    relative: RelativeBars,
    segments: Sequence[Segment],
    length: int,
    block_bars: int,
    random_signs: bool,
    rng: np.random.Generator,
) -> tuple[AlignedBars, Rows]:
    """Draw one path.

    Args:
        relative: The bars, prepared once by ``relative_bars``.
        segments: Rows that may be drawn; row t is drawn only if t - 1 lies in the same segment.
        length: Bars of the path.
        block_bars: Mean length of the blocks, whose lengths are geometric; 0 takes one stretch as it happened (the
            longest segment if none has ``length`` bars).
        random_signs: Mirror each block in log price with probability one half.
        rng: Source of all randomness.

    Returns:
        The path, chained from 100.0 on a regular grid of stamps, and the source row of each bar [length]. Pass
        ``relative.timestamps[rows]`` as the calendar of ``compute_features``.

    Raises:
        ValueError: If no segment has two rows.
    """
    drawable = [Segment(segment.start + 1, segment.stop) for segment in segments if segment.stop - segment.start > 1]
    if not drawable:
        raise ValueError(
            f"`segments` must hold one of at least 2 rows to resample from, were {[tuple(s) for s in segments]}; give "
            "the fold more bars."
        )
    if block_bars == 0:
        starts, lengths = _stretch(drawable, length, rng)
    else:
        starts, lengths = _blocks(drawable, length, block_bars, rng)
    signs = rng.choice([-1.0, 1.0], size=len(starts)) if random_signs else np.ones(len(starts))
    first = np.cumsum(lengths) - lengths  # [blocks] place of each block in the path
    rows = np.repeat(starts - first, lengths) + np.arange(int(lengths.sum()))
    return _chained(relative, rows[:length], np.repeat(signs, lengths)[:length]), rows[:length]


def _stretch(drawable: Sequence[Segment], length: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
    places = np.array([max(0, segment.stop - segment.start - length + 1) for segment in drawable])
    if not places.any():
        longest = max(drawable, key=lambda segment: segment.stop - segment.start)
        return np.array([longest.start]), np.array([longest.stop - longest.start])
    place = int(rng.integers(places.sum()))
    chosen = int(np.searchsorted(np.cumsum(places), place, side="right"))
    return np.array([drawable[chosen].start + place - int(places[:chosen].sum())]), np.array([length])


def _blocks(drawable: Sequence[Segment], length: int, block_bars: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Return starts and lengths of blocks that cover ``length`` bars; a block ends where its segment does."""
    rows = np.concatenate([np.arange(segment.start, segment.stop) for segment in drawable])
    stops = np.concatenate([np.full(segment.stop - segment.start, segment.stop) for segment in drawable])
    starts, lengths = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    while lengths.sum() < length:
        pick = rng.integers(len(rows), size=2 * length // block_bars + 8)
        starts = np.concatenate([starts, rows[pick]])
        lengths = np.concatenate(
            [lengths, np.minimum(rng.geometric(1.0 / block_bars, len(pick)), (stops - rows)[pick])]
        )
    needed = int(np.searchsorted(np.cumsum(lengths), length)) + 1
    return starts[:needed], lengths[:needed]


def _chained(relative: RelativeBars, rows: Rows, signs: Floats) -> AlignedBars:
    """Chain the bars of ``rows``, each mirrored if its sign is -1 (high and low then trade places)."""
    sign = signs[:, None]  # [length, 1]
    moves = sign * relative.close[rows]  # [length, A]
    steps = np.cumsum(np.where(np.isnan(moves), 0.0, moves), axis=0)
    before = np.vstack([np.zeros((1, steps.shape[1])), steps[:-1]])
    high, low = relative.high[rows], relative.low[rows]

    def price(relatives: Floats) -> Floats:
        return np.asarray(FIRST_PRICE * np.exp(before + relatives))

    grid = relative.timestamps[0] + np.arange(len(rows)) * most_common_gap(relative.timestamps)
    return AlignedBars(
        timestamps=grid,
        symbols=relative.symbols,
        open=price(sign * relative.open[rows]),
        high=price(np.where(sign > 0.0, high, -low)),
        low=price(np.where(sign > 0.0, low, -high)),
        close=price(moves),
        volume=relative.volume[rows],
    )


def resample_bars(
    bars: AlignedBars,
    segments: Sequence[Segment],
    length: int,
    block_bars: int,
    random_signs: bool,
    rng: np.random.Generator,
) -> tuple[AlignedBars, Rows]:
    """Draw one path from bars that are not prepared yet; see ``resample``."""
    return resample(relative_bars(bars), segments, length, block_bars, random_signs, rng)
