"""Crypto exchanges by the package ccxt: spot, marketable limit orders with a collar, immediate or cancel.

A fill's shares are what the account got: a commission that the exchange keeps back in the traded currency is taken off
them, and is the fill's fee at its price, so that shares and cash both add up to the exchange's. A commission in a third
currency (BNB) touches neither and is no fee. What a look-up says of an order of ours is in the same terms: the shares
that were asked for before they were rounded, and those that the account got.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from pydantic import SecretStr

from sentio_kedro.config.live.trader import BrokerParameters, SendingParameters
from sentio_kedro.trader.brokers.exchange_client import ExchangeClient
from sentio_kedro.trader.clock import Clock
from sentio_kedro.trader.orders import (
    CorporateAction,
    Fill,
    Holdings,
    Lattice,
    Order,
    OrderStatus,
    Outcome,
    UnreadableError,
    VenueOrder,
)

EXCHANGES = ("binance", "binanceus", "bitget", "kucoin", "mexc", "okx")
"""Where ccxt looks orders up and cancels them by client id, and takes 32 digits as one."""

_STATUSES: dict[str, OrderStatus] = {
    "open": "working",
    "canceling": "working",
    "closed": "filled",
    "canceled": "cancelled",
    "expired": "expired",
    "rejected": "refused",
}
_ROUNDING = Decimal("1e-6")  # of a step by which sums of floats may be too small
_WINDOW = 86_400.0  # seconds of trades that Binance tells at once
_PAGE = 1000
_REMEMBERED = 10_000  # client ids by the exchange's


class ExchangeBroker:
    """An account at a crypto exchange."""

    crosses_zero, simulated = True, False

    def __init__(
        self,
        broker: BrokerParameters,
        orders: SendingParameters,
        symbols: Sequence[str],
        credentials: Mapping[str, SecretStr],
        sandbox: bool,
        clock: Clock,
    ) -> None:
        """Prepare a connection; nothing is sent yet.

        Args:
            broker: Exchange, quote currency and address.
            orders: How orders are sent.
            symbols: The agents' symbols, whose executions are told; may be empty to close what is held.
            credentials: ``api_key``, ``secret_key`` and, where the exchange has one, ``passphrase``.
            sandbox: Whether to use the exchange's test network.
            clock: The trader's clock.

        Raises:
            ValueError: If exchange, style, symbols or credentials cannot be used.
        """
        if broker.exchange not in EXCHANGES:
            raise ValueError(
                f"`trader.broker.exchange` must be one of {', '.join(EXCHANGES)}, was {broker.exchange!r}: at others "
                "an order whose answer was lost cannot be looked up by its id; use mode paper there."
            )
        if orders.style not in ("auto", "limit"):
            raise ValueError(
                f"`trader.orders.style` must be auto or limit at a crypto exchange, was {orders.style}; set `auto`."
            )
        self._client = ExchangeClient(
            broker.exchange,
            symbols,
            broker.quote,
            clock,
            timeout_seconds=orders.timeout_seconds,
            url=broker.url,
            sandbox=sandbox,
            credentials=credentials,
        )
        self.name = f"ccxt-{broker.exchange}"
        self._exchange, self._quote, self._clock = self._client.exchange, broker.quote, clock
        missing = [key for key, needed in self._exchange.requiredCredentials.items() if needed]
        if any(not getattr(self._exchange, key) for key in missing):
            raise ValueError(
                f"Credentials of {broker.exchange} must have api_key and secret_key, and passphrase where the exchange "
                "gave one; complete the entry of conf/local/credentials.yml that `trader.broker.credentials` names."
            )
        self._collar = Decimal(str(orders.collar_bps)) / 10_000
        self._key = credentials["api_key"].get_secret_value()
        self._lattices: dict[str, Lattice] = {}
        self._ids: dict[str, str] = {}
        self._unlisted: dict[str, tuple[float, float]] = {}  # time and amount that an order traded, trades not all seen

    async def account_id(self) -> str:
        """Return the exchange's number of the account, or one that follows from the API key."""
        balance = await self._client.ask(self._exchange.fetch_balance())
        told = balance["info"].get("uid") if isinstance(balance["info"], dict) else None
        return str(told) if told else f"key-{hashlib.sha256(self._key.encode()).hexdigest()[:12]}"

    async def now(self) -> float:
        """Return the exchange's clock."""
        return await self._client.now()

    async def lattices(self, symbols: Sequence[str]) -> dict[str, Lattice]:
        """Return steps, least amounts and ticks of the markets; nothing can be held short on a spot market.

        Raises:
            UnreadableError: If the exchange does not tell.
            ValueError: If it does not trade a symbol.
        """
        markets = await self._client.markets(symbols)
        found = {symbol: _lattice(market) for symbol, market in markets.items()}
        self._lattices |= found
        return found

    async def window(self, order: Order) -> tuple[float, float] | None:
        """The market is always open: orders may be sent until the trader's own deadline."""
        return None

    async def submit(self, order: Order) -> Outcome:
        """Send an order once: at most ``collar_bps`` beyond the decision's close; what is not filled at once lapses.

        The quantity is rounded down to the exchange's step. An order to close without a price is sent at market.
        """
        try:
            lattice = self._lattices.get(order.symbol) or (await self.lattices([order.symbol]))[order.symbol]
        except (UnreadableError, ValueError) as error:
            return Outcome("refused", reason=f"not sent: {error}")
        amount, limit = _rounded(order, lattice, self._collar)
        if amount <= 0 or amount < Decimal(str(lattice.least)):
            return Outcome("refused", reason=f"{order.shares} {order.symbol} is less than the exchange's least order")
        if limit is None and not order.closing:
            return Outcome("refused", reason=f"a limit order must have a price, was {order.price}")
        terms = {"clientOrderId": order.id} | ({} if limit is None else {"timeInForce": "IOC"})
        try:
            told = await self._exchange.create_order(
                self._client.name_of(order.symbol),
                "market" if limit is None else "limit",
                "buy" if order.shares > 0 else "sell",
                float(amount),
                None if limit is None else float(limit),
                terms,
            )
            venue_id = str(told["id"] or "")
            self._await_trades(venue_id, told)
        except self._client.expected as error:
            return self._client.outcome(error)
        if not venue_id:
            return Outcome("unknown", reason="the exchange gave the order no id")
        self._remember(venue_id, order.id)
        return Outcome("accepted", venue_id)

    async def find(self, order: Order) -> VenueOrder | None:
        """Look an order up by its client id, open or not; None only if the exchange says that there is none.

        Its executions are asked for too, for what the account got; until they are all there it is what was traded.
        """
        name = self._client.name_of(order.symbol)
        try:
            told = await self._exchange.fetch_order(None, name, {"clientOrderId": order.id})
        except self._client.absent:
            return None
        except self._client.expected as error:
            raise UnreadableError(self._client.told(error)) from None
        found = self._parsed(told)
        if found.id != order.id:
            raise UnreadableError(f"Asked for order {order.id}, {self.name} told of {found.id or 'one without an id'}.")
        lattice = self._lattices.get(order.symbol) or (await self.lattices([order.symbol]))[order.symbol]
        if abs(found.shares) == float(_rounded(order, lattice, self._collar)[0]):
            found = replace(found, shares=math.copysign(order.shares, found.shares))
        if not found.filled:
            return found
        trades = [one for one in await self._trades(name, told["timestamp"] / 1000) if one["order"] == found.venue_id]
        if not math.isclose(sum(one["amount"] for one in trades), abs(found.filled), rel_tol=1e-9):
            return found
        return replace(found, filled=sum([(await self._fill(one)).shares for one in trades]))

    async def cancel(self, order: Order) -> Outcome:
        """Ask for a cancellation; what came of it is what ``find`` says."""
        try:
            await self._exchange.cancel_order(None, self._client.name_of(order.symbol), {"clientOrderId": order.id})
        except self._client.absent as error:
            return Outcome("refused", reason=self._client.told(error))
        except self._client.expected as error:
            return self._client.outcome(error)
        return Outcome("accepted")

    async def cancel_all(self) -> None:
        """Cancel all open orders of the account.

        Raises:
            UnreadableError: If that was not answered definitely, or some are open still.
        """
        for one in await self._client.ask(self._exchange.fetch_open_orders()):
            try:
                await self._exchange.cancel_order(one["id"], one["symbol"])
            except self._client.absent:
                continue  # it has ended meanwhile
            except self._client.expected as error:
                raise UnreadableError(self._client.told(error)) from None
        left = await self.open_orders()
        if left:
            raise UnreadableError(f"{len(left)} orders are open after all were cancelled, such as {left[0].venue_id}.")

    async def open_orders(self) -> list[VenueOrder]:
        """Return all open orders of the account, also those of others."""
        return [self._parsed(one) for one in await self._client.ask(self._exchange.fetch_open_orders())]

    async def fills(self, since: float) -> list[Fill]:
        """Return the executions of the agents' symbols from ``since`` on, in order of time.

        An exchange's trades name its own id of the order: the client id is known from sending or looking up, or is
        asked for once.

        Raises:
            UnreadableError: If the exchange does not tell, or has told an order to be filled and lists less: balances
                may be ahead of trades.
        """
        trades = [trade for name in self._client.symbols.values() for trade in await self._trades(name, since)]
        for venue, (at, amount) in list(self._unlisted.items()):
            listed = sum(trade["amount"] for trade in trades if trade["order"] == venue)
            if at >= since and listed < amount * (1 - 1e-9):
                raise UnreadableError(f"{self.name} says that order {venue} traded {amount:g}, and lists {listed:g}.")
            del self._unlisted[venue]
        fills = [await self._fill(trade) for trade in trades]
        return sorted(fills, key=lambda fill: (fill.at, fill.id))

    async def holdings(self) -> Holdings:
        """Return the quote currency as cash and all others as positions, free and locked together.

        Raises:
            UnreadableError: If the exchange tells of no currency at all: an empty answer is no empty account.
        """
        total = (await self._client.ask(self._exchange.fetch_balance()))["total"]
        unknown = [currency for currency, held in total.items() if held is None]
        if not total or unknown:
            raise UnreadableError(f"{self.name} told no balance" + f" of {', '.join(unknown)}." * bool(unknown))
        named = {self._client.symbol_of(f"{currency}/{self._quote}"): held for currency, held in total.items() if held}
        return Holdings(float(named.pop(self._quote, 0.0)), {symbol: float(held) for symbol, held in named.items()})

    async def actions(self, since: float) -> list[CorporateAction]:
        """Nothing is paid and nothing splits; a deposit shows as a difference of cash, which a person adopts."""
        return []

    async def arm(self, seconds: float) -> bool:
        """Let the exchange cancel all orders unless armed again; False where it cannot, or did not answer."""
        if not self._exchange.has.get("cancelAllOrdersAfter"):
            return False
        try:
            await self._exchange.cancel_all_orders_after(round(seconds * 1000))
        except self._client.expected:
            return False
        return True

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    def _parsed(self, told: Mapping[str, Any]) -> VenueOrder:
        status, sign = _STATUSES.get(told["status"]), 1.0 if told["side"] == "buy" else -1.0
        if status is None or told["amount"] is None or told["filled"] is None:
            raise UnreadableError(f"{self.name} did not tell how far order {told['id']} is: {told['status']}.")
        if status == "filled" and told["filled"] < told["amount"]:
            status = "expired"
        client, venue = str(told["clientOrderId"] or ""), str(told["id"])
        self._remember(venue, client)
        self._await_trades(venue, told)
        symbol = self._client.symbol_of(told["symbol"])
        return VenueOrder(client, venue, symbol, sign * told["amount"], sign * told["filled"], status)

    async def _trades(self, name: str, since: float) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        begin, end = round(since * 1000), round(self._clock.now() * 1000) + 60_000  # the exchange's clock may be ahead
        while begin < end:
            until = min(begin + round(_WINDOW * 1000), end)
            page = await self._client.ask(self._exchange.fetch_my_trades(name, begin, _PAGE, {"until": until}))
            new = {trade["id"]: trade for trade in page if trade["id"] not in found}
            found |= new
            full = len(page) >= _PAGE and bool(new)
            begin = max(trade["timestamp"] for trade in page) if full else until
        return [trade for trade in found.values() if trade["timestamp"] >= since * 1000]

    async def _fill(self, trade: Mapping[str, Any]) -> Fill:
        name, venue = trade["symbol"], str(trade["order"])
        if venue not in self._ids:
            self._parsed(await self._client.ask(self._exchange.fetch_order(venue, name)))
        base = name.partition("/")[0]
        fees = {currency: 0.0 for currency in (base, self._quote)}
        for fee in trade["fees"]:
            if fee["currency"] in fees:
                fees[fee["currency"]] += fee["cost"]
        shares = float(Decimal(str(trade["amount"])) * (1 if trade["side"] == "buy" else -1) - Decimal(str(fees[base])))
        symbol, price = self._client.symbol_of(name), float(trade["price"])
        paid = fees[self._quote] + fees[base] * price
        return Fill(f"{name}:{trade['id']}", self._ids[venue], symbol, shares, price, paid, trade["timestamp"] / 1000)

    def _await_trades(self, venue: str, told: Mapping[str, Any]) -> None:
        if told["filled"] and told["timestamp"] and told["symbol"] in self._client.symbols.values():
            self._unlisted[venue] = told["timestamp"] / 1000, told["filled"]

    def _remember(self, venue: str, client: str) -> None:
        self._ids[venue] = client
        if len(self._ids) > _REMEMBERED:
            del self._ids[next(iter(self._ids))]


def _lattice(market: Mapping[str, Any]) -> Lattice:
    precision, limits = market["precision"], market["limits"]
    return Lattice(
        step=float(precision["amount"] or 0.0),
        least=float(limits["amount"]["min"] or 0.0),
        least_notional=float(limits["cost"]["min"] or 0.0),
        tick=float(precision["price"] or 0.0),
        shortable=False,
        tradable=market["active"] is not False,
    )


def _rounded(order: Order, lattice: Lattice, collar: Decimal) -> tuple[Decimal, Decimal | None]:
    """Return shares and limit on the exchange's lattice, neither ever more than what was decided."""
    amount = _onto(
        abs(Decimal(repr(order.shares))) + _ROUNDING * Decimal(repr(lattice.step)), lattice.step, ROUND_FLOOR
    )
    if not order.price > 0.0:
        return amount, None
    bought = order.shares > 0
    limit = Decimal(repr(order.price)) * (1 + (collar if bought else -collar))
    return amount, _onto(limit, lattice.tick, ROUND_FLOOR if bought else ROUND_CEILING)


def _onto(value: Decimal, step: float, rounding: str) -> Decimal:
    size = Decimal(repr(step))
    return value if not size else (value / size).to_integral_value(rounding) * size
