"""A broker at a crypto exchange: the real ccxt against a fake of Binance with faults."""

import asyncio
import logging
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import wraps

import pytest
from fake_binance import KEY, SECRET, FakeBinance, Market, Placed
from pydantic import SecretStr

from sentio_kedro.config.live.trader import BrokerParameters, SendingParameters
from sentio_kedro.trader.brokers import exchanges
from sentio_kedro.trader.brokers.exchanges import ExchangeBroker
from sentio_kedro.trader.clock import ReplayClock, stamp_of
from sentio_kedro.trader.identity import order_id
from sentio_kedro.trader.orders import Holdings, Lattice, Order, UnreadableError, VenueOrder

START = 1_780_000_000.0
CREDENTIALS = {"api_key": SecretStr(KEY), "secret_key": SecretStr(SECRET)}
CONFIRMED = {"timeout": True, "reset": True, "html": True, "truncated": True, "empty": True, "504": True, "502": True}
REFUSED_AT_THE_DOOR = {"429": False, "418": False}


pytestmark = pytest.mark.usefixtures("ccxt")


def in_loop(test):
    @wraps(test)
    def run(*args, **kwargs):
        return asyncio.run(test(*args, **kwargs))

    return run


def connected(venue, clock, symbols=("BTC", "ETH"), **orders):
    return ExchangeBroker(
        BrokerParameters(type="ccxt", url=venue.url),
        SendingParameters(**orders),
        symbols,
        CREDENTIALS,
        sandbox=False,
        clock=clock,
    )


@asynccontextmanager
async def account(**changes):
    clock = ReplayClock(START)
    async with FakeBinance(clock.now, **changes) as venue:
        broker = connected(venue, clock)
        try:
            await broker.lattices(["BTC", "ETH"])
            yield venue, broker, clock
        finally:
            await broker.close()


def order(shares=0.1, symbol="BTC", price=50_000.0, bar=0, **changes):
    stamp = stamp_of(START + 60 * bar)
    return Order(order_id("test", stamp, symbol), stamp, symbol, shares, price, **changes)


async def books(broker):
    """Shares and cash as the fills since the start add up to."""
    fills = await broker.fills(START - 1)
    shares = {symbol: sum(fill.shares for fill in fills if fill.symbol == symbol) for symbol in ("BTC", "ETH")}
    return shares, 10_000 - sum(fill.shares * fill.price + fill.fee for fill in fills)


@in_loop
async def test_an_order_is_a_limit_with_a_collar_immediate_or_cancel_under_our_id():
    async with account() as (venue, broker, _):
        sent = order(0.123456789, price=50_001.013)
        assert await broker.submit(sent) == exchanges.Outcome("accepted", "1000")
        (params,) = [params for method, path, params in venue.requests if (method, path) == ("POST", "/order")]
        terms = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "IOC"}
        assert terms.items() <= params.items()
        assert params["newClientOrderId"] == sent.id
        assert params["quantity"] == "0.12345"  # down to the step
        assert params["price"] == "50251.01"  # 50 bps above 50,001.013 is 50,251.018...: down to the tick


@pytest.mark.parametrize(
    ("shares", "quantity"),
    [(0.7 - 0.4, "0.3"), (0.1 + 0.2, "0.3"), (0.00029 * 100, "0.029"), (0.299999, "0.29999"), (1e-5, "0.00001")],
)
@in_loop
async def test_a_quantity_is_rounded_down_but_not_by_the_error_of_a_float(shares, quantity):
    async with account(balances={"BTC": Decimal(1)}) as (venue, broker, _):
        await broker.submit(order(-shares))
        assert venue.requests[-1][2]["quantity"] == quantity


@in_loop
async def test_a_sale_is_never_below_the_collar():
    async with account(balances={"BTC": Decimal(1)}) as (venue, broker, _):
        await broker.submit(order(-0.2, price=50_001.013))
        assert venue.requests[-1][2]["price"] == "49751.01"  # 49,751.0079...: up to the tick
        assert venue.requests[-1][2]["side"] == "SELL"


