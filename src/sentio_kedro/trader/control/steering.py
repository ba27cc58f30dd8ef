"""What a person tells a trader: halt, reduce, resume, adopt. A running one is asked; else the journal gets the fact."""

from __future__ import annotations

import getpass
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from sentio_kedro.locks import writer_of
from sentio_kedro.trader.clock import Clock
from sentio_kedro.trader.events import turned
from sentio_kedro.trader.journal.requests import Request, ask, done, pending
from sentio_kedro.trader.journal.store import Journal, JournalReader

PATIENCE = 5.0  # seconds for the trader to answer
_PAUSE = 0.05  # seconds between two looks

_FACTS = {"adopt": "adopted"}  # kinds of facts that are not named like the wish

Wish = Literal["halted", "reducing", "active", "adopt"]

_DONE = {
    "halted": "HALTED: no order is sent any more, neither to buy nor to sell. Positions stay as they are, and go on "
    "gaining and losing: `kedro trader flatten` closes them, `kedro trader resume` lets the trader go on.",
    "reducing": "REDUCING: only orders that shrink a position are sent. Positions stay until the agents reduce them: "
    "`kedro trader flatten` closes them now, `kedro trader halt` stops all orders.",
    "active": "ACTIVE: orders are sent again as the limits allow. Losses and denials are counted anew from here.",
    "adopt": "ADOPTED: cash and positions of the journal are the venue's now, open orders count as ended. A halted "
    "trader stays halted until `kedro trader resume`.",
}
_BY_TRADER = {
    "halted": " Open orders are cancelled.",
    "reducing": " Open orders that would enlarge one are cancelled.",
    "active": "",
    "adopt": "",
}
_BY_JOURNAL = " No trader runs: this holds from its next start on, and orders that are open at the venue stay there."
_UNANSWERED = {
    "halted": "It may still send orders until then. The request stays and counts before the next order. If the process "
    "hangs, stop it; `kedro trader flatten` works without it.",
    "reducing": "It may still enlarge positions until then. The request stays and counts before the next order. If the "
    "process hangs, stop it; `kedro trader flatten` works without it.",
    "active": "Nothing was changed, and the request is withdrawn: type it again once the trader answers.",
    "adopt": "Nothing was changed, and the request is withdrawn: type it again once the trader answers.",
}


@dataclass(frozen=True)
class Told:
    """What came of it.

    Attributes:
        wish: What was asked for.
        how: ``trader``: a running one did it; ``journal``: none runs, the fact waits for the next start;
            ``unanswered``: one runs and did not answer.
        trader: Who runs, in words; empty if nobody does.
        request: Id of the request, the key of its fact.
    """

    wish: Wish
    how: Literal["trader", "journal", "unanswered"]
    trader: str
    request: str

    def data(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    def text(self) -> str:
        """Return what it means for orders and positions."""
        if self.how == "unanswered":
            return f"The trader, {self.trader}, has not answered within {PATIENCE:g} s. {_UNANSWERED[self.wish]}"
        return _DONE[self.wish] + (_BY_TRADER[self.wish] if self.how == "trader" else _BY_JOURNAL)


async def tell(journal: Path, wish: Wish, reason: str, command: str, clock: Clock) -> Told:
    """Ask a running trader for something and wait for the fact; without one, write the fact.

    Args:
        journal: The journal's file.
        wish: What is asked for.
        reason: Why, in a person's words.
        command: What was typed, for others that would write the journal meanwhile.
        clock: The time.

    Raises:
        FileNotFoundError: If there is no journal.
        ValueError: If the wish does not fit the mode, or nobody runs who could adopt.
    """
    request = Request(uuid4().hex, wish, reason, f"{getpass.getuser()}@{socket.gethostname()}", clock.now())
    if not journal.exists() and wish in ("halted", "reducing") and (trader := writer_of(journal)):
        return await _braked(journal, request, trader, clock)
    with JournalReader(journal) as reader:
        _require_sense(wish, mode_of(reader)[0])
        trader = await _asked(journal, reader, request, clock)
        if reader.holds(_FACTS.get(wish, wish), request.id):
            return Told(wish, "trader", trader, request.id)
    if trader:
        return Told(wish, "unanswered", trader, request.id)
    if wish == "adopt":
        raise ValueError(
            "A running trader must compare with the venue before its truth is adopted, none runs; start `kedro trader "
            "run`, which compares and stays halted, then type this again."
        )
    with Journal(journal, command) as written:
        written.append([turned(wish, request.id, reason, clock.now(), request.by)], durable=True)
    return Told(wish, "journal", "", request.id)


async def _braked(journal: Path, request: Request, trader: str, clock: Clock) -> Told:
    """Ask a trader whose journal was moved away: it still looks for requests, and removes those that it has kept."""
    deadline = clock.now() + PATIENCE
    ask(journal, request)
    while (waits := request in pending(journal)) and clock.now() < deadline:
        await clock.wait_until(clock.now() + _PAUSE)
    return Told(request.kind, "unanswered" if waits else "trader", trader, request.id)


async def _asked(journal: Path, reader: JournalReader, request: Request, clock: Clock) -> str:
    """Ask whoever runs until there is an answer; return who it is, empty if nobody runs or it has ended meanwhile."""
    deadline = clock.now() + PATIENCE
    trader = writer_of(journal)
    if trader is None:
        return ""
    ask(journal, request)
    while not reader.holds(_FACTS.get(request.kind, request.kind), request.id) and clock.now() < deadline:
        await clock.wait_until(clock.now() + _PAUSE)
        if writer_of(journal) is None:
            done(journal, request)
            return ""
    if request.kind in ("active", "adopt"):  # what adds no risk may wait, these must not surprise later
        done(journal, request)
    return trader


def mode_of(reader: JournalReader) -> tuple[str, str, float]:
    """Return the trader's mode, why, and since when; a halted one is not loosened by ``reducing``."""
    newest = {kind: reader.newest(kind) for kind in ("active", "reducing", "halted")}
    places = {kind: stored.seq for kind, stored in newest.items() if stored}
    halted = places.get("halted", 0) > places.get("active", 0)
    kind = "halted" if halted else max(places, key=places.__getitem__, default="active")
    stored = newest[kind]
    if stored is None:
        return "active", "", 0.0
    return kind, "" if kind == "active" else str(stored.event.body["reason"]), stored.event.at


def _require_sense(wish: Wish, mode: str) -> None:
    if wish == "active" and mode == "active":
        raise ValueError("The trader must be halted or reducing to be resumed, is active; there is nothing to resume.")
    if wish == "reducing" and mode == "halted":
        raise ValueError(
            "The trader must be active to be reduced, is halted, which is stricter: nothing is sent at all; resume it "
            "before."
        )
