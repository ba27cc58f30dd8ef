"""Facts that the journal keeps, and signals that pass without being kept: kinds, keys and bodies, in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from typing import Any

from sentio_kedro.trader.contract import BarRow, Charge, Decision, Note
from sentio_kedro.trader.orders import CorporateAction, Fill, Order, VenueOrder

RECORDED = frozenset(
    {
        "started",  # of the process: mode, broker, account id, model, digest of the parameters
        "model",  # which agents decide from here on
        "bar",  # a row as decided on: values by symbol, source, arrival
        "revised_bar",  # a bar that came again with other values
        "late_bar",  # a bar that came after its stamp was decided
        "gap",  # more stamps missed than `max_gap_bars`
        "decided",  # a ``Decision``: orders, actions, legal levels, targets, account state
        "intended",  # an ``Order`` that may be sent from now on; on disk before it is
        "sent",  # that a POST of an order begins
        "accepted",  # the venue has the order
        "refused",  # the venue does not take it
        "unknown",  # no definite answer
        "dropped",  # never reached the venue, and is not sent any more
        "filled",  # a ``Fill``, by the venue's id
        "cancelled",  # an order ended with a rest unfilled: cancelled, expired or lapsed
        "denied",  # a limit forbade an order
        "cash",  # dividend, fee, interest, transfer, borrow, funding, financing
        "split",  # shares of a position were multiplied
        "reconciled",  # venue and journal were compared; with the table of differences
        "adopted",  # the venue's truth, taken over by a person with a reason
        "active",  # state, with a reason
        "reducing",
        "halted",
        "alarm",  # raised by the trader itself
        "closed_bar",  # all that a bar asked for is done: the heartbeat
    }
)
"""Kinds of facts, each once by its key."""

SIGNALS = frozenset(
    {
        "tick",  # time has passed
        "restarted",  # the state was read from the journal; what was under way is unknown now
        "reconnected",  # a feed or venue is back after a silence: compare before anything else is sent
        "found",  # answer to ``Find``: a ``VenueOrder``
        "absent",  # answer to ``Find``: the venue has no such order
        "unreadable",  # a question without a definite answer: what was asked
        "compared",  # answer to ``Compare``: the table of differences, empty if none
    }
)
"""Kinds that are not kept: asked for again after a restart."""


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        kind: One of ``RECORDED`` or ``SIGNALS``.
        key: Makes it one fact among its kind; empty for signals.
        at: When, seconds since 1970, by the trader's clock.
        body: Plain data.
    """

    kind: str
    key: str
    at: float
    body: Mapping[str, Any] = field(default_factory=dict)


def started(run: str, at: float, **facts: Any) -> Event:
    """A process began: mode, broker, account, model, digest of the parameters and what else is worth keeping."""
    return Event("started", run, at, facts)


def model(name: str, key: str, at: float) -> Event:
    """Which agents decide from here on."""
    return Event("model", key, at, {"model": name})


def bar(row: BarRow, at: float) -> Event:
    """A row that will be decided on."""
    bars = {symbol: dict(values) for symbol, values in row.bars.items()}
    return Event(
        "bar", row.stamp, at, {"bars": bars, "source": row.source, "arrived": row.arrived, "closing": row.closing}
    )


def row_of(event: Event) -> BarRow:
    """Return the row of a ``bar``."""
    return BarRow(stamp=event.key, **event.body)


def noted(note: Note, at: float) -> Event | None:
    """A feed's ``revised_bar``, ``late_bar`` or ``gap`` as a fact, ``reconnected`` as a signal; None for others."""
    if note.kind == "reconnected":
        return Event("reconnected", "", at, note.body)
    return Event(note.kind, note.key, at, note.body) if note.kind in RECORDED else None


_APART = ("fills", "charges", "splits")  # of a decision: facts of their own


def decided(decision: Decision, at: float) -> Event:
    """A decision without its fills, charges and splits, which go before it as ``facts_of`` in the same transaction.

    Orders that are no finite numbers are null, and denied.
    """
    body = {one.name: _plain(getattr(decision, one.name)) for one in fields(decision) if one.name not in _APART}
    body["orders"] = {symbol: _finite(shares) for symbol, shares in decision.orders.items()}
    return Event("decided", decision.bar, at, body)


def facts_of(decision: Decision, at: float) -> list[Event]:
    """Return splits, charges and fills of a simulated decision, in the order in which the account had them."""
    return [
        *(split(f"{decision.bar}|{symbol}", symbol, ratio, at) for symbol, ratio in decision.splits.items()),
        *(charged(decision.bar, charge, at) for charge in decision.charges),
        *(filled(fill, at) for fill in decision.fills),
    ]


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return value


def intended(order: Order, at: float) -> Event:
    """An order that may be sent from now on."""
    return Event("intended", order.id, at, asdict(order))


def order_of(event: Event) -> Order:
    """Return the order of an ``intended``."""
    return Order(**{one.name: event.body[one.name] for one in fields(Order)})


def sent(order: str, post: int, at: float) -> Event:
    """The POST number ``post`` of an order begins: 1, then 2 if it is sent again."""
    return Event("sent", f"{order}|{post}", at, {"order": order, "post": post})