@pytest.mark.parametrize(("fault", "effect"), [*CONFIRMED.items(), ("timeout", False), *REFUSED_AT_THE_DOOR.items()])
@in_loop
async def test_an_answer_that_is_not_definite_leaves_the_order_unknown_after_one_post(fault, effect):
    async with account() as (venue, broker, _):
        venue.fail("POST", "/order", fault, effect=effect)
        broker._exchange.timeout = 60 if fault == "timeout" else 5000  # milliseconds
        outcome = await broker.submit(order())
        broker._exchange.timeout = 5000
        assert outcome.kind == "unknown"
        assert venue.count("POST", "/order") == 1
        found = await broker.find(order())
        assert found == (VenueOrder(order().id, "1000", "BTC", 0.1, 0.0999, "filled") if effect else None)
        for text in (KEY, SECRET, "signature="):
            assert text not in outcome.reason


@in_loop
async def test_an_order_that_is_there_already_is_unknown_and_not_refused():
    async with account() as (venue, broker, clock):
        venue.orders.append(
            Placed(1, order().id, Market("BTC"), "BUY", Decimal("0.1"), Decimal(100), "GTC", clock.now())
        )
        outcome = await broker.submit(order())
        assert outcome.kind == "unknown"
        assert "Duplicate order sent" in outcome.reason
        assert (await broker.find(order())).status == "working"


@pytest.mark.parametrize(
    ("markets", "balances", "reason"),
    [
        ((Market("BTC"),), {"USDT": Decimal(10)}, "insufficient balance"),
        ((Market("BTC", tick="0.05"),), {"USDT": Decimal(9_999)}, "PRICE_FILTER"),
        ((Market("BTC", step="0.03"),), {"USDT": Decimal(9_999)}, "LOT_SIZE"),
        ((Market("BTC", notional="6000"),), {"USDT": Decimal(9_999)}, "NOTIONAL"),
        ((Market("ETH"),), {"USDT": Decimal(9_999)}, "Invalid symbol"),
    ],
)
@in_loop
async def test_a_definite_answer_is_a_refusal(markets, balances, reason):
    async with account() as (venue, broker, _):
        venue.markets, venue.balances = markets, balances  # after the trader has read them
        outcome = await broker.submit(order(price=50_000.01))
        assert outcome.kind == "refused"
        assert reason in outcome.reason
        assert venue.count("POST", "/order") == 1
        assert venue.orders == []


@in_loop
async def test_what_cannot_be_an_order_is_not_sent():
    async with account() as (venue, broker, _):
        for refused in (order(0.000009), order(0.1, price=0.0), order(0.1, price=float("nan"))):
            assert (await broker.submit(refused)).kind == "refused"
        assert venue.count("POST", "/order") == 0


@in_loop
async def test_a_clock_that_is_wrong_is_refused_until_the_exchange_told_the_time():
    async with account() as (venue, broker, clock):
        venue.now = lambda: clock.now() + 60
        outcome = await broker.submit(order())
        assert outcome.kind == "refused"
        assert "recvWindow" in outcome.reason
        assert await broker.now() == pytest.approx(clock.now() + 60, abs=0.001)
        assert (await broker.submit(order(bar=1))).kind == "accepted"


@in_loop
async def test_look_ups_that_lag_do_not_find_an_order_yet():
    async with account(blind_seconds=2.0, trades_lag=4.0) as (_, broker, clock):
        await broker.submit(order())
        assert await broker.find(order()) is None
        clock.set(START + 3)
        with pytest.raises(UnreadableError, match=r"says that order 1000 traded 0\.1, and lists 0"):
            await broker.fills(START)  # balances have it already
        assert (await broker.find(order())).filled == 0.1  # the order is told before its executions
        clock.set(START + 5)
        assert (await broker.find(order())).filled == 0.0999
        assert len(await broker.fills(START)) == 1


@in_loop
async def test_what_is_not_filled_at_once_lapses():
    async with account(depth={"BTCUSDT": Decimal("0.04")}) as (_, broker, _clock):
        await broker.submit(order())
        assert await broker.find(order()) == VenueOrder(order().id, "1000", "BTC", 0.1, 0.03996, "expired")
        assert await broker.open_orders() == []
        (fill,) = await broker.fills(START)
        assert fill.shares == 0.03996


