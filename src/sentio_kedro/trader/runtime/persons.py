"""What persons ask a running trader for: another mode, the venue's truth."""

from __future__ import annotations

from pathlib import Path

from sentio_kedro.trader import events
from sentio_kedro.trader.contract import Broker
from sentio_kedro.trader.journal import requests
from sentio_kedro.trader.journal.requests import Request
from sentio_kedro.trader.orders import UnreadableError
from sentio_kedro.trader.runtime.book import Book
from sentio_kedro.trader.runtime.venue import Venue
from sentio_kedro.trader.state import Action

BRAKES = ("reducing", "halted")


class Persons:
    """Requests, each applied once: the fact that answers one has its id."""

    def __init__(self, book: Book, venue: Venue, broker: Broker, journal: Path) -> None:
        """Look beside a journal."""
        self._book, self._venue, self._broker, self._journal = book, venue, broker, journal

    def brakes(self) -> list[Action]:
        """Apply what forbids orders; this is looked at before each is sent."""
        actions: list[Action] = []
        for request in requests.pending(self._journal):
            if request.kind in BRAKES:
                actions += self._turn(request)
        return actions

    async def asked(self) -> list[Action]:
        """Apply all that persons ask for, the oldest first.

        A wish to resume that is older than one to stop is dropped: ``brakes`` may have applied the newer one before.
        """
        actions: list[Action] = []
        waiting = requests.pending(self._journal)
        newest = max((number for number, one in enumerate(waiting) if one.kind in BRAKES), default=-1)
        for number, request in enumerate(waiting):
            if request.kind == "active" and number < newest:
                self._done(request)
            elif request.kind == "adopt":
                actions += await self._adopt(request)
            else:
                actions += self._turn(request)
                self._done(request)
        return actions

    def _turn(self, request: Request) -> list[Action]:
        if self._book.holds(request.kind, request.id):
            return []
        fact = events.turned(request.kind, request.id, request.reason, self._book.now(), request.by)
        return self._book.keep([fact], durable=True)  # the request is removed then

    def _done(self, request: Request) -> None:
        self._book.boundary("before request done")
        requests.done(self._journal, request)
        self._book.boundary("after request done")

    async def _adopt(self, request: Request) -> list[Action]:
        """Take over the venue's truth about what is traded; try again at the next look if it does not tell."""
        book, actions = self._book, list[Action]()
        if not book.holds("adopted", request.id):
            for resting in [one.order for one in book.state.orders.values()]:  # nobody would end them later
                await self._venue.cancel(resting)
                actions += await self._venue.find(resting)
            try:
                as_of = await self._venue.ask("now", self._broker.now)
                held = await self._venue.holdings(actions)
            except UnreadableError as error:
                return actions + book.learn(events.unreadable("account", str(error), book.now()))
            shares = {symbol: held.shares.get(symbol, 0.0) for symbol in book.rules.symbols}
            fact = events.adopted(request.id, held.cash, shares, as_of, request.reason, book.now(), request.by)
            actions += book.keep([fact], durable=True)
        self._done(request)
        return actions
