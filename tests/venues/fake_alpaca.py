"""A fake of Alpaca on 127.0.0.1: trading API, stock bars, corporate actions, and the stream of bars, with faults.

Documented (docs.alpaca.markets, or read in the code of alpaca-py 0.44.0):

- Addresses, field names, numbers as texts, status words; 404 for an order or asset that is not there; 204 after a
  cancellation, 207 with a status for each order after a cancellation of all.
- A client order id is taken once for ever, also after the order ended; the second one gets 422.
- 403 ``insufficient buying power``; the code 40310000. Open orders to buy reduce the buying power.
- ``opg`` is rejected between 9:28 and 19:00 New York, waits for the next opening auction otherwise, and its rest is
  cancelled after it. ``day`` after the close waits for the next session. Extended hours want ``limit`` and ``day``.
- Fractions go as ``day`` alone, are sold from a long position alone, and have nine digits; limits above a dollar have
  two decimals.
- Activities come in pages of 100 at most by ``page_token``, the id of the last one; ids begin with a time of New York.
- ``GET /orders`` gives 50 orders unless ``limit`` says more, 500 at most.
- Bars are stamped at their begin, a day's bar at New York's midnight. The stream sends ``b`` after each minute and
  ``u`` when trades came late; its messages are msgpack.

Guessed (seen in public code and issues, not in the documents):

- The words and codes of the other refusals; the status of refused ``opg`` orders (422); ``order is not cancelable``.
- That ``after`` of the activities takes a time and leaves out what is older, and ``created_at`` of those that are no
  trades; that a split is booked as a pair, ``REMOVE`` and ``ADD``, some minutes apart, of type ``SPLIT``.
- That ``cash`` has the accrued fees taken off already (the documents say so of "account balances").
- That 429 and 504 may stand before or after the effect: the script says which.
- What a lost answer does to the connection: hang, reset, a page in place of JSON, half of the JSON.

The market is one price a symbol: orders fill at it at once, up to ``liquidity`` shares; no queue, no spread.
"""

import asyncio
import json
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import msgpack
from aiohttp import WSMsgType, web

NEW_YORK = ZoneInfo("America/New_York")
BEFORE = ("504 before", "429", "500", "503", "hang", "reset", "html", "forbidden page")
AFTER = ("504 after", "429 after", "hang after", "reset after", "html after", "truncated", "empty", "other order")
LOST = (*BEFORE, *AFTER)
"""Faults that leave a client without a definite answer; those of ``AFTER`` after the effect."""
_PAGES = {"html", "html after", "forbidden page"}


class RefusedError(Exception):
    """An answer of the venue that says no."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.body = status, {"code": code, "message": message}


def iso(seconds: float) -> str:
    """Write a time as the venue does."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(text: str) -> float:
    """Read a time that a client wrote."""
    when = datetime.fromisoformat(text.replace(" ", "+"))
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


