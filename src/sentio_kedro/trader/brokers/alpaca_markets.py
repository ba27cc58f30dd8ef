"""Alpaca, a broker of US stocks, by the package alpaca-py.

Its client sends an order again by itself on 429 and 504, and waits for an answer without end; here every request is
made once, within a time limit, in a thread. Accepted and refused are definite answers alone: 2xx with the order, and
4xx with the venue's reason. ``client_order_id must be unique`` says that the order may be there: unknown. So is 429,
which the documents do not say to come before an effect; the order is looked up and, if absent, sent again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

from pydantic import SecretStr

from sentio_kedro.config.live.trader import BrokerParameters, SendingParameters
from sentio_kedro.trader.brokers.alpaca_answers import (
    NEW_YORK,
    actions_of,
    fill_of,
    lattice_of,
    order_of,
    seconds_told,
)
from sentio_kedro.trader.brokers.alpaca_orders import DAY, fields_of, style_of, window_of
from sentio_kedro.trader.brokers.calls import Answer, Calls
from sentio_kedro.trader.clock import Clock, stamp_of
from sentio_kedro.trader.orders import (
    CorporateAction,
    Fill,
    Holdings,
    Lattice,
    Order,
    Outcome,
    UnreadableError,
    VenueOrder,
)

KEYS = ("api_key", "secret_key")
_TAKEN = re.compile(r"client.?order.?id.*unique", re.IGNORECASE)
_PAGE, _ORDERS = 100, 500  # most activities and orders of an answer
_SINGLE = 100  # assets that are asked for one by one
_LOOK_BACK = 7 * DAY  # activities without a time are dated by their day, which may be booked later
_REMEMBERED = 10_000  # orders whose client id is known without asking
_NOT_FOUND = 404
_TRIES = 3  # to read cash and positions of the same moment


class AlpacaBroker:
    """An account at Alpaca. Whole shares at the open of daily bars, limits with a collar otherwise.

    Attributes:
        name, crosses_zero, simulated: See ``Broker``.
    """

    name, crosses_zero, simulated = "alpaca", False, False

    def __init__(
        self,
        parameters: BrokerParameters,
        orders: SendingParameters,
        credentials: Mapping[str, SecretStr],
        paper: bool,
        bar_seconds: float,
        clock: Clock,
    ) -> None:
        """Open an account.

        Args:
            parameters: Address and hours.
            orders: How orders are sent.
            credentials: ``api_key`` and ``secret_key``.
            paper: Whether it is the paper account.
            bar_seconds: Length of the agents' bars.
            clock: The trader's clock.

        Raises:
            ValueError: If a key is missing.
        """
        from alpaca.common.exceptions import APIError  # noqa: PLC0415 - of the extra `alpaca`
        from alpaca.trading import requests  # noqa: PLC0415
        from alpaca.trading.client import TradingClient  # noqa: PLC0415

        require_keys(credentials)
        self._orders, self._clock, self._bar_seconds = orders, clock, bar_seconds
        self._style, self._extended = style_of(orders.style, bar_seconds), parameters.session_hours == "extended"
        self._client: Any = TradingClient(
            **{key: credentials[key].get_secret_value() for key in KEYS},
            paper=paper,
            raw_data=True,
            url_override=parameters.url.rstrip("/") if parameters.url else None,
        )
        self._client._retry = 0
        self._words: Any = requests
        secrets = [secret.get_secret_value() for secret in credentials.values()]
        self._calls = Calls("alpaca", orders.timeout_seconds, APIError, secrets)
        self._calls.limit(self._client._session)
        self._own: dict[str, str] = {}  # client id by the venue's
        self._asking = asyncio.Lock()
        self._told: tuple[float, Mapping[str, Any]] = (
            float("-inf"),
            {},
        )  # answer about the session, until when it holds

    async def account_id(self) -> str:
        """Return the account's number as the dashboard shows it."""
        with _readable("account"):
            return str((await self._account())["account_number"])

    async def now(self) -> float:
        """Return the venue's clock."""
        with _readable("clock"):
            return seconds_told((await self._session(fresh=True))["timestamp"])

    async def lattices(self, symbols: Sequence[str]) -> dict[str, Lattice]:
        """Return what it takes of each symbol; a symbol that it does not know is not tradable."""
        account = await self._account()
        if len(symbols) > _SINGLE:
            rows = await self._read("assets", lambda: self._client.get("/assets", {"status": "active"}), list)
        else:
            rows = await asyncio.gather(*(self._asset(symbol) for symbol in symbols))
        with _readable("assets"):
            assets = {row["symbol"]: lattice_of(row, account) for row in rows if row}
        return {symbol: assets.get(symbol, Lattice(shortable=False, tradable=False)) for symbol in symbols}

    async def window(self, order: Order) -> tuple[float, float] | None:
        """Return from when until when an order may be sent; see ``window_of``."""
        with _readable("clock"):
            told, within = await self._session(), self._orders.decide_within * self._bar_seconds
            return window_of(order, self._style, self._extended, told, self._clock.now(), within)

    async def submit(self, order: Order) -> Outcome:
        """Send an order once."""
        try:
            request = self._request(order)
        except ValueError as error:
            return Outcome("refused", reason=self._calls.shown(f"no order of Alpaca: {error}"))
        answer = await self._calls.ask(lambda: self._client.submit_order(request))
        body = answer.body if isinstance(answer.body, dict) else {}
        if answer.kind == "refused":
            return Outcome("unknown" if _TAKEN.search(answer.reason) else "refused", reason=answer.reason)
        if answer.kind == "none" or body.get("client_order_id") != order.id or not body.get("id"):
            return Outcome("unknown", reason=answer.reason or "the answer is not about this order")
        self._remember(body)
        if body.get("status") == "rejected":
            return Outcome("refused", body["id"], "rejected")
        return Outcome("accepted", body["id"])

    def _request(self, order: Order) -> Any:
        emergency = order.closing and order.price == 0.0  # no price to keep a distance from, and now
        style = "market" if emergency else self._style
        fields = fields_of(order, style, self._orders.collar_bps, self._extended)
        return (self._words.LimitOrderRequest if "limit_price" in fields else self._words.MarketOrderRequest)(**fields)

    async def find(self, order: Order) -> VenueOrder | None:
        """Look an order up by its client id, open or not."""
        answer = await self._calls.ask(lambda: self._client.get_order_by_client_id(order.id))
        if answer.status == _NOT_FOUND and answer.kind == "refused":
            return None
        row = self._content(f"order {order.id}", answer, dict)
        if row.get("client_order_id") != order.id:
            raise UnreadableError(f"`alpaca` must tell order {order.id}, told another; ask again.")
        with _readable(f"order {order.id}"):
            return self._order(row)

    async def cancel(self, order: Order) -> Outcome:
        """Ask for a cancellation."""
        try:
            found = await self.find(order)
        except UnreadableError as error:
            return Outcome("unknown", reason=str(error))
        if found is None:
            return Outcome("refused", reason="there is no such order")
        answer = await self._calls.ask(lambda: self._client.cancel_order_by_id(found.venue_id))
        kind = {"good": "accepted", "refused": "refused"}.get(answer.kind, "unknown")
        return Outcome(kind, found.venue_id, answer.reason)  # type: ignore[arg-type]

    async def cancel_all(self) -> None:
        """Cancel all open orders of the account."""
        rows = await self._read("cancellations", self._client.cancel_orders, list)
        failed = [str(row.get("id")) for row in rows if int(row.get("status", 0)) not in (200, 204, 404, 422)]
        if failed:  # 404 and 422: it had ended by itself
            raise UnreadableError(f"`alpaca` must cancel all orders, did not cancel {', '.join(failed)}; try again.")

    async def open_orders(self) -> list[VenueOrder]:
        """Return all open orders of the account."""
        query = {"status": "open", "limit": _ORDERS, "direction": "asc"}
        with _readable("orders"):  # those of the same second may be on two pages
            rows = await self._pages(
                "/orders", query, _ORDERS, lambda row: {"after": stamp_of(int(seconds_told(row["submitted_at"])) - 1)}
            )
            return [self._order(row) for row in rows]

    async def fills(self, since: float) -> list[Fill]:
        """Return all executions of the account from ``since`` on, by their own ids, never summed from orders."""
        with _readable("executions"):
            rows = await self._activities("trade_activity", since - 1.0)
            rows = [row for row in rows if seconds_told(row["transaction_time"]) >= since]
            orders = sorted({row["order_id"] for row in rows})
            names = dict(zip(orders, await asyncio.gather(*map(self._client_id, orders)), strict=True))
            found = [fill_of(row, names[row["order_id"]]) for row in rows]
        return sorted(found, key=lambda fill: (fill.at, fill.id))

    async def holdings(self) -> Holdings:
        """Return cash and positions of the same moment; fees that are taken off day by day count when booked."""
        with _readable("positions"):
            for _ in range(_TRIES):
                before = await self._account()
                rows = await self._read("positions", self._client.get_all_positions, list)
                account = await self._account()
                if account["cash"] == before["cash"]:
                    cash = float(account["cash"]) + float(account.get("accrued_fees") or 0.0)
                    return Holdings(cash, {row["symbol"]: _signed(row) for row in rows if float(row["qty"])})
        raise UnreadableError(
            f"`alpaca` must tell cash and positions of one moment, cash moved {_TRIES} times; ask again."
        )

    async def actions(self, since: float) -> list[CorporateAction]:
        """Return cash flows and splits from ``since`` on; what is dated only, from that day on."""
        with _readable("activities"):
            found = actions_of(await self._activities("non_trade_activity", since - _LOOK_BACK))
        return [
            action for action in found if action.at >= since or _midnight(since) <= action.at == _midnight(action.at)
        ]

    async def arm(self, seconds: float) -> bool:
        """Alpaca cannot: its orders here end with the session."""
        return False

    async def close(self) -> None:
        """Close connections."""
        self._calls.close()
        self._client._session.close()

    # questions

    async def _account(self) -> dict[str, Any]:
        return dict(await self._read("account", self._client.get_account, dict))

    async def _asset(self, symbol: str) -> dict[str, Any] | None:
        answer = await self._calls.ask(lambda: self._client.get_asset(symbol))
        if answer.status == _NOT_FOUND and answer.kind == "refused":
            return None
        return dict(self._content(f"asset {symbol}", answer, dict))

    async def _session(self, *, fresh: bool = False) -> Mapping[str, Any]:
        """Return the venue's answer about its clock, which holds until the session begins or ends."""
        async with self._asking:  # orders of a bar ask at the same time
            until, told = self._told
            if fresh or self._clock.now() >= until:
                told = await self._read("clock", self._client.get_clock, dict)
                self._told = seconds_told(told["next_close" if told["is_open"] else "next_open"]), told
            return told

    async def _activities(self, category: str, after: float) -> list[dict[str, Any]]:
        query = {"category": category, "direction": "asc", "page_size": _PAGE, "after": stamp_of(max(after, 0.0))}
        return await self._pages("/account/activities", query, _PAGE, lambda row: {"page_token": row["id"]})

    async def _pages(
        self, path: str, query: dict[str, Any], size: int, turn: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return the rows of all pages, each once; ``turn`` gives what asks for the page after a row."""
        found: dict[str, dict[str, Any]] = {}
        while True:
            known, rows = len(found), await self._read(path, partial(self._client.get, path, dict(query)), list)
            found |= {row["id"]: row for row in rows}
            if len(rows) < size:
                return list(found.values())
            if len(found) == known:
                raise UnreadableError(f"`alpaca` must tell all of {path}, tells the same page again; ask again.")
            query |= turn(rows[-1])

    async def _client_id(self, venue_id: str) -> str:
        """Return the client id of an order; empty if the venue does not know it."""
        if venue_id not in self._own:
            answer = await self._calls.ask(lambda: self._client.get_order_by_id(venue_id))
            if answer.status == _NOT_FOUND and answer.kind == "refused":
                return ""
            self._order(self._content(f"order {venue_id}", answer, dict))
        return self._own[venue_id]

    async def _read(self, what: str, request: Callable[[], Any], form: type) -> Any:
        return self._content(what, await self._calls.ask(request), form)

    @staticmethod
    def _content(what: str, answer: Answer, form: type) -> Any:
        if answer.kind == "good" and isinstance(answer.body, form):
            return answer.body
        reason = answer.reason or f"it told {type(answer.body).__name__}"
        raise UnreadableError(f"`alpaca` must tell its {what}, did not: {reason}; ask again.")

    def _order(self, row: Mapping[str, Any]) -> VenueOrder:
        self._remember(row)
        return order_of(row)

    def _remember(self, row: Mapping[str, Any]) -> None:
        self._own[row["id"]] = row["client_order_id"]
        if len(self._own) > _REMEMBERED:
            del self._own[next(iter(self._own))]


def require_keys(credentials: Mapping[str, SecretStr]) -> None:
    """Refuse credentials without the keys of Alpaca.

    Raises:
        ValueError: With the names that there are.
    """
    if not set(KEYS) <= set(credentials):
        raise ValueError(
            f"`credentials` of alpaca must hold {' and '.join(KEYS)}, hold {sorted(credentials) or 'nothing'}; write "
            "them into conf/local/credentials.yml and name that entry in `trader.broker.credentials`."
        )


def _signed(row: Mapping[str, Any]) -> float:
    size = abs(float(row["qty"]))
    return size if row["side"] == "long" else -size


def _midnight(at: float) -> float:
    return datetime.fromtimestamp(at, NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Make an answer without the fields that it should have an answer that cannot be read."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        name = type(error).__name__
        raise UnreadableError(
            f"`alpaca` must tell its {what} in the known form, did not ({name}); ask again."
        ) from None
