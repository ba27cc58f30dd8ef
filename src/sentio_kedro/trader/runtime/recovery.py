"""From a journal, or none, to agents that stand where the trader left off."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sentio_kedro.trader import events
from sentio_kedro.trader.clock import seconds_of, stamp_of
from sentio_kedro.trader.contract import BarRow, Broker, Decider, Decision, Feed
from sentio_kedro.trader.events import Event
from sentio_kedro.trader.journal.store import JournalReader
from sentio_kedro.trader.orders import Holdings
from sentio_kedro.trader.runtime.book import Book
from sentio_kedro.trader.runtime.venue import Venue

CAME_SINCE = 10  # bars that may come between two questions
INSTANT = 1e-3  # seconds: what is executed at the very time of the first start is ours
SHOWN = 200  # characters of a value in a reason
REFUSED = "agents|"  # begins the key of a halt by a bar that the agents refused
OPENING = "opening"  # key of the fact that an account begins with


@dataclass(frozen=True)
class Start:
    """Where the agents stand.

    Attributes:
        decision: Their newest decision.
        rows: Rows that the journal has and that were not decided on, the oldest first.
    """

    decision: Decision
    rows: tuple[BarRow, ...] = ()


async def begin(
    book: Book,
    venue: Venue,
    broker: Broker,
    feed: Feed,
    decider: Decider,
    account: Mapping[str, Any] | None,
    facts: Mapping[str, Any],
) -> Start:
    """Record the start and bring the agents to where the journal ends, or to the newest bar if it has no decision.

    Args:
        book: Journal and state.
        venue: Questions to the broker.
        broker: The venue.
        feed: Complete bars.
        decider: The agents.
        account: State of the account that a simulation begins with; null opens one.
        facts: Of this start, for the journal.

    Raises:
        ValueError: If the journal is of another account or mode, or the history is too short.
    """
    with JournalReader(book.path) as reader:
        _require_account(reader, name := await venue.ask("account", broker.account_id), facts.get("mode"))
        opening = next((one.event for one in reader.events(kinds={"adopted"}) if one.event.key == OPENING), None)
        if opening is not None:
            venue.began = opening.body["as_of"]
        history = await feed.history(_wanted(book, decider))
        book.replay_to(newest_stamp(history))
        known, started, now = reader.newest("model"), book.state.started + 1, book.now()
        marks = [events.started(str(started), now, broker=broker.name, account=name, **facts)]
        if known is None or known.event.body["model"] != decider.model:
            marks.append(events.model(decider.model, str(started), now))
        if book.state.decided:
            return _again(book, reader, history, decider, marks)
        return await _first(book, venue, broker, history, feed.source, decider, account, marks)


def _wanted(book: Book, decider: Decider) -> int:
    """Return how many stamps of history are needed to stand at the newest decision, or at the newest bar."""
    if not book.state.decided:
        return decider.required_bars
    passed = max(0.0, book.now() - seconds_of(book.state.decided)) / book.rules.bar_seconds
    return decider.required_bars + int(passed) + CAME_SINCE


def _require_account(reader: JournalReader, name: str, mode: str | None) -> None:
    before = reader.newest("started")
    if before is not None and before.event.body.get("mode") != mode:
        raise ValueError(
            f"The journal's mode must be the trader's, is {before.event.body.get('mode')} and {mode}: recorded bars "
            "and live ones are no one account; set `trader.name` to one that has no journal yet, or `trader.mode` back."
        )
    if before is not None and before.event.body["account"] != name:
        raise ValueError(
            f"The journal's account must be the venue's, is {before.event.body['account']} and {name}; set "
            "`trader.name` to one that has no journal yet, or use the other account's credentials."
        )


async def _first(
    book: Book,
    venue: Venue,
    broker: Broker,
    history: pd.DataFrame,
    source: str,
    decider: Decider,
    account: Mapping[str, Any] | None,
    marks: Sequence[Event],
) -> Start:
    """Decide at the newest bar, for the account as it is at the venue, or for one that is opened."""
    row = newest_row(history, source, book.now())
    if broker.simulated:
        decision = decider.start(history, account, frozenset())
        held, as_of = Holdings(decision.cash, decision.shares), 0.0
    else:
        as_of = venue.began = await venue.ask("now", broker.now) - INSTANT
        held = await venue.ask("holdings", broker.holdings)
        traded = {symbol: held.shares[symbol] for symbol in book.rules.symbols if held.shares.get(symbol)}
        decision = decider.start(history, {"cash": held.cash, "shares": traded}, frozenset())
    shares, now = {symbol: held.shares.get(symbol, 0.0) for symbol in book.rules.symbols}, book.now()
    opening = events.adopted(OPENING, held.cash, shares, as_of, "first start", now)
    book.note(*marks, opening, events.bar(row, now), events.decided(decision, now))
    return Start(decision)


def _again(book: Book, reader: JournalReader, history: pd.DataFrame, decider: Decider, marks: Sequence[Event]) -> Start:
    """Decide once more at the journal's newest decision: its bars over the feed's history, its account."""
    book.note(*marks)
    state, end = book.state, newest_stamp(history)
    kept, since, later = deque[BarRow](maxlen=max(decider.required_bars, 1)), list[BarRow](), list[BarRow]()
    refused = {
        one.event.key.removeprefix(REFUSED)
        for one in reader.events(kinds={"halted"})
        if one.event.key.startswith(REFUSED)
    }
    for stored in reader.events(kinds={"bar"}):
        row = events.row_of(stored.event)
        if row.stamp in refused:
            continue
        # A replay's history ends where the replay began: all bars since then are the journal's.
        (later if row.stamp > state.decided else since if row.stamp > end else kept).append(row)
    frame = overlaid(history, [*kept, *since], state.decided, refused)
    if refused and state.waiting in refused:
        book.note(events.closed_bar(state.waiting, book.now()))
        book.pass_over()
    if (stamps := frame["timestamp"].nunique()) < decider.required_bars:
        raise ValueError(
            f"A restart at {state.decided} must have {decider.required_bars} stamps of history, has {stamps} from the "
            "feed and the journal together; see that the feed still tells the bars of that time."
        )
    decision = decider.start(frame, state.account, state.sent)
    newest = reader.newest("decided")
    if newest is not None and (unequal := difference(decision, newest.event)):
        reason = (
            f"the agents decide otherwise than they did at {state.decided} ({unequal}): resume if they were changed on "
            "purpose, or begin a replay anew by `kedro trader run --again`"
        )
        book.note(events.turned("halted", f"decision|{state.started}", reason, book.now()))
    return Start(decision, tuple(later))


def overlaid(history: pd.DataFrame, kept: Iterable[BarRow], until: str, without: Iterable[str] = ()) -> pd.DataFrame:
    """Return a feed's history up to a stamp, with the bars that were decided on in place of what it says now.

    Args:
        history: Long frame with ends of bars as ``timestamp``.
        kept: Rows of the journal.
        until: Newest stamp wanted.
        without: Stamps that are left out.
    """
    stamps = pd.to_datetime(history["timestamp"], utc=True)
    rows = [
        {"timestamp": pd.Timestamp(row.stamp), "symbol": symbol, **values}
        for row in kept
        for symbol, values in row.bars.items()
    ]
    wanted = (stamps <= pd.Timestamp(until)) & ~stamps.isin([pd.Timestamp(stamp) for stamp in without])
    base = history.assign(timestamp=stamps)[wanted]
    if rows:
        own = pd.DataFrame(rows, columns=history.columns)
        base = pd.concat([base[~base["timestamp"].isin(own["timestamp"])], own], ignore_index=True)
    return base.sort_values(["timestamp", "symbol"], kind="stable", ignore_index=True)


def newest_stamp(history: pd.DataFrame) -> str:
    """Return the newest stamp of a history."""
    return stamp_of(pd.Timestamp(history["timestamp"].max()).timestamp())


def newest_row(history: pd.DataFrame, source: str, now: float) -> BarRow:
    """Return the newest stamp of a history as a row."""
    rows = history[history["timestamp"] == history["timestamp"].max()].drop(columns="timestamp").set_index("symbol")
    bars = {
        str(symbol): {str(name): float(value) for name, value in values.items() if pd.notna(value)}
        for symbol, values in rows.to_dict("index").items()
    }
    return BarRow(newest_stamp(history), bars, source, now)


COMPARED = ("orders", "targets", "actions", "legal", "closes", "equity", "shares", "cash", "account")


def difference(decision: Decision, kept: Event) -> str:
    """Return in which fields a decision is not the journal's to the last bit, with both; empty if in none."""
    body: Mapping[str, Any] = events.decided(decision, kept.at).body
    if decision.bar != kept.key:
        return f"the journal's newest decision is of {kept.key}, the agents' of {decision.bar}"
    return "; ".join(
        f"{name}: the journal has {_short(kept.body[name])}, the agents {_short(body[name])}"
        for name in COMPARED
        if body[name] != kept.body[name]
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
