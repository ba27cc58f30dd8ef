"""What is to be done now, by the state alone: first facts to be kept, then requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sentio_kedro.trader import events
from sentio_kedro.trader.core.data import (
    LOOKS,
    Action,
    Cancel,
    Compare,
    Decide,
    Find,
    OpenOrder,
    Record,
    Rules,
    Send,
    State,
    Step,
)
from sentio_kedro.trader.core.facts import evolve
from sentio_kedro.trader.core.planning import allowed, deadline, missing, planned, resend_refusal
from sentio_kedro.trader.events import Event
from sentio_kedro.trader.limits import breach

UNSETTLED_BARS = 2  # in a row with unknown symbols, then positions are only reduced
DURABLE = frozenset({"intended", "active", "reducing", "halted"})


def recorded(state: State, facts: Sequence[Event]) -> Step:
    """Return a step that asks for facts to be kept, and begins nothing else before they are."""
    names = frozenset(f"{fact.kind}|{fact.key}" for fact in facts)
    durable = any(fact.kind in DURABLE for fact in facts)
    return Step(state.but(recording=names), (Record(tuple(facts), durable),))


def upkeep(state: State, at: float, rules: Rules) -> Step:
    """Return what the state asks for at a time; nothing while facts are being kept."""
    if state.recording:
        return Step(state)
    after, facts = state, []
    for due in (_endings, _modes, planned, _modes, _endings, _closed):
        for fact in due(after, at, rules):
            facts.append(fact)
            after = evolve(after, fact, rules)
    return recorded(state, facts) if facts else _begun(state, at, rules)


def _absent(one: OpenOrder) -> bool:
    """Whether the venue never had an order: it never accepted it, and ``LOOKS`` look-ups found nothing."""
    return one.progress == "unknown" and not one.accepted and one.looks >= LOOKS


def _endings(state: State, at: float, rules: Rules) -> list[Event]:
    facts = []
    for id, one in state.orders.items():
        if rules.simulated and one.order.bar < state.decided:
            facts.append(events.cancelled(id, "lapsed", one.filled, at))
        elif one.progress in ("intended", "queued") and not allowed(state, one.order):
            facts.append(events.dropped(id, f"the trader is {state.mode}: {state.reason}", at))
        elif _absent(one) and (reason := resend_refusal(state, one, at, rules)):
            facts.append(events.dropped(id, reason, at))
    return facts


def _modes(state: State, at: float, rules: Rules) -> list[Event]:
    if state.mode == "halted":
        return []
    if state.contradiction:
        return [events.turned("halted", state.contradiction, state.contradiction, at)]
    if state.denials >= rules.limits.max_denials:
        text = (
            f"{state.denials} orders in a row were denied by limits; `limits.max_denials` is {rules.limits.max_denials}"
        )
        return [events.turned("halted", f"denials|{state.decided}", text, at)]
    if state.mode == "active" and state.decided:
        if (beyond := breach(state.equity, state.peak_equity, state.session_equity, rules.limits)) is not None:
            text = f"{beyond.limit} is {beyond.value:.4f}, may be {beyond.bound:g}"
            return [events.turned("reducing", f"{beyond.limit}|{state.decided}", text, at)]
        if state.unsettled >= UNSETTLED_BARS:
            names = ", ".join(sorted(state.unknown))
            text = f"orders or positions of {names} were unknown at {state.unsettled} bars in a row"
            return [events.turned("reducing", f"unknown|{state.decided}", text, at)]
    return []


def _closed(state: State, at: float, rules: Rules) -> list[Event]:
    bar = state.decided
    if state.closed >= bar or any(one.order.bar == bar and one.unanswered for one in state.orders.values()):
        return []
    return [] if any(missing(state, rules)) else [events.closed_bar(bar, at)]


def _begun(state: State, at: float, rules: Rules) -> Step:
    actions: list[Action] = []
    orders = {}
    for id, one in state.orders.items():
        orders[id], more = _moved(state, one, at, rules)
        actions += more
    if orders:
        state = state.but(orders=orders)
    if state.checking and _answered(state) and at >= state.compare_due:
        state = state.but(compare_due=at + rules.orders.settle_seconds / 2)
        actions.append(Compare())
    if _decides(state, at, rules):
        state = state.but(deciding=state.waiting)
        actions.append(Decide(state.waiting))
    return Step(state, tuple(actions))


def _answered(state: State) -> bool:
    """Whether nothing is under way that may still become an order at the venue."""
    return not any(one.progress in ("sending", "unknown") and not _absent(one) for one in state.orders.values())


def _decides(state: State, at: float, rules: Rules) -> bool:
    if not state.waiting or state.deciding:
        return False
    if rules.simulated:  # What was accepted is filled with the decision: all must be answered.
        return not any(one.unanswered for one in state.orders.values())
    return at >= state.wait_until or not (state.orders or state.checking)


def _moved(state: State, one: OpenOrder, at: float, rules: Rules) -> tuple[OpenOrder, list[Action]]:
    """Return an order and what it asks for now."""
    if one.progress in ("intended", "queued") or _absent(one):
        return _to_send(state, one)
    if one.progress == "sending" or (rules.simulated and one.progress == "working"):
        return one, []
    ends = one.progress == "working" and _must_end(state, one, rules)
    if not ends and one.due > at:
        return one, []
    again = replace(one, due=at + rules.orders.settle_seconds / 2)
    if ends or one.progress == "cancelling":
        return replace(again, progress="cancelling"), [Cancel(one.order), Find(one.order)]
    return again, [Find(one.order)]


def _to_send(state: State, one: OpenOrder) -> tuple[OpenOrder, list[Action]]:
    if state.checking:  # A ``Send`` that waits in the runtime is not asked for any more; it comes again.
        return (replace(one, progress="intended") if one.progress == "queued" else one), []
    return (one, []) if one.progress == "queued" else (replace(one, progress="queued", looks=0), [Send(one.order)])


def _must_end(state: State, one: OpenOrder, rules: Rules) -> bool:
    """Whether a venue's order is to be cancelled: a new bar came, or the mode forbids it."""
    return not rules.simulated and (one.order.bar != state.bar or not allowed(state, one.order))


def due(state: State, rules: Rules) -> float | None:
    """Return when a ``tick`` is needed next, seconds since 1970; None if nothing waits for the time."""
    if state.recording:
        return 0.0
    looked_up = {"unknown", "cancelling"} if rules.simulated else {"unknown", "cancelling", "working"}
    times = [one.due for one in state.orders.values() if one.progress in looked_up and not _absent(one)]
    if state.waiting and not state.deciding and not rules.simulated:
        times.append(state.wait_until)
    if state.checking:
        times += [state.compare_due] * _answered(state)
        if state.closed < state.decided:
            times.append(deadline(state.decided, rules))
    return min(times, default=None)
