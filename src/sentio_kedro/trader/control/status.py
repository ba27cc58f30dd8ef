"""What a trader does now, from its journal alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sentio_kedro.config.live.trader import TraderParameters
from sentio_kedro.locks import writer_of
from sentio_kedro.trader.clock import Clock, seconds_of, stamp_of
from sentio_kedro.trader.control.steering import mode_of
from sentio_kedro.trader.events import RECORDED
from sentio_kedro.trader.journal.requests import pending
from sentio_kedro.trader.journal.store import JournalReader
from sentio_kedro.trader.state import Rules, State, fold, state_from_json
from sentio_kedro.trader.watch.fold import text_of

_UNITS = ((86_400.0, "days"), (3_600.0, "h"), (60.0, "min"), (0.0, "s"))


def trader_status(journal: Path, parameters: TraderParameters, clock: Clock) -> dict[str, Any]:
    """Return what a trader does now, as plain data; money in quote currency, fractions of equity, seconds.

    Args:
        journal: The journal's file.
        parameters: The trader.
        clock: The time.

    Raises:
        FileNotFoundError: If there is no journal.
        ValueError: If it cannot be read.
    """
    with JournalReader(journal) as reader:
        state, (mode, reason, since) = _state(reader, parameters), mode_of(reader)
        started, model, events = reader.newest("started"), reader.newest("model"), reader.count()
    facts = dict(started.event.body) if started else {}
    worth = {symbol: shares * state.closes.get(symbol, 0.0) for symbol, shares in state.shares.items()}
    ended = seconds_of(state.closed) if state.closed and parameters.mode != "replay" else None
    return {
        "trader": parameters.name,
        "running": writer_of(journal),
        "mode": mode,
        "reason": reason,
        "since": stamp_of(since) if since else None,
        "trading": facts.get("mode", parameters.mode),
        "broker": facts.get("broker"),
        "account": facts.get("account"),
        "model": model.event.body["model"] if model else facts.get("model"),
        "closed_bar": state.closed or None,
        "age_seconds": None if ended is None else clock.now() - ended,
        "equity": state.equity,
        "cash": state.cash,
        "drawdown": 1.0 - state.equity / state.peak_equity if state.peak_equity > 0.0 else 0.0,
        "positions": dict(state.shares),
        "exposures": {symbol: value / state.equity for symbol, value in worth.items()} if state.equity > 0.0 else {},
        "unknown": sorted(state.unknown),
        "orders": {
            id: {"symbol": one.order.symbol, "shares": one.order.shares, "filled": one.filled, "progress": one.progress}
            for id, one in state.orders.items()
        },
        "requests": [one.kind for one in pending(journal)],
        "events": events,
    }


def _state(reader: JournalReader, parameters: TraderParameters) -> State:
    """Fold the journal from its newest snapshot on, as the trader does when it starts."""
    decided, found = reader.newest("decided"), reader.latest_snapshot()
    symbols = tuple(decided.event.body["targets"]) if decided else ()
    simulated = parameters.broker.type == "simulated"
    rules = Rules(parameters.name, symbols, 0.0, parameters.limits, parameters.orders, simulated=simulated)
    place, state = (0, State()) if found is None else (found[0], state_from_json(found[1]["state"]))
    return fold((one.event for one in reader.events(place)), rules, state)


def status_text(status: dict[str, Any]) -> str:
    """Return a status as a line."""
    reason = f" ({status['reason']})" if status["reason"] else ""
    age = "" if status["age_seconds"] is None else f", {_age(status['age_seconds'])} ago"
    held = ", ".join(f"{symbol} {shares:+.6g}" for symbol, shares in sorted(status["positions"].items()))
    orders = [f"{one['symbol']} {one['shares']:+.6g} {one['progress']}" for one in status["orders"].values()]
    parts = [
        f"{status['trader']} is {status['mode'].upper()}{reason}",
        f"it runs as {status['running']}" if status["running"] else "no trader runs",
        f"newest closed bar {status['closed_bar']}{age}" if status["closed_bar"] else "no bar is closed yet",
        f"equity {status['equity']:,.2f}, drawdown {status['drawdown']:.2%}, cash {status['cash']:,.2f}",
        f"holds {held}" if held else "holds nothing",
        f"open orders: {', '.join(orders)}" if orders else "no open order",
        f"no orders at that bar in {', '.join(status['unknown'])}, unknown then" if status["unknown"] else "",
        f"model {status['model']}" if status["model"] else "",
        f"requests that wait: {', '.join(status['requests'])}" if status["requests"] else "",
    ]
    return "; ".join(part for part in parts if part) + "."


def _age(seconds: float) -> str:
    size, unit = next(one for one in _UNITS if abs(seconds) >= 2.0 * one[0])
    return f"{seconds / (size or 1.0):.0f} {unit}"


def newest_events(journal: Path, kinds: Collection[str], count: int) -> list[dict[str, Any]]:
    """Return the newest events as plain data, the oldest first.

    Args:
        journal: The journal's file.
        kinds: Those wanted; all if there are none.
        count: How many.

    Raises:
        FileNotFoundError: If there is no journal.
        ValueError: If there is no such kind.
    """
    unknown = sorted(set(kinds) - RECORDED)
    if unknown:
        raise ValueError(f"`--kind` must be one of {sorted(RECORDED)}, was {unknown}.")
    with JournalReader(journal) as reader:
        after = 0 if kinds else max(0, reader.count() - count)
        newest = deque(reader.events(after, kinds or None), maxlen=count)
    return [
        {"seq": one.seq, **vars(one.event), "body": dict(one.event.body), "text": text_of(one.event)} for one in newest
    ]


def events_text(events: list[dict[str, Any]]) -> str:
    """Return events as lines: place, time, kind, what a person wants to know."""
    lines = [f"{one['seq']:>7}  {stamp_of(one['at'])}  {one['kind']:<11}  {one['text']}" for one in events]
    return "\n".join(lines) or "There is no such event."


def comparison(journal: Path) -> dict[str, Any]:
    """Return the newest comparison of venue and journal: ``at`` (null before the first), ``differences``.

    Raises:
        FileNotFoundError: If there is no journal.
    """
    with JournalReader(journal) as reader:
        newest, adopted = reader.newest("reconciled"), reader.newest("adopted")
    if newest is None:
        return {"at": None, "differences": [], "adopted": None}
    later = adopted if adopted and adopted.seq > newest.seq else None
    return {
        "at": stamp_of(newest.event.at),
        "differences": newest.event.body["differences"],
        "adopted": str(later.event.body["reason"]) if later else None,
    }


def comparison_text(found: dict[str, Any]) -> str:
    """Return a comparison as a table, with what to do."""
    if found["at"] is None:
        return "Venue and journal were never compared; `kedro trader run` compares them when it starts."
    if not found["differences"]:
        return f"Venue and journal agreed at {found['at']}."
    rows = [f"  {row['what']:<9} {row['subject']:<34} {row['journal']!s:>20} {row['venue']!s:>20}" for row in
        found["differences"]]  # fmt: skip
    head = f"  {'what':<9} {'subject':<34} {'journal':>20} {'venue':>20}"
    if found["adopted"] is not None:
        end = f"The venue's truth was adopted since ({found['adopted']})."
    else:
        end = 'If the venue is right, type `kedro trader reconcile --adopt "reason"`; then `kedro trader resume`.'
    return "\n".join([f"Venue and journal differed at {found['at']}:", head, *rows, end])


def verified(journal: Path) -> int:
    """Check the whole journal; return the number of its events.

    Raises:
        FileNotFoundError: If there is no journal.
        ValueError: If an event is not what was written.
    """
    with JournalReader(journal) as reader:
        return reader.verify()