@in_loop
async def test_a_look_up_says_what_was_asked_for_before_it_was_rounded():
    async with account(balances={"BTC": Decimal(1)}) as (venue, broker, _):
        asked = order(-0.123456789)
        await broker.submit(asked)
        assert await broker.find(asked) == VenueOrder(asked.id, "1000", "BTC", -0.123456789, -0.12345, "filled")
        venue.orders[0].quantity = Decimal("0.2")  # somebody else's order under our id
        assert (await broker.find(asked)).shares == -0.2


@in_loop
async def test_a_price_beyond_the_collar_is_not_paid():
    async with account(prices={"BTCUSDT": Decimal("50250.01")}) as (_, broker, _clock):
        await broker.submit(order(price=50_000.0))  # collar at 50,250.00
        assert await broker.find(order()) == VenueOrder(order().id, "1000", "BTC", 0.1, 0.0, "expired")


@pytest.mark.parametrize("commission", ["0.001", "0.00075"])
@in_loop
async def test_fills_add_up_to_the_exchange_when_it_keeps_commission_of_what_was_bought(commission):
    async with account(commission=Decimal(commission)) as (_, broker, _clock):
        await broker.submit(order())
        shares, cash = await books(broker)
        held = await broker.holdings()
        assert held.shares == {"BTC": pytest.approx(0.1 * (1 - float(commission)), abs=1e-15)}
        assert (shares["BTC"], cash) == (pytest.approx(held.shares["BTC"], abs=1e-15), pytest.approx(held.cash))
        await broker.submit(order(-shares["BTC"], bar=1, closing=True))
        left = await broker.holdings()
        assert left.shares == ({"BTC": pytest.approx(5e-6)} if commission == "0.00075" else {})  # dust below the step
        assert (await books(broker))[1] == pytest.approx(left.cash)


@in_loop
async def test_commission_in_a_third_currency_is_neither_shares_nor_cash():
    balances = {"USDT": Decimal(10_000), "BNB": Decimal(3)}
    async with account(balances=balances, commission_asset="BNB") as (_, broker, _clock):
        await broker.submit(order())
        (fill,) = await broker.fills(START)
        assert (fill.shares, fill.fee) == (0.1, 0.0)
        assert await broker.holdings() == Holdings(5000.0, {"BTC": 0.1, "BNB": 2.999999})


@in_loop
async def test_executions_have_ids_of_their_own_and_the_id_of_their_order():
    async with account() as (venue, broker, clock):
        both = [order(0.1), order(1.0, "ETH", 2500.0)]
        for one in both:
            assert (await broker.submit(one)).kind == "accepted"
        fills = await broker.fills(START - 1)
        assert {(fill.id, fill.order) for fill in fills} == {
            ("BTC/USDT:1", both[0].id),
            ("ETH/USDT:1", both[1].id),
        }
        assert venue.count("GET", "/order") == 0  # known from sending
        again = connected(venue, clock)
        await again.fills(START - 1)
        assert await again.fills(START - 1) == fills
        assert venue.count("GET", "/order") == 2  # after a restart each is asked for once
        await again.close()


@in_loop
async def test_days_of_executions_come_in_windows_and_pages(monkeypatch):
    monkeypatch.setattr(exchanges, "_PAGE", 2)
    async with account() as (venue, broker, clock):
        for number in range(7):
            clock.set(START + number * 20_000)
            venue.now = clock.now
            await broker.now()
            await broker.submit(order(0.01, bar=number))
        fills = await broker.fills(START)
        assert [fill.id for fill in fills] == [f"BTC/USDT:{number}" for number in range(1, 8)]
        assert [fill.id for fill in await broker.fills(fills[4].at)] == ["BTC/USDT:5", "BTC/USDT:6", "BTC/USDT:7"]


QUESTIONS = {
    "find": (lambda broker: broker.find(order()), "/order"),
    "open_orders": (lambda broker: broker.open_orders(), "/openOrders"),
    "cancel_all": (lambda broker: broker.cancel_all(), "/openOrders"),
    "fills": (lambda broker: broker.fills(START), "/myTrades"),
    "holdings": (lambda broker: broker.holdings(), "/account"),
    "account_id": (lambda broker: broker.account_id(), "/account"),
    "now": (lambda broker: broker.now(), "/time"),
}