class FakeAlpaca:
    """The venue: what it holds may be read and changed by a test between requests.

    Attributes:
        now: Its clock, seconds since 1970.
        cash, positions, prices, liquidity: Account and market; ``liquidity`` is shares a fill, and none for a symbol is
            all.
        script: Faults by ``METHOD /path`` as tests write it, taken one a request.
        log: ``(method, path, body or query)`` of all requests.
        bars: Rows ``{t, o, h, l, c, v}`` by timeframe and symbol.
    """

    def __init__(self) -> None:
        self.url = ""
        self.secrets: tuple[str, ...] = ("PKTESTKEY", "never-to-be-shown")
        self._loop: asyncio.AbstractEventLoop | None = None
        self.reset(datetime(2026, 1, 6, 10, 0, tzinfo=NEW_YORK).timestamp())

    def reset(self, now: float, cash: float = 100_000.0) -> None:
        """Begin anew."""
        self.now, self.cash, self.accrued_fees = now, cash, 0.0
        self.positions: dict[str, float] = {}
        self.prices = {"AAA": 100.0, "BBB": 50.0}
        self.liquidity: dict[str, float] = {}
        self.assets = {name: self.asset(name) for name in self.prices}
        self.orders: dict[str, dict[str, Any]] = {}
        self.activities: list[dict[str, Any]] = []
        self.script: dict[str, list[str]] = defaultdict(list)
        self.log: list[tuple[str, str, Any]] = []
        self.holidays: set[str] = set()
        self.shorting = True
        self.bars: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        self.corporate: dict[str, list[dict[str, Any]]] = {}
        self.page = 1000
        self.mute, self.connections, self.sockets = False, 0, set[web.WebSocketResponse]()
        self.most_orders = 500

    @staticmethod
    def asset(symbol: str, **changed: Any) -> dict[str, Any]:
        """Make an asset."""
        flags = dict.fromkeys(("tradable", "marginable", "shortable", "easy_to_borrow", "fractionable"), True)
        about = {"id": str(uuid4()), "class": "us_equity", "exchange": "NASDAQ", "symbol": symbol, "status": "active"}
        return {**about, **flags, **changed}

    def requests(self, method: str, path: str) -> list[Any]:
        """Bodies or queries of the requests so far."""
        return [about for one, where, about in self.log if (one, where) == (method, path)]

    # the market

    def session(self, at: float) -> tuple[float, float]:
        """Open and close of the session that is on at a time, or comes next."""
        day = datetime.fromtimestamp(at, NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0)
        while True:
            close = day.replace(hour=16).timestamp()
            if day.weekday() < 5 and f"{day:%Y-%m-%d}" not in self.holidays and at < close:
                return day.replace(hour=9, minute=30).timestamp(), close
            day += timedelta(days=1)

    def is_open(self) -> bool:
        return self.session(self.now)[0] <= self.now

    def move(self, now: float) -> None:
        """Let time pass: sessions open and close, and orders fill, lapse and begin to work."""
        while True:
            begin, end = self.session(self.now)
            edge = end if begin <= self.now else begin
            if edge > now:
                break
            self.now = edge
            self._close() if edge == end else self._open()
        self.now = now

    def _open(self) -> None:
        for order in self.working():
            order["status"] = "new"
            self._execute(order)
            if order["time_in_force"] == "opg" and order["status"] in ("new", "partially_filled"):
                self._end(order, "canceled")

    def _close(self) -> None:
        for order in self.working():
            if order["time_in_force"] == "day" and order["status"] != "accepted":
                self._end(order, "expired")

    def working(self) -> list[dict[str, Any]]:
        return [one for one in self.orders.values() if one["status"] in ("new", "accepted", "partially_filled")]

    def fill(self, order: dict[str, Any], qty: float, price: float) -> dict[str, Any]:
        """Execute a part of an order, and keep it as an activity."""
        sign = 1.0 if order["side"] == "buy" else -1.0
        self.cash -= sign * qty * price
        held = round(self.positions.get(order["symbol"], 0.0) + sign * qty, 9)
        self.positions[order["symbol"]] = held
        if not held:
            del self.positions[order["symbol"]]
        filled = round(float(order["filled_qty"]) + qty, 9)
        done = filled >= float(order["qty"])
        order.update(filled_qty=str(filled), status="filled" if done else "partially_filled", filled_at=iso(self.now))
        activity = {
            "id": self._activity_id(self.now),
            "activity_type": "FILL",
            "transaction_time": iso(self.now),
            "type": "fill" if done else "partial_fill",
            "price": str(price),
            "qty": str(qty),
            "side": order["side"],
            "symbol": order["symbol"],
            "leaves_qty": str(round(float(order["qty"]) - filled, 9)),
            "order_id": order["id"],
            "cum_qty": str(filled),
            "order_status": order["status"],
        }
        self.activities.append(activity)
        return activity

    def book(self, kind: str, at: float, net_amount: float = 0.0, **more: Any) -> dict[str, Any]:
        """Keep an activity that is no trade."""
        self.cash += net_amount
        date = f"{datetime.fromtimestamp(at, NEW_YORK):%Y-%m-%d}"
        about = {"id": self._activity_id(at), "activity_type": kind, "date": date, "created_at": iso(at)}
        activity = {**about, "net_amount": str(net_amount), "description": "", "status": "executed", **more}
        self.activities.append(activity)
        return activity

    @staticmethod
    def _activity_id(at: float) -> str:
        return f"{datetime.fromtimestamp(at, NEW_YORK):%Y%m%d%H%M%S}000::{uuid4()}"

    def _execute(self, order: dict[str, Any]) -> None:
        price, side = self.prices[order["symbol"]], order["side"]
        limit = float(order["limit_price"] or 0.0)
        if limit and (price > limit if side == "buy" else price < limit):
            return
        rest = round(float(order["qty"]) - float(order["filled_qty"]), 9)
        rest = min(rest, self.liquidity.get(order["symbol"], rest))
        if rest:
            self.fill(order, rest, price)

    def _end(self, order: dict[str, Any], status: str) -> None:
        order.update(status=status, **{f"{status}_at": iso(self.now)})

    # the trading API

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take an order, or refuse it."""
        asset = self.assets.get(body["symbol"])
        if asset is None:
            raise RefusedError(422, 42210000, f"asset {body['symbol']} not found")
        if any(one["client_order_id"] == body["client_order_id"] for one in self.orders.values()):
            raise RefusedError(422, 40010001, "client_order_id must be unique")
        self._refuse(body, asset)
        order = {
            "id": str(uuid4()),
            "client_order_id": body["client_order_id"],
            "submitted_at": iso(self.now),
            "symbol": body["symbol"],
            "asset_class": "us_equity",
            "notional": None,
            "qty": str(body["qty"]),
            "filled_qty": "0",
            "type": body["type"],
            "side": body["side"],
            "time_in_force": body["time_in_force"],
            "limit_price": None if body.get("limit_price") is None else str(body["limit_price"]),
            "extended_hours": bool(body.get("extended_hours")),
            "status": "accepted",
        }
        self.orders[order["id"]] = order
        extended = order["extended_hours"] and 4 <= datetime.fromtimestamp(self.now, NEW_YORK).hour < 20
        answer = dict(order, status="pending_new")
        if order["time_in_force"] != "opg" and (self.is_open() or extended):
            order["status"] = "new"
            self._execute(order)
        return answer

    def _refuse(self, body: dict[str, Any], asset: dict[str, Any]) -> None:
        qty, kind, term = float(body["qty"]), body["type"], body["time_in_force"]
        if not asset["tradable"]:
            raise RefusedError(403, 40310000, f"asset {body['symbol']} is not tradable")
        clock = datetime.fromtimestamp(self.now, NEW_YORK)
        if term == "opg" and (9, 28) <= (clock.hour, clock.minute) < (19, 0):
            raise RefusedError(422, 42210000, "opg orders are not accepted between 9:28am and 7:00pm")
        if body.get("extended_hours") and (kind, term) != ("limit", "day"):
            raise RefusedError(422, 42210000, "extended hours order must be DAY limit orders")
        if kind == "limit" and body["limit_price"] >= 1.0 and round(body["limit_price"], 2) != body["limit_price"]:
            why = "sub-penny increment does not fulfill minimum pricing criteria"
            raise RefusedError(422, 42210000, f"invalid limit_price {body['limit_price']}. {why}")
        held = self.positions.get(body["symbol"], 0.0)
        if qty != int(qty):
            if term != "day":
                raise RefusedError(422, 42210000, "fractional orders must be DAY orders")
            if not asset["fractionable"]:
                raise RefusedError(403, 40310000, f'asset "{body["symbol"]}" is not fractionable')
            if body["side"] == "sell" and held < qty:
                raise RefusedError(403, 40310000, "fractional orders cannot be sold short")
        if body["side"] == "sell" and held > 0.0 and qty > held:
            raise RefusedError(403, 40310000, f"insufficient qty available for order (requested: {qty})")
        if body["side"] == "sell" and held <= 0.0 and not (self.shorting and asset["shortable"]):
            raise RefusedError(403, 40310000, "account is not allowed to short")
        waiting = sum(float(one["qty"]) * self.prices[one["symbol"]] for one in self.working() if one["side"] == "buy")
        if body["side"] == "buy" and held >= 0.0 and waiting + qty * self.prices[body["symbol"]] > self.cash:
            raise RefusedError(403, 40310000, "insufficient buying power")

    async def _answer(self, request: web.Request, body: Any) -> Any:  # noqa: PLR0911 - an address each
        """Return the content of a good answer; raise ``RefusedError`` for others."""
        where, query, parts = request.path, request.query, request.path.split("/")
        if where == "/v2/account":
            number = {"id": str(uuid4()), "account_number": "PA3TEST", "status": "ACTIVE", "currency": "USD"}
            money = {"cash": str(round(self.cash - self.accrued_fees, 2)), "accrued_fees": str(self.accrued_fees)}
            return {**number, **money, "shorting_enabled": self.shorting, "trading_blocked": False}
        if where == "/v2/clock":
            begin, end = self.session(self.now)
            after = self.session(end)[0] if begin <= self.now else begin
            times = (("timestamp", self.now), ("next_open", after), ("next_close", end))
            told = {name: datetime.fromtimestamp(at, NEW_YORK).isoformat() for name, at in times}
            return {**told, "is_open": self.is_open()}
        if where == "/v2/positions":
            return [self._position(symbol, qty) for symbol, qty in self.positions.items()]
        if where.startswith("/v2/assets/"):
            if parts[3] not in self.assets:
                raise RefusedError(404, 40410000, f"asset not found for {parts[3]}")
            return self.assets[parts[3]]
        if where == "/v2/assets":
            return list(self.assets.values())
        if where.startswith("/v2/account/activities"):
            return self._activities(query, parts[4] if len(parts) > 4 else None)
        if where.startswith("/v2/orders"):
            return self._order(request.method, where, query, body)
        if where == "/v2/stocks/bars":
            return self._bars(query)
        if where == "/v1/corporate-actions":
            asked = query["symbols"].split(",")
            found = {kind: [one for one in rows if one["symbol"] in asked] for kind, rows in self.corporate.items()}
            return {"corporate_actions": {kind: rows for kind, rows in found.items() if rows}, "next_page_token": None}
        raise RefusedError(404, 40410000, "endpoint not found")

    def _order(self, method: str, where: str, query: Any, body: Any) -> Any:
        if method == "POST":
            return self.submit(body)
        if where == "/v2/orders:by_client_order_id":
            found = [one for one in self.orders.values() if one["client_order_id"] == query["client_order_id"]]
            if not found:
                raise RefusedError(404, 40410000, "order not found")
            return found[0]
        if where == "/v2/orders" and method == "DELETE":
            return [self._cancelled(one) for one in self.working()]
        if where == "/v2/orders":
            shown = self.working() if query.get("status", "open") == "open" else list(self.orders.values())
            after = seconds(query["after"]) if "after" in query else 0.0
            shown = sorted((one for one in shown if seconds(one["submitted_at"]) > after), key=_submitted)
            shown = shown if query.get("direction") == "asc" else shown[::-1]
            return shown[: min(int(query.get("limit", 50)), self.most_orders)]
        order = self.orders.get(where.rpartition("/")[2])
        if order is None:
            raise RefusedError(404, 40410000, "order not found")
        if method == "DELETE":
            if order not in self.working():
                raise RefusedError(422, 42210000, f'order is already in "{order["status"]}" state')
            self._end(order, "canceled")
            return None
        return order

    def _cancelled(self, order: dict[str, Any]) -> dict[str, Any]:
        fault = self.script["cancel one"].pop(0) if self.script["cancel one"] else None
        if fault:
            return {"id": order["id"], "status": int(fault), "body": {"message": "failed to cancel"}}
        self._end(order, "canceled")
        return {"id": order["id"], "status": 200, "body": None}

    def _position(self, symbol: str, qty: float) -> dict[str, Any]:
        side = "long" if qty > 0 else "short"
        about = {"asset_id": self.assets[symbol]["id"], "symbol": symbol, "exchange": "NASDAQ", "side": side}
        return {**about, "asset_class": "us_equity", "qty": str(qty), "current_price": str(self.prices[symbol])}

    def _activities(self, query: Any, kind: str | None) -> list[dict[str, Any]]:
        kinds = {kind} if kind else {"FILL"} if query.get("category") == "trade_activity" else None
        shown = sorted(self.activities, key=lambda one: one["id"])
        if kinds:
            shown = [one for one in shown if one["activity_type"] in kinds]
        elif query.get("category") == "non_trade_activity":
            shown = [one for one in shown if one["activity_type"] != "FILL"]
        if "after" in query:
            after = seconds(query["after"])
            shown = [one for one in shown if seconds(one.get("transaction_time") or one["created_at"]) > after]
        shown = shown if query.get("direction") == "asc" else shown[::-1]
        if "page_token" in query:
            ids = [one["id"] for one in shown]
            shown = shown[ids.index(query["page_token"]) + 1 :]
        return shown[: min(int(query.get("page_size", 100)), 100)]

    def _bars(self, query: Any) -> dict[str, Any]:
        assert query["adjustment"] == "raw"
        first, last = seconds(query["start"]), seconds(query["end"])
        names = sorted(query["symbols"].split(","))
        rows = [(name, row) for name in names for row in self.bars[query["timeframe"]][name]]
        rows = [(name, row) for name, row in rows if first <= seconds(row["t"]) <= min(last, self.now)]
        begin = int(query.get("page_token") or 0)
        found: dict[str, list[Any]] = {}
        for name, row in rows[begin : begin + self.page]:
            found.setdefault(name, []).append({"n": 1, "vw": row["c"], **row})
        return {"bars": found, "next_page_token": str(begin + self.page) if begin + self.page < len(rows) else None}

    # the server

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else dict(request.query)
        self.log.append((request.method, request.path, body))
        said = (request.headers.get("APCA-API-KEY-ID"), request.headers.get("APCA-API-SECRET-KEY"))
        if said != self.secrets:
            return self._json(401, {"message": f"unauthorized: {said[0]} {said[1]}"})
        waiting = self.script[f"{request.method} {request.path}"]
        fault = waiting.pop(0) if waiting else ""
        if fault in BEFORE:
            return await self._broken(request, fault)
        try:
            content, status = await self._answer(request, body), 200
        except RefusedError as error:
            content, status = error.body, error.status
        if fault:
            return await self._broken(request, fault, content)
        if content is None:
            return self._dated(web.Response(status=204))
        several = request.method == "DELETE" and isinstance(content, list)
        return self._json(207 if several else status, content)

    async def _broken(self, request: web.Request, fault: str, content: Any = None) -> web.StreamResponse:
        if fault.startswith("hang"):
            await asyncio.wait_for(self._stopped.wait(), 30)
        if fault.startswith(("hang", "reset")):
            line = request.transport
            if line is not None:
                line.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                line.abort()
            return web.Response()
        if fault in _PAGES:
            status = 403 if fault == "forbidden page" else 200
            return web.Response(status=status, text="<html>Please log in</html>", content_type="text/html")
        if fault == "truncated":
            text = json.dumps(content)
            return web.Response(text=text[: len(text) // 2], content_type="application/json")
        if fault == "empty":
            return web.Response(text="")
        if fault == "other order":
            return self._json(200, {**content, "client_order_id": "another"})
        return self._json(int(fault[:3]), {"message": "try again"})

    def _json(self, status: int, content: Any) -> web.Response:
        return self._dated(web.json_response(content, status=status))

    def _dated(self, answer: web.Response) -> web.Response:
        answer.headers["Date"] = formatdate(self.now, usegmt=True)
        return answer

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        line = web.WebSocketResponse()
        await line.prepare(request)
        self.connections += 1
        await self._send(line, {"T": "success", "msg": "connected"})
        async for message in line:
            if message.type != WSMsgType.BINARY:
                break
            said = msgpack.unpackb(message.data)
            if said["action"] == "auth":
                good = (said["key"], said["secret"]) == self.secrets
                await self._send(
                    line,
                    {"T": "success", "msg": "authenticated"} if good else {"T": "error", "code": 402, "msg": "failed"},
                )
            elif said["action"] == "subscribe":
                channels = {name: said.get(name, []) for name in ("bars", "updatedBars")}
                await self._send(line, {"T": "subscription", **channels})
                self.sockets.add(line)
        self.sockets.discard(line)
        return line

    @staticmethod
    async def _send(line: web.WebSocketResponse, *messages: dict[str, Any]) -> None:
        await line.send_bytes(msgpack.packb(list(messages), datetime=True))

    def emit(self, kind: str, *bars: tuple[str, dict[str, Any]]) -> None:
        """Send bars to all who listen, unless the socket is mute: ``b`` new, ``u`` revised."""
        messages = [
            {"T": kind, "S": symbol, **row, "t": datetime.fromtimestamp(seconds(row["t"]), UTC), "n": 1, "vw": row["c"]}
            for symbol, row in bars
        ]

        async def send() -> None:
            for line in list(self.sockets):
                await self._send(line, *messages)

        if not self.mute:
            self.run(send())

    def drop(self) -> None:
        """Close all sockets."""

        async def close() -> None:
            for line in list(self.sockets):
                await line.close()

        self.run(close())

    def run(self, coroutine: Any) -> None:
        """Run something in the server's loop and wait for it."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(5)

    async def start(self) -> None:
        """Listen."""
        self._stopped = asyncio.Event()
        application = web.Application()
        application.router.add_get("/v2/iex", self._stream)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._loop = asyncio.get_running_loop()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def free(self) -> None:
        """Let go of what hangs."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def stop(self) -> None:
        """Listen no more."""
        self._stopped.set()
        await self._runner.cleanup()


def _submitted(order: dict[str, Any]) -> float:
    return seconds(order["submitted_at"])


@contextmanager
def serving(venue: FakeAlpaca) -> Iterator[FakeAlpaca]:
    """Run a venue in a thread of its own."""
    loop, ready = asyncio.new_event_loop(), threading.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(venue.start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(venue.stop())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield venue
    finally:
        venue.free()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
