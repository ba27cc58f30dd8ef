"""The trader's reducer against a venue in one process, driven event by event, with everything that may go wrong.

``Machine`` performs actions as the runtime does, but synchronously and by a virtual clock: facts are appended to a list
(the journal), a kill throws away whatever else there is. After each operation ``check`` compares journal, state and
venue. Traps are mistakes put in on purpose, to show that the checks find them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from memory_venue import KINDS, Faults, Venue, Wire

from sentio_kedro.config.live.trader import SendingParameters, TraderLimits
from sentio_kedro.trader import events, state
from sentio_kedro.trader.contract import BarRow, Decision
from sentio_kedro.trader.core.facts import evolve, uncertain
from sentio_kedro.trader.events import RECORDED, Event
from sentio_kedro.trader.orders import Lattice, Order, Outcome, UnreadableError
from sentio_kedro.trader.stamps import stamp_of
from sentio_kedro.trader.state import Rules, State

SYMBOLS = ("AAA", "BBB", "CCC")
BAR = 120.0
START = 1_767_364_200.0  # 2026-01-02T14:30:00Z
ENDS = frozenset({"refused", "dropped", "cancelled"})


class KilledError(Exception):
    """The process is gone."""


class Machine:
    """A trader, its venue and its journal."""

    def __init__(self, seed: int, trap: str = "", *, tight: bool = False) -> None:
        chance = random.Random(seed)  # noqa: S311
        self.seed, self.trap, self.chance, self.now = seed, trap, chance, START
        lattice = Lattice(step=chance.choice((0.0, 1.0, 0.01)))
        self.venue = Venue(
            kind=KINDS[seed % 3],
            time=lambda: self.now,
            prices=dict.fromkeys(SYMBOLS, 100.0),
            shares={"CCC": 30.0},
            lattices=dict.fromkeys(SYMBOLS, lattice),
            fee=chance.choice((0.0, 0.001)),
            skew=chance.choice((0.0, 0.0, 4.0, -4.0)),
        )
        self.faults = Faults(seed=seed, share={"lost_answer": 0.1} if chance.random() < 0.5 else {})
        self.wire = Wire(self.venue, self.faults)
        wide = {"order_notional": 1.0, "daily_loss": 0.9, "drawdown": 0.9, "orders_per_minute": 1_000}
        wide = {} if tight else {**wide, "turnover_per_day": 1_000.0}
        self.rules = Rules(
            "machine",
            SYMBOLS,
            BAR,
            TraderLimits(**wide),
            SendingParameters(decide_within=0.6),
            lattices=self.venue.lattices,
            crosses_zero=chance.random() < 0.5,
            simulated=False,
        )
        self.journal: list[Event] = []
        self.known: dict[tuple[str, str], Mapping[str, Any]] = {}
        self.durable = 0
        self.folded = State()
        self.state = State()
        self.queue: deque[state.Action] = deque()
        self.answers: list[tuple[float, Event]] = []
        self.boundaries = -1
        self.bar, self.excused, self.surplus = 0, "", set[str]()
        self.ended: set[str] = set()
        self.intents: dict[str, Order] = {}
        self.person = 0
        self.mode = "active"
        self._begin()

    # The process.

    def _begin(self) -> None:
        self.state = state.fold(self.journal, self.rules)
        self.queue.clear()
        self.answers.clear()
        self.keep([events.started(f"{len(self.journal)}", self.now)])
        if self.state.started == 1:
            self._adopt("opening")
        self.give(events.restarted(self.now))

    def kill(self, *, power: bool = False) -> None:
        """Lose the process and its memory; with the power also what was not on disk for sure."""
        self.boundaries = -1
        if power:
            for lost in self.journal[self.durable :]:
                del self.known[lost.kind, lost.key]
                self._forget(lost)
            del self.journal[self.durable :]
        self.folded = state.fold(self.journal, self.rules)
        self._begin()

    def _forget(self, lost: Event) -> None:
        if lost.kind in ENDS:
            self.ended.discard(lost.body["order"])
        if lost.kind in ("active", "reducing", "halted"):
            raise AssertionError(f"the mode was not on disk: {lost}")

    def boundary(self) -> None:
        """A place where the process may die."""
        self.boundaries -= 1
        if self.boundaries == 0:
            raise KilledError

    def keep(self, facts: Iterable[Event], *, durable: bool = False) -> None:
        """Append facts that are new, in one transaction, and give them to the reducer."""
        self.boundary()
        new = []
        for fact in facts:
            known = self.known.get((fact.kind, fact.key))
            assert known is None or known == fact.body, f"{fact} was kept as {known}"
            if known is None:
                assert fact.kind in RECORDED
                self.known[fact.kind, fact.key] = fact.body
                self.journal.append(fact)
                new.append(fact)
                self._learn(fact)
        if durable or (new and new[-1].kind in ("active", "reducing", "halted", "adopted")):
            self.durable = len(self.journal)
        self.boundary()
        for fact in new:
            self.folded = evolve(self.folded, fact, self.rules)
        for fact in new:
            self.give(fact)

    def _learn(self, fact: Event) -> None:
        if fact.kind == "intended":
            self.intents[fact.key] = events.order_of(fact)
        elif fact.kind in ENDS:
            self.ended.add(fact.body["order"])
        elif fact.kind in ("active", "reducing", "halted"):
            self.mode = fact.kind if self.mode != "halted" or fact.kind == "active" else "halted"
        elif fact.kind == "adopted":
            self.ended |= set(self.intents)

    def give(self, event: Event) -> None:
        """Give the reducer an event; do records at once and queue the rest."""
        self.state, actions = state.step(self.state, event, self.rules)
        for action in actions:
            if isinstance(action, state.Record):
                if self.trap == "intent after send":
                    self._keep_late(action)
                else:
                    self.keep(action.events, durable=action.durable)
            else:
                self.queue.append(action)

    def _keep_late(self, action: state.Record) -> None:
        """Trap: intents stay in memory until the answer of the POST is there."""
        for fact in action.events:
            if fact.kind == "intended":
                self.folded = evolve(self.folded, fact, self.rules)
                self.intents[fact.key] = events.order_of(fact)
        self.keep([fact for fact in action.events if fact.kind != "intended"], durable=action.durable)
        for fact in action.events:
            if fact.kind == "intended":
                self.give(fact)

    def work(self, most: int = 1_000) -> None:
        """Perform queued actions."""
        while self.queue and most:
            most -= 1
            action = self.queue.popleft()
            _PERFORM[type(action)](self, action)

    def _request(self, ask: Callable[[], Any]) -> Any:
        self.boundary()
        answer = ask()
        self.boundary()
        return answer

    def _send(self, action: state.Send) -> None:
        order = action.order
        reason = state.unsendable(self.state, order.id, self.now, self.rules)
        if reason and reason != state.NOT_ASKED:
            self.keep([events.dropped(order.id, reason, self.now)])
        if reason:
            return
        post = self.state.orders[order.id].posts + 1
        self.keep([events.sent(order.id, post, self.now)])
        self._may_be_sent(order)
        outcome: Outcome = self._request(lambda: self.wire.submit(order))
        if self.trap == "intent after send":
            self.known["intended", order.id] = vars(order)
            self.journal.insert(len(self.journal) - 1, events.intended(order, self.now))
        event = {
            "accepted": lambda: events.accepted(order.id, outcome.venue_id, self.now),
            "refused": lambda: events.refused(order.id, outcome.reason, self.now),
            "unknown": lambda: events.unknown(order.id, post, outcome.reason, self.now),
        }[outcome.kind]()
        if self.wire.slow:
            self.answers.append((self.now + self.wire.slow, event))
        else:
            self.keep([event])

    def _may_be_sent(self, order: Order) -> None:
        held = self.folded.shares.get(order.symbol, 0.0)  # a split that nobody could read yet is no mistake
        assert self.mode != "halted", f"sent while halted: {order}"
        if self.mode == "reducing":
            assert order.shares * held < 0 and abs(order.shares) <= abs(held) * (1 + 1e-9), f"adds risk: {order}"

    def read(self) -> None:
        """Keep what the venue executed and booked, in the order of its clock."""
        known = self.known
        told = self._request(lambda: self.wire.fills(self.state.fills_since - 1.0))
        facts = [(fill.at, events.filled(fill, self.now)) for fill in told if ("filled", fill.id) not in known]
        for action in self._request(lambda: self.wire.actions(0.0)):
            fact = events.booked(action, self.now)
            if (fact.kind, fact.key) not in known:
                facts.append((action.at, fact))
        if facts:
            self.keep([fact for _, fact in sorted(facts, key=lambda pair: pair[0])])

    def _find(self, action: state.Find) -> None:
        order = action.order
        try:
            self.read()
            told = self._request(lambda: self.wire.find(order))
        except UnreadableError:
            self.give(events.unreadable("order", order.id, self.now))
            return
        if self.trap == "shares from statuses" and told is not None and order.id in self.state.orders:
            gap = told.filled - self.state.orders[order.id].filled
            shares = {**self.state.shares, order.symbol: self.state.shares.get(order.symbol, 0.0) + gap}
            self.state = state.State(**{**vars(self.state), "shares": shares})
        self.give(events.absent(order.id, self.now) if told is None else events.found(told, self.now))

    def _cancel(self, action: state.Cancel) -> None:
        self._request(lambda: self.wire.cancel(action.order))

    def _compare(self, action: state.Compare) -> None:
        try:
            self.read()
            holdings = self._request(self.wire.holdings)
            told = self._request(self.wire.open_orders)
        except UnreadableError:
            if self.trap == "unreadable is flat":
                self._adopt("flat", flat=True)
            else:
                self.give(events.unreadable("account", "", self.now))
            return
        rows = [
            {"what": "order", "subject": one.id, "journal": "none", "venue": one.shares}
            for one in told
            if one.id not in self.state.orders or sum(other.id == one.id for other in told) > 1
        ]
        ours, theirs = self.state.shares, holdings.shares
        for symbol in {*ours, *theirs}:
            if abs(ours.get(symbol, 0.0) - theirs.get(symbol, 0.0)) > 1e-6:
                rows.append(_row("position", symbol, ours.get(symbol, 0.0), theirs.get(symbol, 0.0)))
        if abs(holdings.cash - self.state.cash) > 0.05:
            rows.append(_row("cash", "account", self.state.cash, holdings.cash))
        self.give(events.compared(rows, self.now))

    def _decide(self, action: state.Decide) -> None:
        try:
            self.read()
        except UnreadableError:
            self.give(events.unreadable("fills", "", self.now))
        chance = random.Random(f"{self.seed}{action.bar}")  # noqa: S311
        shares, closes = dict(self.state.shares), dict(self.state.closes)
        orders = {}
        for symbol in SYMBOLS:
            target = chance.choice((None, 0.0, -30.0, -10.0, 10.0, 25.5, 30.0))
            if symbol in closes and target is not None and target != shares.get(symbol, 0.0):
                orders[symbol] = target - shares.get(symbol, 0.0)
        worth = self.state.cash + sum(held * closes.get(symbol, 100.0) for symbol, held in shares.items())
        decision = Decision(action.bar, orders, {}, {}, {}, closes, worth, shares, self.state.cash, {})
        self.keep([events.decided(decision, self.now)])

    def _adopt(self, reason: str, *, flat: bool = False) -> None:
        if reason != "opening":
            self.venue.cancel_all()
        shares = {} if flat else self.venue.shares
        self.person += 1
        key = f"{reason}{self.person}"
        self.keep([events.adopted(key, self.venue.cash, shares, self.venue.now(), reason, self.now)])

    # The world.

    def survive(self, operation: Callable[[], None]) -> None:
        """Do something that the process may not survive, then begin it again."""
        try:
            operation()
        except KilledError:
            self.kill(power=self.chance.random() < 0.3)

    def wait(self, seconds: float) -> None:
        """Let time pass, with what arrives meanwhile."""
        until = self.now + seconds
        while self.now < until:
            wake = min([at for at, _ in self.answers] + [state.due(self.state, self.rules) or until])
            self.now = min(until, max(wake, self.now + 0.5))
            self.venue.catch_up()
            for entry in [entry for entry in self.answers if entry[0] <= self.now]:
                self.answers.remove(entry)
                self.keep([entry[1]])
            if (when := state.due(self.state, self.rules)) is not None and when <= self.now:
                self.give(events.tick(self.now))
            self.work()

    def new_bar(self, missing: str = "") -> None:
        """The next bar ends."""
        self.bar = max(self.bar + 1, int((self.now - START) // BAR) + 1)
        if self.now < START + self.bar * BAR:
            self.now = START + self.bar * BAR + self.chance.random()
        self.venue.catch_up()
        for symbol in SYMBOLS:
            self.venue.prices[symbol] *= 1.0 + 0.01 * (self.chance.random() - 0.5)
        stamp = stamp_of(START + self.bar * BAR)
        bars = {symbol: {"close": price} for symbol, price in self.venue.prices.items() if symbol != missing}
        self.keep([events.bar(BarRow(stamp, bars, "machine", self.now), self.now)])

    def person_says(self, mode: str) -> None:
        """A person halts, reduces or resumes."""
        self.person += 1
        self.keep([events.turned(mode, f"person{self.person}", "asked for", self.now)])

    def heal(self) -> None:
        """End all faults and let the trader come to rest."""
        self.now += 0.01
        self.faults.script.clear()
        self.faults.share.clear()
        self.boundaries, self.venue.at_once = -1, 1.0
        self.work()
        self.wait(3 * BAR)
        self.new_bar()
        self.wait(BAR - 5.0)
        self.check()
        state_, mode = self.state, self.state.mode
        assert not any(one.unanswered for one in state_.orders.values()), f"lost: {state_.orders}"
        assert state_.closed == state_.decided == stamp_of(START + self.bar * BAR), "the bar is not closed"
        assert self.excused or mode != "halted" or "denied" in state_.reason, f"halted for nothing: {state_.reason}"
        self.give(events.reconnected(self.now))
        self.work()
        differs = state_.reason.startswith("journal and venue differ")
        assert differs or not self.state.checking or self.excused, "journal and venue differ"

    # What must hold after each operation.

    def check(self) -> None:
        """Compare journal, state and venue."""
        placed: dict[str, int] = {}
        for order in self.venue.book:
            if order.id in self.intents:
                placed[order.id] = placed.get(order.id, 0) + 1
                intent = self.intents[order.id]
                excess = abs(order.filled) - abs(intent.shares)
                assert excess <= 1e-9 or order.id in self.surplus, f"{order} was executed beyond {intent}"
        assert all(count == 1 for count in placed.values()), f"sent twice: {placed}"
        open_ = self.state.orders
        for id, intent in self.intents.items():
            ended = id in self.ended or id in open_ or abs(self._filled(id)) >= abs(intent.shares) * (1 - 1e-9)
            assert ended, f"lost: {intent}"
            if ("dropped", id) in self.known:
                assert id not in placed or id in self.surplus, f"dropped, but at the venue: {intent}"
        self._check_account()
        calm, kept = (uncertain(one, 0.0, self.rules) for one in (self.state, self.folded))
        assert calm == kept, _differing(calm, kept)

    def _filled(self, id: str) -> float:
        return sum(fact.body["shares"] for fact in self.journal if fact.kind == "filled" and fact.body["order"] == id)

    def _check_account(self) -> None:
        """Journal plus what it has not read yet is what the venue holds."""
        unread: list[tuple[float, Event]] = []
        for fill in self.venue.executions:
            if ("filled", fill.id) not in self.known:
                unread.append((fill.at, events.filled(fill, self.now)))
        for action in self.venue.corporate:
            fact = events.booked(action, self.now)
            if (fact.kind, fact.key) not in self.known:
                unread.append((action.at, fact))
        after = self.state
        for _, fact in sorted(unread, key=lambda pair: pair[0]):
            after = evolve(after, fact, self.rules)
        theirs = self.venue.shares
        for symbol in {*after.shares, *theirs}:
            gap = after.shares.get(symbol, 0.0) - theirs.get(symbol, 0.0)
            assert abs(gap) < 1e-6, f"{symbol}: journal {after.shares}, venue {theirs}"
        assert abs(after.cash - self.venue.cash) < 0.01, f"cash: journal {after.cash}, venue {self.venue.cash}"


def _row(what: str, subject: str, ours: float, theirs: float) -> dict[str, Any]:
    return {"what": what, "subject": subject, "journal": ours, "venue": theirs}


def _differing(one: State, other: State) -> str:
    pairs = {name: (value, getattr(other, name)) for name, value in vars(one).items() if value != getattr(other, name)}
    return f"the state is not what its facts say: {pairs}"


_PERFORM: dict[type, Callable[[Machine, Any], None]] = {
    state.Send: Machine._send,
    state.Find: Machine._find,
    state.Cancel: Machine._cancel,
    state.Compare: Machine._compare,
    state.Decide: Machine._decide,
}


def operations(machine: Machine) -> dict[str, tuple[float, Callable[[], None]]]:
    """Return what may happen: weight and operation by name."""
    chance, venue = machine.chance, machine.venue

    def next_bar() -> None:
        if chance.random() < 0.6:
            machine.work()
        machine.new_bar(chance.choice(("", "", "", "BBB")))
        machine.work(chance.choice((0, 1, 3, 9)))

    def fault() -> None:
        request, names = chance.choice(list(_FAULTS.items()))
        machine.faults.seconds = chance.choice((0.5, 3.0, 7.0))
        name = chance.choice(names)
        machine.faults.script.append((request, name))
        if name == "over_report":
            machine.excused = name

    def behave() -> None:
        venue.at_once = chance.choice((0.0, 0.5, 1.0, 1.0))
        venue.rest = chance.choice(("works", "expires"))

    def refuse() -> None:
        venue.refuse.append("insufficient buying power")

    def die() -> None:
        machine.boundaries = chance.randrange(1, 25)

    def split() -> None:
        venue.split(chance.choice(SYMBOLS), chance.choice((2.0, 0.5)))

    def stranger() -> None:
        machine.excused = "stranger"
        venue.stranger(chance.choice(SYMBOLS), 7.0, fills=chance.random() < 0.7)

    def surplus() -> None:
        for order in venue.book:
            if order.status == "working" and order.id in machine.intents:
                machine.excused = "over-fill"
                machine.surplus.add(order.id)
                venue.execute(order, order.rest + order.shares)
                return

    def gap() -> None:
        machine.keep([events.Event("gap", f"gap{machine.bar}", machine.now, {"missed": 9})])

    def late() -> None:
        kind = chance.choice(("late_bar", "revised_bar"))
        machine.keep([events.Event(kind, f"{kind}{machine.bar}", machine.now, {"symbol": "AAA"})])

    def again() -> None:
        bars = {"AAA": {"close": 1.0}}
        if machine.state.bar:
            machine.give(events.bar(BarRow(machine.state.bar, bars, "machine", machine.now), machine.now))

    def halt() -> None:
        machine.excused = machine.excused or "a person"
        machine.person_says(chance.choice(("halted", "reducing")))

    def resume() -> None:
        if machine.state.reason.startswith("journal and venue differ"):
            machine._adopt("person")
        machine.person_says("active")
        machine.excused = "" if machine.excused == "a person" else machine.excused

    return {
        "bar": (10.0, next_bar),
        "wait": (10.0, lambda: machine.wait(chance.choice((0.5, 2.0, 6.0, 12.0, 30.0)))),
        "work": (14.0, lambda: machine.work(chance.randrange(1, 6))),
        "trade": (5.0, lambda: venue.trade(chance.choice((0.4, 1.0)))),
        "fault": (10.0, fault),
        "behave": (3.0, behave),
        "refuse": (1.0, refuse),
        "die": (4.0, die),
        "expire": (1.0, venue.expire),
        "split": (0.7, split),
        "dividend": (0.7, lambda: venue.dividend(chance.choice(SYMBOLS), 0.5)),
        "stranger": (0.1, stranger),
        "surplus": (0.7, surplus),
        "gap": (0.2, gap),
        "late": (0.5, late),
        "again": (0.5, again),
        "reconnected": (1.0, lambda: machine.give(events.reconnected(machine.now))),
        "halt": (0.5, halt),
        "resume": (1.5, resume),
    }


_FAULTS = {
    "submit": ("lost_answer", "lost_request", "lost_request", "slow_request", "slow_answer"),
    "cancel": ("lost_answer", "lost_request"),
    "find": ("unreadable",) * 4 + ("under_report",) * 3 + ("over_report",),
    "open_orders": ("unreadable",),
    "fills": ("unreadable", "duplicate"),
    "holdings": ("unreadable",),
    "actions": ("unreadable", "duplicate"),
}


def run_schedule(seed: int, steps: int = 60, trap: str = "") -> Machine:
    """Run a schedule of a seed; ``AssertionError`` if something does not hold."""
    machine = Machine(seed, trap, tight=seed % 10 == 0)
    offered = operations(machine)
    names, weights = list(offered), [weight for weight, _ in offered.values()]
    for name in machine.chance.choices(names, weights, k=steps):
        machine.now += 0.01
        machine.survive(offered[name][1])
        machine.check()
    machine.survive(machine.heal)
    return machine
