"""Without the lease no order is sent; benchmarks/trader_split_brain.py takes one from a real PostgreSQL."""

import asyncio

import pytest
from memory_venue import MemoryBroker, Venue
from pydantic import SecretStr

from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.lease import Lease, LeasedBroker, LeaseError
from sentio_kedro.trader.orders import Order

ADDRESS = "postgresql://trader:hidden@127.0.0.1:1/none"  # nobody listens


def test_a_database_that_does_not_answer_is_no_lease_and_its_password_is_not_told():
    with pytest.raises(LeaseError, match="its database does not answer") as refused:
        Lease(SecretStr(ADDRESS), "one").take()
    assert "hidden" not in str(refused.value)
    assert refused.value.__cause__ is None


class Lost:
    """A lease that another host took."""

    def require(self):
        raise LeaseError("taken")


def test_a_lost_lease_stops_the_trader_before_the_order():
    venue, clock = Venue(prices={"A": 1.0}), ReplayClock()
    broker = LeasedBroker(MemoryBroker(venue, clock), Lost())
    with pytest.raises(LeaseError, match="taken"):
        asyncio.run(broker.submit(Order("x", "2026-01-02T00:00:00Z", "A", 1.0, 1.0)))
    assert (venue.posts, broker.name, asyncio.run(broker.account_id())) == ({}, "memory", "memory-1")