@pytest.mark.parametrize("question", QUESTIONS)
@in_loop
async def test_no_question_takes_a_bad_answer_for_nothing(question):
    ask, path = QUESTIONS[question]
    async with account(balances={"USDT": Decimal(10_000), "BTC": Decimal(1)}) as (venue, broker, _):
        for fault in ("html", "truncated", "empty", "reset", "503", "429"):
            venue.fail("GET", path, fault, times=2 if fault == "reset" else 1)  # aiohttp asks once more
            with pytest.raises(UnreadableError) as caught:
                await ask(broker)
            for text in (KEY, SECRET, "signature="):
                assert text not in str(caught.value)
        await ask(broker)


@in_loop
async def test_an_empty_list_of_balances_is_not_flat():
    async with account(balances={}) as (_, broker, _clock):
        with pytest.raises(UnreadableError, match="told no balance"):
            await broker.holdings()


@in_loop
async def test_orders_are_cancelled_by_our_id_and_all_of_them_whose_ever_they_are():
    async with account() as (venue, broker, clock):
        ids = (order().id, "web-1", "web-2")
        for number, client in enumerate(ids):
            venue.orders.append(
                Placed(number, client, Market("BTC"), "BUY", Decimal("0.01"), Decimal(100), "GTC", clock.now())
            )
        assert (await broker.cancel(order())).kind == "accepted"
        assert [placed.status for placed in venue.orders] == ["CANCELED", "NEW", "NEW"]
        assert (await broker.cancel(order())).kind == "refused"
        venue.fail("DELETE", "/order", "504", effect=False)
        with pytest.raises(UnreadableError):
            await broker.cancel_all()
        await broker.cancel_all()
        assert [placed.status for placed in venue.orders] == ["CANCELED"] * 3
        venue.fail("DELETE", "/order", "504", effect=False)
        assert (await broker.cancel(order())).kind == "unknown"


@in_loop
async def test_a_cancellation_that_has_no_effect_is_told():
    async with account() as (venue, broker, clock):
        venue.orders.append(Placed(7, "web", Market("ETH"), "SELL", Decimal(2), Decimal(9_000), "GTC", clock.now()))
        venue._cancel = lambda given: venue._look_up(given).told()
        with pytest.raises(UnreadableError, match="1 orders are open after all were cancelled, such as 7"):
            await broker.cancel_all()


@in_loop
async def test_an_order_that_ended_with_a_rest_has_lapsed_whatever_it_is_called():
    async with account(depth={"BTCUSDT": Decimal("0.04")}) as (venue, broker, _):
        await broker.submit(order())
        venue.orders[0].status = "FILLED"
        assert (await broker.find(order())).status == "expired"
        venue.orders[0].status = "PENDING_NEW_STATUS"
        with pytest.raises(UnreadableError, match="how far order 1000 is"):
            await broker.find(order())


@in_loop
async def test_orders_of_others_are_told_with_their_own_ids():
    async with account() as (venue, broker, clock):
        venue.orders.append(Placed(7, "web-1", Market("ETH"), "SELL", Decimal(2), Decimal(9_000), "GTC", clock.now()))
        assert await broker.open_orders() == [VenueOrder("web-1", "7", "ETH", -2.0, 0.0, "working")]


@in_loop
async def test_closing_without_a_price_sells_at_market():
    async with account(balances={"BTC": Decimal("0.5"), "USDT": Decimal(0)}) as (venue, broker, _):
        assert (await broker.submit(order(-0.5, price=0.0, closing=True))).kind == "accepted"
        assert venue.requests[-1][2]["type"] == "MARKET"
        assert await broker.holdings() == Holdings(24_975.0, {})


