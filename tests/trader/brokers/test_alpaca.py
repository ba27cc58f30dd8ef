"""The broker of Alpaca by the real client against a fake of the venue, fault by fault."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from fake_alpaca import AFTER, BEFORE, LOST, NEW_YORK, FakeAlpaca, serving
from pydantic import SecretStr

from sentio_kedro.config.live.trader import BrokerParameters, SendingParameters
from sentio_kedro.trader.brokers.alpaca_markets import AlpacaBroker
from sentio_kedro.trader.brokers.alpaca_orders import collar
from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.identity import order_id
from sentio_kedro.trader.orders import Holdings, Lattice, Order, UnreadableError, VenueOrder

KEYS = ("PKTESTKEY", "never-to-be-shown")
POST, FIND = "POST /v2/orders", "GET /v2/orders:by_client_order_id"
HALF_HOUR, DAY = 1800.0, 86_400.0


def at(text: str) -> float:
    """A time of New York."""
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp()


def order(shares: float = 10.0, symbol: str = "AAA", bar: str = "2026-01-06T15:00:00Z", **more: Any) -> Order:
    return Order(order_id("paper", bar, symbol), bar, symbol, shares, {"AAA": 100.0, "BBB": 50.0}[symbol], **more)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeAlpaca]:
    with serving(FakeAlpaca()) as venue:
        yield venue


@pytest.fixture
def venue(server: FakeAlpaca) -> FakeAlpaca:
    """A Tuesday, 10:00 in New York."""
    server.reset(at("2026-01-06 10:00"))
    return server


@pytest.fixture
def run(venue: FakeAlpaca) -> Callable[..., Any]:
    """Run something with a broker whose clock shows the venue's time."""

    def run(
        do: Callable[[AlpacaBroker], Awaitable[Any]], bars: float = HALF_HOUR, hours: str = "regular", **more: Any
    ) -> Any:
        async def use() -> Any:
            sending = SendingParameters(**{"timeout_seconds": 30.0, **more})
            parameters = BrokerParameters(type="alpaca", url=venue.url, session_hours=hours)
            secrets = {name: SecretStr(key) for name, key in zip(("api_key", "secret_key"), KEYS, strict=True)}
            clock = ReplayClock(venue.now)
            broker = AlpacaBroker(parameters, sending, secrets, paper=True, bar_seconds=bars, clock=clock)
            try:
                return await do(broker)
            finally:
                await broker.close()

        return asyncio.run(use())

    return run


def test_an_order_is_taken_filled_and_found_by_its_id(venue, run):
    async def trade(broker):
        outcome = await broker.submit(order(10.0))
        return outcome, await broker.find(order(10.0)), await broker.fills(0.0), await broker.holdings()

    outcome, found, fills, holdings = run(trade)
    body = venue.requests("POST", "/v2/orders")[0]
    assert (outcome.kind, outcome.venue_id) == ("accepted", found.venue_id)
    assert found == VenueOrder(order().id, found.venue_id, "AAA", 10.0, 10.0, "filled")
    assert [(fill.order, fill.shares, fill.price, fill.fee, fill.at) for fill in fills] == [
        (order().id, 10.0, 100.0, 0.0, venue.now)
    ]
    assert fills[0].id == venue.activities[0]["id"]
    assert holdings == Holdings(99_000.0, {"AAA": 10.0})
    assert body == {
        "symbol": "AAA",
        "qty": 10.0,
        "side": "buy",
        "type": "limit",
        "time_in_force": "day",
        "limit_price": 100.5,
        "client_order_id": order().id,
    }


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_answer_is_unknown_one_post_and_the_order_is_found_if_it_came(venue, run, fault):
    venue.script[POST] = [fault]

    async def trade(broker):
        return await broker.submit(order()), await broker.find(order())

    outcome, found = run(trade, timeout_seconds=0.5 if fault.startswith("hang") else 30.0)
    assert outcome.kind == "unknown", outcome
    assert outcome.reason
    assert (found is not None) == (fault in AFTER)
    assert len(venue.requests("POST", "/v2/orders")) == 1
    assert set(LOST) == {*BEFORE, *AFTER}


