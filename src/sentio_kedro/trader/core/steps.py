"""The reducer: an event changes the state, then the state says what is to be done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sentio_kedro.trader import events
from sentio_kedro.trader.core.answers import answer
from sentio_kedro.trader.core.data import Rules, State, Step
from sentio_kedro.trader.core.facts import evolve
from sentio_kedro.trader.core.upkeep import recorded, upkeep
from sentio_kedro.trader.events import SIGNALS, Event

QUIET = frozenset({"started", "model"})  # nothing is begun before the state is known to be read: ``restarted``
CASH = 1e-6  # of equity: by so much may the cash of fills and of a simulated account differ
SHARES = 1e-9


def step(state: State, event: Event, rules: Rules) -> Step:
    """Return the next state and what to do.

    Args:
        state: What is known.
        event: What happened: a recorded fact, or a signal.
        rules: What does not change.
    """
    if event.kind in SIGNALS:
        state, facts = answer(state, event, rules)
    else:
        before, state = state, evolve(state, event, rules)
        if event.kind in QUIET:
            return Step(state)
        facts = _consequences(before, event, rules)
    return recorded(state, facts) if facts else upkeep(state, event.at, rules)


def fold(facts: Iterable[Event], rules: Rules, state: State | None = None) -> State:
    """Return the state after facts, from ``state`` or from nothing; ``restarted`` follows before anything is done."""
    state = State() if state is None else state
    for fact in facts:
        state = evolve(state, fact, rules)
    return state


def _consequences(before: State, event: Event, rules: Rules) -> list[Event]:
    if event.kind == "gap" and before.mode == "active":
        text = f"the feed missed {event.body.get('missed', 'too many')} bars, more than `feed.max_gap_bars`"
        return [events.turned("reducing", f"gap|{event.key}", text, event.at)]
    if event.kind == "decided" and rules.simulated and before.decided and (body := _mismatch(before, event)):
        return [events.alarm("account_mismatch", event.key, event.at, **body)]
    return []


def _mismatch(before: State, event: Event) -> dict[str, Any]:
    """Return how a simulated account differs from fills, charges and splits; empty if it does not."""
    body, held = event.body, before.shares
    far = [
        symbol
        for symbol in sorted(set(held) | set(body["shares"]))
        if abs(held.get(symbol, 0.0) - body["shares"].get(symbol, 0.0)) > SHARES * max(1.0, abs(held.get(symbol, 0.0)))
    ]
    worth = max(abs(float(body["equity"])), abs(before.cash), 1.0)
    if not far and abs(before.cash - body["cash"]) <= CASH * worth:
        return {}
    return {"symbols": far, "cash": float(body["cash"]), "journal_cash": before.cash}
