"""Writing and reading of the journal.

Table ``events(seq, at, kind, key, body, basis, hash)``: append-only by triggers, ``UNIQUE(kind, key)``, each hash over
the row and the hash before, WAL. Table ``snapshots(seq, body, hash)``: states, to begin from instead of the first
event.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sentio_kedro.locks import LockedError, held_locks
from sentio_kedro.trader.events import Event
from sentio_kedro.trader.journal import files
from sentio_kedro.trader.journal.bodies import Bodies, compressed, decompressed
from sentio_kedro.trader.journal.chain import (
    START,
    ChangedError,
    JournalError,
    Row,
    Stored,
    body_text,
    chained,
    checked,
    require_fact,
    sealed,
    stored,
)
from sentio_kedro.trader.journal.requests import set_aside_stale

__all__ = ["Journal", "JournalError", "JournalReader", "Stored"]

_COLUMNS = "SELECT seq, at, kind, key, body, basis, hash FROM events"
_HOLDS = "SELECT 1 FROM events WHERE kind = ? AND key = ?"
_PAGE = 1_000  # events read at once: a slow reader holds no transaction open
_KEPT = 2  # snapshots: the newest, and one more should it be damaged
_PATIENCE = 1.0  # seconds for a command that holds the lock to end

logger = logging.getLogger(__name__)


class Journal:
    """The one writer of a journal; locked against a second process, which is told pid, host and command.

    Calls must not overlap; they may come from several threads.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, command: str = "kedro trader run") -> None:
        """Open or make the file, lock it and check its chain from the newest snapshot on.

        Raises:
            JournalError: If another process writes it, it lies on a network file system, or its chain is broken.
        """
        self.path = path
        files.refuse_network(path)
        with ExitStack() as opened:
            try:
                opened.enter_context(held_locks([path], command, _PATIENCE))
            except LockedError as error:
                raise JournalError(str(error)) from None
            if not path.exists():
                files.make(path)
            self._connection = files.open_for_writing(path)
            opened.callback(self._connection.close)
            with files.readable_faults(path):
                self._seq, self._hash = _end(self._connection, path)
            self._bodies = Bodies(self._connection)
            set_aside_stale(path)
            self._opened = opened.pop_all()

    def append(self, events: Sequence[Event], *, durable: bool = False) -> list[Event]:
        """Append facts in one transaction; ``durable`` waits for the disk, with all that was appended before.

        Returns:
            Those that were new: a fact whose kind and key are there already is left out.

        Raises:
            JournalError: If a fact is there with another body, or is none; nothing is appended then.
            OSError: If the disk is full; likewise.
        """
        new, seq, before = [], self._seq, self._hash
        with self._transaction("FULL" if durable else "NORMAL"):
            for event in events:
                require_fact(event)
                body = body_text(event.body, f"{event.kind} {event.key}")
                query = "SELECT body, basis FROM events WHERE kind = ? AND key = ?"
                known = self._connection.execute(query, (event.kind, event.key)).fetchone()
                if known is None:
                    seq += 1
                    before = chained(before, seq, event.at, event.kind, event.key, body)
                    row = (seq, event.at, event.kind, event.key, *self._bodies.pack(seq, event.kind, body), before)
                    self._connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                    new.append(event)
                elif (kept := self._bodies.unpack(*known)) != body:
                    raise JournalError(
                        f"The fact {event.kind} {event.key} must stay what it is, {kept}, was to become {body}; a fact "
                        "happens once."
                    )
        self._seq, self._hash = seq, before
        return new

    def holds(self, kind: str, key: str) -> bool:
        """Whether a fact is there."""
        with files.readable_faults(self.path):
            return self._connection.execute(_HOLDS, (kind, key)).fetchone() is not None

    def snapshot(self, body: Mapping[str, Any]) -> None:
        """Keep a state as of the newest event.

        Raises:
            JournalError: If it is no plain data.
            OSError: If the disk is full.
        """
        text = body_text(body, "a snapshot")
        with self._transaction("NORMAL"):
            row = (self._seq, compressed(text.encode()), sealed(self._hash, text))
            self._connection.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)", row)
            kept = "SELECT seq FROM snapshots ORDER BY seq DESC LIMIT ?"
            self._connection.execute(f"DELETE FROM snapshots WHERE seq NOT IN ({kept})", (_KEPT,))  # noqa: S608

    def close(self) -> None:
        """Close the file and free the lock."""
        self._opened.close()

    @contextmanager
    def _transaction(self, synchronous: str) -> Iterator[None]:
        with files.readable_faults(self.path):
            self._connection.execute(f"PRAGMA synchronous = {synchronous}")  # refused inside a transaction
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._bodies.forget()
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class JournalReader:
    """Reads a journal, also while a trader writes it; opened ``mode=ro``."""

    def __init__(self, path: Path) -> None:
        """Open a journal.

        Raises:
            FileNotFoundError: If there is none, with the command that makes one.
            JournalError: If it is no journal of this version, or damaged.
        """
        self._path = path
        self._connection, self._opened = files.open_for_reading(path)

    def events(self, after: int = 0, kinds: Collection[str] | None = None) -> Iterator[Stored]:
        """Yield events later than a place, in order.

        Args:
            after: Place, 0 being before the first.
            kinds: Those wanted; null is all.
        """
        return (stored(row) for row in _rows(self._connection, self._path, after, kinds))

    def newest(self, kind: str) -> Stored | None:
        """Return the newest event of a kind."""
        with files.readable_faults(self._path):
            query = f"{_COLUMNS} WHERE seq = (SELECT max(seq) FROM events WHERE kind = ?)"  # noqa: S608 - columns
            kept = self._connection.execute(query, (kind,)).fetchone()
            return None if kept is None else stored(_row(kept, Bodies(self._connection)))

    def holds(self, kind: str, key: str) -> bool:
        """Whether a fact is there."""
        with files.readable_faults(self._path):
            return self._connection.execute(_HOLDS, (kind, key)).fetchone() is not None

    def count(self) -> int:
        """Return the number of events, which is the place of the newest."""
        with files.readable_faults(self._path):
            return int(self._connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])

    def latest_snapshot(self) -> tuple[int, dict[str, Any]] | None:
        """Return the newest snapshot and its place."""
        with files.readable_faults(self._path):
            found = _snapshot(self._connection)
        return None if found is None else (found[0], json.loads(found[1]))

    def verify(self) -> int:
        """Check the whole chain and return the number of events; ``JournalError`` names the first broken one."""
        with files.readable_faults(self._path):
            fault = self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if fault != "ok":
            raise files.damaged(self._path, fault)
        return _follow(self._connection, self._path, 0, START)[0]

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _rows(connection: sqlite3.Connection, path: Path, after: int, kinds: Collection[str] | None) -> Iterator[Row]:
    wanted = [] if kinds is None else sorted(kinds)
    chosen = "" if kinds is None else f"AND kind IN ({', '.join('?' * len(wanted))})"
    query = f"{_COLUMNS} WHERE seq > ? {chosen} ORDER BY seq LIMIT {_PAGE}"
    bodies = Bodies(connection)
    while True:
        with files.readable_faults(path):
            page = [_row(kept, bodies) for kept in connection.execute(query, (after, *wanted))]
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1][0]


