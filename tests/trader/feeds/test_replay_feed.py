"""A replay gives the rows of recorded bars, up to the end of the last test block and no bar of the lockbox."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from sentio_kedro.market.folds import Folds
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import aligned_to_frame
from sentio_kedro.market.purged_folds import Fold, Segment, Spans
from sentio_kedro.trader.clock import ReplayClock, seconds_of
from sentio_kedro.trader.contract import BarRow
from sentio_kedro.trader.feeds.replay import ReplayFeed, last_block

ENDS = np.datetime64("2020-01-01T00:30", "ns") + np.arange(40) * np.timedelta64(30, "m")


def recorded() -> AlignedBars:
    """Two assets; the second is halted in row 12; a column of the user's own."""
    close = 100.0 + np.arange(80.0).reshape(40, 2)
    volume, split = np.full((40, 2), 1e3), np.ones((40, 2))
    bars = AlignedBars(
        ENDS, ("AAA", "BBB"), close, close + 1, close - 1, close, volume, split=split, extra={"mood": -close}
    )
    hidden = np.zeros((40, 2), bool)
    hidden[12, 1] = True
    return bars.without(hidden)


def stamp(row: int) -> str:
    return f"{np.datetime_as_string(ENDS[row], unit='s')}Z"


def rows_of(feed: ReplayFeed, after: str) -> list[BarRow]:
    async def taken() -> list[BarRow]:
        return [row async for row in feed.rows(after)]

    return asyncio.run(taken())


@pytest.mark.parametrize("long", [False, True])
def test_rows_have_all_columns_and_halted_symbols_are_missing(long: bool) -> None:
    clock = ReplayClock()
    bars: Any = aligned_to_frame(recorded()) if long else recorded()
    feed = ReplayFeed(bars, stamp(10), clock, own=["mood"])
    history = asyncio.run(feed.history(5))
    assert str(history["timestamp"].max().isoformat()) == "2020-01-01T05:30:00+00:00"
    assert clock.now() == seconds_of(stamp(10))
    rows = rows_of(feed, stamp(10))
    assert [row.stamp for row in rows] == [stamp(row) for row in range(11, 40)]
    assert list(rows[1].bars) == ["AAA"]
    assert dict(rows[0].bars["BBB"]) == {
        "open": 123.0, "high": 124.0, "low": 122.0, "close": 123.0, "volume": 1e3, "split": 1.0, "mood": -123.0,
    }  # fmt: skip
    assert rows[0].arrived == seconds_of(stamp(11))
    assert clock.now() == seconds_of(stamp(39))
    assert not any(row.closing for row in rows)


def test_the_last_test_block_ends_before_the_lockbox_and_closes_in_time() -> None:
    folds = [Fold(n, (), (), (Segment(first, first + 10),)) for n, first in ((0, 9), (1, 19))]
    cut = Folds.of(folds, Spans(input=3, reward=1, episode=2), ENDS, Segment(30, 40))
    later = recorded().rows(slice(5, 30))  # the oldest bars are gone; rows are found by their dates
    assert last_block(cut, later, latency=2) == (stamp(19), stamp(26), stamp(29))
    start, closing, stop = last_block(cut, later, latency=0)
    rows = rows_of(ReplayFeed(later, start, ReplayClock(), stop=stop, closing=closing), start)
    assert [row.stamp for row in rows] == [stamp(row) for row in range(20, 30)]
    assert [row.stamp for row in rows if row.closing] == [stamp(28), stamp(29)]


def test_a_speed_waits_on_a_clock_that_goes_by_itself() -> None:
    clock, pace = ReplayClock(), ReplayClock(1000.0)
    feed = ReplayFeed(recorded(), stamp(10), clock, stop=stamp(14), pace=pace, speed=2.0)
    assert len(rows_of(feed, stamp(10))) == 4
    assert pace.now() == 1002.0


def test_a_start_that_is_no_bar_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"no bar that ends at 2020-01-01T00:31:00Z: the bars go from 2020-01-01T00:30"
    ):
        ReplayFeed(recorded(), "2020-01-01T00:31:00Z", ReplayClock())