def test_an_id_that_is_taken_is_unknown_and_not_refused(venue, run):
    async def trade(broker):
        return await broker.submit(order()), await broker.submit(order()), await broker.find(order())

    first, second, found = run(trade)
    assert (first.kind, second.kind) == ("accepted", "unknown")
    assert "must be unique" in second.reason
    assert found.filled == 10.0
    assert venue.positions == {"AAA": 10.0}


@pytest.mark.parametrize(
    ("shares", "prepare", "reason"),
    [
        (10_000.0, {}, "insufficient buying power"),
        (-0.5, {}, "cannot be sold short"),
        (10.0, {"tradable": False}, "not tradable"),
        (0.5, {"fractionable": False}, "not fractionable"),
        (-10.0, {"shortable": False}, "not allowed to short"),
        (0.0, {}, "both must be told"),
    ],
)
def test_a_reason_of_the_venue_refuses(venue, run, shares, prepare, reason):
    venue.assets["AAA"] |= prepare
    outcome = run(lambda broker: broker.submit(order(shares)))
    assert outcome.kind == "refused"
    assert reason in outcome.reason
    assert len(venue.requests("POST", "/v2/orders")) == (shares != 0.0)


def test_an_order_of_others_and_an_unknown_symbol_are_refused_too(venue, run):
    del venue.assets["AAA"]
    assert run(lambda broker: broker.submit(order())).kind == "refused"


def test_only_a_definite_404_says_that_there_is_no_order(venue, run):
    async def look(broker):
        return await broker.find(order())

    assert run(look) is None
    for fault in ("504 before", "429", "reset", "html", "forbidden page", "truncated", "empty"):
        venue.script[FIND] = [fault]
        run(lambda broker: broker.submit(order()))
        with pytest.raises(UnreadableError, match="ask again"):
            run(look)
    venue.script[FIND] = ["other order"]
    with pytest.raises(UnreadableError, match="told another"):
        run(look)


def test_orders_are_sent_at_the_same_time_and_the_loop_goes_on(venue, run):
    venue.script[POST] = ["hang"] * 5
    ticks = []

    async def trade(broker):
        bars = [f"2026-01-06T15:0{minute}:00Z" for minute in range(5)]
        sent = asyncio.gather(*(broker.submit(order(bar=bar)) for bar in bars))
        while not sent.done():
            ticks.append(len(venue.requests("POST", "/v2/orders")))
            await asyncio.sleep(0)
        return await sent

    assert {outcome.kind for outcome in run(trade, timeout_seconds=0.6)} == {"unknown"}
    assert max(ticks) == 5  # all five were at the venue while none had an answer


def test_a_request_that_hangs_frees_its_thread(venue, run, monkeypatch):
    monkeypatch.setattr("sentio_kedro.trader.brokers.calls.THREADS", 1)
    venue.script[POST] = ["hang"]

    async def trade(broker):
        return (await broker.submit(order())).kind, await broker.find(order())

    assert run(trade, timeout_seconds=0.6) == ("unknown", None)


def test_daily_bars_trade_at_the_open_in_whole_shares(venue, run):
    venue.now = at("2026-01-06 19:01")
    bar = "2026-01-07T00:00:00Z"

    async def trade(broker):
        return [await broker.submit(order(shares, symbol, bar)) for shares, symbol in ((10.0, "AAA"), (2.5, "BBB"))]

    assert {outcome.kind for outcome in run(trade, bars=DAY)} == {"accepted"}
    sent = [(body["type"], body["time_in_force"], body["qty"]) for body in venue.requests("POST", "/v2/orders")]
    assert sent == [("market", "opg", 10.0), ("market", "day", 2.5)]
    venue.move(at("2026-01-07 09:31"))
    assert venue.positions == {"AAA": 10.0, "BBB": 2.5}


