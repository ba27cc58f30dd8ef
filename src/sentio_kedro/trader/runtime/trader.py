"""One event loop that joins feed, agents, journal and venue. What to do is what ``step`` says; how is here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from math import inf
from typing import Any

from sentio_kedro.trader import events
from sentio_kedro.trader.clock import Clock, ReplayClock, seconds_of
from sentio_kedro.trader.contract import BarRow, Broker, Decider, Decision, Feed, Settled, Simulated
from sentio_kedro.trader.core.planning import allowed, deadline
from sentio_kedro.trader.journal.store import Journal
from sentio_kedro.trader.orders import Order, UnreadableError
from sentio_kedro.trader.runtime.book import Book, Boundary
from sentio_kedro.trader.runtime.persons import Persons
from sentio_kedro.trader.runtime.recovery import REFUSED, begin
from sentio_kedro.trader.runtime.venue import Venue
from sentio_kedro.trader.sessions import AlwaysOpen, Sessions
from sentio_kedro.trader.state import NOT_ASKED, Action, Cancel, Decide, Find, Rules, Send, State, unsendable

POLL = 0.25  # seconds between looks at what persons ask for
WATCH_FILLS = 2.0  # seconds between questions for fills while orders are open
STALE_BARS = 2.5  # without a row, then positions are only reduced
DEAD_BARS, DEAD_SECONDS = 2.5, 10.0  # without a closed bar, then a venue that can cancels all orders
TURNS = 3  # of the event loop within which a recorded bar is there


class Trader:
    """A trader: replayed, on paper, or with money.

    Everything that happens goes through ``Book``: kept, folded, and what follows is done in order. The orders of one
    bar are sent together. A bar is finished before the next one is taken, unless an order stays unanswered until then.
    """

    def __init__(
        self,
        rules: Rules,
        journal: Journal,
        broker: Broker,
        feed: Feed,
        decider: Decider,
        clock: Clock,
        *,
        account: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        sessions: Sessions | None = None,
        boundary: Boundary = lambda name: None,
    ) -> None:
        """Read the journal.

        Args:
            rules: What does not change.
            journal: Where every fact goes.
            broker: The venue.
            feed: Complete bars.
            decider: The agents.
            clock: The time.
            account: State of the account that a simulation begins with; null opens one.
            facts: Of this start, for the journal: mode, digest of the parameters.
            sessions: When bars are to be expected: a silent feed grows stale only then. Null is always.
            boundary: Called with a name before and after everything that leaves the process or comes in.
        """
        self._rules, self._broker, self._feed, self._decider, self._clock = rules, broker, feed, decider, clock
        self._opening, self._facts = account, dict(facts or {})
        self._book = Book(rules, journal, clock, boundary)
        self._venue = Venue(self._book, broker)
        self._persons = Persons(self._book, self._venue, broker, journal.path)
        self._replayed = isinstance(clock, ReplayClock)
        self._sessions, self._began = sessions or AlwaysOpen(), 0.0
        self._rows: dict[str, BarRow] = {}
        self._held: dict[str, tuple[float, Order]] = {}
        self._decision: Decision | None = None
        self._watch_at, self._armed = 0.0, ""

    @property
    def state(self) -> State:
        """What is known now."""
        return self._book.state

    async def run(self) -> State:
        """Trade until the feed ends or the task is cancelled; return the last state.

        Raises:
            ValueError: If the journal is of another account, or the history too short.
        """
        rows: AsyncIterator[BarRow] | None = None
        try:
            await self._start()
            rows = self._feed.rows(self._book.state.bar)
            while (row := await self._next(rows)) is not None:
                await self._take(row)
            return self._book.state
        finally:
            if isinstance(rows, AsyncGenerator):
                await rows.aclose()

    async def _start(self) -> None:
        start = await begin(
            self._book, self._venue, self._broker, self._feed, self._decider, self._opening, self._facts
        )
        self._decision = start.decision
        self._rows = {row.stamp: row for row in start.rows}
        self._began = self._book.now()
        await self._do(self._book.learn(events.restarted(self._began)))

    async def _next(self, rows: AsyncIterator[BarRow]) -> BarRow | None:
        """Wait for the next row; meanwhile see to orders, persons and the feed's notes."""
        await self._settle()
        coming = asyncio.ensure_future(_following(rows))
        try:
            while True:
                await self._serve()
                for _ in range(TURNS):
                    if coming.done():
                        return coming.result()
                    await asyncio.sleep(0)
                if self._replayed:  # its time stands still until the row is there
                    return await coming
                pause = asyncio.ensure_future(self._clock.wait_until(self._clock.now() + POLL))
                await asyncio.wait({coming, pause}, return_when=asyncio.FIRST_COMPLETED)
                pause.cancel()
        finally:
            if not coming.done():  # a generator that still runs cannot be closed
                coming.cancel()
                await asyncio.wait({coming})

    async def _settle(self) -> None:
        """See to what the next row must wait for, until the next bar ends: answers, a comparison, a late decision."""
        until = seconds_of(self._book.state.bar) + self._rules.bar_seconds
        await self._serve()
        while self._unsettled() and max(due := self._due(), self._clock.now()) < until:
            later = self._clock.now() + POLL
            await self._clock.wait_until(max(due, later) if self._replayed else later)
            await self._serve()

    def _due(self) -> float:
        """Return when something waits for the time next."""
        due = self._book.due()
        return min([begin for begin, _ in self._held.values()], default=inf) if due is None else due

    def _unsettled(self) -> bool:
        state = self._book.state
        return state.checking or bool(state.waiting) or any(one.unanswered for one in state.orders.values())

    async def _serve(self) -> None:
        """See to everything that is not a row."""
        await self._do(await self._persons.asked())
        for note in self._feed.notes():
            event = events.noted(note, self._book.now())
            if event is not None:
                await self._do(self._book.keep([event]) if event.kind in events.RECORDED else self._book.learn(event))
        now = self._book.now()
        due = self._book.due()
        if due is not None and due <= now:
            await self._do(self._book.learn(events.tick(now)))
        opened = [order for begin, order in self._held.values() if begin <= now]
        await self._do([Send(order) for order in opened if self._held.pop(order.id)])
        if not self._replayed:
            await self._watch(now)
        await self._finish()

    async def _watch(self, now: float) -> None:
        """Ask for fills while orders are open, and see whether the feed is silent."""
        state, book = self._book.state, self._book
        if state.orders and now >= self._watch_at:
            self._watch_at = now + WATCH_FILLS
            await self._do(await self._fills())
        silent = self._sessions.open_seconds(max(self._began, seconds_of(state.bar)), now)
        patience = STALE_BARS * self._sessions.bar_seconds(self._rules.bar_seconds)
        alarm = events.alarm("stale_bars", state.bar, now, seconds=silent)
        if silent > patience and not book.holds("alarm", alarm.key):
            reason = f"no bar since {state.bar}; see to the feed, then `kedro trader resume`"
            mode = [events.turned("reducing", f"stale|{state.bar}", reason, now)] if state.mode == "active" else []
            await self._do(book.keep([alarm, *mode], durable=True))

    async def _take(self, row: BarRow) -> None:
        """Do what a bar asks for."""
        self._book.replay_to(row.stamp)
        before = self._book.state.bar
        actions = await self._fills()
        if before and row.stamp[:10] != before[:10]:  # sessions are days in UTC
            self._book.snapshot()
        self._rows[row.stamp] = row
        await self._do([*actions, *self._book.keep([events.bar(row, self._book.now())])])

    async def _finish(self) -> None:
        """After a bar's last answer: arm the venue's own switch, measure clocks."""
        state = self._book.state
        if self._broker.simulated or state.closed == self._armed:
            return
        self._armed = state.closed
        seconds = DEAD_BARS * self._rules.bar_seconds + DEAD_SECONDS
        await self._venue.ask("arm", self._broker.arm, seconds)
        try:
            skew = await self._venue.measure_skew()
        except UnreadableError:
            return
        alarm = events.alarm("clock_skew", state.closed, self._book.now(), seconds=skew)
        if self._skewed() and not self._book.holds("alarm", alarm.key):  # by the process before a restart
            await self._do(self._book.keep([alarm]))

    def _skewed(self) -> bool:
        return not self._broker.simulated and abs(self._venue.skew) > self._rules.limits.clock_skew_seconds

    async def _fills(self) -> list[Action]:
        try:
            return await self._venue.fills()
        except UnreadableError:
            return self._book.learn(events.unreadable("fills", "", self._book.now()))

    async def _do(self, actions: Sequence[Action]) -> None:
        """Do actions and what follows from them, in order."""
        queue = deque(actions)
        while queue:
            action = queue.popleft()
            if isinstance(action, Send):
                orders = [action.order]
                while queue and isinstance(queue[0], Send):
                    orders.append(queue.popleft().order)  # type: ignore[union-attr]
                queue.extend(await self._send(orders))
            else:
                queue.extend(await self._perform(action))

    async def _perform(self, action: Action) -> list[Action]:
        if isinstance(action, Decide):
            return self._decide(action.bar)
        if isinstance(action, Find):
            return await self._venue.find(action.order)
        if isinstance(action, Cancel):
            await self._venue.cancel(action.order)
            return []
        return await self._venue.compare()

    def _decide(self, bar: str) -> list[Action]:
        """Let the agents go through the rows up to a bar; their decision at it counts.

        A row that they refuse is passed over, now as after a restart: it halts, and a person looks.
        """
        rows = [self._rows.pop(stamp) for stamp in sorted(self._rows) if stamp <= bar]
        actions = list[Action]()
        for row in rows:
            self._book.boundary("before decide")
            try:
                self._decision = self._decider.advance(row, self._execution())
            except ValueError as error:
                actions += self._refused(row, error)
            self._book.boundary("after decide")
        decision, now = self._decision, self._book.now()
        if decision is None or decision.bar != bar:
            self._book.pass_over()
            return actions + self._book.keep([events.closed_bar(bar, now)])
        return actions + self._book.keep([*events.facts_of(decision, now), events.decided(decision, now)])

    def _execution(self) -> Simulated | Settled:
        state = self._book.state
        if self._broker.simulated:  # A venue's orders are cancelled when the mode forbids them.
            forbidden = {one.order.id for one in state.orders.values() if not allowed(state, one.order)}
            return Simulated(state.sent - forbidden)
        return Settled(dict(state.shares), state.cash, self._book.traded())

    def _refused(self, row: BarRow, error: ValueError) -> list[Action]:
        reason = f"the agents cannot decide at {row.stamp}: {error}"
        return self._book.keep([events.turned("halted", f"{REFUSED}{row.stamp}", reason, self._book.now())])

    async def _send(self, orders: Sequence[Order]) -> list[Action]:
        """POST orders at the same time, after a last look at what persons ask for."""
        windows = await asyncio.gather(*map(self._window, orders))
        actions, now, ready = self._persons.brakes(), self._book.now(), list[Order]()
        for order, window in zip(orders, windows, strict=True):
            reason = self._obstacle(order, window, now)
            if reason == NOT_ASKED:
                continue
            if reason:
                actions += self._book.keep([events.dropped(order.id, reason, now)])
            elif window is not None and now < window[0]:
                self._held[order.id] = window[0], order
            else:
                ready.append(order)
        number = {order.id: self._book.state.orders[order.id].posts + 1 for order in ready}
        actions += self._book.keep([events.sent(order.id, number[order.id], now) for order in ready])
        for follows in await asyncio.gather(*(self._venue.post(order, number[order.id]) for order in ready)):
            actions += follows
        return actions

    async def _window(self, order: Order) -> tuple[float, float] | None:
        """Return when the venue takes an order; a venue that does not say is asked again, until the deadline."""
        try:
            return await self._broker.window(order)
        except UnreadableError:
            return self._book.now() + WATCH_FILLS, deadline(order.bar, self._rules)

    def _obstacle(self, order: Order, window: tuple[float, float] | None, now: float) -> str:
        """Return why an order must not be sent now or later; empty if it may."""
        reason = unsendable(self._book.state, order.id, now, self._rules, window[1] if window else None)
        if not reason and self._skewed():
            return f"the venue's clock differs by {self._venue.skew:.1f} s; set this machine's"
        if not reason and window is not None and now > window[1]:
            return "the venue takes no such order any more"
        return reason


async def _following(rows: AsyncIterator[BarRow]) -> BarRow | None:
    return await anext(rows, None)
