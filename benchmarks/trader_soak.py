"""Two weeks of minutes at full speed: time, growth of memory, open files and journal bytes a bar.

Agents are a stub that orders in each symbol at nearly each bar, so that fills and orders are as many as they can be.
``python benchmarks/trader_soak.py`` prints JSON; ``--bars`` sets the number of stamps.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "venues"))
from memory_venue import MemoryBroker, Venue
from stub_agents import START, StubDecider, StubFeed, stub_rules

from sentio_kedro.trader.brokers.simulated import SimulatedBroker
from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.journal.store import Journal
from sentio_kedro.trader.runtime import Trader

SYMBOLS = ("A", "B", "C", "D", "E")
WEEKS = 14 * 1_440
MEGABYTE = 1024.0**2


class Watched(StubFeed):
    """Bars, at some of which memory and open files are counted."""

    def __init__(self, every: int, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.every, self.process = every, psutil.Process()
        self.memory: list[float] = []
        self.files: list[int] = []

    def _move(self, bar: int) -> None:
        super()._move(bar)
        if bar and bar % self.every == 0:
            self.memory.append(self.process.memory_info().rss / MEGABYTE)
            self.files.append(self.process.num_fds())


def soak(folder: Path, bars: int, symbols: tuple[str, ...] = SYMBOLS, *, simulated: bool = True) -> dict[str, Any]:
    """Run a trader over bars as fast as it goes.

    Args:
        folder: Of the journal.
        bars: Stamps.
        symbols: What is traded.
        simulated: Whether the venue is the simulated one.
    """
    clock, venue, path = ReplayClock(START), Venue(), folder / "soak.sqlite"
    feed = Watched(max(1, bars // 20), symbols, clock, bars, prices=venue.prices)
    broker = SimulatedBroker(clock) if simulated else MemoryBroker(venue, clock)
    rules = stub_rules("soak", symbols, simulated=simulated)
    with Journal(path) as journal:
        trader = Trader(rules, journal, broker, feed, StubDecider("soak", symbols), clock)
        begin, used = time.perf_counter(), time.process_time()
        state = asyncio.run(trader.run())
        seconds, used = time.perf_counter() - begin, time.process_time() - used
    with closing(sqlite3.connect(path)) as connection:
        kinds = "SELECT kind, count(*), sum(length(body) + length(key)) FROM events GROUP BY kind"
        facts = {kind: {"count": count, "bytes": size / count} for kind, count, size in connection.execute(kinds)}
    settled = len(feed.memory) // 4  # a day's turnover, caches and pages of SQLite fill first
    return {
        "bars": bars,
        "mode": state.mode,
        "closed": state.closed,
        "seconds": seconds,
        "cpu_ms_a_bar": used / bars * 1e3,
        "memory_growth_mb": max(feed.memory[settled:]) - feed.memory[settled],  # with the venue's own book, if it has
        "open_files": sorted({feed.files[settled], feed.files[-1]}),
        "journal_bytes_a_bar": path.stat().st_size / bars,
        "facts": facts,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bars", type=int, default=WEEKS)
    parser.add_argument("--venue", action="store_true", help="orders go to a venue in memory")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(soak(Path(folder), chosen.bars, simulated=not chosen.venue) | {"cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