def test_what_the_opening_auction_leaves_is_cancelled(venue, run):
    venue.now, venue.liquidity["AAA"] = at("2026-01-06 20:00"), 4.0
    bar = "2026-01-07T00:00:00Z"
    run(lambda broker: broker.submit(order(10.0, bar=bar)), bars=DAY)
    venue.move(at("2026-01-07 09:31"))
    found = run(lambda broker: broker.find(order(10.0, bar=bar)))
    assert (found.filled, found.status) == (4.0, "cancelled")
    assert [fill.shares for fill in run(lambda broker: broker.fills(0.0))] == [4.0]


def test_the_venue_rejects_orders_for_the_open_during_the_day(venue, run):
    outcome = run(lambda broker: broker.submit(order(bar="2026-01-06T00:00:00Z")), bars=DAY)
    assert outcome.kind == "refused"


@pytest.mark.parametrize(
    ("now", "bar", "begin", "end"),
    [
        ("2026-01-06 19:00:30", "2026-01-07T00:00:00Z", "2026-01-06 19:00", "2026-01-07 09:27"),
        ("2026-01-07 08:00", "2026-01-07T00:00:00Z", "2026-01-06 19:00", "2026-01-07 09:27"),
        ("2026-01-06 17:00", "2026-01-07T00:00:00Z", "2026-01-06 19:00", "2026-01-07 09:27"),
        ("2026-01-07 11:00", "2026-01-07T00:00:00Z", "2026-01-07 19:00", "2026-01-08 09:27"),
        ("2026-01-07 09:29", "2026-01-07T00:00:00Z", "2026-01-06 19:00", "2026-01-07 09:27"),  # it is over
        ("2026-01-09 19:00:30", "2026-01-10T00:00:00Z", "2026-01-09 19:00", "2026-01-12 09:27"),
        ("2026-01-16 19:00:30", "2026-01-17T00:00:00Z", "2026-01-16 19:00", "2026-01-20 09:27"),  # a holiday on Monday
        ("2026-07-07 20:00:30", "2026-07-08T00:00:00Z", "2026-07-07 19:00", "2026-07-08 09:27"),  # summer time
    ],
)
def test_the_window_of_the_open(venue, run, now, bar, begin, end):
    venue.now, venue.holidays = at(now), {"2026-01-19"}
    assert run(lambda broker: broker.window(order(bar=bar)), bars=DAY) == (at(begin), at(end))


@pytest.mark.parametrize(
    ("now", "hours", "begin"),
    [
        ("2026-01-06 10:30:01", "regular", None),
        ("2026-01-06 16:00:01", "regular", "2026-01-07 09:30"),
        ("2026-01-06 16:00:01", "extended", None),
        ("2026-01-06 20:00:01", "extended", "2026-01-07 04:00"),
        ("2026-01-06 03:59:59", "extended", "2026-01-06 04:00"),
        ("2026-01-06 04:00:01", "extended", None),
        ("2026-01-10 12:00", "extended", "2026-01-12 04:00"),
    ],
)
def test_the_window_of_bars_of_a_session(venue, run, now, hours, begin):
    venue.now = at(now)
    expected = begin and (at(begin), at(begin) + 0.2 * HALF_HOUR)
    bar = "2026-01-06T21:00:00Z" if venue.now > at("2026-01-06 10:00") else "2026-01-05T21:00:00Z"
    assert run(lambda broker: broker.window(order(bar=bar)), hours=hours) == expected


def test_the_venue_is_asked_about_its_session_again_when_that_ends(venue, run):
    venue.now = at("2026-01-06 15:59:50")

    async def wait(broker):
        before, same = await asyncio.gather(broker.window(order()), broker.window(order()))
        venue.move(at("2026-01-06 16:00:01"))
        broker._clock.set(venue.now)
        return before, same, await broker.window(order())

    before, same, after = run(wait)
    assert (before, same, after[0]) == (None, None, at("2026-01-07 09:30"))
    assert len(venue.requests("GET", "/v2/clock")) == 2


def test_extended_hours_send_limits_that_say_so(venue, run):
    venue.now = at("2026-01-06 17:00")
    assert run(lambda broker: broker.submit(order()), hours="extended").kind == "accepted"
    assert venue.requests("POST", "/v2/orders")[0]["extended_hours"] is True
    assert venue.positions == {"AAA": 10.0}


