"""A feed of recorded bars: what the backtest traded, one row after another."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pandas as pd

from sentio_kedro.market.folds import Folds
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import aligned_to_frame
from sentio_kedro.market.ingestion.timestamps import moment
from sentio_kedro.serving.following.state import stamp_of
from sentio_kedro.serving.incoming_bars import read_history
from sentio_kedro.trader.clock import Clock, seconds_of
from sentio_kedro.trader.contract import BarRow, Note


class ReplayFeed:
    """Recorded bars; a ``Feed``. A trader stands at the bar ``start`` and is given the rows after it."""

    def __init__(
        self,
        bars: AlignedBars | pd.DataFrame,
        start: str,
        clock: Clock,
        *,
        stop: str | None = None,
        closing: str | None = None,
        own: Sequence[str] = (),
        source: str = "replay",
        pace: Clock | None = None,
        speed: float = math.inf,
    ) -> None:
        """Take bars.

        Args:
            bars: Aligned bars, or a long frame whose timestamps are ends of bars in UTC.
            start: Stamp at which the history ends: that of the account.
            clock: The trader's clock, which rows move on.
            stop: Stamp of the last row; null is the last of the bars.
            closing: Stamp from which on agents close all positions; null is none.
            own: Of a frame: its own columns that agents read.
            source: Name of the feed.
            pace: Clock that goes by itself, to wait between rows; null does not wait.
            speed: Rows a second.

        Raises:
            ValueError: If ``start`` is no bar.
        """
        self._bars = read_history(bars, own) if isinstance(bars, pd.DataFrame) else bars
        self._clock, self._closing, self.source = clock, closing, source
        self._pace, self._pause = pace, 1.0 / speed
        self._stop = len(self._bars.timestamps) if stop is None else self._row(stop) + 1
        self._start = self._row(start)

    def _row(self, stamp: str) -> int:
        """Return the row of a stamp."""
        ends = self._bars.timestamps
        try:
            end = moment(stamp)
        except ValueError:
            raise ValueError(
                f"`trader.feed.start` must be test, or a stamp such as {stamp_of(ends[0])}, was {stamp!r}; correct it."
            ) from None
        row = int(np.searchsorted(ends, end))
        if row == len(ends) or ends[row] != end:
            raise ValueError(
                f"There is no bar that ends at {stamp}: the bars go from {stamp_of(ends[0])} to {stamp_of(ends[-1])}; "
                "name the end of one of them, or replay the bars that the account is of."
            )
        return row

    async def history(self, bars: int) -> pd.DataFrame:
        """Return all bars until the start, whatever number is needed: a rule is followed from its own first bar."""
        del bars
        await self._clock.wait_until(self._seconds(self._start))
        return aligned_to_frame(self._bars.rows(slice(0, self._start + 1)))

    async def rows(self, after: str) -> AsyncIterator[BarRow]:
        """Yield the rows later than a stamp, as fast as they are taken or at the feed's speed."""
        first = int(np.searchsorted(self._bars.timestamps, moment(after), side="right"))
        for row in range(first, self._stop):
            if self._pace is not None:
                await self._pace.wait_until(self._pace.now() + self._pause)
            await self._clock.wait_until(self._seconds(row))
            yield self._bar_row(row)

    def _seconds(self, row: int) -> float:
        return seconds_of(stamp_of(self._bars.timestamps[row]))

    def _bar_row(self, row: int) -> BarRow:
        columns, present = self._bars.columns(), self._bars.present[row]
        stamp = stamp_of(self._bars.timestamps[row])
        bars = {
            symbol: {name: float(column[row, a]) for name, column in columns.items()}
            for a, symbol in enumerate(self._bars.symbols)
            if present[a]
        }
        return BarRow(
            stamp, bars, self.source, self._seconds(row), closing=self._closing is not None and stamp >= self._closing
        )

    def notes(self) -> list[Note]:
        """Nothing else happens."""
        return []

    async def close(self) -> None:
        """There is nothing to close."""


def last_block(folds: Folds, bars: AlignedBars, latency: int) -> tuple[str, str, str]:
    """Return stamps of the last test block: its first row, the row at which its account closes, and the bar after it.

    The last is the bar by which the last decision is judged; none of them is of the lockbox.

    Args:
        folds: Folds, found on the bars by their dates.
        bars: The bars.
        latency: ``trading.orders.latency_bars``.
    """
    rows, ends = folds.folds[-1].test[-1], bars.timestamps
    first, last = (int(np.searchsorted(ends, moment(folds.dates[row]))) for row in (rows.start, rows.stop - 1))
    start, closing, stop = (stamp_of(ends[row]) for row in (first, last - latency, last + 1))
    return start, closing, stop


def before_lockbox(folds: Folds, bars: AlignedBars) -> AlignedBars:
    """Return the bars before the lockbox, which a replay from a stamp must not read either.

    Args:
        folds: Folds, found on the bars by their dates.
        bars: The environment's bars.
    """
    if folds.lockbox is None:
        return bars
    return bars.rows(slice(0, int(np.searchsorted(bars.timestamps, moment(folds.dates[folds.lockbox.start])))))
