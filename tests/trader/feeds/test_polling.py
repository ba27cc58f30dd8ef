"""Closed candles by polling: the real ccxt against a fake of Binance with faults, by a clock that jumps."""

import asyncio
import itertools
from contextlib import asynccontextmanager
from functools import wraps

import pandas as pd
import pytest
from fake_binance import FakeBinance

from sentio_kedro.config.live.trader import FeedParameters
from sentio_kedro.trader.clock import ReplayClock, seconds_of, stamp_of
from sentio_kedro.trader.feeds import polling
from sentio_kedro.trader.feeds.polling import PollingFeed
from sentio_kedro.trader.orders import UnreadableError
from sentio_kedro.vendors.exchanges import Exchange

START = seconds_of("2026-05-01T12:00:00Z")
SYMBOLS = {"BTC": "BTCUSDT", "ETH": "ETHUSDT"}
BARS = 40

pytestmark = pytest.mark.usefixtures("ccxt")


def in_loop(test):
    @wraps(test)
    def run(*args, **kwargs):
        return asyncio.run(test(*args, **kwargs))

    return run


def end(number):
    return START + 60.0 * number


def values(number, symbol):
    close = 100.0 + number + 1000.0 * (symbol == "ETH")
    return {"open": close - 0.5, "high": close + 1, "low": close - 1, "close": close, "volume": 10.0 + number}


@asynccontextmanager
async def market(ahead=0.0, begin=0.0, **feed):
    """A feed of minutes whose clock is ``begin`` seconds after the start, and the exchange's ``ahead`` of that."""
    clock = ReplayClock(START + begin)
    async with FakeBinance(lambda: clock.now() + ahead) as venue:
        for (symbol, name), number in itertools.product(SYMBOLS.items(), range(-10, BARS)):
            venue.set_kline(name, "1m", end(number), values(number, symbol))
        settings = FeedParameters(type="ccxt", url=venue.url, **{"max_gap_bars": 2} | feed)
        polled = PollingFeed(settings, list(SYMBOLS), "1m", clock)
        try:
            yield venue, polled, clock
        finally:
            await polled.close()


async def take(polled, count, after=0, each=lambda row: None):
    rows, source = [], polled.rows(stamp_of(end(after)))
    async for row in source:
        rows.append(row)
        each(row)
        if len(rows) == count:
            break
    await source.aclose()
    return rows


def truth(number, symbols=SYMBOLS):
    return {symbol: values(number, symbol) for symbol in symbols}


def pages(venue, symbol=None):
    asked = [params["symbol"] for method, path, params in venue.requests if path == "/klines"]
    return asked if symbol is None else asked.count(SYMBOLS[symbol])


@in_loop
async def test_each_bar_is_a_row_as_soon_as_the_exchange_says_that_it_is_closed():
    async with market(begin=5) as (venue, polled, clock):
        arrived = []
        rows = await take(polled, 4, each=lambda row: arrived.append(clock.now()))
        assert [(row.stamp, row.bars) for row in rows] == [(stamp_of(end(n)), truth(n)) for n in range(1, 5)]
        assert arrived == [end(n) for n in range(1, 5)]
        assert [row.source for row in rows] == [polled.source] * 4
        assert len(pages(venue)) == 2 * 5  # once at the start and once a bar
        assert polled.notes() == []
        assert {method for method, _, _ in venue.requests} == {"GET"}


def test_the_source_is_named_as_downloads_of_the_same_bars_are():
    class Transport:
        def attach(self, session):
            pass

    polled = PollingFeed(FeedParameters(type="ccxt"), ["BTC"], "30m", ReplayClock())
    assert polled.source == Exchange("30m", "binance", Transport()).source == "ccxt-binance-30m"


@pytest.mark.parametrize("ahead", [-30.0, -2.5, 0.4, 45.0])
@in_loop
async def test_the_exchanges_clock_decides_what_is_closed(ahead):
    async with market(ahead) as (_venue, polled, clock):
        at = []
        rows = await take(polled, 3, each=lambda row: at.append(clock.now() + ahead))
        assert [row.bars for row in rows] == [truth(1), truth(2), truth(3)]
        assert all(0 <= now - end(number) < 1 for number, now in enumerate(at, 1))


@pytest.mark.parametrize("page", [1000, 3])
@pytest.mark.parametrize("short", [False, True])
@in_loop
async def test_history_is_closed_bars_alone_whatever_the_pages_are(page, short, monkeypatch):
    monkeypatch.setattr(polling, "_LIMIT", page)
    async with market(begin=60 * 7 + 30) as (venue, polled, _):
        venue.short_pages = short
        frame = await polled.history(8)
        assert list(frame.columns) == ["timestamp", "symbol", "open", "high", "low", "close", "volume"]
        assert str(frame["timestamp"].dtype) == "datetime64[ns, UTC]"
        shown = frame.set_index(["timestamp", "symbol"]).to_dict("index")
        assert shown == {
            (pd.Timestamp(end(number), unit="s", tz="UTC"), symbol): values(number, symbol)
            for number in range(8)
            for symbol in SYMBOLS
        }


