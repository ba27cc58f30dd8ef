"""The feed of Alpaca by the real clients against a fake of the vendor."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pandas as pd
import pytest
from fake_alpaca import NEW_YORK, FakeAlpaca, serving
from pydantic import SecretStr

from sentio_kedro.config.live.trader import FeedParameters
from sentio_kedro.trader.clock import ReplayClock, seconds_of, stamp_of
from sentio_kedro.trader.contract import BarRow
from sentio_kedro.trader.feeds.alpaca_stream import AlpacaFeed, inside
from sentio_kedro.trader.feeds.assembly import in_sessions
from sentio_kedro.trader.orders import UnreadableError
from sentio_kedro.vendors import open_vendor

KEYS = {"api_key": "PKTESTKEY", "secret_key": "never-to-be-shown"}
FRAMES = {"1m": "1Min", "30m": "30Min", "1h": "1Hour", "1d": "1Day"}
SYMBOLS = ("AAA", "BBB")
SESSIONS = cache(in_sessions)
BARS = "GET /v2/stocks/bars"


def at(text: str) -> float:
    """A time of New York."""
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp()


def bar(begin: float, close: float) -> dict[str, Any]:
    """A bar as the vendor tells it."""
    prices = {"o": close - 0.5, "h": close + 1.0, "l": close - 1.0, "c": close, "v": 100.0 * close}
    return {"t": datetime.fromtimestamp(begin, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), **prices}


class VenueClock(ReplayClock):
    """A clock that takes the venue with it, ``ahead`` of it."""

    def __init__(self, venue: FakeAlpaca, ahead: float = 0.0) -> None:
        super().__init__(venue.now + ahead)
        self.venue, self.ahead = venue, ahead

    def set(self, when: float) -> None:
        super().set(when)
        self.venue.now = self.now() - self.ahead


class HandClock(VenueClock):
    """A clock that the test moves; who waits, waits."""

    def __init__(self, venue: FakeAlpaca) -> None:
        super().__init__(venue)
        self.waits: list[tuple[float, asyncio.Future[None]]] = []

    async def wait_until(self, when: float) -> None:
        wait = asyncio.get_running_loop().create_future()
        self.waits.append((when, wait))
        self.move(self.now())
        await wait

    def move(self, when: float) -> None:
        self.set(when)
        for due, wait in self.waits:
            if due <= when and not wait.done():
                wait.set_result(None)
        self.waits = [one for one in self.waits if not one[1].done()]


@pytest.fixture(autouse=True)
def sessions(monkeypatch) -> None:
    """Load the calendar once for all tests."""
    monkeypatch.setattr("sentio_kedro.trader.feeds.alpaca_stream.in_sessions", SESSIONS)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeAlpaca]:
    with serving(FakeAlpaca()) as venue:
        yield venue


@pytest.fixture
def venue(server: FakeAlpaca) -> FakeAlpaca:
    """A Tuesday before the session; bars of each length on Monday and Tuesday, from 4:00 to 20:00."""
    server.reset(at("2026-01-06 09:00"))
    for name, length in (("30Min", 1800), ("1Hour", 3600), ("1Min", 60)):
        for day in ("2026-01-05", "2026-01-06"):
            begins = range(int(at(f"{day} 04:00")), int(at(f"{day} 20:00")), length)
            for number, begin in enumerate(begins):
                for offset, symbol in enumerate(SYMBOLS):
                    server.bars[name][symbol].append(bar(begin, 100.0 + number / 8 + 50 * offset))
    days = [one for one in pd.date_range("2025-12-22", "2026-01-06") if one.dayofweek < 5 and f"{one:%m%d}" != "1225"]
    for number, day in enumerate(days):
        for offset, symbol in enumerate(SYMBOLS):
            server.bars["1Day"][symbol].append(bar(at(f"{day:%Y-%m-%d}"), 100.0 + number + 50 * offset))
    return server


def feed(
    venue: FakeAlpaca, clock: ReplayClock, interval: str = "30m", timeout: float = 30.0, **changes: Any
) -> AlpacaFeed:
    secrets = {name: SecretStr(key) for name, key in KEYS.items()}
    parameters = FeedParameters(**{"type": "alpaca", "url": venue.url, **changes})
    return AlpacaFeed(parameters, SYMBOLS, interval, secrets, clock, timeout_seconds=timeout)


async def following(source: AlpacaFeed, after: str, count: int) -> list[BarRow]:
    found = []
    async with aclosing(source.rows(after)) as rows:
        async for row in rows:
            found.append(row)
            if len(found) == count:
                break
    return found


def follow(venue: FakeAlpaca, after: str, count: int, interval: str = "30m", ahead: float = 0.0, **changes: Any) -> Any:
    async def run() -> Any:
        source = feed(venue, VenueClock(venue, ahead), interval, **changes)
        try:
            return await following(source, after, count), source.notes()
        finally:
            await source.close()

    return asyncio.run(run())


def stamps(rows: list[BarRow]) -> list[str]:
    return [row.stamp[5:16] for row in rows]


def test_complete_bars_of_the_session_come_once_in_order(venue):
    rows, notes = follow(venue, "2026-01-06T14:30:00Z", 13)
    assert stamps(rows) == [f"01-06T{15 + half // 2}:{half % 2 * 30:02}" for half in range(13)]
    assert notes == []
    assert {tuple(row.bars) for row in rows} == {SYMBOLS}
    truth = next(one for one in venue.bars["30Min"]["BBB"] if one["t"] == "2026-01-06T14:30:00Z")
    assert rows[0].bars["BBB"] == {
        **dict(zip(("open", "high", "low", "close", "volume"), (truth[name] for name in "ohlcv"), strict=True)),
        "dividend": 0.0,
        "split": 1.0,
    }
    assert {row.source for row in rows} == {"alpaca-iex-30m"}
    assert rows[0].arrived == pytest.approx(seconds_of(rows[0].stamp) + 2.0)


@pytest.mark.parametrize("interval", ["30m", "1h", "1d"])
def test_rows_history_and_downloads_are_the_same_bars(venue, interval):
    venue.corporate = {
        "cash_dividends": [{"symbol": "AAA", "rate": 0.25, "ex_date": "2026-01-06"}],
        "forward_splits": [{"symbol": "BBB", "new_rate": 3, "old_rate": 1, "ex_date": "2026-01-06"}],
    }
    rows, _ = follow(venue, "2026-01-05T21:00:00Z" if interval != "1d" else "2026-01-06T00:00:00Z", 1, interval)
    venue.now = at("2026-01-07 01:00")
    downloaded = open_vendor("alpaca.iex", interval, keys=KEYS, url=venue.url, per_minute=60_000)
    begin, end = pd.Timestamp("2025-12-22", tz="UTC"), pd.Timestamp("2026-01-07T02:00", tz="UTC")
    history = asyncio.run(feed(venue, VenueClock(venue), interval).history(4))
    truth = inside(pd.concat(downloaded.fetch(list(SYMBOLS), begin, end)), pd.DatetimeIndex(history["timestamp"]))
    merged = history.merge(truth, how="inner", on=list(truth.columns))
    assert len(merged) == len(history) >= 8
    row = rows[0]
    kept = truth[truth["timestamp"] == pd.Timestamp(row.stamp)].set_index("symbol").drop(columns="timestamp")
    assert {symbol: dict(values) for symbol, values in kept.T.to_dict().items()} == row.bars
    assert (row.bars["AAA"]["dividend"], row.bars["BBB"]["split"]) == (0.25, 3.0)
    assert downloaded.source == row.source == f"alpaca-iex-{interval}"


def test_bars_of_days_bear_the_midnight_after_their_date_and_history_is_long_enough(venue):
    venue.now = at("2026-01-06 09:00")
    history = asyncio.run(feed(venue, VenueClock(venue), "1d").history(5))
    days = ["2025-12-31", "2026-01-01", "2026-01-03", "2026-01-06"]  # the midnights after sessions
    assert [f"{one:%Y-%m-%d}" for one in sorted(set(history["timestamp"]))][-4:] == days
    assert history["timestamp"].nunique() >= 5
    rows, _ = follow(venue, "2026-01-06T00:00:00Z", 1, "1d")
    assert stamps(rows) == ["01-07T00:00"]
    assert rows[0].bars["AAA"]["close"] == venue.bars["1Day"]["AAA"][-1]["c"]


def test_dividends_and_splits_of_bars_outside_sessions_move_on():
    ends = pd.to_datetime(["2026-01-06T13:00Z", "2026-01-06T13:30Z", "2026-01-06T15:00Z", "2026-01-06T15:30Z"])
    bars = pd.DataFrame({"timestamp": ends, "symbol": "AAA", "close": 1.0})
    bars = bars.assign(dividend=[1.0, 2.0, 4.0, 0.0], split=[2.0, 5.0, 10.0, 1.0])
    kept = inside(bars, pd.DatetimeIndex(ends[2:]))
    assert kept["split"].tolist() == [100.0, 1.0]
    assert kept["dividend"].tolist() == [4.0 + 2.0 / 10.0 + 1.0 / 50.0, 0.0]
    assert inside(bars, pd.DatetimeIndex([])).empty


def test_pages_are_read_to_the_end(venue):
    venue.page = 3
    rows, _ = follow(venue, "2026-01-05T14:30:00Z", 13)
    assert stamps(rows) == [f"01-05T{15 + half // 2}:{half % 2 * 30:02}" for half in range(13)]


def test_an_open_candle_is_not_a_bar_by_the_vendors_clock(venue):
    venue.now = at("2026-01-06 09:59:50")
    rows, _ = follow(venue, "2026-01-06T14:30:00Z", 1, ahead=8.0)  # ours says 9:59:58, and 10:00:02 when it asks
    assert stamps(rows) == ["01-06T15:00"]
    assert rows[0].arrived >= at("2026-01-06 10:00") + 8.0


def test_a_symbol_that_does_not_come_is_missing_after_the_grace_and_late_afterwards(venue):
    rows = venue.bars["30Min"]["BBB"]
    late = next(one for one in rows if one["t"] == "2026-01-06T14:30:00Z")
    rows.remove(late)

    async def run() -> Any:
        source = feed(venue, VenueClock(venue))
        try:
            async with aclosing(source.rows("2026-01-06T14:30:00Z")) as found:
                first = await anext(found)
                rows.insert(0, late)
                return first, await anext(found), source.notes()
        finally:
            await source.close()

    first, second, notes = asyncio.run(run())
    assert tuple(first.bars) == ("AAA",)
    assert first.arrived == seconds_of(first.stamp) + 20.0
    assert tuple(second.bars) == SYMBOLS
    assert [(note.kind, note.body["symbol"], note.body["stamp"][11:16]) for note in notes] == [
        ("late_bar", "BBB", "15:00")
    ]


def test_a_bar_that_changes_is_a_note(venue):
    async def run() -> Any:
        source = feed(venue, VenueClock(venue))
        try:
            async with aclosing(source.rows("2026-01-06T14:30:00Z")) as found:
                first = await anext(found)
                next(one for one in venue.bars["30Min"]["AAA"] if one["t"] == "2026-01-06T14:30:00Z")["v"] = 7.0
                await anext(found)
                return first, source.notes(), source.notes()
        finally:
            await source.close()

    first, notes, none = asyncio.run(run())
    assert [note.kind for note in notes] == ["revised_bar"]
    assert notes[0].body["before"] == first.bars["AAA"]
    assert notes[0].body["after"] == first.bars["AAA"] | {"volume": 7.0}
    assert none == []


@pytest.mark.parametrize("fault", ["504 before", "429", "500", "html", "reset", "truncated", "empty", "hang"])
def test_a_question_that_is_lost_is_asked_again(venue, fault):
    clean, _ = follow(venue, "2026-01-06T14:30:00Z", 3)
    venue.now = at("2026-01-06 09:59")
    venue.script[BARS] = [fault, fault]
    rows, notes = follow(venue, "2026-01-06T14:30:00Z", 3, timeout=0.5 if fault == "hang" else 30.0)
    assert [(row.stamp, row.bars) for row in rows] == [(row.stamp, row.bars) for row in clean]
    assert [note.kind for note in notes] == ["reconnected"]
    assert notes[0].body["until"] == stamp_of(rows[0].arrived)


def test_a_gap_is_filled_in_order_and_told(venue):
    venue.now = at("2026-01-06 12:00:05")
    rows, notes = follow(venue, "2026-01-05T20:00:00Z", 7)
    assert stamps(rows) == ["01-05T20:30", "01-05T21:00"] + [
        f"01-06T{15 + half // 2}:{half % 2 * 30:02}" for half in range(5)
    ]
    assert [note.kind for note in notes] == ["gap"]
    assert len(venue.requests("GET", "/v2/stocks/bars")) == 1


def test_a_closed_market_has_no_bars(venue):
    venue.now = at("2026-01-06 15:10")
    for symbol in SYMBOLS:  # the calendar does not know that the session ends at 15:00
        venue.bars["1Hour"][symbol] = [one for one in venue.bars["1Hour"][symbol] if one["t"] < "2026-01-06T20"]
        venue.bars["1Hour"][symbol].append(bar(at("2026-01-07 09:00"), 100.0))
    rows, _ = follow(venue, "2026-01-06T20:00:00Z", 1, "1h")
    assert stamps(rows) == ["01-07T15:00"]
    venue.now = at("2026-01-09 17:00")
    for symbol in SYMBOLS:
        venue.bars["1Hour"][symbol].append(bar(at("2026-01-12 09:00"), 100.0))
    before = len(venue.log)
    rows, _ = follow(venue, "2026-01-09T21:00:00Z", 1, "1h")
    assert stamps(rows) == ["01-12T15:00"]
    assert len(venue.log) - before <= 4  # nobody asks on a weekend


def test_history_that_cannot_be_read_says_so_without_keys(venue, monkeypatch):
    monkeypatch.setattr(venue, "secrets", ("others", "others"))  # the fake echoes the keys that it does not know
    with pytest.raises(UnreadableError, match="unauthorized") as error:
        asyncio.run(feed(venue, VenueClock(venue)).history(3))
    assert not [key for key in KEYS.values() if key in str(error.value)]


# the stream of minutes


class Listening:
    """A feed of minutes that a test moves along."""

    def __init__(self, venue: FakeAlpaca) -> None:
        self.venue, self.clock = venue, HandClock(venue)
        self.feed = feed(venue, self.clock, "1m")
        self.rows: list[BarRow] = []

    async def follow(self, after: str) -> None:
        async with aclosing(self.feed.rows(after)) as rows:
            async for row in rows:
                self.rows.append(row)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.001)

    async def move(self, when: float, count: int) -> None:
        """Move the clock, step by step as the feed waits, until there are so many rows."""
        self.clock.move(when)
        await self.until(lambda: len(self.rows) >= count)

    def truth(self, symbol: str, begin: str) -> dict[str, Any]:
        moment = datetime.fromtimestamp(at(begin), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return next(one for one in self.venue.bars["1Min"][symbol] if one["t"] == moment)

    async def emit(self, kind: str, *bars: tuple[str, dict[str, Any]]) -> None:
        await asyncio.to_thread(self.venue.emit, kind, *bars)

    @property
    def asked(self) -> int:
        return len(self.venue.requests("GET", "/v2/stocks/bars"))


def listen(venue: FakeAlpaca, do: Callable[[Listening], Awaitable[Any]]) -> Any:
    """Let a test go on after the first minute of the session, which REST gives."""
    venue.now = at("2026-01-06 09:30:30")

    async def run() -> Any:
        there = Listening(venue)
        task = asyncio.create_task(there.follow("2026-01-05T21:00:00Z"))
        try:
            await there.until(lambda: bool(venue.sockets) and bool(there.clock.waits))
            await there.move(at("2026-01-06 09:31:02"), 1)
            return await do(there)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await there.feed.close()

    return asyncio.run(run())


def both(there: Listening, begin: str) -> list[tuple[str, dict[str, Any]]]:
    return [(symbol, there.truth(symbol, begin)) for symbol in SYMBOLS]


def test_minutes_come_by_the_stream_and_equal_those_of_rest(venue):
    async def do(there: Listening) -> Any:
        asked = there.asked
        there.clock.move(at("2026-01-06 09:32:00") + 0.25)
        await there.emit("b", *both(there, "2026-01-06 09:31"))
        await there.until(lambda: len(there.rows) == 2)
        streamed, only = there.rows[1], there.asked - asked
        venue.now = at("2026-01-06 09:32:05")
        frame = await asyncio.to_thread(there.feed._fetch, at("2026-01-06 09:31"), venue.now)
        return streamed, only, frame

    row, asked, frame = listen(venue, do)
    assert (row.stamp, asked) == ("2026-01-06T14:32:00Z", 0)
    assert row.arrived == at("2026-01-06 09:32:00") + 0.25
    rest = frame[frame["timestamp"] == pd.Timestamp(row.stamp)].set_index("symbol").drop(columns="timestamp")
    assert row.bars == rest.T.to_dict()


def test_duplicate_revised_and_disordered_bars_of_the_stream(venue):
    async def do(there: Listening) -> Any:
        there.clock.move(at("2026-01-06 09:33:01"))
        await there.emit("b", *both(there, "2026-01-06 09:32"))
        await there.emit("b", *both(there, "2026-01-06 09:31"), *both(there, "2026-01-06 09:31"))
        await there.until(lambda: len(there.rows) == 3)
        await there.emit("b", *both(there, "2026-01-06 09:31"))
        await there.emit("u", ("AAA", there.truth("AAA", "2026-01-06 09:32") | {"v": 1.0}))
        await there.until(lambda: bool(there.feed._notes))
        return there.feed.notes()

    notes = listen(venue, do)
    assert [(note.kind, note.body["symbol"], note.body["after"]["volume"]) for note in notes] == [
        ("revised_bar", "AAA", 1.0)
    ]


def test_a_minute_is_not_open_when_our_clock_is_behind(venue):
    async def do(there: Listening) -> Any:
        there.clock.move(at("2026-01-06 09:31:59"))
        await there.emit("b", *both(there, "2026-01-06 09:31"))
        await there.until(lambda: len(there.rows) == 2)
        return there.rows[1].stamp

    assert listen(venue, do) == "2026-01-06T14:32:00Z"


def test_a_symbol_whose_first_minute_comes_later_has_its_dividend(venue):
    venue.corporate = {"cash_dividends": [{"symbol": "BBB", "rate": 0.5, "ex_date": "2026-01-06"}]}
    venue.bars["1Min"]["BBB"] = [one for one in venue.bars["1Min"]["BBB"] if one["t"] < "2026-01-06"]
    venue.now = at("2026-01-06 09:30:30")

    async def run() -> Any:
        there = Listening(venue)
        task = asyncio.create_task(there.follow("2026-01-05T21:00:00Z"))
        try:
            await there.until(lambda: bool(venue.sockets) and bool(there.clock.waits))
            there.clock.move(at("2026-01-06 09:31:02"))
            await there.until(lambda: bool(there.clock.waits))
            await there.move(at("2026-01-06 09:31:20"), 1)
            venue.bars["1Min"]["BBB"].append(bar(at("2026-01-06 09:31"), 150.0))
            await there.emit(
                "b", ("AAA", there.truth("AAA", "2026-01-06 09:31")), ("BBB", venue.bars["1Min"]["BBB"][-1])
            )
            await there.until(lambda: there.feed._streamed == "2026-01-06T14:32:00Z")
            await there.move(at("2026-01-06 09:32:02"), 2)
            return there.rows
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await there.feed.close()

    first, second = asyncio.run(run())
    assert tuple(first.bars) == ("AAA",)
    assert second.bars["BBB"]["dividend"] == 0.5


def test_a_stream_that_closes_is_opened_again_and_what_it_missed_is_filled_in(venue, monkeypatch):
    monkeypatch.setattr("alpaca.data.live.websocket.reconnect_delay", lambda *_: 0.05)

    async def do(there: Listening) -> Any:
        await asyncio.to_thread(venue.drop)
        there.clock.set(at("2026-01-06 09:32:05"))  # a minute is missed, and REST is not due yet
        await there.until(lambda: len(there.rows) == 2)
        await there.until(lambda: len(venue.sockets) == 1)
        there.clock.move(at("2026-01-06 09:33:01"))
        await there.emit("b", *both(there, "2026-01-06 09:32"))
        await there.until(lambda: len(there.rows) == 3)
        return venue.connections, there.feed.notes()

    connections, notes = listen(venue, do)
    assert connections == 2
    assert [(note.kind, note.body["reason"]) for note in notes] == [("reconnected", "closed")]


def test_a_mute_stream_is_noticed_and_connected_anew(venue, monkeypatch):
    monkeypatch.setattr("alpaca.data.live.websocket.reconnect_delay", lambda *_: 0.01)

    async def do(there: Listening) -> Any:
        venue.mute = True
        await there.move(at("2026-01-06 09:32:10"), 2)  # half of the grace is over
        await there.until(lambda: venue.connections == 2 and bool(there.feed._notes))
        venue.mute = False
        await there.until(lambda: bool(venue.sockets) and bool(there.clock.waits))
        there.clock.move(at("2026-01-06 09:33:00") + 0.5)
        await there.emit("b", *both(there, "2026-01-06 09:32"))
        await there.until(lambda: len(there.rows) == 3)
        return there.rows[-1].arrived, there.feed.notes()

    arrived, notes = listen(venue, do)
    assert arrived == at("2026-01-06 09:33:00") + 0.5
    assert [(note.kind, note.body["reason"]) for note in notes] == [("reconnected", "mute")]


def test_keys_are_in_no_log(venue, caplog):
    async def do(there: Listening) -> Any:
        there.clock.move(at("2026-01-06 09:32:01"))
        await there.emit("b", *both(there, "2026-01-06 09:31"))
        await there.until(lambda: len(there.rows) == 2)
        return repr(there.feed) + repr(there.feed._minutes) + repr(there.feed._minutes._stream)

    with caplog.at_level(logging.DEBUG):
        shown = listen(venue, do)
    assert "connected to" in caplog.text
    told = caplog.text + shown
    assert not [key for key in KEYS.values() if key in told or key.encode()[-6:].hex(" ") in told]


def test_missing_keys_are_refused_by_name(venue):
    with pytest.raises(ValueError, match="must hold api_key and secret_key, hold \\['api_key'\\]"):
        AlpacaFeed(FeedParameters(type="alpaca"), SYMBOLS, "30m", {"api_key": SecretStr("x")}, VenueClock(venue))
