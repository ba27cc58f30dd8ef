import asyncio

import pytest
from memory_venue import DuplicateError, Faults, MemoryBroker, Venue

from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.contract import Broker
from sentio_kedro.trader.orders import Order, UnreadableError


def _order(id: str = "a", shares: float = 10.0) -> Order:
    return Order(id, "2026-01-02T15:30:00Z", "AAA", shares, 100.0)


def _venue(kind: str = "unique_open", **kwargs: object) -> Venue:
    return Venue(kind=kind, prices={"AAA": 100.0}, **kwargs)  # type: ignore[arg-type]


def test_a_filled_id_is_refused_for_ever_by_one_kind_and_executed_again_by_the_other() -> None:
    for kind, expected in (("unique_for_ever", 10.0), ("unique_open", 20.0), ("blind", 20.0)):
        venue = _venue(kind)
        venue.submit("a", "AAA", 10.0)
        try:
            venue.submit("a", "AAA", 10.0)
        except DuplicateError:
            assert kind == "unique_for_ever"
        assert venue.shares == {"AAA": expected}
        assert venue.cash == 100_000.0 - 100.0 * expected
        assert len({fill.id for fill in venue.executions}) == len(venue.executions)


def test_an_open_id_is_refused_by_both() -> None:
    for kind in ("unique_for_ever", "unique_open"):
        venue = _venue(kind, at_once=0.0)
        venue.submit("a", "AAA", 10.0)
        with pytest.raises(DuplicateError):
            venue.submit("a", "AAA", 10.0)


def test_a_blind_venue_does_not_see_an_order_for_two_seconds() -> None:
    clock = ReplayClock(100.0)
    broker: Broker = MemoryBroker(_venue("blind"), clock)
    assert asyncio.run(broker.submit(_order())).kind == "accepted"
    assert asyncio.run(broker.find(_order())) is None
    clock.set(102.0)
    found = asyncio.run(broker.find(_order()))
    assert found is not None
    assert (found.filled, found.status) == (10.0, "filled")


def test_faults_come_by_script_and_by_seed() -> None:
    clock = ReplayClock(100.0)
    faults = Faults(script=[("submit", "lost_answer"), ("find", "unreadable"), ("submit", "slow_request")], seconds=4.0)
    broker = MemoryBroker(_venue(), clock, faults)
    assert asyncio.run(broker.submit(_order())).kind == "unknown"
    assert broker.venue.shares == {"AAA": 10.0}
    with pytest.raises(UnreadableError):
        asyncio.run(broker.find(_order()))
    assert asyncio.run(broker.submit(_order("b"))).kind == "unknown"
    assert asyncio.run(broker.find(_order("b"))) is None
    clock.set(104.0)
    assert asyncio.run(broker.find(_order("b"))) is not None
    drawn = Faults(share={"lost_answer": 0.1}, seed=3)
    assert 60 < sum(drawn.next("submit") == "lost_answer" for _ in range(1_000)) < 140


def test_splits_dividends_and_strangers_move_the_account() -> None:
    venue = _venue(at_once=0.5)
    venue.submit("a", "AAA", 10.0)
    venue.dividend("AAA", 2.0)
    venue.split("AAA", 2.0)
    assert venue.shares == {"AAA": 10.0}
    assert venue.prices == {"AAA": 50.0}
    assert venue.cash == 100_000.0 - 500.0 + 10.0
    assert [order.status for order in venue.book] == ["cancelled"]
    venue.stranger("AAA", -10.0)
    assert venue.shares == {}
    assert venue.executions[-1].order == ""
