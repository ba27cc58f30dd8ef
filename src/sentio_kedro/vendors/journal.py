"""The plan of a download, kept beside the store until all of it is done, so that a killed one goes on as it began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from sentio_kedro.store import StoredBars
from sentio_kedro.store.files import folder_name
from sentio_kedro.vendors.contract import Vendor

OVERLAP_BARS = 5
OVERLAP_DAYS = pd.Timedelta(days=7)  # of daily bars: five of an exchange


@dataclass(frozen=True)
class Plan:
    """What a download fetches. Times are ISO texts in UTC.

    Attributes:
        symbols: All symbols, in their order.
        asked: The beginning that was asked for.
        until: The end that was asked for; None is the time of the download.
        known_at: When the download began: every bar becomes known then.
        end: Bars that end by this time.
        starts: Where each symbol begins: before its newest bar in the store by an overlap, or at the beginning.
    """

    symbols: list[str]
    asked: str
    until: str | None
    known_at: str
    end: str
    starts: dict[str, str]


class Mark(NamedTuple):
    """How far a symbol has come.

    Attributes:
        last: Its newest bar end.
        known_at: When its last rows became known.
    """

    last: pd.Timestamp
    known_at: pd.Timestamp


_PLAN = TypeAdapter(Plan)


def name_of(source: str) -> str:
    """Return the file of a source's plan, below the store's root."""
    return f".download.{folder_name(source)}.json"


def overlap(length: pd.Timedelta) -> pd.Timedelta:
    """Return how much of what the store holds is fetched again, to find what the vendor has changed."""
    return OVERLAP_DAYS if length >= pd.Timedelta(days=1) else OVERLAP_BARS * length


def new_plan(
    vendor: Vendor,
    store: StoredBars,
    symbols: Sequence[str],
    start: pd.Timestamp,
    until: pd.Timestamp | None,
    now: pd.Timestamp,
) -> Plan:
    """Return a plan from what the store holds ``now``, which becomes ``known_at``."""
    starts = {symbol: start for symbol in symbols}
    for symbol, mark in marks(vendor.source, store).items():
        if symbol in starts and not vendor.rewrites:
            starts[symbol] = max(start, mark.last - overlap(vendor.length) - vendor.length)
    return Plan(
        list(symbols),
        start.isoformat(),
        None if until is None else until.isoformat(),
        now.isoformat(),
        (now if until is None else min(until, now)).isoformat(),
        {symbol: begin.isoformat() for symbol, begin in starts.items()},
    )


def unfinished_plan(source: str, store: StoredBars, like: Plan) -> Plan | None:
    """Return the plan that a killed download has left, or None; one of another command or time is left behind."""
    content = store.files.read(name_of(source))
    try:
        plan = None if content is None else _PLAN.validate_json(content)
    except ValidationError:
        return None
    if plan is None or (plan.symbols, plan.asked, plan.until) != (like.symbols, like.asked, like.until):
        return None
    known = pd.Timestamp(plan.known_at)
    outdated = any(mark.known_at > known for mark in marks(source, store).values())
    return None if outdated or known > pd.Timestamp(like.known_at) else plan


def begin(source: str, store: StoredBars, plan: Plan) -> None:
    """Keep a plan until ``finish``."""
    store.files.write(name_of(source), _PLAN.dump_json(plan))


def finish(source: str, store: StoredBars) -> None:
    """Forget the plan of a source."""
    store.files.remove(name_of(source))


def marks(source: str, store: StoredBars) -> dict[str, Mark]:
    """Return how far the symbols of a source have come."""
    found = store.watermarks()
    found = found[found["source"] == source]
    return {
        str(symbol): Mark(last, known)
        for symbol, last, known in zip(found["symbol"], found["last"], found["known_at"], strict=True)
    }