def _row(kept: tuple[int, float, str, str, str | bytes, int | None, bytes], bodies: Bodies) -> Row:
    seq, at, kind, key, body, basis, digest = kept
    return seq, at, kind, key, bodies.unpack(body, basis), digest


def _snapshot(connection: sqlite3.Connection) -> tuple[int, str, bytes] | None:
    """Return place, body and the hash of the event of the newest snapshot that fits its event."""
    query = "SELECT s.seq, s.body, s.hash, e.hash FROM snapshots s LEFT JOIN events e USING (seq) ORDER BY s.seq DESC"
    for seq, kept, seal, at_event in connection.execute(query):
        after = at_event if seq else START
        with suppress(ChangedError):
            body = decompressed(kept)
            if after is not None and sealed(after, body) == seal:
                return seq, body, after
        logger.warning("The snapshot after event %d is damaged and is not used.", seq)
    return None


def _end(connection: sqlite3.Connection, path: Path) -> tuple[int, bytes]:
    """Check the chain from the newest snapshot on; return place and hash of the newest event."""
    found = _snapshot(connection)
    seq, after = (found[0], found[2]) if found else (0, START)
    return _follow(connection, path, seq, after)


def _follow(connection: sqlite3.Connection, path: Path, seq: int, before: bytes) -> tuple[int, bytes]:
    with files.readable_faults(path):
        for row in checked(_rows(connection, path, seq, None), seq, before):
            seq, before = row[0], row[5]
    return seq, before
