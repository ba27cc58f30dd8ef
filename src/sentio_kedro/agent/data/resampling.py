"""Synthetic market paths made of blocks of real bars (stationary bootstrap, Politis and Romano 1994).

A network can memorise one price history, but not a new path for every update. All assets take the same rows, so the
cross-section of each bar is real. A bar is stored as log ratios to the previous close, free of splits and dividends.
Paths start from the assets' median prices and volumes, so that lots, shares and participation have the right scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.market.ingestion.adjustment import adjustment_factors
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps, most_common_gap
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.trailing import trailing_mean

Rows = NDArray[np.int64]
VOLUME_BARS = 96  # bars of the mean that volume is measured against


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
        price: Close as traded [T, A], quote currency.
        mean_volume: The trailing mean volume itself [T, A], in shares of the row.
        spread: Quoted spread [T, A], fraction of the mid price; None if the bars have none.
        funding: Funding rate of the bar [T, A]; None if the bars have none.
    """

    timestamps: Timestamps
    symbols: tuple[str, ...]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    price: Floats
    mean_volume: Floats
    spread: Floats | None = None
    funding: Floats | None = None


class ResampledPath(NamedTuple):
    """A path and its source rows.

    Attributes:
        bars: The bars.
        rows: Source row of each bar [length].
    """

    bars: AlignedBars
    rows: Rows


class PathLevels(NamedTuple):
    """Prices and volumes that paths start from.

    Attributes:
        price: Close before the first bar of a path [A], quote currency.
        volume: Volume that a path's relative volume is multiplied by [A], shares or coins.
    """

    price: Floats
    volume: Floats


def relative_bars(bars: AlignedBars) -> RelativeBars:
    """Express bars relative to each asset's last close and trailing mean volume.

    The first bar of an asset has no previous close and counts as missing.
    """
    factors = adjustment_factors(bars)
    adjusted = bars if factors is None else factors.applied(bars)
    before = np.full(adjusted.close.shape, np.nan)
    before[1:] = adjusted.held_close()[:-1]
    close = np.log(adjusted.close / before)
    volume, mean_volume = np.full(close.shape, np.nan), np.full(close.shape, np.nan)
    for asset in range(len(bars.symbols)):
        rows = np.flatnonzero(bars.present[:, asset])
        mean = trailing_mean(adjusted.volume[rows, asset], VOLUME_BARS)
        volume[rows, asset] = np.divide(adjusted.volume[rows, asset], mean, out=np.zeros(rows.size), where=mean > 0.0)
        mean_volume[rows, asset] = mean if factors is None else mean * factors.split[rows, asset]
    present = np.isfinite(close)
    return RelativeBars(
        timestamps=bars.timestamps,
        symbols=bars.symbols,
        open=np.log(adjusted.open / before),
        high=np.log(adjusted.high / before),
        low=np.log(adjusted.low / before),
        close=close,
        volume=np.where(present, volume, np.nan),
        price=np.where(present, bars.close, np.nan),
        mean_volume=np.where(present, mean_volume, np.nan),
        spread=None if bars.spread is None else np.where(present, bars.spread, np.nan),
        funding=None if bars.funding is None else np.where(present, bars.funding, np.nan),
    )


def path_levels(relative: RelativeBars, segments: Sequence[Segment]) -> PathLevels:
    """Return the median close and median trailing mean volume of the rows that may be drawn from ``segments``.

    An asset without a bar there has a price of 1 and no volume; its paths have no bars either.

    Raises:
        ValueError: If no segment has two rows.
    """
    rows = np.concatenate([np.arange(segment.start, segment.stop) for segment in _drawable(segments)])

    def median(values: Floats, otherwise: float) -> Floats:
        finite = [column[np.isfinite(column)] for column in values[rows].T]
        return np.array([np.median(column) if column.size else otherwise for column in finite])

    return PathLevels(median(relative.price, 1.0), median(relative.mean_volume, 0.0))


def resample(
    relative: RelativeBars,
    segments: Sequence[Segment],
    length: int,
    block_bars: int,
    rng: np.random.Generator,
    levels: PathLevels | None = None,
    mirror_blocks: bool = False,
) -> ResampledPath:
    """Draw one path.

    Args:
        relative: The bars, prepared once by ``relative_bars``.
        segments: Rows that may be drawn; row t is drawn only if t - 1 lies in the same segment.
        length: Bars of the path.
        block_bars: Mean length of the blocks, whose lengths are geometric.
        rng: Source of all randomness.
        levels: Start of the path; None computes ``path_levels``, which is slow compared with a draw.
        mirror_blocks: Mirror each block in log price with probability one half.

    Returns:
        The path on a regular grid of timestamps. Pass the source rows' times to ``compute_features`` and their clock
        to ``market_tensors``. Prices are total-return prices, so the
        path has neither splits nor dividends; spreads are copied, funding changes sign in a mirrored block.

    Raises:
        ValueError: If no segment has two rows.
    """
    drawable = _drawable(segments)
    starts, lengths = _blocks(drawable, length, block_bars, rng)
    first = np.cumsum(lengths) - lengths  # [blocks] place of each block in the path
    rows = np.repeat(starts - first, lengths) + np.arange(int(lengths.sum()))
    levels = path_levels(relative, segments) if levels is None else levels
    signs = rng.choice([-1.0, 1.0], size=len(starts)) if mirror_blocks else np.ones(len(starts))
    rows, signs = rows[:length], np.repeat(signs, lengths)[:length]
    return ResampledPath(_chained(relative, levels, rows, signs), rows)


def _drawable(segments: Sequence[Segment]) -> list[Segment]:
    """Return the rows that may be drawn: those whose previous row lies in the same segment."""
    drawable = [Segment(segment.start + 1, segment.stop) for segment in segments if segment.stop - segment.start > 1]
    if not drawable:
        raise ValueError(
            f"`segments` must hold one of at least 2 rows to resample from, were {[tuple(s) for s in segments]}; give "
            "the fold more bars."
        )
    return drawable


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


def _chained(relative: RelativeBars, levels: PathLevels, rows: Rows, signs: Floats) -> AlignedBars:
    """Chain the bars of ``rows``, each mirrored if its sign is -1 (high and low then trade places)."""
    sign = signs[:, None]  # [length, 1]
    close = sign * relative.close[rows]  # [length, A]
    steps = np.cumsum(np.where(np.isnan(close), 0.0, close), axis=0)
    before = np.vstack([np.zeros((1, steps.shape[1])), steps[:-1]])

    def price(relatives: Floats) -> Floats:
        return np.asarray(levels.price * np.exp(before + relatives))

    return AlignedBars(
        timestamps=relative.timestamps[0] + np.arange(len(rows)) * most_common_gap(relative.timestamps),
        symbols=relative.symbols,
        open=price(sign * relative.open[rows]),
        high=price(np.where(sign > 0.0, relative.high[rows], -relative.low[rows])),
        low=price(np.where(sign > 0.0, relative.low[rows], -relative.high[rows])),
        close=price(close),
        volume=levels.volume * relative.volume[rows],
        spread=None if relative.spread is None else relative.spread[rows],
        funding=None if relative.funding is None else sign * relative.funding[rows],
    )
