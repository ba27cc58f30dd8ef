"""The watching process: read the journal, judge it, tell people, and act when the trader has died."""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sentio_kedro.trader.clock import Clock
from sentio_kedro.trader.contract import Broker
from sentio_kedro.trader.journal.store import JournalError, JournalReader, Stored
from sentio_kedro.trader.sessions import sessions_of
from sentio_kedro.trader.watch import dead_man
from sentio_kedro.trader.watch.alarms.evaluate import Message, Raised, Standing, evaluate
from sentio_kedro.trader.watch.alarms.notify import Notifier
from sentio_kedro.trader.watch.alarms.store import Memory, Waiting, memory_path, recall, remember
from sentio_kedro.trader.watch.drift import DriftMeter
from sentio_kedro.trader.watch.fold import fold
from sentio_kedro.trader.watch.metrics import Surroundings, dead_at, is_dead, samples
from sentio_kedro.trader.watch.view import DAY, View

logger = logging.getLogger(__name__)
KEEP_EVERY = 60.0  # seconds after which the place in the journal is written down though nothing was raised
LOOK = 1.0  # seconds from one look at the journal to the next
CALENDAR_DAYS = 30  # after which an exchange's sessions are asked for anew


@dataclass(frozen=True)
class Seen:
    """What the page and the metrics show: one consistent look.

    Attributes:
        view: What is known of the trader.
        around: What it is judged by.
        firing: Alarms.
        problem: Why the journal cannot be read; empty if it can.
    """

    view: View
    around: Surroundings
    firing: tuple[Raised, ...] = ()
    problem: str = ""