@pytest.mark.parametrize(
    ("price", "shares", "limit"),
    [(100.0, 1, "100.50"), (100.0, -1, "99.50"), (33.33, 1, "33.49"), (33.33, -1, "33.17"), (0.5, 1, "0.5025")],
)
def test_limits_lie_on_the_grid_and_within_the_collar(price, shares, limit):
    assert str(collar(price, shares, 50.0)) == limit


def test_a_limit_beyond_the_collar_waits_and_is_cancelled(venue, run):
    venue.prices["AAA"] = 101.0

    async def trade(broker):
        await broker.submit(order())
        before = await broker.open_orders()
        outcome = await broker.cancel(order())
        return before, outcome, await broker.find(order()), await broker.cancel(order()), await broker.open_orders()

    before, outcome, found, again, after = run(trade)
    assert [(one.id, one.shares, one.filled, one.status) for one in before] == [(order().id, 10.0, 0.0, "working")]
    assert (outcome.kind, found.status, again.kind, after) == ("accepted", "cancelled", "refused", [])


@pytest.mark.parametrize(
    ("where", "fault", "kind"),
    [(FIND, "504 before", "unknown"), ("DELETE", "504 after", "unknown"), ("DELETE", "reset", "unknown")],
)
def test_a_cancellation_without_an_answer_is_unknown(venue, run, where, fault, kind):
    venue.prices["AAA"] = 101.0
    venue_id = run(lambda broker: broker.submit(order())).venue_id
    venue.script[f"DELETE /v2/orders/{venue_id}" if where == "DELETE" else where] = [fault]
    assert run(lambda broker: broker.cancel(order())).kind == kind
    assert run(lambda broker: broker.cancel(order(symbol="BBB"))).kind == "refused"  # there is none


def test_all_orders_are_cancelled_or_it_is_not_said(venue, run):
    venue.prices = {"AAA": 101.0, "BBB": 51.0}

    async def trade(broker):
        for symbol in ("AAA", "BBB"):
            await broker.submit(order(symbol=symbol))
        venue.script["cancel one"] = ["500"]
        with pytest.raises(UnreadableError, match="did not cancel"):
            await broker.cancel_all()
        left = await broker.open_orders()
        await broker.cancel_all()
        return left, await broker.open_orders()

    left, after = run(trade)
    assert ([one.symbol for one in left], after) == (["AAA"], [])


def test_a_read_that_fails_is_unknown_never_flat(venue, run):
    run(lambda broker: broker.submit(order()))
    questions = {
        "GET /v2/positions": lambda broker: broker.holdings(),
        "GET /v2/account": lambda broker: broker.account_id(),
        "GET /v2/orders": lambda broker: broker.open_orders(),
        "GET /v2/account/activities": lambda broker: broker.fills(0.0),
        "GET /v2/clock": lambda broker: broker.now(),
        "GET /v2/assets/AAA": lambda broker: broker.lattices(["AAA"]),
        "DELETE /v2/orders": lambda broker: broker.cancel_all(),
    }
    for where, question in questions.items():
        for fault in ("504 before", "html", "reset", "truncated", "empty", "429 after"):
            venue.script[where] = [fault]
            with pytest.raises(UnreadableError, match="ask again"):
                run(question)
    assert run(lambda broker: broker.holdings()) == Holdings(99_000.0, {"AAA": 10.0})
    assert run(lambda broker: broker.actions(0.0)) == []


def test_cash_and_positions_are_of_one_moment_and_fees_count_when_booked(venue, run):
    venue.accrued_fees, real, moves = 0.03, venue._position, [1.0, 2.0]

    def moving(symbol: str, qty: float) -> dict[str, Any]:
        if moves:
            venue.cash -= moves.pop()
        return real(symbol, qty)

    venue.positions, venue._position = {"AAA": 5.0, "BBB": -2.0}, moving
    try:
        assert run(lambda broker: broker.holdings()) == Holdings(99_997.0, {"AAA": 5.0, "BBB": -2.0})
        moves[:] = [1.0] * 9
        with pytest.raises(UnreadableError, match="one moment"):
            run(lambda broker: broker.holdings())
    finally:
        venue._position = real


