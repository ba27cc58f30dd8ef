"""What each fact makes of the state: the fold over the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from types import MappingProxyType
from typing import Any

from sentio_kedro.trader.core.data import OpenOrder, Rules, State
from sentio_kedro.trader.events import Event, fill_of, order_of
from sentio_kedro.trader.limits import SLACK

MINUTE, DAY = 60.0, 86_400.0
UNCOUNTED = frozenset({"reducing", "halted", "unknown", "decide_within", "venue"})  # denials that no limit made


def evolve(state: State, event: Event, rules: Rules) -> State:
    """Return the state after a fact."""
    if state.recording:  # Another fact in between: what is missing was in the journal already.
        name = f"{event.kind}|{event.key}"
        state = state.but(recording=state.recording - {name} if name in state.recording else frozenset())
    handle = _HANDLERS.get(event.kind)
    return handle(state, event, rules) if handle else state


def uncertain(state: State, at: float, rules: Rules) -> State:
    """Return the state after a restart: what was under way is unknown, and venue and journal are to be compared."""
    orders = {
        id: one
        if rules.simulated and one.progress == "working"
        else replace(one, progress="unknown", looks=0, since=at, due=at)
        for id, one in state.orders.items()
    }
    return state.but(
        orders=orders,
        checking=not rules.simulated,
        compare_due=0.0,
        deciding="",
        wait_until=at + rules.orders.settle_seconds if state.waiting else 0.0,
        recording=frozenset(),
    )


def _started(state: State, event: Event, rules: Rules) -> State:
    return uncertain(state.but(started=state.started + 1), event.at, rules)


def _bar(state: State, event: Event, rules: Rules) -> State:
    if event.key <= state.bar:
        return state
    session = bool(state.bar) and event.key[:10] != state.bar[:10]  # a new one begins
    closes = {symbol: values["close"] for symbol, values in event.body["bars"].items() if "close" in values}
    return state.but(
        bar=event.key,
        waiting=event.key,
        closes={**state.closes, **closes},
        checking=not rules.simulated and (state.checking or session),
        compare_due=0.0,
        wait_until=event.at + rules.orders.settle_seconds,
    )


def _decided(state: State, event: Event, rules: Rules) -> State:
    body: Mapping[str, Any] = event.body
    equity, session = float(body["equity"]), state.session_equity
    if event.key[:10] != state.decided[:10]:
        session = state.equity if state.decided else equity
    state = state.but(
        decided=event.key,
        waiting="" if state.waiting == event.key else state.waiting,
        deciding="",
        plan=dict(body["orders"]),
        ended={},
        sent=frozenset(),
        unknown=frozenset(),
        account=body["account"],
        closes={**body["closes"], **state.closes},  # the feed's own are what the agents' are compared with
        priced=body["closes"],
        equity=equity,
        peak_equity=max(state.peak_equity, equity),
        session_equity=session,
    )
    if rules.simulated:  # The agents' session is the account; sums of fills differ from it by rounding.
        shares = {symbol: held for symbol, held in body["shares"].items() if held}
        state = state.but(cash=float(body["cash"]), shares=shares)
    return state


def _intended(state: State, event: Event, rules: Rules) -> State:
    order = order_of(event)
    if order.id in state.orders or order.id in state.ended:
        return state
    minute, notional = event.at // MINUTE * MINUTE, abs(order.shares * order.price)
    turnover = state.turnover
    if turnover and turnover[-1][0] == minute:
        turnover = (*turnover[:-1], (minute, turnover[-1][1] + notional))
    else:
        turnover = (*(part for part in turnover if part[0] + MINUTE > event.at - DAY), (minute, notional))
    return state.but(
        orders={**state.orders, order.id: OpenOrder(order, "intended")},
        denials=0,
        turnover=turnover,
        sent_at=_recent(state, event.at),
    )


def _recent(state: State, at: float) -> tuple[float, ...]:
    return (*(one for one in state.sent_at if one > at - MINUTE), at)


def _changed(state: State, id: str, **changes: Any) -> State:
    return state.but(orders={**state.orders, id: replace(state.orders[id], **changes)})


def _sent(state: State, event: Event, rules: Rules) -> State:
    id, post = event.body["order"], event.body["post"]
    if id not in state.orders or state.orders[id].posts >= post:
        return state
    state = _changed(state, id, progress="sending", posts=post)
    return state.but(sent_at=_recent(state, event.at)) if post > 1 else state


def _accepted(state: State, event: Event, rules: Rules) -> State:
    id, venue_id = event.body["order"], event.body["venue_id"]
    one = state.orders.get(id)
    if one is not None:
        progress = one.progress if one.progress == "cancelling" else "working"
        state = _changed(
            state, id, accepted=True, venue_id=venue_id, progress=progress, looks=0, since=event.at, due=event.at
        )
    ours = one is not None and one.order.bar == state.decided
    return state.but(sent=state.sent | {id}) if ours else state


def _unknown(state: State, event: Event, rules: Rules) -> State:
    one = state.orders.get(event.body["order"])
    if one is None or one.accepted or one.posts > event.body["post"]:
        return state
    return _changed(state, one.order.id, progress="unknown", looks=0, since=event.at, due=event.at)


def _refused(state: State, event: Event, rules: Rules) -> State:
    one = state.orders.get(event.body["order"])
    if one is not None and one.accepted:  # Not what the venue said before: look it up.
        return _changed(state, one.order.id, progress="unknown", looks=0, since=event.at, due=event.at)
    return _ended(state, event, rules)


def _ended(state: State, event: Event, rules: Rules) -> State:
    one = state.orders.get(event.body["order"])
    return state if one is None else _without(state, one)


def _without(state: State, one: OpenOrder) -> State:
    orders = {id: other for id, other in state.orders.items() if id != one.order.id}
    if one.order.bar != state.decided:
        return state.but(orders=orders)
    return state.but(orders=orders, ended={**state.ended, one.order.id: one.filled})


def _denied(state: State, event: Event, rules: Rules) -> State:
    counted = event.body["limit"] not in UNCOUNTED
    return state.but(ended={**state.ended, event.key: 0.0}, denials=state.denials + counted)


def _filled(state: State, event: Event, rules: Rules) -> State:
    fill = fill_of(event)
    if not rules.simulated and fill.at <= state.as_of:
        return state
    held = state.shares.get(fill.symbol, 0.0)
    left = held + fill.shares
    shares = {symbol: value for symbol, value in state.shares.items() if symbol != fill.symbol}
    if abs(left) > SLACK * max(abs(held), abs(fill.shares)):
        shares[fill.symbol] = left
    paid = fill.shares * fill.price + fill.fee + sum(fill.costs.values())
    state = state.but(shares=shares, cash=state.cash - paid, fills_since=max(state.fills_since, fill.at))
    one = state.orders.get(fill.order)
    if one is None:
        foreign = not rules.simulated and fill.symbol in rules.symbols
        return (
            _contradicted(state, f"fill {fill.id} of no open order of ours ({fill.order or 'no id'})")
            if foreign
            else state
        )
    one = replace(one, filled=one.filled + fill.shares, accepted=True)
    surplus = abs(one.filled) - abs(one.order.shares)
    if surplus > SLACK * abs(one.order.shares) or fill.shares * one.order.shares < 0.0:
        text = f"fill {fill.id}: order {fill.order} of {one.order.shares:g} {fill.symbol} has fills of {one.filled:g}"
        state = state if rules.simulated else _contradicted(state, text)
    if surplus >= -SLACK * abs(one.order.shares):
        return _without(state, one)
    return state.but(orders={**state.orders, fill.order: one})


def _contradicted(state: State, text: str) -> State:
    return state.but(contradiction=state.contradiction or text)


def _cash(state: State, event: Event, rules: Rules) -> State:
    if event.body.get("at", inf) <= state.as_of:
        return state
    return state.but(cash=state.cash + event.body["cash"])


def _split(state: State, event: Event, rules: Rules) -> State:
    symbol, ratio = event.body["symbol"], event.body["ratio"]
    if event.body.get("at", inf) <= state.as_of:
        return state
    if not rules.simulated:  # The newest decision is in shares of before: the next one decides anew.
        state = state.but(plan={name: shares for name, shares in state.plan.items() if name != symbol})
    if symbol not in state.shares:
        return state
    return state.but(shares={**state.shares, symbol: state.shares[symbol] * ratio})


def _reconciled(state: State, event: Event, rules: Rules) -> State:
    state = state.but(comparisons=state.comparisons + 1)
    if any(row.get("halts", True) for row in event.body["differences"]):
        return state.but(compare_due=event.at + rules.bar_seconds)  # or at once when a person has acted
    return state.but(compared=event.at, checking=False)


def _adopted(state: State, event: Event, rules: Rules) -> State:
    shares = {symbol: held for symbol, held in event.body["shares"].items() if held}
    for one in list(state.orders.values()):
        state = _without(state, one)
    return state.but(
        cash=event.body["cash"],
        shares=shares,
        as_of=event.body["as_of"],
        fills_since=event.body["as_of"],
        plan={},
        checking=not rules.simulated,
        compare_due=0.0,
    )


def _active(state: State, event: Event, rules: Rules) -> State:
    """Losses, denials and unknown symbols are counted anew: a person has seen them."""
    return state.but(
        mode="active",
        reason="",
        contradiction="",
        denials=0,
        unsettled=0,
        peak_equity=state.equity,
        session_equity=state.equity,
        checking=not rules.simulated,
        compare_due=0.0,
    )


def _reducing(state: State, event: Event, rules: Rules) -> State:
    return state if state.mode == "halted" else state.but(mode="reducing", reason=event.body["reason"])


def _halted(state: State, event: Event, rules: Rules) -> State:
    return state.but(mode="halted", reason=event.body["reason"])


def _alarm(state: State, event: Event, rules: Rules) -> State:
    if event.body["alarm"] != "unknown":
        return state
    return state.but(unknown=frozenset(event.body["symbols"]), unsettled=state.unsettled + 1)


def _closed_bar(state: State, event: Event, rules: Rules) -> State:
    return state.but(closed=event.key, unsettled=state.unsettled if state.unknown else 0)


_HANDLERS: Mapping[str, Callable[[State, Event, Rules], State]] = MappingProxyType({
    "started": _started,
    "bar": _bar,
    "decided": _decided,
    "intended": _intended,
    "sent": _sent,
    "accepted": _accepted,
    "unknown": _unknown,
    "refused": _refused,
    "dropped": _ended,
    "cancelled": _ended,
    "denied": _denied,
    "filled": _filled,
    "cash": _cash,
    "split": _split,
    "reconciled": _reconciled,
    "adopted": _adopted,
    "active": _active,
    "reducing": _reducing,
    "halted": _halted,
    "alarm": _alarm,
    "closed_bar": _closed_bar,
})  # fmt: skip
