"""The journal and the state that follows from it: each fact is kept first, then folded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sentio_kedro.trader.clock import Clock, ReplayClock, seconds_of
from sentio_kedro.trader.events import Event
from sentio_kedro.trader.journal.store import Journal, JournalReader
from sentio_kedro.trader.state import Action, Record, Rules, State, due, fold, state_from_json, state_to_json, step

SNAPSHOT_EVENTS = 2_000  # facts that a restart folds at most

Boundary = Callable[[str], None]


@dataclass
class Traded:
    """What was filled in a symbol since the bar before.

    Attributes:
        shares: Signed.
        volume: Without sign.
        notional: Price times shares without sign, quote currency.
    """

    shares: float = 0.0
    volume: float = 0.0
    notional: float = 0.0


class Book:
    """What the trader knows, and the one way in which it learns.

    Attributes:
        rules: What does not change.
        state: The fold of the journal's facts.
        path: The journal's file.
        boundary: Called before and after everything that leaves the process or comes in.
    """

    def __init__(self, rules: Rules, journal: Journal, clock: Clock, boundary: Boundary) -> None:
        """Read the state from the newest snapshot and the facts after it."""
        self.rules, self.boundary, self._journal, self._clock = rules, boundary, journal, clock
        self.state, self.path = State(), journal.path
        self._traded: dict[str, Traded] = {}
        self._since_snapshot = 0
        self._read()

    def _read(self) -> None:
        with JournalReader(self.path) as reader:
            found, place = reader.latest_snapshot(), 0
            if found is not None:
                place, body = found
                self.state = state_from_json(body["state"])
                self._traded = {symbol: Traded(**kept) for symbol, kept in body["traded"].items()}
            for stored in reader.events(place):
                self._count(stored.event)
                self.state = fold([stored.event], self.rules, self.state)
                self._since_snapshot += 1
        if self.state.bar:
            self.replay_to(self.state.bar)

    def note(self, *events: Event) -> None:
        """Keep and fold facts from which nothing follows before ``restarted``."""
        for event in self._append(Record(events)):
            self._count(event)
            self.state = fold([event], self.rules, self.state)

    def keep(self, events: Sequence[Event], *, durable: bool = False) -> list[Action]:
        """Append facts in one transaction, fold those that are new, and keep at once what they ask to be kept.

        Returns:
            What else is to be done. Facts are folded in the order of the journal, now as after a restart.
        """
        actions, waiting = list[Action](), deque([Record(tuple(events), durable)])
        while waiting:
            asked = waiting.popleft()
            for event in self._append(asked):
                for action in self._fold(event):
                    if isinstance(action, Record):
                        waiting.append(action)
                    else:
                        actions.append(action)
        if self._since_snapshot >= SNAPSHOT_EVENTS:
            self.snapshot()
        return actions

    def learn(self, event: Event) -> list[Action]:
        """Fold a signal, which is not kept, keep what it asks to be kept, and return what else is to be done."""
        actions = list[Action]()
        for action in self._fold(event):
            actions += self.keep(action.events, durable=action.durable) if isinstance(action, Record) else [action]
        return actions

    def _append(self, asked: Record) -> list[Event]:
        if not asked.events:
            return []
        name = f"journal {asked.events[0].kind}"
        self.boundary(f"before {name}")
        new = self._journal.append(asked.events, durable=asked.durable)
        self.boundary(f"after {name}")
        self._since_snapshot += len(new)
        if len(new) < len(asked.events) and self.state.recording:  # the journal has what the state waits for
            self.state = replace(self.state, recording=frozenset())
        return new

    def pass_over(self) -> None:
        """Wait no longer for the decision at a bar that the agents refused."""
        self.state = replace(self.state, waiting="", deciding="")

    def snapshot(self) -> None:
        """Keep the state, to begin from after a restart."""
        self.boundary("before snapshot")
        traded = {symbol: dict(vars(kept)) for symbol, kept in self._traded.items()}
        self._journal.snapshot({"state": state_to_json(self.state), "traded": traded})
        self.boundary("after snapshot")
        self._since_snapshot = 0

    def holds(self, kind: str, key: str) -> bool:
        """Whether the journal has a fact."""
        return self._journal.holds(kind, key)

    def traded(self) -> dict[str, tuple[float, float]]:
        """Return signed shares and mean price by symbol since the newest decision."""
        return {s: (one.shares, one.notional / one.volume) for s, one in self._traded.items() if one.volume}

    def replay_to(self, stamp: str) -> None:
        """Let a replayed clock be at a bar's end at least."""
        if isinstance(self._clock, ReplayClock):
            self._clock.set(seconds_of(stamp))

    def now(self) -> float:
        """Return the trader's time."""
        return self._clock.now()

    def due(self) -> float | None:
        """Return when the state needs a tick next; None if nothing waits for the time."""
        return due(self.state, self.rules)

    def _fold(self, event: Event) -> tuple[Action, ...]:
        self._count(event)
        self.state, actions = step(self.state, event, self.rules)
        return actions

    def _count(self, event: Event) -> None:
        if event.kind == "decided":
            self._traded = {}
        elif event.kind == "filled":
            fill = event.body
            one = self._traded.setdefault(fill["symbol"], Traded())
            one.shares += fill["shares"]
            one.volume += abs(fill["shares"])
            one.notional += abs(fill["shares"]) * fill["price"]
