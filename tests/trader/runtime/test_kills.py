"""A kill at every boundary: what SIGKILL leaves are the files and the venue, so both are copied there and gone on from.

Nothing of the process survives: no ``finally`` runs, no transaction is rolled back by hand.
"""

import asyncio
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from memory_venue import KINDS, Faults, MemoryBroker, Venue
from stub_agents import BAR, START, StubDecider, StubFeed

from sentio_kedro.config.live.trader import SendingParameters, TraderLimits
from sentio_kedro.trader.brokers.simulated import SimulatedBroker
from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.journal.store import Journal, JournalReader
from sentio_kedro.trader.runtime import Trader, venue
from sentio_kedro.trader.state import Rules

SYMBOLS = ("A", "B")
BARS = 2
LIMITS = TraderLimits(orders_per_minute=1_000, turnover_per_day=1_000.0)
SENDING = SendingParameters(settle_seconds=6.0, decide_within=0.9)
LOST = {"lost_answer": 0.3, "lost_request": 0.3}


@dataclass
class World:
    """All that outlives a process: the venue, the time, and the journal's files by the ends of their names."""

    kind: str
    venue: Venue
    faults: Faults
    now: float
    files: dict[str, bytes]
    boundary: str = ""


def opened(kind, faults=()):
    kinds = kind if kind in KINDS else "unique_for_ever"
    return World(kind, Venue(kind=kinds, cash=100_000.0), Faults(share=dict(faults), seed=3), START, {})


def go_on(world, path, last, boundary=lambda name, clock: None):
    """Run a trader on what is there; returns its last state and its facts as ``(kind, key, body)``."""
    for suffix, content in world.files.items():
        path.with_name(path.name + suffix).write_bytes(content)
    clock = ReplayClock(world.now)
    simulated = world.kind == "simulated"
    broker = SimulatedBroker(clock) if simulated else MemoryBroker(world.venue, clock, world.faults)
    rules = Rules("kills", SYMBOLS, BAR, LIMITS, SENDING, simulated=simulated)
    feed = StubFeed(SYMBOLS, clock, last, prices=world.venue.prices)
    with Journal(path) as journal:
        decider = StubDecider("kills", SYMBOLS)
        trader = Trader(rules, journal, broker, feed, decider, clock, boundary=lambda name: boundary(name, clock))
        state = asyncio.run(trader.run())
        with JournalReader(path) as reader:
            facts = [(one.event.kind, one.event.key, one.event.body) for one in reader.events()]
    return state, facts


def killed_everywhere(kind, folder, last, faults=()):
    """Run once and copy the world at each boundary."""
    world, path, copies = opened(kind, faults), folder / "whole.sqlite", []

    def copy(name, clock):
        files = {end: other.read_bytes() for end in ("", "-wal") if (other := path.with_name(path.name + end)).exists()}
        venue = replace(world.venue, time=lambda: 0.0)  # the clock is the process's
        copies.append(deepcopy(World(kind, venue, world.faults, clock.now(), files, name)))

    return go_on(world, path, last, copy), world, copies


def told(facts, *kinds):
    return sorted((kind, key) for kind, key, _ in facts if kind in kinds)


@pytest.fixture
def shm():
    """A folder in memory: a kill of the process, unlike one of the machine, loses nothing that was written."""
    memory = Path("/dev/shm")  # noqa: S108
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def sums(world):
    return sorted((one.order, one.symbol, one.shares, one.price) for one in world.venue.executions)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_any_boundary_loses_and_doubles_nothing(kind, shm):
    clean_state, _ = go_on(clean := opened(kind), shm / "clean.sqlite", BARS)
    (state, facts), world, copies = killed_everywhere(kind, shm, BARS, LOST)
    assert set(world.faults.counts) == set(LOST)
    assert len({copy.boundary for copy in copies}) >= 38
    assert max(Counter(one.order for one in clean.venue.executions).values()) == 1
    for number, copied in enumerate([None, *copies]):
        where = "no kill" if copied is None else f"{number}: {copied.boundary}"
        if copied is not None:
            world = copied
            state, facts = go_on(copied, shm / f"{number}.sqlite", BARS)
        assert sums(world) == sums(clean), where
        assert told(facts, "filled") == sorted(("filled", one.id) for one in world.venue.executions), where
        assert (state.mode, state.cash, state.shares) == ("active", clean_state.cash, clean_state.shares), where
        assert (state.cash, state.shares) == (world.venue.cash, world.venue.shares), where
        assert state.closed == clean_state.closed and not state.orders, where


def test_a_simulated_run_killed_at_any_boundary_repeats_the_uninterrupted_one_to_the_bit(shm):
    (state, facts), _, copies = killed_everywhere("simulated", shm, BARS)
    kinds = ("bar", "decided", "intended", "accepted", "filled", "closed_bar")
    expected = [fact for fact in facts if fact[0] in kinds]
    assert {fact[0] for fact in expected} == set(kinds)
    for number, copied in enumerate(copies):
        again, repeated = go_on(copied, shm / f"{number}.sqlite", BARS)
        where = f"{number}: {copied.boundary}"
        assert [fact for fact in repeated if fact[0] in kinds] == expected, where
        assert (again.mode, again.cash, again.shares) == ("active", state.cash, state.shares), where


def resend_without_asking(monkeypatch):
    """Put the fault in: an order without an answer is sent again in place of the question for it."""
    find = venue.Venue.find

    async def resend(self, order):
        one = self._book.state.orders.get(order.id)
        if one is None or one.accepted:
            return await find(self, order)
        return await self.post(order, one.posts + 1)

    monkeypatch.setattr(venue.Venue, "find", resend)


@pytest.mark.parametrize(("kind", "doubles"), [("unique_open", True), ("unique_for_ever", False)])
def test_sending_again_without_asking_doubles_orders_where_ids_are_unique_among_open_ones(
    kind, doubles, shm, monkeypatch
):
    _, _, copies = killed_everywhere(kind, shm, 1)
    resend_without_asking(monkeypatch)
    most = 0
    for number, copied in enumerate(copies):
        if copied.boundary in ("after submit", "before journal accepted"):
            go_on(copied, shm / f"{number}.sqlite", 1)
            most = max(most, *Counter(one.order for one in copied.venue.executions).values())
    assert most == (2 if doubles else 1)