class Watch:
    """Follows one journal, read only.

    Attributes:
        seen: The newest look; replaced as a whole, so that other threads may read it.
    """

    def __init__(
        self,
        journal: Path,
        around: Surroundings,
        clock: Clock,
        notifier: Notifier,
        broker: Callable[[], Broker] | None = None,
        flatten: Callable[[Broker], Awaitable[bool]] | None = None,
        meter: DriftMeter | None = None,
        calendar: str | None = None,
    ) -> None:
        """Take what it works with.

        Args:
            journal: File of the journal; it need not be there yet.
            around: What views are judged by.
            clock: The time.
            notifier: Tells people.
            broker: Makes a connection to the venue; null for an account at none.
            flatten: Closes all positions there and returns whether nothing is held.
            meter: Compares features with those of training.
            calendar: Of the sessions, unless the journal names one; null never closes.
        """
        self._journal, self._clock, self._notifier = journal, clock, notifier
        self._broker, self._flatten, self._meter = broker, flatten, meter
        self._reader: JournalReader | None = None
        self._file = (0, 0)
        self._treating: asyncio.Task[None] | None = None
        self._calendar, self._renewed = calendar, (calendar, -math.inf)
        self._memory, self._kept = recall(journal), -math.inf
        self._known_alive = self._memory is not None  # by an earlier watch
        self.seen = Seen(View(), around)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await self._clock.wait_until(self._next())

    async def look(self) -> None:
        """Read what is new, raise and resolve alarms, deliver messages, and treat a death."""
        now = self._clock.now()
        messages, problem = self._read(now)
        memory, waiting = self._memory or Memory(), self._notifier.waiting(messages)
        self._memory = memory = replace(memory, waiting=(*memory.waiting, *waiting))
        if messages or now - self._kept >= KEEP_EVERY:
            self._keep(memory)  # before anything is delivered: a message is told twice at worst, never lost
        self.seen = replace(self.seen, firing=tuple(memory.standing.firing), problem=problem)
        await self._deliver(now)
        self._treat_death(now)

    async def settled(self) -> None:
        """Return when no death is being treated."""
        if self._treating is not None:
            await self._treating

    def close(self) -> None:
        """Close the journal."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _next(self) -> float:
        now, view, around = self._clock.now(), self.seen.view, self.seen.around
        patience = dead_at(view, around)
        if patience is None or not around.sessions.is_open(now):
            return now + LOOK
        left = patience - around.sessions.open_seconds(max(view.closed_at, view.started), now)
        return now + (min(LOOK, left + 0.01) if left >= 0.0 else LOOK)

    def _read(self, now: float) -> tuple[list[Message], str]:
        """Fold new events in; alarms are judged after each closed bar, and now."""
        messages: list[Message] = []
        problem = ""
        try:
            self._open()
            if self._reader is not None:
                for bar in _bars(self._reader.events(self.seen.view.seq)):
                    messages += self._take(bar)
        except FileNotFoundError:
            problem = "There is no journal yet. kedro trader run makes it."
        except (JournalError, sqlite3.Error, OSError) as error:
            logger.warning("The journal cannot be read: %s", error)
            problem = "The journal cannot be read; the log says why."
            self.close()
        self._renew_sessions(now)
        return messages + self._judge(self.seen.view.at if self.seen.view.trading == "replay" else now), problem

    def _open(self) -> None:
        status = self._journal.stat()
        if self._reader is not None and self._file == (status.st_dev, status.st_ino):
            return
        if self._file not in ((0, 0), (status.st_dev, status.st_ino)):
            logger.warning("The journal was replaced by another one, which is read from its start.")
            self.seen = replace(self.seen, view=View())
            self._memory = replace(self._memory or Memory(), standing=Standing(), death="")
        self.close()
        self._reader, self._file = JournalReader(self._journal), (status.st_dev, status.st_ino)

    def _take(self, bar: list[Stored]) -> list[Message]:
        judged = self._memory is not None and bar[-1].seq > self._memory.standing.seq
        messages: list[Message] = []
        if judged and self.seen.view.seq:
            messages += self._judge(bar[0].event.at)  # what had come to be by then, such as a silence
        self.seen = replace(self.seen, view=fold(self.seen.view, bar))
        if self._meter is not None:
            for item in bar:
                if item.event.kind == "bar":
                    self._meter.take(item.event.key, item.event.body["bars"])
        return messages + self._judge(bar[-1].event.at) if judged else messages

    def _judge(self, now: float) -> list[Message]:
        if self._meter is not None:
            self.seen = replace(self.seen, around=replace(self.seen.around, drift=self._meter.indices()))
        memory, view = self._memory or Memory(), self.seen.view
        standing, messages = evaluate(memory.standing, samples(view, now, self.seen.around), now, view.seq)
        self._memory = replace(memory, standing=standing)
        return messages

    def _renew_sessions(self, now: float) -> None:
        calendar = self.seen.view.calendar or self._calendar
        if calendar is None or (calendar == self._renewed[0] and now < self._renewed[1] + CALENDAR_DAYS * DAY):
            return
        self._renewed = calendar, now
        self.seen = replace(self.seen, around=replace(self.seen.around, sessions=sessions_of(calendar, now)))

    def _keep(self, memory: Memory) -> None:
        self._memory, self._kept = memory, self._clock.now()
        try:
            remember(self._journal, memory)
        except OSError as error:
            logger.warning("%s cannot be written: %s", memory_path(self._journal).name, error.strerror)

    async def _deliver(self, now: float) -> None:
        memory = self._memory or Memory()
        left = await self._notifier.deliver(memory.waiting, now)
        if left != tuple(memory.waiting):
            self._keep(replace(memory, waiting=left))

    def _treat_death(self, now: float) -> None:
        view, memory = self.seen.view, self._memory or Memory()
        busy = self._treating is not None and not self._treating.done()
        dead = is_dead(view, now, self.seen.around)
        self._known_alive = self._known_alive or (bool(view.closed) and not dead)
        if busy or self._broker is None or not dead or not self._known_alive:
            return  # a trader that was stopped long ago has left its account to others
        if memory.death != dead_man.death_of(view):
            self._treating = asyncio.create_task(self._treat(view, self._broker))

    async def _treat(self, view: View, broker: Callable[[], Broker]) -> None:
        parameters = self.seen.around.parameters.watch
        try:
            treated = await dead_man.treat(parameters, broker, self._clock, self._flatten)
        except Exception:  # a vendor's library may raise anything, and the next look must try again
            logger.exception("The dead trader's orders could not be cancelled; it is tried again.")
            return
        logger.warning("%s", treated.text)
        memory = self._memory or Memory()
        if treated.done:
            message = Message("raised", "TraderDown", "critical", treated.text, self._clock.now())
            waiting: list[Waiting] = self._notifier.waiting([message])
            self._keep(replace(memory, death=dead_man.death_of(view), waiting=(*memory.waiting, *waiting)))


def _bars(stored: Iterator[Stored]) -> Iterator[list[Stored]]:
    """Split events after each closed bar."""
    group: list[Stored] = []
    for item in stored:
        group.append(item)
        if item.event.kind == "closed_bar":
            yield group
            group = []
    if group:
        yield group