def test_fills_come_in_pages_each_once_with_the_client_id_of_their_order(venue, run):
    venue.liquidity["AAA"] = 1.0
    run(lambda broker: broker.submit(order(250.0)))
    mine = next(iter(venue.orders.values()))
    for count in range(1, 250):
        venue.now += 0.5
        venue.fill(mine, 1.0, 100.0 + count / 100)
    venue.activities += venue.activities[-3:]  # told twice
    strange = {**venue.activities[0], "id": "20260106100500000::x", "order_id": "00000000-0000-4000-8000-000000000000"}
    venue.activities.append(strange)
    fills = run(lambda broker: broker.fills(0.0))
    assert len(fills) == len({fill.id for fill in fills}) == 251
    assert [fill.at for fill in fills] == sorted(fill.at for fill in fills)
    assert sum(fill.shares for fill in fills if fill.order == order().id) == 250.0
    assert [fill.id for fill in fills if not fill.order] == [strange["id"]]
    assert len(venue.requests("GET", f"/v2/orders/{mine['id']}")) == 1
    since = fills[200].at
    assert [fill.id for fill in run(lambda broker: broker.fills(since))] == [one.id for one in fills if one.at >= since]


def test_open_orders_come_in_pages(venue, run, monkeypatch):
    monkeypatch.setattr("sentio_kedro.trader.brokers.alpaca_markets._ORDERS", 4)
    venue.prices["AAA"], venue.most_orders = 101.0, 4
    for number in range(10):
        venue.now += 1.0
        assert run(lambda broker, bar=f"bar {number}": broker.submit(order(1.0, bar=bar))).kind == "accepted"
    found = run(lambda broker: broker.open_orders())
    assert [one.id for one in found] == [order(bar=f"bar {number}").id for number in range(10)]


def test_pages_that_do_not_end_are_unreadable(venue, run, monkeypatch):
    venue.activities = [venue.book("DIV", venue.now, 1.0)] * 200
    with pytest.raises(UnreadableError, match="same page again"):
        run(lambda broker: broker.actions(0.0))


def test_cash_flows_and_splits_are_told_in_our_words(venue, run):
    now = venue.now
    old = venue.book("DIV", now - 3 * DAY, 9.0, symbol="AAA")
    booked = [
        venue.book("DIV", now, 2.5, symbol="AAA", qty="10", per_share_amount="0.25"),
        venue.book("DIVNRA", now + 1, -0.5, symbol="AAA"),
        venue.book("FEE", now + 2, -0.02),
        venue.book("INT", now + 3, -1.0),
        venue.book("CSD", now + 4, 1000.0),
        venue.book("SPLIT", now + 5, symbol="AAA", qty="-10", description="REMOVE, From QTY:-10, To QTY:30"),
        venue.book("SPLIT", now + 6, symbol="AAA", qty="30", description="ADD, From QTY:-10, To QTY:30"),
        venue.book("SPLIT", now + 7, symbol="BBB", qty="25", description="REMOVE, From QTY:25, To QTY:-5"),
        venue.book("SPLIT", now + 8, symbol="BBB", qty="-5", description="ADD, From QTY:25, To QTY:-5"),
        venue.book("SPLIT", now + 9, symbol="CCC", qty="-7", description="REMOVE, From QTY:-7, To QTY:14"),
    ]
    found = run(lambda broker: broker.actions(now - 60))
    assert [(one.kind, one.symbol, one.cash, one.ratio) for one in found] == [
        ("dividend", "AAA", 2.5, 1.0),
        ("dividend", "AAA", -0.5, 1.0),
        ("fee", "", -0.02, 1.0),
        ("interest", "", -1.0, 1.0),
        ("transfer", "", 1000.0, 1.0),
        ("split", "AAA", 0.0, 3.0),
        ("split", "BBB", 0.0, 0.2),
    ]
    assert [one.id for one in found] == [booked[row]["id"] for row in (0, 1, 2, 3, 4, 6, 8)]
    assert old["id"] not in {one.id for one in found}


