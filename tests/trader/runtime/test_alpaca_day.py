"""A day of half hours at a fake of Alpaca: real clients, feed, broker, journal and trader; every answer may be lost."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from fake_alpaca import NEW_YORK, FakeAlpaca, iso, serving
from pydantic import SecretStr
from stub_agents import START, StubDecider

from sentio_kedro.config.live.trader import BrokerParameters, FeedParameters, SendingParameters, TraderLimits
from sentio_kedro.trader.brokers.alpaca_markets import AlpacaBroker
from sentio_kedro.trader.clock import seconds_of
from sentio_kedro.trader.feeds.alpaca_stream import AlpacaFeed
from sentio_kedro.trader.journal.store import Journal, JournalReader
from sentio_kedro.trader.runtime import Trader
from sentio_kedro.trader.state import Rules

SYMBOLS, LENGTH = ("AAA", "BBB"), 1800.0
KEYS = {"api_key": SecretStr("PKTESTKEY"), "secret_key": SecretStr("never-to-be-shown")}
LIMITS = TraderLimits(orders_per_minute=1_000, turnover_per_day=1_000.0)
SENDING = SendingParameters(settle_seconds=6.0, timeout_seconds=30.0)
LOST = ("504 before", "504 after", "429", "reset", "reset after", "html after", "truncated", "empty", "500", "503")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp()


class Pace:
    """Time that goes on to the earliest wait once no request is under way, and takes the venue with it."""

    def __init__(self, venue: FakeAlpaca) -> None:
        self.venue, self.time, self.waits, self.asked = venue, venue.now, list[float](), 0

    def now(self) -> float:
        return self.time

    async def wait_until(self, when: float) -> None:
        self.waits.append(when)
        idle = 0
        try:
            while self.time < when:
                await asyncio.sleep(0)
                idle = 0 if self.asked else idle + 1
                if idle > 20 and when == min(self.waits):
                    self.time = when
                    self.venue.move(when)
                    for symbol, rows in self.venue.bars["30Min"].items():
                        self.venue.prices[symbol] = max(
                            (row["t"], row["c"]) for row in rows if row["t"] <= iso(when - LENGTH)
                        )[1]
        finally:
            self.waits.remove(when)

    def counting(self, ask: Any) -> Any:
        async def counted(*arguments: Any) -> Any:
            self.asked += 1
            try:
                return await ask(*arguments)
            finally:
                self.asked -= 1

        return counted


class Wanting(StubDecider):
    """Wants other positions at each half hour."""

    def wanted(self, stamp: str) -> dict[str, float]:
        bar = round((seconds_of(stamp) - START) / LENGTH)
        return {symbol: 10.0 * ((bar * 7 + j * 3) % 5 - 2) for j, symbol in enumerate(self.symbols)}


class Day(AlpacaFeed):
    """Ends with the session."""

    async def rows(self, after: str) -> Any:
        async for row in super().rows(after):
            yield row
            if row.stamp >= "2026-01-06T21:00:00Z":
                return


@pytest.fixture(scope="module")
def server() -> Any:
    with serving(FakeAlpaca()) as venue:
        yield venue


def trade(venue: FakeAlpaca, path: Any, faults: dict[str, list[str]], monkeypatch: Any) -> Any:
    venue.reset(at("2026-01-06 09:00"))
    for day in ("2026-01-05", "2026-01-06"):
        for number, begin in enumerate(range(int(at(f"{day} 09:30")), int(at(f"{day} 16:00")), 1800)):
            for offset, symbol in enumerate(SYMBOLS):
                close = 100.0 + 50 * offset + number % 3 / 4
                row = {"t": datetime.fromtimestamp(begin, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "c": close, "v": 1e5}
                venue.bars["30Min"][symbol].append({**row, "o": close, "h": close, "l": close})
    venue.prices = {"AAA": 100.0, "BBB": 150.0}
    for where, list_ in faults.items():
        venue.script[where] += list_
    clock = Pace(venue)
    monkeypatch.setattr("stub_agents.BAR", LENGTH)
    monkeypatch.setattr("asyncio.to_thread", clock.counting(asyncio.to_thread))

    async def run() -> Any:
        broker = AlpacaBroker(
            BrokerParameters(type="alpaca", url=venue.url), SENDING, KEYS, paper=True, bar_seconds=LENGTH, clock=clock
        )
        broker._calls.ask = clock.counting(broker._calls.ask)
        feed = Day(FeedParameters(type="alpaca", url=venue.url), SYMBOLS, "30m", KEYS, clock)
        lattices = await broker.lattices(SYMBOLS)
        rules = Rules("paper", SYMBOLS, LENGTH, LIMITS, SENDING, lattices, broker.crosses_zero, simulated=False)
        with Journal(path) as journal:
            decider = Wanting("paper", SYMBOLS)
            try:
                return await Trader(rules, journal, broker, feed, decider, clock).run(), decider
            finally:
                await feed.close()
                await broker.close()

    return asyncio.run(asyncio.wait_for(run(), 60))


def facts(path: Any, *kinds: str) -> list[Any]:
    with JournalReader(path) as reader:
        return [one.event for one in reader.events(kinds=kinds)]


def test_a_day_at_alpaca_with_lost_answers_loses_and_doubles_nothing(server, tmp_path, monkeypatch):
    faults = {
        "POST /v2/orders": [one for fault in LOST for one in (fault, "", "")],
        "GET /v2/orders:by_client_order_id": ["504 before", "", "html", "", "", "reset", ""],
        "GET /v2/account/activities": ["", "", "", "429", "", "", "truncated"],
        "GET /v2/stocks/bars": ["", "", "504 before", "", "html"],
        "GET /v2/clock": ["", "", "504 before", "reset", "", "html", "429"],
    }
    path = tmp_path / "lost.sqlite"
    state, decider = trade(server, path, faults, monkeypatch)
    assert not [where for where in faults if server.script[where]]
    assert (state.mode, state.reason) == ("active", "")
    assert (state.cash, dict(state.shares)) == (pytest.approx(server.cash, abs=0.005), server.positions)
    last = decider.wanted("2026-01-06T20:30:00Z")  # what is ordered at the close waits for the next day
    assert {symbol: server.positions.get(symbol, 0.0) for symbol in SYMBOLS} == last
    ids = [one["client_order_id"] for one in server.orders.values()]
    assert len(ids) == len(set(ids)) > 15
    assert {one.key for one in facts(path, "filled")} == {one["id"] for one in server.activities}
    assert len(facts(path, "unknown")) >= len(LOST)
