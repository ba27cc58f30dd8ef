"""Two hosts that trade under one name: what the venue executes, and who notices.

Each host has a journal of its own and the same agents, feed and venue; a bar is given to both before the next one. With
a lease (``--postgres ADDRESS``) the connection of the holder is cut every 20 bars and the other host takes over.
Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import SecretStr

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "venues"))

from memory_venue import MemoryBroker, Venue
from stub_agents import BAR, START, StubDecider, StubFeed

from sentio_kedro.config.live.trader import SendingParameters, TraderLimits
from sentio_kedro.trader.clock import ReplayClock, seconds_of
from sentio_kedro.trader.contract import BarRow
from sentio_kedro.trader.journal.store import Journal, JournalReader
from sentio_kedro.trader.lease import Lease, LeasedBroker, LeaseError
from sentio_kedro.trader.runtime import Trader
from sentio_kedro.trader.state import Rules

NAME, SYMBOLS = "both", ("A", "B")
LIMITS = TraderLimits(orders_per_minute=1_000, turnover_per_day=1_000.0)
CUT = 20  # bars between cuts of the holder's connection


class PairedFeed(StubFeed):
    """Rows that no host gets before the other has done with the row before."""

    def __init__(self, clock: ReplayClock, last: int, venue: Venue, gate: asyncio.Barrier) -> None:
        super().__init__(SYMBOLS, clock, last, prices=venue.prices)
        self.gate = gate

    async def rows(self, after: str) -> AsyncIterator[BarRow]:
        """The bars after a stamp."""
        async for row in super().rows(after):
            try:
                await asyncio.wait_for(self.gate.wait(), 5.0)
            except (asyncio.BrokenBarrierError, TimeoutError):
                pass  # the other has ended
            yield row


def rules() -> Rules:
    """The same for both hosts."""
    return Rules(NAME, SYMBOLS, BAR, LIMITS, SendingParameters(settle_seconds=6.0, decide_within=0.9), simulated=False)


def halted_at(path: Path) -> float | None:
    """Bar at which a journal was halted."""
    with JournalReader(path) as reader:
        found = [stored.event for stored in reader.events(kinds=("halted",))]
    return (found[0].at - START) / BAR if found else None


def doubled(venue: Venue) -> list[float]:
    """Bars whose order was executed more than once."""
    filled = Counter[str]()
    for one in venue.executions:
        filled[one.order] += abs(one.shares)
    asked = {order.id: abs(order.shares) for order in venue.book}
    often = {key for key, shares in filled.items() if shares > asked[key] + 1e-9}
    return sorted({(one.at - START) // BAR for one in venue.executions if one.order in often})


async def without_lease(kind: str, bars: int, folder: Path) -> dict[str, Any]:
    """Let both hosts trade."""
    clock, gate = ReplayClock(START), asyncio.Barrier(2)
    venue = Venue(kind=kind, cash=100_000.0)
    paths = [folder / f"{kind}_{host}.sqlite" for host in "ab"]
    journals = [Journal(path) for path in paths]
    traders = [
        Trader(
            rules(),
            journal,
            MemoryBroker(venue, clock),
            PairedFeed(clock, bars, venue, gate),
            StubDecider(NAME, SYMBOLS),
            clock,
        )
        for journal in journals
    ]
    states = await asyncio.gather(*(trader.run() for trader in traders))
    for journal in journals:
        journal.close()
    twice = doubled(venue)
    return {
        "bars": bars,
        "executions": len(venue.executions),
        "posts": sum(venue.posts.values()),
        "orders": len(venue.posts),
        "bars_with_doubled_orders": twice,
        "modes": [state.mode for state in states],
        "halted_at_bar": [halted_at(path) for path in paths],
    }


class Cut:
    """Breaks the connection of the lease's holder at some bars."""

    def __init__(self, lease: Lease, address: str) -> None:
        self.lease, self.address = lease, address

    def now(self) -> None:
        """Let the server end it."""
        import psycopg  # noqa: PLC0415

        pid = self.lease._connection.info.backend_pid
        with psycopg.connect(self.address, autocommit=True) as connection:
            connection.execute("select pg_terminate_backend(%s)", (pid,))


class CutFeed(StubFeed):
    """A feed at whose bars the holder loses its connection."""

    def __init__(self, clock: ReplayClock, last: int, venue: Venue, cut: Cut) -> None:
        super().__init__(SYMBOLS, clock, last, prices=venue.prices)
        self.cut = cut

    async def rows(self, after: str) -> AsyncIterator[BarRow]:
        """The bars after a stamp."""
        async for row in super().rows(after):
            bar = round((seconds_of(row.stamp) - START) / BAR)
            if bar % CUT == 0:
                self.cut.now()
            yield row


async def with_lease(kind: str, bars: int, folder: Path, address: str) -> dict[str, Any]:
    """Let one host trade; each time that it loses its connection the other one takes over a copy of its journal."""
    clock, venue = ReplayClock(START), Venue(kind=kind, cash=100_000.0)
    hosts, losses, refusals, epochs = "ab", 0, 0, []
    path = folder / f"lease_{kind}_a.sqlite"
    holder, state = 0, None
    while True:
        lease, other = Lease(SecretStr(address), NAME), Lease(SecretStr(address), NAME)
        epochs.append(lease.take())
        try:
            other.take()
        except LeaseError:
            refusals += 1
        try:
            with Journal(path) as journal:
                feed = CutFeed(clock, bars, venue, Cut(lease, address))
                broker = LeasedBroker(MemoryBroker(venue, clock), lease)
                state = await Trader(rules(), journal, broker, feed, StubDecider(NAME, SYMBOLS), clock).run()
            break
        except LeaseError:
            losses, holder = losses + 1, 1 - holder
            after = folder / f"lease_{kind}_{losses}{hosts[holder]}.sqlite"
            for end in ("", "-wal"):
                if path.with_name(path.name + end).exists():
                    shutil.copy(path.with_name(path.name + end), after.with_name(after.name + end))
            path = after
        finally:
            lease.close()
            other.close()
    return {
        "bars": bars,
        "takeovers": losses,
        "refused_while_held": refusals,
        "epochs": epochs,
        "executions": len(venue.executions),
        "bars_with_doubled_orders": doubled(venue),
        "mode": None if state is None else state.mode,
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bars", type=int, default=200)
    parser.add_argument("--postgres", help="Address of a database, such as postgresql://postgres@127.0.0.1/postgres.")
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        found: dict[str, Any] = {
            kind: asyncio.run(without_lease(kind, options.bars, Path(scratch)))
            for kind in ("unique_for_ever", "unique_open")
        }
        if options.postgres:
            found["lease"] = {
                kind: asyncio.run(with_lease(kind, options.bars, Path(scratch), options.postgres))
                for kind in ("unique_for_ever", "unique_open")
            }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
