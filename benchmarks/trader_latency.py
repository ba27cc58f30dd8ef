"""Time from a stamp's last bar to the last POST of its orders, with the journal's fsync, five assets.

The venue answers at once, so that the trader alone is measured: what a venue takes for the question for fills before
the decision comes on top. ``python benchmarks/trader_latency.py`` prints JSON; ``--folder`` is where the journal lies.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "venues"))
from memory_venue import MemoryBroker, Venue
from stub_agents import START, StubDecider, StubFeed, stub_rules

from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.contract import BarRow, Decider, Decision, Feed, Note, Settled, Simulated
from sentio_kedro.trader.journal.store import Journal
from sentio_kedro.trader.orders import Order, Outcome
from sentio_kedro.trader.runtime import Trader

SYMBOLS = ("A", "B", "C", "D", "E")


class Timed:
    """A feed that notes when a row came, and lets the venue's prices be its closes."""

    def __init__(self, feed: Feed, venue: Venue, bars: int) -> None:
        self.feed, self.venue, self.bars, self.source, self.came = feed, venue, bars, feed.source, 0.0

    async def history(self, bars: int) -> pd.DataFrame:
        """The bars until the first."""
        history = await self.feed.history(bars)
        self.venue.prices = dict(zip(history["symbol"], history["close"].astype(float), strict=True))
        return history

    async def rows(self, after: str) -> AsyncIterator[BarRow]:
        """The bars after a stamp."""
        number = 0
        async for row in self.feed.rows(after):
            number += 1
            if number > self.bars:
                return
            self.venue.prices = {symbol: values["close"] for symbol, values in row.bars.items()}
            self.came = time.perf_counter()
            yield row

    def notes(self) -> list[Note]:
        """What else happened."""
        return self.feed.notes()

    async def close(self) -> None:
        """There is nothing to close."""


class TimedDecider:
    """Agents whose time is taken."""

    def __init__(self, decider: Decider) -> None:
        self.decider, self.milliseconds = decider, list[float]()
        self.symbols, self.required_bars = decider.symbols, decider.required_bars
        self.source, self.model = decider.source, decider.model
        self.start = decider.start

    def advance(self, row: BarRow, execution: Simulated | Settled) -> Decision:
        """Decide."""
        begin = time.perf_counter()
        decision = self.decider.advance(row, execution)
        self.milliseconds.append(1e3 * (time.perf_counter() - begin))
        return decision


class TimedBroker(MemoryBroker):
    """A venue that notes when the newest order of a bar came."""

    def __init__(self, feed: Timed, *args: Any) -> None:
        super().__init__(*args)
        self.feed, self.milliseconds = feed, dict[str, float]()

    async def submit(self, order: Order) -> Outcome:
        """POST."""
        self.milliseconds[order.bar] = 1e3 * (time.perf_counter() - self.feed.came)
        return await super().submit(order)


def latency(folder: Path, bars: int, data: Path | None) -> dict[str, Any]:
    """Run a trader over bars and return percentiles, milliseconds.

    Args:
        folder: Of the journal.
        bars: How many.
        data: Artifacts of an environment whose agents decide; null is the stub.
    """
    clock, venue = ReplayClock(START), Venue()
    inner: Feed = StubFeed(SYMBOLS, clock, bars)
    agents: Decider = StubDecider("latency", SYMBOLS)
    if data is not None:
        from sentio_kedro.trader.decider import SessionDecider  # noqa: PLC0415 - torch
        from sentio_kedro.trader.feeds.replay import ReplayFeed  # noqa: PLC0415 - torch
        from trader_replay import from_artifacts  # noqa: PLC0415 - torch

        block, clock = from_artifacts(data), ReplayClock()
        agents, inner = SessionDecider(block.agents, "latency"), ReplayFeed(block.bars, block.stamps[0], clock)
    feed, decider = Timed(inner, venue, bars), TimedDecider(agents)
    broker = TimedBroker(feed, venue, clock)
    rules = stub_rules("latency", decider.symbols, simulated=False)
    loose = replace(rules.limits, order_notional=100.0, symbol_exposure=100.0, gross=100.0, price_deviation=1.0)
    with Journal(folder / "latency.sqlite") as journal:
        trader = Trader(replace(rules, limits=loose), journal, broker, feed, decider, clock)
        state = asyncio.run(trader.run())
    times = np.array(list(broker.milliseconds.values())[1:])  # the first start is none
    return {
        "bars": bars,
        "mode": state.mode,
        "bars_with_orders": len(times),
        "symbols": len(decider.symbols),
        **{f"p{q}_ms": float(np.percentile(times, q)) for q in (50, 90, 99)},
        "largest_ms": float(times.max()),
        "decider_p50_ms": float(np.median(decider.milliseconds)),
    }


def fsync_milliseconds(folder: Path) -> float:
    """Median time of an fsync of a page in a folder, milliseconds."""
    times = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(100):
            file.write(bytes(4_096))
            file.flush()
            begin = time.perf_counter()
            os.fsync(file.fileno())
            times.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(times))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bars", type=int, default=500)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--data", type=Path, help="artifacts whose agents decide, in place of the stub")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        found = latency(Path(name), chosen.bars, chosen.data)
        print(json.dumps(found | {"fsync_ms": fsync_milliseconds(Path(name)), "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
