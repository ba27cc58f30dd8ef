"""Events as rows of a chain: each row's hash covers its content and the hash of the row before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from sentio_kedro.trader.events import RECORDED, Event

START = bytes(32)
"""Hash before the first event."""

Row = tuple[int, float, str, str, str, bytes]
"""Columns ``seq, at, kind, key, body, hash``, the body unpacked."""


class JournalError(RuntimeError, ValueError):
    """A journal that cannot be trusted, or that another process writes."""


class ChangedError(ValueError):
    """An event that is not what was written."""


@dataclass(frozen=True)
class Stored:
    """An event with its place.

    Attributes:
        seq: 1, 2, ...
        event: The fact.
    """

    seq: int
    event: Event


def body_text(body: Mapping[str, Any], name: str) -> str:
    """Return a body as JSON, the same for the same data; floats come back to the last bit.

    Args:
        body: Plain data.
        name: What to call it in a refusal.

    Raises:
        JournalError: If it is not plain, or a number is not finite.
    """
    try:
        return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise JournalError(
            f"The body of {name} must be plain data with finite numbers, was not: {error}; write null for a number "
            "that there is not."
        ) from error


def require_fact(event: Event) -> None:
    """Refuse what the journal does not keep.

    Raises:
        JournalError: If the event is a signal, has no key or no finite time.
    """
    if event.kind not in RECORDED:
        raise JournalError(f"`kind` of a fact must be one of {sorted(RECORDED)}, was {event.kind!r}; record none.")
    if not event.key or not isfinite(event.at):
        raise JournalError(
            f"A fact {event.kind} must have a key and a finite time, has {event.key!r} and {event.at!r}; its key makes "
            "it one fact."
        )


def chained(before: bytes, seq: int, at: float, kind: str, key: str, body: str) -> bytes:
    """Return the hash of a row whose predecessor has the hash ``before``."""
    content = json.dumps([seq, float(at), kind, key, body], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(before + content.encode()).digest()


def sealed(after: bytes, body: str) -> bytes:
    """Return the hash of a snapshot taken after the event with the hash ``after``."""
    return hashlib.sha256(after + body.encode()).digest()


def checked(rows: Iterable[Row], seq: int, before: bytes) -> Iterator[Row]:
    """Yield rows that continue a chain.

    Args:
        rows: In order.
        seq: Place of the event before them, 0 if there is none.
        before: Its hash.

    Raises:
        ChangedError: At the first row that does not.
    """
    for row in rows:
        seq += 1
        if row[0] != seq:
            raise ChangedError(f"event {seq} is missing, {row[0]} follows")
        if chained(before, *row[:5]) != row[5]:
            raise ChangedError(f"event {seq}, {row[2]} {row[3]}, does not continue the chain of hashes")
        before = row[5]
        yield row


def stored(row: Row) -> Stored:
    """Return a row as an event."""
    return Stored(row[0], Event(row[2], row[3], row[1], json.loads(row[4])))