def accepted(order: str, venue_id: str, at: float) -> Event:
    """The venue has the order."""
    return Event("accepted", order, at, {"order": order, "venue_id": venue_id})


def refused(order: str, reason: str, at: float) -> Event:
    """The venue does not take it."""
    return Event("refused", order, at, {"order": order, "reason": reason})


def unknown(order: str, post: int, reason: str, at: float) -> Event:
    """POST number ``post`` of an order had no definite answer."""
    return Event("unknown", f"{order}|{post}", at, {"order": order, "post": post, "reason": reason})


def dropped(order: str, reason: str, at: float) -> Event:
    """An order never reached the venue and is not sent any more."""
    return Event("dropped", order, at, {"order": order, "reason": reason})


def cancelled(order: str, status: str, filled: float, at: float) -> Event:
    """An order ended unfilled or partly filled: ``cancelled``, ``expired`` or, in simulation, ``lapsed``."""
    return Event("cancelled", order, at, {"order": order, "status": status, "filled": filled})


def filled(fill: Fill, at: float) -> Event:
    """An execution, by the venue's id. The body's ``at`` is the venue's time."""
    return Event("filled", fill.id, at, {**vars(fill), "costs": dict(fill.costs)})


def fill_of(event: Event) -> Fill:
    """Return the fill of a ``filled``."""
    return Fill(**event.body)


def denied(order: Order, limit: str, value: float, bound: float, at: float) -> Event:
    """A limit forbade an order; ``limit`` is a key of ``trader.limits``, or why else it was not sent.

    What is no finite number is null.
    """
    numbers = {"shares": order.shares, "price": order.price, "value": value, "bound": bound}
    finite = {name: _finite(number) for name, number in numbers.items()}
    return Event("denied", order.id, at, {**asdict(order), "limit": limit, **finite})


def booked(action: CorporateAction, at: float) -> Event:
    """A cash flow or split that the venue booked; the body's ``at`` is the venue's time."""
    if action.kind == "split":
        return Event("split", action.id, at, {"symbol": action.symbol, "ratio": action.ratio, "at": action.at})
    body = {"kind": action.kind, "symbol": action.symbol, "cash": action.cash, "at": action.at}
    return Event("cash", action.id, at, body)


def charged(bar: str, charge: Charge, at: float) -> Event:
    """Cash that moved without a trade, in simulation."""
    return Event("cash", f"{bar}|{charge.kind}|{charge.symbol}", at, asdict(charge))


def split(key: str, symbol: str, ratio: float, at: float) -> Event:
    """The shares of a position were multiplied by ``ratio``."""
    return Event("split", key, at, {"symbol": symbol, "ratio": ratio})


def reconciled(key: str, differences: Sequence[Mapping[str, Any]], at: float) -> Event:
    """Venue and journal were compared; rows of ``Difference``, of which those with ``halts`` halt."""
    return Event("reconciled", key, at, {"differences": [dict(row) for row in differences]})


def adopted(
    key: str, cash: float, shares: Mapping[str, float], as_of: float, reason: str, at: float, by: str = ""
) -> Event:
    """The venue's truth, taken over; the opening of an account is one too.

    Fills, cash and splits up to ``as_of`` by the venue's clock are in it and do not count again. Orders that were open
    in the journal count as ended.
    """
    body = {"cash": cash, "shares": dict(shares), "as_of": as_of, "reason": reason, "by": by}
    return Event("adopted", key, at, body)


def turned(mode: str, key: str, reason: str, at: float, by: str = "") -> Event:
    """The trader is ``active``, ``reducing`` or ``halted`` from here on, with a reason and who said so."""
    return Event(mode, key, at, {"reason": reason, "by": by})


def alarm(name: str, subject: str, at: float, **facts: Any) -> Event:
    """Raised by the trader itself: ``unknown`` (symbols without orders at a bar) or ``account_mismatch``."""
    return Event("alarm", f"{name}|{subject}", at, {"alarm": name, "subject": subject, **facts})


def closed_bar(bar: str, at: float) -> Event:
    """All that a bar asked for is answered."""
    return Event("closed_bar", bar, at, {"bar": bar})


def tick(at: float) -> Event:
    """Time has passed."""
    return Event("tick", "", at)


def restarted(at: float) -> Event:
    """The state was read from the journal, also when it was empty."""
    return Event("restarted", "", at)


def reconnected(at: float) -> Event:
    """Feed or venue is back."""
    return Event("reconnected", "", at)


def found(order: VenueOrder, at: float) -> Event:
    """The venue tells an order; its new fills come before this as facts."""
    return Event("found", "", at, asdict(order))


def absent(order: str, at: float) -> Event:
    """The venue has no such order."""
    return Event("absent", "", at, {"order": order})


def unreadable(what: str, subject: str, at: float) -> Event:
    """No definite answer: ``what`` is ``order`` (``subject`` its id), ``account`` (a comparison) or ``fills``."""
    return Event("unreadable", "", at, {"what": what, "subject": subject})


def compared(differences: Sequence[Mapping[str, Any]], at: float) -> Event:
    """Venue and journal were compared; see ``reconciled``."""
    return Event("compared", "", at, {"differences": [dict(row) for row in differences]})
