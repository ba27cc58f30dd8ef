"""The fold of the journal's events into a ``View``: pure, one event after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from sentio_kedro.config.live.alarms import COLLAPSE_BARS, CONFIRMING, FILLS
from sentio_kedro.trader.clock import seconds_of
from sentio_kedro.trader.events import Event
from sentio_kedro.trader.journal.store import Stored
from sentio_kedro.trader.watch.lines import is_news, text_of
from sentio_kedro.trader.watch.view import DAY, EVENTS, POINTS, FillCost, Line, View, Working

__all__ = ["fold", "text_of"]

MINUTE = 60.0
NOTHING = 1e-12  # shares that rounding leaves


def fold(view: View, stored: Iterable[Stored]) -> View:
    """Return the view after more events, each later than ``view.seq``."""
    for item in stored:
        event = item.event
        handle, line = HANDLERS.get(event.kind), Line(item.seq, event.at, event.kind, text_of(event, view))
        view = replace(handle(view, event) if handle else view, seq=item.seq, at=max(view.at, event.at))
        if is_news(event):
            view = replace(view, lines=(*view.lines[1 - EVENTS :], line))
    return view


def _started(view: View, event: Event) -> View:
    body = event.body
    return replace(
        view,
        trading=str(body.get("mode", view.trading)),
        broker=str(body.get("broker", view.broker)),
        account=str(body.get("account", view.account)),
        model=str(body.get("model", view.model)),
        calendar=body.get("calendar", view.calendar),
        bar_seconds=float(body.get("bar_seconds", view.bar_seconds)),
        starts=view.starts + 1,
        started=view.started or event.at,
    )


def _model(view: View, event: Event) -> View:
    return replace(view, model=str(event.body.get("model", event.key)))


def _mode(view: View, event: Event) -> View:
    if view.mode == "halted" and event.kind == "reducing":
        return view  # a halt is loosened by a person alone
    reason = str(event.body.get("reason", ""))
    return replace(view, mode=event.kind, reason=reason, mode_since=event.at)  # type: ignore[arg-type]


def _bar(view: View, event: Event) -> View:
    stamp = event.key
    end = seconds_of(stamp)
    length = end - view.bar_at if view.bar else 0.0
    shortest = min(view.bar_seconds or length, length) if length > 0.0 else view.bar_seconds
    closes = {symbol: float(bar["close"]) for symbol, bar in event.body["bars"].items() if "close" in bar}
    newest = {**view.closes, **closes}
    return replace(view, bar=stamp, bar_at=end, arrived=event.at, bar_seconds=shortest, closes=newest)


def _decided(view: View, event: Event) -> View:
    body, stamp = event.body, event.key
    equity, model = float(body["equity"]), body.get("model", {})
    new_session = bool(view.decided) and stamp[:10] != view.decided[:10]
    chosen = tuple(int(level) for level in body.get("actions", {}).values() if level >= 0)
    regimes = tuple(float(value) for value in np.ravel(model.get("regime", ())))
    view = replace(
        view,
        decided=stamp,
        decisions=view.decisions + 1,
        cash=float(body["cash"]),
        shares={symbol: float(shares) for symbol, shares in body.get("shares", {}).items() if shares},
        closes={**view.closes, **body.get("closes", {})},
        targets=dict(body.get("targets", {})),
        regimes=regimes,
        equity=equity,
        first_equity=view.first_equity or equity,
        first_decided=view.first_decided or stamp,
        peak_equity=max(view.peak_equity, equity),
        session_equity=view.equity if new_session else view.session_equity or equity,
        actions=(*view.actions[1 - COLLAPSE_BARS :], chosen),
        abstaining=bool(body.get("actions")) and not chosen,
        decision_seconds=view.decision_seconds.observed(event.at - view.arrived) if view.bar == stamp
        else view.decision_seconds,
        turnover=tuple(part for part in view.turnover if part[0] > event.at - DAY),
    )  # fmt: skip
    return _with_point(view)


def _with_point(view: View) -> View:
    number = view.decisions - 1
    if number % view.stride:
        return view
    curve = (*view.curve, (number, view.decided, view.equity))
    if len(curve) < POINTS:
        return replace(view, curve=curve)
    return replace(view, curve=curve[::2], stride=2 * view.stride)


def _order_id(event: Event) -> str:
    return str(event.body.get("order") or event.key)


def _intended(view: View, event: Event) -> View:
    body = event.body
    order = Working(event.key, str(body["symbol"]), float(body["shares"]), float(body["price"]), "intended", event.at)
    notional = abs(order.shares * order.price)
    turnover = view.turnover
    if turnover and turnover[-1][0] > event.at - MINUTE:
        turnover = (*turnover[:-1], (turnover[-1][0], turnover[-1][1] + notional))
    else:
        turnover = (*turnover, (event.at, notional))
    return replace(view, orders={**view.orders, order.id: order}, turnover=turnover)


def _sent(view: View, event: Event) -> View:
    recent = (*(at for at in view.sent_at if at > event.at - MINUTE), event.at)
    view = replace(view, sent_at=recent, denials_in_a_row=0, sending={**view.sending, _order_id(event): event.at})
    return _progress(view, event, "sent")


def _progress(view: View, event: Event, progress: str) -> View:
    order = view.orders.get(_order_id(event))
    if order is None or order.progress == progress:
        return view
    return replace(view, orders={**view.orders, order.id: replace(order, progress=progress, since=event.at)})


def _counted(view: View, outcome: str) -> View:
    return replace(view, outcomes={**view.outcomes, outcome: view.outcomes.get(outcome, 0) + 1})


def _answered(view: View, event: Event) -> View:
    sending = dict(view.sending)
    begun = sending.pop(_order_id(event), None)
    ack = view.ack_seconds if begun is None else view.ack_seconds.observed(event.at - begun)
    return replace(_counted(view, event.kind), sending=sending, ack_seconds=ack)


def _accepted(view: View, event: Event) -> View:
    return _progress(_answered(view, event), event, "accepted")


def _unknown(view: View, event: Event) -> View:
    return _progress(_counted(view, "unknown"), event, "unknown")


def _ended(view: View, event: Event) -> View:
    view, order = _answered(view, event), _order_id(event)
    return replace(view, orders={key: value for key, value in view.orders.items() if key != order})


def _filled(view: View, event: Event) -> View:
    body, order = event.body, view.orders.get(str(event.body.get("order", "")))
    symbol, shares, price = str(body["symbol"]), float(body["shares"]), float(body["price"])
    held = view.shares.get(symbol, 0.0) + shares
    others = {name: value for name, value in view.shares.items() if name != symbol}
    costs = body.get("costs") or {}
    modelled, notional = float(costs.get("spread", 0.0)) + float(costs.get("impact", 0.0)), abs(shares * price)
    paid = float(body.get("fee", 0.0)) + sum(map(float, costs.values()))
    view = replace(
        view,
        shares={**others, symbol: held} if abs(held) > NOTHING else others,
        cash=view.cash - shares * price - paid,
        fill_count=view.fill_count + 1,
    )
    if order is None:
        return view
    side, model = (1.0 if shares > 0.0 else -1.0), 1e4 * modelled / notional if costs and notional else None
    realised = 1e4 * side * (price / order.price - 1.0) + (model or 0.0)
    fill = FillCost(symbol, shares, price, event.at, realised, model)
    left = replace(order, filled=order.filled + shares)
    orders = {key: value for key, value in view.orders.items() if key != order.id}
    if abs(left.shares - left.filled) > 1e-9 * abs(left.shares):
        orders[order.id] = left
    return replace(view, fills=(*view.fills[1 - FILLS - CONFIRMING :], fill), orders=orders)


def _denied(view: View, event: Event) -> View:
    limit, order = str(event.body["limit"]), event.key
    counts = {**view.denials, limit: view.denials.get(limit, 0) + 1}
    others = {key: value for key, value in view.orders.items() if key != order}
    return replace(view, denials=counts, denials_in_a_row=view.denials_in_a_row + 1, orders=others)


def _cash(view: View, event: Event) -> View:
    return replace(view, cash=view.cash + float(event.body.get("cash", 0.0)))


def _split(view: View, event: Event) -> View:
    symbol, ratio = str(event.body.get("symbol", "")), float(event.body.get("ratio", 1.0))
    if symbol not in view.shares:
        return view
    return replace(view, shares={**view.shares, symbol: view.shares[symbol] * ratio})


def _reconciled(view: View, event: Event) -> View:
    table = tuple(event.body["differences"])
    skews = [float(row["venue"]) - float(row["journal"]) for row in table if row["what"] == "clock"]
    halting = tuple(row for row in table if row.get("halts", True))
    view = replace(view, differences=halting, compared=event.at)
    return replace(view, clock_offset=skews[0] if skews else None, clock_bar=view.closed)


def _adopted(view: View, event: Event) -> View:
    shares = {name: float(held) for name, held in event.body["shares"].items() if held}
    return replace(view, differences=(), orders={}, sending={}, shares=shares, cash=float(event.body["cash"]))


def _gap(view: View, event: Event) -> View:
    stamps = event.body.get("stamps", ())
    return replace(view, missing=view.missing + int(event.body.get("missing", len(stamps) or 1)))


def _closed_bar(view: View, event: Event) -> View:
    stamp = event.key
    # A skew is told after each closed bar while it lasts: one that was not told after the last is over.
    offset = view.clock_offset if view.clock_bar == view.closed else None
    return replace(view, closed=stamp, closed_at=seconds_of(stamp), started=0.0, clock_offset=offset)


def _alarm(view: View, event: Event) -> View:
    if event.body["alarm"] != "clock_skew":
        return view
    return replace(view, clock_offset=float(event.body["seconds"]), clock_bar=view.closed)


HANDLERS: Mapping[str, Callable[[View, Event], View]] = MappingProxyType({
    "started": _started,
    "model": _model,
    **dict.fromkeys(("active", "reducing", "halted"), _mode),
    "bar": _bar,
    "revised_bar": lambda view, _: replace(view, revisions=view.revisions + 1),
    "late_bar": lambda view, _: replace(view, late=view.late + 1),
    "gap": _gap,
    "decided": _decided,
    "intended": _intended,
    "sent": _sent,
    "accepted": _accepted,
    "unknown": _unknown,
    **dict.fromkeys(("refused", "dropped", "cancelled"), _ended),
    "filled": _filled,
    "denied": _denied,
    "cash": _cash,
    "split": _split,
    "reconciled": _reconciled,
    "adopted": _adopted,
    "closed_bar": _closed_bar,
    "alarm": _alarm,
})  # fmt: skip
"""What each kind of event changes; the others change nothing."""
