"""Everything is closed by the venue alone, whatever it loses of what is said to it, and nothing is turned."""

import asyncio

import pytest
from memory_venue import Faults, MemoryBroker, Venue

from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.flatten import flatten
from sentio_kedro.trader.orders import Lattice


def venue(**given):
    return Venue(cash=1_000.0, prices={"A": 10.0, "B": 20.0}, shares={"A": 30.0, "B": -5.0}, **given)


def flattened(held, faults=None, **options):
    clock = ReplayClock(1_000.0)
    return asyncio.run(flatten(MemoryBroker(held, clock, faults), clock, "emergency", **options))


def test_orders_are_cancelled_and_positions_closed_within_seconds():
    held = venue()
    held.at_once = 0.0
    held.stranger("A", 7.0, fills=False, id="older")
    held.at_once = 1.0
    done = flattened(held)
    assert (done.flat, done.left, done.held) == (True, {}, {"A": 30.0, "B": -5.0})
    assert done.seconds <= 5.0
    assert not held.open_orders()
    assert not any(held.shares.values())


@pytest.mark.parametrize("kind", ["unique_for_ever", "unique_open", "blind"])
@pytest.mark.parametrize("seed", range(4))
def test_lost_answers_and_requests_turn_no_position(kind, seed):
    held = venue(kind=kind)
    sides = {symbol: shares > 0.0 for symbol, shares in held.shares.items()}
    faults = Faults(share={"lost_answer": 0.3, "lost_request": 0.3, "unreadable": 0.2}, seed=seed)
    done = flattened(held, faults)
    assert done.flat
    traded = {symbol: sum(f.shares for f in held.executions if f.symbol == symbol) for symbol in sides}
    assert traded == {"A": -30.0, "B": 5.0}


class Thin(MemoryBroker):
    """Fills half of the first two orders."""

    async def submit(self, order):
        self.venue.at_once = 0.5 if sum(self.venue.posts.values()) < 2 else 1.0
        return await super().submit(order)


def test_an_order_filled_in_part_is_followed_by_one_for_the_rest():
    held, clock = venue(rest="expires"), ReplayClock(1_000.0)
    done = asyncio.run(flatten(Thin(held, clock), clock, "emergency"))
    traded = [(fill.symbol, fill.shares) for fill in held.executions]
    assert (done.flat, traded) == (True, [("A", -15.0), ("B", 2.5), ("A", -15.0), ("B", 2.5)])


def test_a_named_symbol_is_closed_alone():
    held = venue()
    done = flattened(held, symbols=["B"])
    assert (done.flat, done.held, held.shares["A"]) == (True, {"B": -5.0}, 30.0)


def test_what_the_venue_refuses_is_told_and_left():
    held = venue(refuse=["no such market"] * 1_000)
    done = flattened(held)
    assert (done.flat, done.left) == (False, {"A": 30.0, "B": -5.0})
    assert done.problems == ("A: no such market", "B: no such market")
    assert sum(held.posts.values()) == 20  # then it is no use


def test_orders_that_wait_for_the_open_are_left_there():
    held = venue(at_once=0.0)
    done = flattened(held, seconds=3.0)
    assert (done.flat, len(held.open_orders())) == (False, 2)
    assert sum(held.posts.values()) == 2


class TimedOut(MemoryBroker):
    """Gives up a request after 5 s, which reaches the venue a second later."""

    async def submit(self, order):
        outcome = await super().submit(order)
        if outcome.kind == "unknown":
            await self.clock.wait_until(self.clock.now() + 5.0)
        return outcome


def test_an_order_that_arrives_after_its_time_limit_is_waited_for():
    held, clock = venue(), ReplayClock(1_000.0)
    faults = Faults(script=[("submit", "slow_request")], seconds=6.0)
    done = asyncio.run(flatten(TimedOut(held, clock, faults), clock, "emergency", symbols=["A"]))
    assert (done.flat, [fill.shares for fill in held.executions]) == (True, [-30.0])


def test_what_is_less_than_any_order_stays_and_is_told():
    """A commission in coins leaves such a rest at an exchange."""
    held = venue(lattices={"A": Lattice(least=31.0), "B": Lattice(step=1.0)})
    done = flattened(held)
    assert (done.flat, done.left, held.shares["A"]) == (True, {}, 30.0)
    assert done.problems == ("A: 30 is less than any order, and stays",)
