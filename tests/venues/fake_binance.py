"""Binance's spot REST API as ccxt 4.5.64 calls it, on a port of its own, with a script of faults.

Documented (github.com/binance/binance-spot-api-docs: rest-api.md, errors.md, filters.md): the paths, parameters and
fields that are used here; a client order id is unique among open orders only (-2010 "Duplicate order sent.");
timestamps more than 1 s ahead or more than ``recvWindow`` behind are refused with -1021; signatures are HMAC SHA256 of
query and body; 429 and 418 are refusals, 5XX leave the execution unknown; LOT_SIZE, PRICE_FILTER and NOTIONAL
(-1013 "Filter failure: ...") with ``quantity % stepSize == 0``; the rest of an IOC order is EXPIRED; look-ups are
served from memory or a database and may lag behind the matching engine; ``myTrades`` has ``orderId`` but no client
order id, and takes at most 24 hours between ``startTime`` and ``endTime`` (-1127); commission of a purchase is taken
from the base currency, of a sale from the quote currency, unless it is paid in BNB; the last kline of a page is open.

Guessed: that a look-up by a client order id that was used twice tells the newest order; that look-ups and lists of
open orders lag alike (``blind_seconds``) and trades by themselves (``trades_lag``); that a page may be one bar short
and a kline may appear late or change afterwards (told of by ccxt#12341, #12855 and #23614); that ids of trades count
up per symbol; that prices are checked before quantities, those before the id and the balance; the texts of pages of a
proxy. No recorded traffic stands behind this.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

KEY, SECRET = "key-of-a-fake-account", "secret-of-a-fake-account"
HTML = "<html><body>Checking your browser</body></html>"
COLUMNS = ("open", "high", "low", "close", "volume")
ORDER, TRADES, ACCOUNT, KLINES, TIME = "/order", "/myTrades", "/account", "/klines", "/time"
INTERVALS = {"1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "1d": 86_400}


class RefusalError(Exception):
    """An answer in Binance's form of an error."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.body, self.status = {"code": code, "msg": message}, status


@dataclass(frozen=True)
class Market:
    """A symbol and its filters."""

    base: str
    quote: str = "USDT"
    tick: str = "0.01"
    step: str = "0.00001"
    least: str = "0.00001"
    notional: str = "5"

    @property
    def id(self) -> str:
        return self.base + self.quote

    def told(self) -> dict[str, Any]:
        """Return the entry of ``exchangeInfo``."""
        filters = [
            {"filterType": "PRICE_FILTER", "minPrice": self.tick, "maxPrice": "1000000", "tickSize": self.tick},
            {"filterType": "LOT_SIZE", "minQty": self.least, "maxQty": "9000", "stepSize": self.step},
            {"filterType": "NOTIONAL", "minNotional": self.notional, "applyMinToMarket": True, "avgPriceMins": 5},
        ]
        names = {"symbol": self.id, "baseAsset": self.base, "quoteAsset": self.quote, "status": "TRADING"}
        precisions = {"baseAssetPrecision": 8, "quoteAssetPrecision": 8, "quotePrecision": 8}
        kinds = {
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
            "permissions": ["SPOT"],
            "permissionSets": [["SPOT"]],
        }
        return names | precisions | kinds | {"isSpotTradingAllowed": True, "filters": filters}


@dataclass
class Placed:
    """An order in the book."""

    id: int
    client: str
    market: Market
    side: str
    quantity: Decimal
    price: Decimal
    lifetime: str
    at: float
    kind: str = "LIMIT"
    filled: Decimal = Decimal(0)
    paid: Decimal = Decimal(0)
    status: str = "NEW"

    def told(self) -> dict[str, Any]:
        """Return it as Binance tells an order."""
        return {
            "symbol": self.market.id,
            "orderId": self.id,
            "orderListId": -1,
            "clientOrderId": self.client,
            "price": str(self.price),
            "origQty": str(self.quantity),
            "executedQty": str(self.filled),
            "cummulativeQuoteQty": str(self.paid),
            "status": "PARTIALLY_FILLED" if self.status == "NEW" and self.filled else self.status,
            "timeInForce": self.lifetime,
            "type": self.kind,
            "side": self.side,
            "time": round(self.at * 1000),
            "updateTime": round(self.at * 1000),
            "isWorking": True,
        }


