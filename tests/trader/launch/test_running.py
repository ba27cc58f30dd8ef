"""One run of a trader from its parts, and what a person is told before."""

import asyncio
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
import stub_agents
from memory_venue import MemoryBroker, Venue
from stub_agents import BAR, START, StubDecider, StubFeed, row

from sentio_kedro.config.live.trader import TraderParameters
from sentio_kedro.trader.brokers.simulated import SimulatedBroker
from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.launch import build, running
from sentio_kedro.trader.launch.build import Parts


def parts_of(broker=SimulatedBroker, **given):
    clock = ReplayClock(START)
    return Parts(
        SimpleNamespace(name="stub"),
        StubDecider("t", ("A", "B")),
        StubFeed(("A", "B"), clock, 2),
        broker(clock),
        clock,
        BAR,
        **given,
    )


def test_a_feed_is_stale_by_the_sessions_of_the_exchange(tmp_path, monkeypatch):
    made = []

    class Noting(running.Trader):
        def __init__(self, *parts, sessions, **options):
            made.append(sessions)
            super().__init__(*parts, sessions=sessions, **options)

    monkeypatch.setattr(running, "Trader", Noting)
    asyncio.run(running.trade(TraderParameters(), parts_of(calendar="XNYS"), tmp_path / "t.sqlite", {}))
    assert [made[0].is_open(START + hours * 3_600.0) for hours in (0, 12)] == [True, False]


def test_the_orders_of_now_are_those_of_the_venues_account():
    venue = Venue(cash=1_000.0, prices={"A": 100.0, "B": 100.0}, shares={"A": 3.0, "OTHER": 1.0})
    parts = parts_of(lambda clock: MemoryBroker(venue, clock))
    found = asyncio.run(running.examine(TraderParameters(), parts))
    decision = StubDecider("t", ("A", "B")).start(stub_agents.frame([row(0, ("A", "B"))]), None, frozenset())
    assert decision.orders == {"A": -20.0, "B": 10.0}
    assert {order["symbol"]: order["shares"] for order in found["orders"]} == {"A": -23.0, "B": 10.0}
    assert (found["cash"], found["shares"]) == (1_000.0, {"A": 3.0, "OTHER": 1.0})


class Endless(StubFeed):
    """A live feed: after its bars the system asks the process to stop while the next one is waited for."""

    async def rows(self, after):
        async for one in super().rows(after):
            yield one
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()


class LiveClock:
    """A clock that goes on while somebody waits, and that no replay moves."""

    def __init__(self):
        self.time = START

    def now(self):
        return self.time

    async def wait_until(self, when):
        self.time = max(self.time, when)
        await asyncio.sleep(0)


def test_a_process_that_is_asked_to_stop_ends_in_peace_and_goes_on_later(tmp_path):
    def traded(feed, last):
        clock = LiveClock()
        live = replace(parts_of(), clock=clock, feed=feed(("A", "B"), clock, last), broker=SimulatedBroker(clock))
        return asyncio.run(running.trade(TraderParameters(), live, tmp_path / "t.sqlite", {}))

    assert traded(Endless, 2).closed == row(2, ("A", "B")).stamp
    later = traded(StubFeed, 4)
    assert (later.started, later.closed) == (2, row(4, ("A", "B")).stamp)


def test_agents_of_an_earlier_fold_do_not_replay_the_last_block():
    build.require_last_fold(3, [0, 1, 2, 3])
    with pytest.raises(ValueError, match="the last test block, of fold 3, and the agents are of fold 1"):
        build.require_last_fold(1, [0, 1, 2, 3])