def test_an_activity_that_is_dated_only_counts_from_its_day_on(venue, run):
    today = {**venue.book("DIV", venue.now, 1.0, symbol="AAA"), "id": "20260106000000000::a"}
    before = {**venue.book("DIV", venue.now, 1.0, symbol="AAA"), "id": "20260105000000000::b", "date": "2026-01-05"}
    venue.activities = [today, before]

    def ids() -> list[str]:
        return [one.id for one in run(lambda broker: broker.actions(at("2026-01-06 15:00")))]

    assert ids() == []  # both were booked at ten
    venue._activities = lambda query, kind: [
        {k: v for k, v in one.items() if k != "created_at"} for one in (today, before)
    ]
    try:
        assert ids() == [today["id"]]
    finally:
        del venue._activities


def test_what_the_venue_takes_of_a_symbol(venue, run):
    venue.assets["BBB"] |= {"fractionable": False, "easy_to_borrow": False}
    found = run(lambda broker: broker.lattices(["AAA", "BBB", "CCC"]))
    assert found["AAA"] == Lattice(1e-9, 1e-9, 1.0, 0.01, True, True, short_step=1.0)
    assert found["BBB"] == Lattice(1.0, 1.0, 0.0, 0.01, False, True, short_step=1.0)
    assert found["CCC"] == Lattice(shortable=False, tradable=False)
    venue.shorting = False
    assert not run(lambda broker: broker.lattices(["AAA"]))["AAA"].shortable


def test_many_symbols_are_asked_for_at_once(venue, run):
    found = run(lambda broker: broker.lattices(["AAA", *(f"X{number}" for number in range(150))]))
    assert [symbol for symbol, lattice in found.items() if lattice.tradable] == ["AAA"]
    assert len(venue.log) == 2


def test_the_clock_and_the_account(venue, run):
    venue.now += 5.25
    assert run(lambda broker: broker.now()) == venue.now
    assert run(lambda broker: broker.account_id()) == "PA3TEST"
    assert run(lambda broker: broker.arm(10.0)) is False


def test_keys_are_in_no_text(venue, run, caplog, monkeypatch):
    monkeypatch.setattr(venue, "secrets", ("others", "others"))  # the fake echoes the keys that it does not know
    with caplog.at_level(logging.DEBUG):
        outcome = run(lambda broker: broker.submit(order()))
        with pytest.raises(UnreadableError) as error:
            run(lambda broker: broker.holdings())
        shown = run(lambda broker: asyncio.sleep(0, f"{broker!r} {broker._calls!r} {broker._client!r}"))
    assert outcome.kind == "refused"
    assert "unauthorized: *** ***" in outcome.reason
    texts = (caplog.text, outcome.reason, str(error.value), repr(error.value), shown)
    assert not [text for text in texts for key in KEYS if key in text]


def test_missing_keys_are_refused_by_name():
    with pytest.raises(ValueError, match="must hold api_key and secret_key, hold \\['api_key'\\]") as error:
        AlpacaBroker(
            BrokerParameters(type="alpaca"),
            SendingParameters(),
            {"api_key": SecretStr("PKTESTKEY")},
            paper=True,
            bar_seconds=DAY,
            clock=ReplayClock(),
        )
    assert "PKTESTKEY" not in str(error.value)


def test_a_closing_order_without_a_price_goes_to_the_market_now_even_for_daily_bars(venue, run):
    """`kedro trader flatten` knows no price, and must not wait for the next opening auction."""
    venue.positions = {"AAA": 10.0}
    emergency = Order(order_id("paper", "flatten", "AAA"), "2026-01-06T15:00:00Z", "AAA", -10.0, 0.0, closing=True)
    outcome = run(lambda broker: broker.submit(emergency), bars=DAY)
    body = venue.requests("POST", "/v2/orders")[0]
    assert (outcome.kind, body["type"], body["time_in_force"]) == ("accepted", "market", "day")