@dataclass
class FakeBinance:
    """One account at one exchange.

    Attributes:
        now: The exchange's clock, seconds since 1970.
        markets: What is traded.
        balances: Free and locked together, by currency.
        prices: At which orders execute, by symbol of Binance (``BTCUSDT``).
        depth: How much of a symbol the next order finds at that price; all that it asks for by default.
        commission: Share of what is received.
        commission_asset: Currency that pays it instead, such as ``BNB``.
        blind_seconds: Time after an order during which look-ups and lists of orders do not know of it.
        trades_lag: Time after an execution during which balances know of it and trades do not.
        late: Time from which a kline is there, by symbol and end.
        chaos: Called with method and path of each request without a scripted fault; gives its fault, empty for none,
            and whether what was asked for is done all the same.
        short_pages: Whether a page lacks its last kline.
        echo: A refusal of every signed request, if not empty.
        requests: All that came: method, path behind ``/api/v3`` and parameters.
        orders: The book, in order of arrival.
        trades: All executions as Binance tells them.
    """

    now: Callable[[], float]
    markets: tuple[Market, ...] = (Market("BTC"), Market("ETH", step="0.0001", least="0.0001"))
    balances: dict[str, Decimal] = field(default_factory=lambda: {"USDT": Decimal(10_000)})
    prices: dict[str, Decimal] = field(default_factory=lambda: {"BTCUSDT": Decimal(50_000), "ETHUSDT": Decimal(2_500)})
    depth: dict[str, Decimal] = field(default_factory=dict)
    commission: Decimal = Decimal("0.001")
    commission_asset: str | None = None
    blind_seconds: float = 0.0
    trades_lag: float = 0.0
    late: dict[tuple[str, float], float] = field(default_factory=dict)
    chaos: Callable[[str, str], tuple[str, bool]] = lambda method, path: ("", True)
    short_pages: bool = False
    echo: str = ""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    orders: list[Placed] = field(default_factory=list)
    trades: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    _faults: dict[tuple[str, str], deque[tuple[str, bool]]] = field(default_factory=lambda: defaultdict(deque))
    _klines: dict[tuple[str, str], dict[float, tuple[float, ...]]] = field(default_factory=lambda: defaultdict(dict))

    def fail(self, method: str, path: str, fault: str, *, effect: bool = True, times: int = 1) -> None:
        """Let the next requests fail.

        Args:
            method: HTTP method.
            path: Behind ``/api/v3``.
            fault: ``timeout``, ``reset``, ``html`` (with status 200), ``truncated``, ``empty``, or a status.
            effect: Whether what was asked for is done all the same.
            times: How often.
        """
        self._faults[method, path].extend([(fault, effect)] * times)

    def count(self, method: str, path: str) -> int:
        """Return how many such requests came."""
        return sum((method, path) == request[:2] for request in self.requests)

    def set_kline(self, symbol: str, interval: str, end: float, values: Mapping[str, float]) -> None:
        """Set a bar by its end; before that time it is told as an open one, with another close and less volume."""
        self._klines[symbol, interval][end] = tuple(values[name] for name in COLUMNS)

    async def __aenter__(self) -> FakeBinance:
        app = web.Application()
        app.router.add_route("*", "/api/v3/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        method, path = request.method, f"/{request.match_info['path']}"
        body = (await request.read()).decode()
        params = dict(request.query) | dict(parse_qsl(body))
        self.requests.append((method, path, params))
        waiting = self._faults[method, path]
        fault, effect = waiting.popleft() if waiting else self.chaos(method, path)
        if fault in ("429", "418"):
            effect = False
        status = 200
        try:
            answer = self._do(method, path, params, request, body) if effect else {}
        except RefusalError as error:
            status, answer = error.status, error.body
        text = json.dumps(answer)
        if fault == "timeout":
            await asyncio.sleep(60)
        if fault == "reset" and request.transport is not None:
            request.transport.abort()
        if fault in ("429", "418"):
            text, status = json.dumps({"code": -1003, "msg": "Too much request weight used."}), int(fault)
        elif fault.isdigit():
            text, status = HTML, int(fault)
        elif fault == "html":
            return web.Response(text=HTML, content_type="text/html")
        elif fault == "empty":
            text = ""
        elif fault == "truncated":
            text = text[: len(text) // 2]
        return web.Response(text=text, status=status, content_type="application/json")

    def _do(self, method: str, path: str, params: dict[str, str], request: web.Request, body: str) -> Any:
        if path == TIME:
            return {"serverTime": round(self.now() * 1000)}
        if path == "/exchangeInfo":
            return {"timezone": "UTC", "symbols": [market.told() for market in self.markets]}
        if path == KLINES:
            return self._page(params)
        self._authenticate(params, request.headers.get("X-MBX-APIKEY"), request.query_string + body)
        if self.echo:
            raise RefusalError(-2010, self.echo)
        handler = {
            ("POST", ORDER): self._place,
            ("GET", ORDER): lambda given: self._look_up(given).told(),
            ("DELETE", ORDER): self._cancel,
            ("GET", "/openOrders"): self._open,
            ("GET", "/allOrders"): lambda given: [order.told() for order in self._seen(given)],
            ("GET", TRADES): self._my_trades,
            ("GET", ACCOUNT): lambda given: self._account(),
        }.get((method, path))
        if handler is None:
            raise RefusalError(-1020, f"The fake has no {method} {path}.", 404)
        return handler(params)

    def _authenticate(self, params: dict[str, str], key: str | None, signed: str) -> None:
        if key != KEY:
            raise RefusalError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        text, _, signature = signed.rpartition("&signature=")
        if hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest() != signature:
            raise RefusalError(-1022, "Signature for this request is not valid.")
        server, sent = self.now() * 1000, float(params["timestamp"])
        if sent >= server + 1000:
            raise RefusalError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if server - sent > float(params.get("recvWindow", 5000)):
            raise RefusalError(-1021, "Timestamp for this request is outside of the recvWindow.")

    def _market(self, params: dict[str, str]) -> Market:
        found = [market for market in self.markets if market.id == params.get("symbol")]
        if not found:
            raise RefusalError(-1121, "Invalid symbol.")
        return found[0]

    def _place(self, params: dict[str, str]) -> dict[str, Any]:
        market, side, client = self._market(params), params["side"], params["newClientOrderId"]
        quantity, kind = Decimal(params["quantity"]), params["type"]
        price = Decimal(params["price"]) if kind == "LIMIT" else self.prices[market.id]
        if price % Decimal(market.tick):
            raise RefusalError(-1013, "Filter failure: PRICE_FILTER")
        if quantity < Decimal(market.least) or quantity % Decimal(market.step):
            raise RefusalError(-1013, "Filter failure: LOT_SIZE")
        if quantity * price < Decimal(market.notional):
            raise RefusalError(-1013, "Filter failure: NOTIONAL")
        if any(order.client == client and order.status == "NEW" for order in self.orders):
            raise RefusalError(-2010, "Duplicate order sent.")
        needed = {market.quote: quantity * price} if side == "BUY" else {market.base: quantity}
        if any(self._free(asset) < amount for asset, amount in needed.items()):
            raise RefusalError(-2010, "Account has insufficient balance for requested action.")
        number, lifetime = 1000 + len(self.orders), params.get("timeInForce", "IOC" if kind == "MARKET" else "GTC")
        order = Placed(number, client, market, side, quantity, price, lifetime, self.now(), kind)
        self.orders.append(order)
        fills = self._match(order)
        if order.status == "NEW" and lifetime == "IOC":  # at once, so that no list ever shows it as open
            order.status = "EXPIRED"
        return order.told() | {"transactTime": round(order.at * 1000), "fills": fills}

    def _match(self, order: Placed) -> list[dict[str, Any]]:
        market, price = order.market, self.prices[order.market.id]
        crosses = price <= order.price if order.side == "BUY" else price >= order.price
        amount = min(order.quantity, self.depth.pop(market.id, order.quantity)) if crosses else Decimal(0)
        if not amount:
            return []
        bought = order.side == "BUY"
        received, asset = (amount, market.base) if bought else (amount * price, market.quote)
        fee = received * self.commission
        if self.commission_asset is not None:
            fee, asset = fee * Decimal("0.01"), self.commission_asset
        self._move(market.base, amount if bought else -amount)
        self._move(market.quote, -amount * price if bought else amount * price)
        self._move(asset, -fee)
        order.filled, order.paid = amount, amount * price
        order.status = "FILLED" if amount == order.quantity else "NEW"
        number = 1 + sum(trade["symbol"] == market.id for trade in self.trades)
        trade = {
            "symbol": market.id,
            "id": number,
            "orderId": order.id,
            "orderListId": -1,
            "price": str(price),
            "qty": str(amount),
            "quoteQty": str(amount * price),
            "commission": str(fee),
            "commissionAsset": asset,
            "time": round(order.at * 1000),
            "isBuyer": bought,
            "isMaker": False,
            "isBestMatch": True,
        }
        self.trades.append(trade)
        told = {"price": trade["price"], "qty": trade["qty"], "tradeId": number}
        return [told | {"commission": trade["commission"], "commissionAsset": asset}]

    def _move(self, asset: str, amount: Decimal) -> None:
        self.balances[asset] = self.balances.get(asset, Decimal(0)) + amount

    def _locked(self, asset: str) -> Decimal:
        locked = Decimal(0)
        for order in (one for one in self.orders if one.status == "NEW"):
            rest = order.quantity - order.filled
            buys = {order.market.quote: rest * order.price}
            locked += (buys if order.side == "BUY" else {order.market.base: rest}).get(asset, Decimal(0))
        return locked

    def _free(self, asset: str) -> Decimal:
        return self.balances.get(asset, Decimal(0)) - self._locked(asset)

    def _seen(self, params: dict[str, str]) -> list[Placed]:
        symbol = params.get("symbol")
        return [
            one for one in self.orders if self.now() >= one.at + self.blind_seconds and symbol in (None, one.market.id)
        ]

    def _look_up(self, params: dict[str, str]) -> Placed:
        number, client = params.get("orderId"), params.get("origClientOrderId")
        found = [order for order in self._seen(params) if str(order.id) == number or order.client == client]
        if not found:
            raise RefusalError(-2013, "Order does not exist.")
        return found[-1]

    def _cancel(self, params: dict[str, str]) -> dict[str, Any]:
        number, client = params.get("orderId"), params.get("origClientOrderId")
        for order in self.orders:
            if order.status == "NEW" and (str(order.id) == number or order.client == client):
                order.status = "CANCELED"
                return order.told() | {"origClientOrderId": order.client, "clientOrderId": "cancel"}
        raise RefusalError(-2011, "Unknown order sent.")

    def _open(self, params: dict[str, str]) -> list[dict[str, Any]]:
        return [order.told() for order in self._seen(params) if order.status == "NEW"]

    def _my_trades(self, params: dict[str, str]) -> list[dict[str, Any]]:
        symbol, limit = self._market(params).id, int(params.get("limit", 500))
        begin, end = float(params.get("startTime", 0)), float(params.get("endTime", 1e15))
        if "startTime" in params and "endTime" in params and end - begin > 86_400_000:
            raise RefusalError(-1127, "More than 24 hours between startTime and endTime.")
        newest = min(end, (self.now() - self.trades_lag) * 1000 + 1)
        found = [trade for trade in self.trades if trade["symbol"] == symbol and begin <= trade["time"] <= newest]
        return found[:limit]

    def _account(self) -> dict[str, Any]:
        balances = [
            {"asset": asset, "free": str(self._free(asset)), "locked": str(self._locked(asset))}
            for asset in self.balances
        ]
        return {"uid": 354937868, "accountType": "SPOT", "canTrade": True, "updateTime": 0, "balances": balances}

    def _page(self, params: dict[str, str]) -> list[list[Any]]:
        symbol, interval = self._market(params).id, params["interval"]
        length, limit = INTERVALS[interval], int(params.get("limit", 500))
        begin, end = float(params.get("startTime", 0)) / 1000, float(params.get("endTime", 1e15)) / 1000
        rows = []
        for stop, values in sorted(self._klines[symbol, interval].items()):
            start = stop - length
            if not begin <= start <= end or start > self.now() or self.now() < self.late.get((symbol, stop), 0.0):
                continue
            opened, high, low, close, volume = values
            if self.now() < stop:
                close, volume = (opened + close) / 2, volume / 2
            numbers = [str(value) for value in (opened, high, low, close, volume)]
            rows.append([round(start * 1000), *numbers, round(stop * 1000) - 1, "0", 10, "0", "0", "0"])
        rows = rows[:limit]
        return rows[:-1] if self.short_pages else rows
