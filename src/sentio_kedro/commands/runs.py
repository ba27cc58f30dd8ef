"""What ``kedro trader run``, ``doctor`` and ``flatten`` do, and the lines that they print."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sentio_kedro.commands.project import TraderProject
from sentio_kedro.locks import held_locks, writer_of
from sentio_kedro.trader.clock import Clock, SystemClock, seconds_of, stamp_of
from sentio_kedro.trader.flatten import flatten
from sentio_kedro.trader.journal.requests import Request, ask, pending
from sentio_kedro.trader.journal.store import JournalReader
from sentio_kedro.trader.launch.build import broker_of, parts_of
from sentio_kedro.trader.launch.running import examine, trade

logger = logging.getLogger(__name__)

PATIENCE = 6.0  # seconds after which the last order of a trader that hangs has come or never will
LOOK = 0.1  # seconds between two looks at whether it has halted
EQUAL = 1e-9  # relative difference of a replay's equity from the report's


def run_trader(project: TraderProject, *, again: bool) -> dict[str, Any]:
    """Trade; see ``run_text`` for what is returned.

    Raises:
        ValueError: With the reason, before anything is sent.
    """
    parameters, journal = project.parameters, project.journal
    held_locks([journal], "kedro trader run").close()  # a second trader is refused before agents are loaded
    if again and parameters.mode != "replay":
        raise ValueError(
            f"`--again` must go with mode replay, was {parameters.mode}; an account's journal is never begun anew."
        )
    parts, began = parts_of(project), time.monotonic()
    replayed = f"{parameters.model} {parts.chosen.name} {parameters.feed.dataset} {parameters.feed.start}"
    if again:
        _set_aside(journal)
    elif parameters.mode == "replay":
        _require_same_replay(journal, replayed)
    facts = {
        "mode": parameters.mode,
        "replayed": replayed if parameters.mode == "replay" else None,
        "bar_seconds": parts.bar_seconds,
        "calendar": parts.calendar,
        "parameters": _digest(asdict(parameters)),
    }
    if parts.note:
        logger.warning("%s", parts.note)
    state = asyncio.run(trade(parameters, parts, journal, facts))
    with JournalReader(journal) as reader:
        bars = sum(1 for _ in reader.events(kinds=("decided",)))
        denied = sum(1 for _ in reader.events(kinds=("denied",)))
        fills = sum(1 for _ in reader.events(kinds=("filled",)))
    whole = parameters.mode == "replay" and parameters.feed.start == "test"
    return {
        "trader": parameters.name,
        "mode": parameters.mode,
        "model": parts.chosen.name,
        "state": state.mode,
        "reason": state.reason,
        "bar": state.decided,
        "bars": bars,
        "fills": fills,
        "denied": denied,
        "equity": state.equity,
        "report_equity": _reported(project, state.decided) if whole else None,
        "seconds": time.monotonic() - began,
        "journal": parameters.journal,
    }


def run_text(data: dict[str, Any]) -> str:
    """Say in one line what a run did."""
    stated = data["report_equity"]
    compared = ""
    if stated is not None:
        same = abs(data["equity"] - stated) <= EQUAL * abs(stated)
        compared = ", as the report states" if same else f", the report states {stated:,.2f}"
    reason = f" ({data['reason']})" if data["reason"] else ""
    return (
        f"{data['trader']} ({data['mode']}, {data['model']}) is {data['state']}{reason} at {data['bar']}: "
        f"{data['bars']:,} bars, {data['fills']:,} fills, {data['denied']:,} denied, equity "
        f"{data['equity']:,.2f}{compared}; {data['seconds']:.0f} s. Journal: {data['journal']}"
    )


def _reported(project: TraderProject, bar: str) -> float | None:
    """Return the equity with which the report's account ends; None if the replay was stopped before."""
    from sentio_kedro.evaluation.run_frames import ENSEMBLE  # noqa: PLC0415 - pandas

    accounts = project.load("accounts")
    names = set(accounts["account"])
    judged = ENSEMBLE if ENSEMBLE in names else min(name for name in names if name.startswith("seed_"))
    last = accounts[accounts["account"] == judged].iloc[-1]  # its return ends at the bar after
    return float(last["equity"]) if bar and seconds_of(bar) > last["timestamp"].timestamp() else None


def _digest(parameters: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:16]


def _require_same_replay(journal: Path, replayed: str) -> None:
    """Refuse to go on with a replay of other agents or bars."""
    if not journal.exists():
        return
    with JournalReader(journal) as reader:
        before = reader.newest("started")
    kept = replayed if before is None else before.event.body.get("replayed")
    if kept != replayed:
        raise ValueError(
            f"The replay in `{journal.name}` is of {kept} (model, agents, dataset, start), the parameters say "
            f"{replayed}; begin anew by `kedro trader run --again`, which sets that journal aside, or name another "
            "`trader.name`."
        )


