"""What signals make of the state, and the facts that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from sentio_kedro.trader import events
from sentio_kedro.trader.core.data import LOOKS, OpenOrder, Rules, State
from sentio_kedro.trader.core.facts import uncertain
from sentio_kedro.trader.events import Event
from sentio_kedro.trader.limits import SLACK
from sentio_kedro.trader.orders import VenueOrder
from sentio_kedro.trader.stamps import seconds_of

Answer = tuple[State, list[Event]]

ROUNDING = 1e-6  # of shares in a venue's words, relative


def answer(state: State, event: Event, rules: Rules) -> Answer:
    """Return the state after a signal, and what is to be recorded."""
    return _HANDLERS[event.kind](state.but(recording=frozenset()), event, rules)


def _tick(state: State, event: Event, rules: Rules) -> Answer:
    return state, []


def _restarted(state: State, event: Event, rules: Rules) -> Answer:
    return uncertain(state, event.at, rules), []


def _reconnected(state: State, event: Event, rules: Rules) -> Answer:
    orders = {
        id: one if one.progress in ("intended", "queued", "sending") else replace(one, due=event.at)
        for id, one in state.orders.items()
    }
    return state.but(orders=orders, checking=not rules.simulated, compare_due=0.0), []


def _found(state: State, event: Event, rules: Rules) -> Answer:
    told = VenueOrder(**event.body)
    one = state.orders.get(told.id)
    if one is None or one.progress in ("intended", "queued"):
        return state, []
    if text := _impossible(one, told):
        return state, [events.turned("halted", f"report|{told.id}|{event.at!r}", text, event.at)]
    if told.status == "refused" and not one.accepted and not told.filled:
        return state, [events.refused(told.id, told.reason, event.at)]
    facts = [] if one.accepted and one.venue_id else [events.accepted(told.id, told.venue_id, event.at)]
    if told.status == "working" or rules.simulated:
        return _with(state, _waiting(one, event.at, rules)), facts
    if abs(told.filled - one.filled) <= ROUNDING * abs(told.shares):
        status = "cancelled" if told.status == "cancelled" else "expired"
        return state, [*facts, events.cancelled(told.id, status, one.filled, event.at)]
    # It has ended, but not all of its fills are known: shares move by fills alone, so look again.
    return _with(state, replace(one, looks=0, due=event.at + rules.orders.settle_seconds / 2)), facts


def _waiting(one: OpenOrder, at: float, rules: Rules) -> OpenOrder:
    """Return a working order with its next look-up: rarer the older it is, unless its cancellation was asked for."""
    pause = rules.orders.settle_seconds / 2
    if one.progress == "cancelling":
        return replace(one, looks=0, due=at + pause)
    return replace(one, progress="working", looks=0, due=at + max(pause, (at - seconds_of(one.order.bar)) / 2))


def _impossible(one: OpenOrder, told: VenueOrder) -> str:
    """Return what cannot be in the venue's words, empty if nothing."""
    order = one.order
    if told.symbol != order.symbol or abs(told.shares - order.shares) > ROUNDING * abs(order.shares):
        return f"order {order.id} is {order.shares:g} {order.symbol}, the venue says {told.shares:g} {told.symbol}"
    if one.venue_id and told.venue_id and told.venue_id != one.venue_id:
        return f"order {order.id} is {one.venue_id} at the venue, and {told.venue_id} too"
    if abs(told.filled) > abs(order.shares) * (1.0 + ROUNDING) or told.filled * order.shares < 0.0:
        return f"order {order.id} is {order.shares:g} {order.symbol}, the venue says that {told.filled:g} are filled"
    return ""


def _with(state: State, one: OpenOrder) -> State:
    return state.but(orders={**state.orders, one.order.id: one})


def _absent(state: State, event: Event, rules: Rules) -> Answer:
    one = state.orders.get(event.body["order"])
    if one is None or one.progress in ("intended", "queued", "sending"):
        return state, []
    early = event.at - one.since < rules.orders.settle_seconds * (1.0 - SLACK)  # The last look ends the whole time.
    one = replace(one, looks=min(one.looks + 1, LOOKS - early))
    if one.accepted and one.looks >= LOOKS:
        text = f"the venue had order {one.order.id}, and knows nothing of it any more"
        key = f"lost|{one.order.id}|{event.at!r}"
        return _with(state, replace(one, looks=0)), _halt(state, key, text, event.at)
    return _with(state, one), []


def _halt(state: State, key: str, text: str, at: float) -> list[Event]:
    return [] if state.mode == "halted" else [events.turned("halted", key, text, at)]


def _unreadable(state: State, event: Event, rules: Rules) -> Answer:
    if event.body["what"] == "fills":  # Positions are unknown until they are compared.
        return state.but(checking=not rules.simulated), []
    return state, []  # It is asked for again when it is due.


def _compared(state: State, event: Event, rules: Rules) -> Answer:
    rows = event.body["differences"]
    halting = [row for row in rows if row.get("halts", True)]
    if not halting and not state.checking:
        return state, []
    number = str(state.comparisons + 1)
    facts = [events.reconciled(number, rows, event.at)]
    if not halting:
        return state, facts
    table = "; ".join(f"{row['what']} {row['subject']}: {row['journal']}, venue {row['venue']}" for row in halting)
    return state, facts + _halt(state, f"difference|{number}", f"journal and venue differ: {table}", event.at)


_HANDLERS: Mapping[str, Callable[[State, Event, Rules], Answer]] = MappingProxyType({
    "tick": _tick,
    "restarted": _restarted,
    "reconnected": _reconnected,
    "found": _found,
    "absent": _absent,
    "unreadable": _unreadable,
    "compared": _compared,
})  # fmt: skip
