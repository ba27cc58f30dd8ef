"""Events in a person's words, one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from sentio_kedro.trader.events import Event
from sentio_kedro.trader.watch.view import View

TEXT = 160  # characters of a line
QUIET = frozenset({"bar", "closed_bar", "intended", "sent"})  # expected at each bar: no news


def is_news(event: Event) -> bool:
    """Whether an event is not expected at each bar."""
    return event.kind not in QUIET and not (event.kind == "decided" and not event.body["orders"])


def text_of(event: Event, view: View | None = None) -> str:
    """Return what a person wants to know of an event.

    Args:
        event: What happened.
        view: What was known before it: the orders that it speaks of.
    """
    return TEXTS.get(event.kind, _plain)(view or View(), event)[:TEXT]


def shares_text(shares: float) -> str:
    """Return signed shares, such as ``+1,200`` or ``\N{MINUS SIGN}0.25``."""
    return f"{shares:+,.6g}".replace("-", "\N{MINUS SIGN}")


def _plain(view: View, event: Event) -> str:
    plain = {name: value for name, value in event.body.items() if isinstance(value, str | int | float) and value != ""}
    words = (f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}" for name, value in plain.items())
    return ", ".join(words) or event.key


def _decided(view: View, event: Event) -> str:
    orders = sorted(event.body["orders"].items())
    return ", ".join(f"{symbol} {shares_text(shares)}" for symbol, shares in orders) or "no order"


def _filled(view: View, event: Event) -> str:
    body = event.body
    return f"{body['symbol']} {shares_text(body['shares'])} at {body['price']:,.6g}"


def _answered(view: View, event: Event) -> str:
    order, reason = view.orders.get(str(event.body.get("order"))), str(event.body.get("reason", ""))
    known = f"{order.symbol} {shares_text(order.shares)}" if order else f"order {event.body.get('order')}"
    return f"{known}: {reason}" if reason else known


def _denied(view: View, event: Event) -> str:
    body = event.body
    return (
        f"{body['symbol']} {shares_text(body['shares'])}: {body['limit']} would be {body['value']:.4g}, may be "
        f"{body['bound']:.4g}"
    )


def _turned(view: View, event: Event) -> str:
    by = event.body.get("by")
    return f"{event.body.get('reason', '')}{f' ({by})' if by else ''}"


def _reconciled(view: View, event: Event) -> str:
    count = len(event.body["differences"])
    return f"{count} difference{'s' if count > 1 else ''}" if count else "venue and journal are equal"


TEXTS: Mapping[str, Callable[[View, Event], str]] = MappingProxyType({
    "decided": _decided,
    "filled": _filled,
    "denied": _denied,
    "reconciled": _reconciled,
    **dict.fromkeys(("sent", "accepted", "refused", "unknown", "dropped", "cancelled"), _answered),
    **dict.fromkeys(("active", "reducing", "halted", "adopted"), _turned),
})  # fmt: skip