def _set_aside(journal: Path) -> None:
    """Rename the journal of an earlier replay, which stays readable; nobody may be writing it."""
    with held_locks([journal], "kedro trader run --again"):
        if journal.exists():
            with JournalReader(journal) as reader:
                reader.verify()
            stamp = stamp_of(SystemClock().now()).replace(":", "")
            for path in sorted(journal.parent.glob(f"{journal.name}*")):
                path.rename(path.with_name(path.name.replace(journal.stem, f"{journal.stem}.{stamp}", 1)))


def examine_trader(project: TraderProject) -> dict[str, Any]:
    """Return what a person should know before a start; nothing is sent."""
    parts = parts_of(project)

    async def examined() -> dict[str, Any]:
        try:
            return await examine(project.parameters, parts)
        finally:
            await parts.feed.close()
            await parts.broker.close()

    return asyncio.run(examined())


def doctor_text(data: dict[str, Any]) -> str:
    """Lay out what ``examine_trader`` found."""
    lines = [
        f"trader    {data['trader']}, mode {data['mode']}",
        f"model     {data['model']}, {', '.join(data['symbols'])}",
        f"feed      {data['feed']}, newest bar {data['newest_bar']}, {data['bar_age_seconds']:,.0f} s old, "
        f"bars of {data['bar_seconds']:,.0f} s",
        f"account   {data.get('account', 'unknown')} at {data.get('broker', 'unknown')}, cash {data['cash']:,.2f}, "
        f"clock {data.get('clock_offset_seconds', 0.0):+.2f} s",
        "holds     "
        + (", ".join(f"{shares:,.8g} {name}" for name, shares in data["shares"].items() if shares) or "nothing"),
    ]
    for order in data["orders"]:
        denied = order["denied"]
        why = f", denied by {denied['limit']}: {denied['value']:.4g}, at most {denied['bound']:.4g}" if denied else ""
        lines.append(f"would     send {order['shares']:+,.8g} {order['symbol']} near {order['price']:,.8g}{why}")
    lines += [] if data["orders"] else ["would     send nothing"]
    return "\n".join(lines + [f"problem   {text}" for text in data["problems"]])


def flatten_trader(project: TraderProject, seconds: float, symbols: tuple[str, ...]) -> dict[str, Any]:
    """Close everything at the venue; a running trader is told to halt first, whatever becomes of its journal.

    Raises:
        ValueError: If the account is simulated.
    """
    parameters, clock = project.parameters, SystemClock()
    if parameters.broker.type == "simulated":
        raise ValueError(
            "`kedro trader flatten` needs a venue, `trader.broker.type` is simulated: nothing is held anywhere; "
            "`kedro trader halt` stops the simulation."
        )
    now = clock.now()
    request = Request(f"flatten-{now:.0f}", "halted", "flatten", "kedro trader flatten", now)
    with suppress(OSError):
        ask(project.journal, request)
    keys = project.credentials(parameters.broker.credentials)

    async def closed() -> dict[str, Any]:
        broker = broker_of(parameters, keys, symbols, 0.0, clock)
        try:
            done = await flatten(broker, clock, parameters.name, symbols or None, seconds)
            if done.flat and await _was_trading(project.journal, request, clock):  # what it sent last may have come
                again = await flatten(broker, clock, parameters.name, symbols or None, seconds)
                done = replace(again, seconds=clock.now() - now, held=again.held | done.held)
            return done.data()
        finally:
            await broker.close()

    return asyncio.run(closed())


async def _was_trading(journal: Path, request: Request, clock: Clock) -> bool:
    """Wait until a running trader has halted, or hangs; return whether one runs."""
    deadline = clock.now() + PATIENCE
    while (runs := writer_of(journal) is not None) and request in pending(journal) and clock.now() < deadline:
        await clock.wait_until(clock.now() + LOOK)
    return runs


def flatten_text(data: dict[str, Any]) -> str:
    """Say in one line what was closed."""
    held = ", ".join(f"{shares:+,.8g} {name}" for name, shares in data["held"].items()) or "nothing"
    if data["flat"]:
        told = "".join(f" {text}." for text in data["problems"])
        return f"Flat after {data['seconds']:.1f} s: all orders are cancelled, {held} was held and is closed.{told}"
    left = ", ".join(f"{shares:+,.8g} {name}" for name, shares in data["left"].items()) or "unknown positions"
    problems = "; ".join(data["problems"]) or "orders may wait for the market to open"
    return f"NOT flat after {data['seconds']:.1f} s: {left} left of {held}; {problems}. Look at the venue."
