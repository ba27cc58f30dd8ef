"""An exchange in memory, and the trader's ``Broker`` over it with a script of faults. No network, no threads, no sleep.

Documented behaviour (by the venues' own pages): Alpaca refuses a client order id that it has ever seen (422
"client_order_id must be unique"); Binance spot and Kraken refuse one only while an order under it is open, and take
it again afterwards; an order that is refused has no effect; each execution has an id of its own, unique for ever;
market orders that are partly filled go on, immediate-or-cancel orders expire with a rest; a split multiplies shares
and divides the price; a dividend moves cash alone.

Guessed: that look-ups and lists of open orders both miss an order during its first two seconds while its executions
are listed at once (``blind``); that a look-up under an id that was used twice tells the newest order; that a duplicate
is answered before any other refusal; that a cancellation takes effect at once; that a split cancels open orders of
the symbol.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

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

Kind = Literal["unique_for_ever", "unique_open", "blind"]
KINDS: tuple[Kind, ...] = ("unique_for_ever", "unique_open", "blind")


class RefusedError(Exception):
    """The venue says no, definitely."""


class DuplicateError(Exception):
    """The venue knows this client order id already."""


@dataclass
class Placed:
    """An order in the venue's book."""

    id: str
    venue_id: str
    symbol: str
    shares: float
    at: float
    filled: float = 0.0
    status: OrderStatus = "working"
    reason: str = ""

    @property
    def rest(self) -> float:
        return self.shares - self.filled