@in_loop
async def test_a_late_bar_is_waited_for_and_alone_asked_for_again():
    async with market() as (venue, polled, clock):
        venue.late["ETHUSDT", end(1)] = end(1) + 4.5
        at = []
        rows = await take(polled, 2, each=lambda row: at.append(clock.now()))
        assert [row.bars for row in rows] == [truth(1), truth(2)]
        assert at == [end(1) + 5, end(2)]
        assert (pages(venue, "BTC"), pages(venue, "ETH")) == (3, 3 + 5)


@in_loop
async def test_who_does_not_come_within_the_grace_is_halted_and_told_later():
    async with market(grace_seconds=10.5) as (venue, polled, clock):
        venue.late["ETHUSDT", end(1)] = end(1) + 30
        at = []
        rows = await take(polled, 2, each=lambda row: at.append(clock.now()))
        assert [row.bars for row in rows] == [truth(1, ["BTC"]), truth(2)]
        assert at == [end(1) + 10.5, end(2)]
        (note,) = polled.notes()
        assert (note.kind, note.body) == (
            "late_bar",
            {"stamp": stamp_of(end(1)), "symbol": "ETH", "values": values(1, "ETH")},
        )
        assert polled.notes() == []


@in_loop
async def test_a_revised_bar_is_told_with_both_values_and_the_row_stays():
    async with market() as (venue, polled, _):
        revised = values(1, "BTC") | {"close": 100.25}

        def revise(row):
            venue.set_kline("BTCUSDT", "1m", end(1), revised)

        rows = await take(polled, 3, each=revise)
        assert rows[0].bars == truth(1)
        (note,) = polled.notes()
        assert note.kind == "revised_bar"
        assert (note.body["before"], note.body["after"]) == (values(1, "BTC"), revised)


@pytest.mark.parametrize("fault", ["503", "html", "truncated", "empty", "reset", "429"])
@in_loop
async def test_after_an_outage_what_was_missed_comes_in_order_and_the_outage_is_told(fault):
    async with market() as (venue, polled, clock):
        broken = []

        def break_down(row):
            if not broken:
                broken.append(clock.now())
                venue.fail("GET", "/klines", fault, times=40 * (1 + (fault == "reset")))  # aiohttp asks once more

        rows = await take(polled, 5, each=break_down)
        assert [(row.stamp, row.bars) for row in rows] == [(stamp_of(end(n)), truth(n)) for n in range(1, 6)]
        assert [note.kind for note in polled.notes()] == ["reconnected"]


@in_loop
async def test_a_gap_beyond_the_bound_is_told():
    async with market(begin=60 * 8 + 1) as (_venue, polled, _clock):
        rows = await take(polled, 8)
        assert [row.bars for row in rows] == [truth(n) for n in range(1, 9)]
        (note,) = polled.notes()
        assert (note.kind, note.body["missed"], note.body["filled"]) == ("gap", 7, 7)


@in_loop
async def test_a_gap_longer_than_a_page_is_filled(monkeypatch):
    monkeypatch.setattr(polling, "_LIMIT", 4)
    async with market(begin=60 * 20) as (_venue, polled, _clock):
        assert [row.bars for row in await take(polled, 20)] == [truth(n) for n in range(1, 21)]


@in_loop
async def test_in_a_gap_a_symbol_that_was_not_answered_is_asked_again_before_anything_is_released():
    async with market(begin=60 * 4 + 1) as (venue, polled, _):
        venue.fail("GET", "/klines", "503")  # of one of the two
        assert [row.bars for row in await take(polled, 4)] == [truth(n) for n in range(1, 5)]
        assert [note.kind for note in polled.notes()] == ["gap"]


@in_loop
async def test_one_symbol_that_is_never_answered_is_halted():
    async with market() as (venue, polled, _):
        venue.markets = venue.markets[:1]
        rows = await take(polled, 2)
        assert [row.bars for row in rows] == [truth(1, ["BTC"]), truth(2, ["BTC"])]


@in_loop
async def test_history_that_is_not_answered_is_no_empty_history():
    async with market() as (venue, polled, _):
        venue.fail("GET", "/klines", "html", times=2)
        with pytest.raises(UnreadableError):
            await polled.history(3)


@in_loop
async def test_candles_that_end_elsewhere_are_refused():
    async with market() as (_, polled, _clock):
        source = polled.rows(stamp_of(START + 7))
        with pytest.raises(ValueError, match="must end where a bar of this feed ends"):
            await anext(source)


def test_an_interval_that_the_exchange_has_not_is_refused():
    with pytest.raises(ValueError, match=r"`trader.feed.interval` must be one of 1m, .* at binance, was '7m'"):
        PollingFeed(FeedParameters(type="ccxt"), ["BTC"], "7m", ReplayClock())