@in_loop
async def test_without_symbols_all_that_is_held_can_be_closed():
    balances = {"BTC": Decimal("0.5"), "USDT": Decimal(0), "AIRDROP": Decimal(9)}
    async with account(balances=balances) as (venue, _, clock):
        broker = connected(venue, clock, symbols=())
        assert await broker.holdings() == Holdings(0.0, {"BTC": 0.5, "AIRDROP": 9.0})
        assert (await broker.submit(order(-0.5, price=0.0, closing=True))).kind == "accepted"
        outcome = await broker.submit(order(-9.0, "AIRDROP", price=0.0, closing=True))
        assert outcome.kind == "refused"
        assert "binance, which has no AIRDROP/USDT" in outcome.reason
        assert await broker.holdings() == Holdings(24_975.0, {"AIRDROP": 9.0})
        await broker.close()


@in_loop
async def test_the_exchange_tells_account_clock_and_lattices():
    async with account() as (_, broker, clock):
        assert await broker.account_id() == "354937868"
        assert await broker.now() == clock.now()
        assert await broker.lattices(["ETH"]) == {"ETH": Lattice(0.0001, 0.0001, 5.0, 0.01, shortable=False)}
        assert await broker.window(order()) is None
        assert await broker.actions(0.0) == []
        assert (broker.name, broker.simulated) == ("ccxt-binance", False)
        assert not await broker.arm(150.0)  # Binance has no such thing on its spot market


@in_loop
async def test_a_dead_mans_switch_is_armed_where_the_exchange_has_one():
    async with account() as (_, broker, _clock):
        asked = []

        async def cancel_all_orders_after(milliseconds):
            asked.append(milliseconds)

        broker._exchange.has["cancelAllOrdersAfter"] = True
        broker._exchange.cancel_all_orders_after = cancel_all_orders_after
        assert await broker.arm(150.0)
        assert asked == [150_000]


@in_loop
async def test_no_log_has_keys_in_it(caplog):
    with caplog.at_level(logging.DEBUG):
        async with account() as (venue, broker, _):
            venue.fail("POST", "/order", "504")
            await broker.submit(order())
            await broker.find(order())
    told = [record.getMessage() for record in caplog.records if record.name != "aiohttp.access"]  # that is the fake's
    assert not [text for text in (KEY, SECRET, "signature=") if any(text in one for one in told)]


@in_loop
async def test_keys_that_an_exchange_repeats_are_struck_out():
    async with account() as (venue, broker, _):
        venue.echo = f"Key {KEY} with {SECRET} may not"
        outcome = await broker.submit(order())
        assert outcome.reason.endswith('"msg": "Key ********** with ********** may not"}')


@in_loop
async def test_a_symbol_that_the_exchange_does_not_trade_is_refused():
    async with account() as (venue, _, clock):
        broker = connected(venue, clock, symbols=["BTC", "EOS"])
        with pytest.raises(ValueError, match="EOS must be traded at binance, which has no EOS/USDT; set"):
            await broker.lattices(["BTC", "EOS"])
        await broker.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"broker": {"exchange": "kraken"}}, "`trader.broker.exchange` must be one of binance, .*, was 'kraken'"),
        ({"orders": {"style": "open"}}, "`trader.orders.style` must be auto or limit at a crypto exchange, was open"),
        ({"symbols": ["BTC/EUR"]}, r"against USDT .*, was 'BTC/EUR'; write BTC or BTC/USDT"),
        ({"symbols": ["BTC/USDT:USDT"]}, "spot market"),
        ({"credentials": {"api_key": SecretStr(KEY)}}, "must have api_key and secret_key"),
        ({"credentials": {"key": SecretStr(KEY)}}, "must be named api_key, secret_key, passphrase, was key"),
        (
            {"broker": {"exchange": "mexc"}, "sandbox": True},
            "must have a test network in mode venue_paper, mexc has none",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(changes, message):
    settings = {"symbols": ["BTC"], "credentials": CREDENTIALS, "sandbox": False, "clock": ReplayClock()} | changes
    broker = BrokerParameters(type="ccxt", **settings.pop("broker", {}))
    orders = SendingParameters(**settings.pop("orders", {}))
    symbols, credentials = settings.pop("symbols"), settings.pop("credentials")
    with pytest.raises(ValueError, match=message) as caught:
        ExchangeBroker(broker, orders, symbols, credentials, **settings)
    assert KEY not in str(caught.value)