@dataclass
class Venue:
    """A deterministic exchange with one account.

    Attributes:
        kind: Whether client ids are unique for ever, or among open orders only; ``blind`` is the latter with look-ups
            that see no order during its first ``blind_seconds``.
        time: The world's time, seconds since 1970; ``skew`` is what the venue's clock is ahead of it.
        cash: Quote currency.
        prices: By symbol, set by the test.
        shares: Positions.
        at_once: Share of an order that is filled on arrival.
        rest: Whether the rest ``works`` or ``expires``.
        fee: Fraction of notional.
        refuse: Reasons for which the next orders are refused, one each.
    """

    kind: Kind = "unique_for_ever"
    time: Callable[[], float] = lambda: 0.0
    cash: float = 100_000.0
    prices: dict[str, float] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    lattices: dict[str, Lattice] = field(default_factory=dict)
    at_once: float = 1.0
    rest: Literal["works", "expires"] = "works"
    fee: float = 0.0
    skew: float = 0.0
    blind_seconds: float = 2.0
    refuse: list[str] = field(default_factory=list)
    book: list[Placed] = field(default_factory=list)
    executions: list[Fill] = field(default_factory=list)
    corporate: list[CorporateAction] = field(default_factory=list)
    later: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    posts: dict[str, int] = field(default_factory=dict)
    armed_until: float | None = None
    effect: float | None = None

    def now(self) -> float:
        """The venue's clock; while a late request takes effect, the time at which it came."""
        return (self.time() if self.effect is None else self.effect) + self.skew

    def catch_up(self) -> None:
        """Do what was under way and has arrived by now."""
        due = [entry for entry in self.later if entry[0] <= self.time()]
        self.later = [entry for entry in self.later if entry[0] > self.time()]
        for self.effect, effect in sorted(due, key=lambda entry: entry[0]):
            effect()
        self.effect = None
        if self.armed_until is not None and self.time() >= self.armed_until:
            self.armed_until = None
            self.cancel_all()

    # What the account's owner asks for.

    def submit(self, id: str, symbol: str, shares: float) -> Placed:
        """Take an order; ``DuplicateError`` or ``RefusedError`` otherwise."""
        self.posts[id] = self.posts.get(id, 0) + 1
        same = [order for order in self.book if id and order.id == id]
        if any(self.kind == "unique_for_ever" or order.status == "working" for order in same):
            raise DuplicateError("client order id must be unique")
        lattice = self.lattices.get(symbol, Lattice())
        if self.refuse:
            raise RefusedError(self.refuse.pop(0))
        if symbol not in self.prices or not lattice.tradable:
            raise RefusedError(f"{symbol} is not tradable")
        placed = Placed(id, f"v{len(self.book) + 1}", symbol, shares, self.now())
        self.book.append(placed)
        if self.at_once:
            self.execute(placed, shares if self.at_once >= 1 else self._floor(symbol, shares * self.at_once))
        if placed.status == "working" and self.rest == "expires":
            placed.status = "expired"
        return placed

    def _floor(self, symbol: str, shares: float) -> float:
        step = self.lattices.get(symbol, Lattice()).step
        return shares if not step else (1 if shares > 0 else -1) * (abs(shares) // step) * step

    def find(self, id: str) -> Placed | None:
        """The newest order under a client id."""
        seen = [order for order in self.book if order.id == id and self._visible(order)]
        return seen[-1] if seen else None

    def _visible(self, order: Placed) -> bool:
        return self.kind != "blind" or self.now() - order.at >= self.blind_seconds

    def cancel(self, id: str) -> None:
        """Cancel an open order."""
        for order in self.book:
            if order.id == id and order.status == "working":
                order.status = "cancelled"
                return
        raise RefusedError("no such open order")

    def cancel_all(self) -> None:
        """Cancel all open orders."""
        for order in self.book:
            if order.status == "working":
                order.status = "cancelled"

    # What the market and others do.

    def execute(self, order: Placed, shares: float) -> None:
        """Fill so many signed shares of an order, be it more than it asked for."""
        if not shares:
            return
        order.filled += shares
        if abs(order.filled) >= abs(order.shares) - 1e-12 and order.status == "working":
            order.status = "filled"
        self._book(order.id, order.symbol, shares)

    def _book(self, id: str, symbol: str, shares: float) -> None:
        price = self.prices[symbol]
        fee = abs(shares) * price * self.fee
        self.executions.append(Fill(f"x{len(self.executions) + 1}", id, symbol, shares, price, fee, self.now()))
        self.cash -= shares * price + fee
        left = self.shares.get(symbol, 0.0) + shares
        if abs(left) < 1e-9:
            self.shares.pop(symbol, None)
        else:
            self.shares[symbol] = left

    def trade(self, share: float = 1.0) -> None:
        """Fill a share of the rest of all open orders."""
        for order in self.book:
            if order.status == "working":
                self.execute(order, order.rest if share >= 1 else self._floor(order.symbol, order.rest * share))

    def expire(self) -> None:
        """End all open orders, as a venue does at the end of its day."""
        for order in self.book:
            if order.status == "working":
                order.status = "expired"

    def stranger(self, symbol: str, shares: float, *, fills: bool = True, id: str = "") -> None:
        """Let somebody else trade in the account, or leave an open order there."""
        placed = Placed(id, f"v{len(self.book) + 1}", symbol, shares, self.now())
        self.book.append(placed)
        if fills:
            self.execute(placed, shares)

    def split(self, symbol: str, ratio: float) -> None:
        """Give ``ratio`` new shares for each old one."""
        for order in self.book:
            if order.symbol == symbol and order.status == "working":
                order.status = "cancelled"
        self.prices[symbol] /= ratio
        if symbol in self.shares:
            self.shares[symbol] *= ratio
        self._act("split", symbol, 0.0, ratio)

    def dividend(self, symbol: str, each: float) -> None:
        """Pay so much for each share held."""
        paid = each * self.shares.get(symbol, 0.0)
        self.cash += paid
        if paid:
            self._act("dividend", symbol, paid, 1.0)

    def _act(self, kind: Any, symbol: str, cash: float, ratio: float) -> None:
        id = f"c{len(self.corporate) + 1}"
        self.corporate.append(CorporateAction(id, kind, symbol, cash, ratio, self.now()))

    # What it tells.

    def told(self, order: Placed) -> VenueOrder:
        """An order as it is told."""
        return VenueOrder(
            order.id, order.venue_id, order.symbol, order.shares, order.filled, order.status, order.reason
        )

    def open_orders(self) -> list[VenueOrder]:
        """All open orders that can be seen."""
        return [self.told(order) for order in self.book if order.status == "working" and self._visible(order)]


FAULTS: Mapping[str, tuple[str, ...]] = {
    "submit": ("lost_answer", "lost_request", "slow_request", "slow_answer"),
    "cancel": ("lost_answer", "lost_request"),
    "find": ("unreadable", "under_report", "over_report"),
    "open_orders": ("unreadable",),
    "fills": ("unreadable", "duplicate"),
    "holdings": ("unreadable",),
    "actions": ("unreadable", "duplicate"),
    "now": ("unreadable",),
}
"""Faults by request: ``lost_answer`` after the effect; ``lost_request`` before it; ``slow_request`` lets the effect
come ``seconds`` later, after the caller has given up; ``slow_answer`` gives the answer of a done effect late;
reports of a status that tells less or more shares than were executed; lists in which each entry comes twice."""


@dataclass
class Faults:
    """Which requests go wrong.

    Attributes:
        script: ``(request, fault)``, each used once by the next request of its name.
        share: Chance by fault that a request which knows it has it, drawn by ``seed``.
        seconds: Of slow requests and answers.
        counts: How often each fault happened.
    """

    script: list[tuple[str, str]] = field(default_factory=list)
    share: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    seconds: float = 1.0
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311

    def next(self, request: str) -> str:
        """The fault of this request; empty if it goes well."""
        fault = ""
        for entry in self.script:
            if entry[0] == request:
                self.script.remove(entry)
                fault = entry[1]
                break
        else:
            for name in FAULTS.get(request, ()):
                if (share := self.share.get(name, 0.0)) and self.random.random() < share:
                    fault = name
                    break
        if fault:
            self.counts[fault] = self.counts.get(fault, 0) + 1
        return fault


@dataclass
class Wire:
    """Requests to a venue with faults, answered at once; ``slow`` is how late the last answer comes, seconds."""

    venue: Venue
    faults: Faults = field(default_factory=Faults)
    slow: float = 0.0

    def _begin(self, request: str) -> str:
        self.venue.catch_up()
        self.slow = 0.0
        fault = self.faults.next(request)
        if fault == "unreadable":
            raise UnreadableError(f"{request}: 503, no answer")
        return fault

    def submit(self, order: Order) -> Outcome:
        """One POST. A duplicate is unknown: the venue has, or had, an order under this id."""
        fault = self._begin("submit")
        if fault == "lost_request":
            return Outcome("unknown", reason="reset before the request was sent")
        if fault == "slow_request":
            self.venue.later.append((self.venue.time() + self.faults.seconds, lambda: self._post(order)))
            return Outcome("unknown", reason="no answer in time")
        outcome = self._post(order)
        if fault == "slow_answer":
            self.slow = self.faults.seconds
        return Outcome("unknown", reason="504") if fault == "lost_answer" else outcome

    def _post(self, order: Order) -> Outcome:
        try:
            return Outcome("accepted", self.venue.submit(order.id, order.symbol, order.shares).venue_id)
        except DuplicateError as error:
            return Outcome("unknown", reason=str(error))
        except RefusedError as error:
            return Outcome("refused", reason=str(error))

    def find(self, order: Order) -> VenueOrder | None:
        """Look up by client id."""
        fault = self._begin("find")
        placed = self.venue.find(order.id)
        if placed is None:
            return None
        told = self.venue.told(placed)
        if fault == "under_report":
            return VenueOrder(told.id, told.venue_id, told.symbol, told.shares, 0.0, "working")
        if fault == "over_report":
            return VenueOrder(told.id, told.venue_id, told.symbol, told.shares, 2 * told.shares, "filled")
        return told

    def cancel(self, order: Order) -> Outcome:
        """Ask for a cancellation."""
        fault = self._begin("cancel")
        if fault == "lost_request":
            return Outcome("unknown", reason="reset before the request was sent")
        try:
            self.venue.cancel(order.id)
            outcome = Outcome("accepted")
        except RefusedError as error:
            outcome = Outcome("refused", reason=str(error))
        return Outcome("unknown", reason="504") if fault == "lost_answer" else outcome

    def cancel_all(self) -> None:
        """Cancel everything."""
        self._begin("cancel_all")
        self.venue.cancel_all()

    def open_orders(self) -> list[VenueOrder]:
        """All open orders."""
        self._begin("open_orders")
        return self.venue.open_orders()

    def fills(self, since: float) -> list[Fill]:
        """All executions from a time on, by the venue's clock."""
        fault = self._begin("fills")
        fills = [fill for fill in self.venue.executions if fill.at >= since]
        return [fill for fill in fills for _ in range(2)] if fault == "duplicate" else fills

    def holdings(self) -> Holdings:
        """Cash and positions."""
        self._begin("holdings")
        return Holdings(self.venue.cash, dict(self.venue.shares))

    def actions(self, since: float) -> list[CorporateAction]:
        """Splits and cash flows."""
        fault = self._begin("actions")
        actions = [action for action in self.venue.corporate if action.at >= since]
        return [action for action in actions for _ in range(2)] if fault == "duplicate" else actions

    def now(self) -> float:
        """The venue's clock."""
        self._begin("now")
        return self.venue.now()


class MemoryBroker:
    """The trader's ``Broker`` over a ``Venue``; ``at`` moves the venue with the trader's clock."""

    simulated = False

    def __init__(
        self,
        venue: Venue,
        clock: Clock,
        faults: Faults | None = None,
        *,
        crosses_zero: bool = True,
        name: str = "memory",
    ) -> None:
        self.venue, self.clock, self.faults = venue, clock, faults or Faults()
        self.wire = Wire(venue, self.faults)
        self.crosses_zero, self.name = crosses_zero, name
        self.requests: list[str] = []
        venue.time = clock.now

    async def account_id(self) -> str:
        return "memory-1"

    async def now(self) -> float:
        self.requests.append("now")
        return self.wire.now()

    async def lattices(self, symbols: Sequence[str]) -> dict[str, Lattice]:
        return {symbol: self.venue.lattices.get(symbol, Lattice()) for symbol in symbols}

    async def window(self, order: Order) -> tuple[float, float] | None:
        return None

    async def submit(self, order: Order) -> Outcome:
        self.requests.append("submit")
        outcome = self.wire.submit(order)
        if self.wire.slow:
            await self.clock.wait_until(self.clock.now() + self.wire.slow)
        return outcome

    async def find(self, order: Order) -> VenueOrder | None:
        self.requests.append("find")
        return self.wire.find(order)

    async def cancel(self, order: Order) -> Outcome:
        self.requests.append("cancel")
        return self.wire.cancel(order)

    async def cancel_all(self) -> None:
        self.requests.append("cancel_all")
        self.wire.cancel_all()

    async def open_orders(self) -> list[VenueOrder]:
        self.requests.append("open_orders")
        return self.wire.open_orders()

    async def fills(self, since: float) -> list[Fill]:
        self.requests.append("fills")
        return self.wire.fills(since)

    async def holdings(self) -> Holdings:
        self.requests.append("holdings")
        return self.wire.holdings()

    async def actions(self, since: float) -> list[CorporateAction]:
        self.requests.append("actions")
        return self.wire.actions(since)

    async def arm(self, seconds: float) -> bool:
        self.venue.armed_until = self.venue.time() + seconds
        return True

    async def close(self) -> None:
        self.requests.append("close")
