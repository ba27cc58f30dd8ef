"""Seconds from SIGKILL to a trader that knows where it stands, at 100,000 events; size and speed of its journal. JSON.

A process writes the facts of bars with 5 assets, as the runtime keeps them, and is killed in the midst of it. New
processes then open the journal: the interpreter starts, the lock is taken, the chain is checked from the newest
snapshot on, and the state is folded from there. The agents' models and their history of bars are not loaded.

    python benchmarks/trader_recovery.py
    python benchmarks/trader_recovery.py --events 20000 --repeat 5
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sentio_kedro.config.live.trader import SendingParameters, TraderLimits, TraderParameters
from sentio_kedro.trader import events
from sentio_kedro.trader.clock import ReplayClock, SystemClock, stamp_of
from sentio_kedro.trader.contract import BarRow, Decision
from sentio_kedro.trader.control.status import trader_status
from sentio_kedro.trader.events import Event
from sentio_kedro.trader.identity import order_id
from sentio_kedro.trader.journal.store import Journal, JournalReader
from sentio_kedro.trader.orders import Fill, Order
from sentio_kedro.trader.runtime.book import SNAPSHOT_EVENTS, Book
from sentio_kedro.trader.state import Rules

SYMBOLS = ("BTC", "EOS", "ETH", "LTC", "XRP")
BEGIN, SECONDS, HIGHS = 1.7e9, 60.0, 120
ORDERED = (0, 0, 1, 0, 2, 0, 0, 1, 5, 1)  # orders of ten bars


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--write", type=Path, help="write this journal until killed")
    parser.add_argument("--recover", type=Path, help="open this journal and say so")
    given = parser.parse_args()
    if given.write:
        write(given.write)
    elif given.recover:
        with Journal(given.recover) as journal:
            print(Book(rules(), journal, ReplayClock(), lambda _: None).state.decided, flush=True)
    else:
        with TemporaryDirectory() as folder:
            print(json.dumps(measured(Path(folder) / "replay.sqlite", given.events, given.repeat), indent=1))


def rules() -> Rules:
    """Return rules of a simulated trader."""
    return Rules("replay", SYMBOLS, SECONDS, TraderLimits(), SendingParameters())


def bar_facts(number: int, random: random.Random, working: list[Order]) -> Iterator[list[Event]]:
    """Yield the transactions of one bar; numbers are random to their last digit, the older highs of sessions stay.

    Args:
        number: Of the bar.
        random: Draws them.
        working: Orders of the bar before, which are filled and replaced by new ones.
    """
    stamp, at = stamp_of(BEGIN + number * SECONDS), BEGIN + number * SECONDS + 1.0
    closes = {symbol: round(random.uniform(1.0, 1e5), 2) for symbol in SYMBOLS}
    bars = {
        symbol: {
            **{name: round(close * random.gauss(1.0, 1e-3), 2) for name in ("open", "high", "low")},
            "close": close,
            "volume": round(random.uniform(0.0, 1e6), 4),
        }
        for symbol, close in closes.items()
    }
    yield [events.bar(BarRow(stamp, bars, "ccxt-binance", at), at)]
    ordered = SYMBOLS[: ORDERED[number % len(ORDERED)]]
    fills = []
    for order in working:
        costs = {name: random.random() for name in ("commission", "spread", "impact")}
        price = closes[order.symbol]
        fill = Fill(f"{stamp}|{order.symbol}", order.id, order.symbol, order.shares, price, 0.0, at, costs)
        fills.append(events.filled(fill, at))
    shares = {symbol: random.uniform(-10.0, 10.0) for symbol in SYMBOLS}
    equity, cash = random.uniform(9e4, 1.1e5), random.uniform(-1e5, 1e5)
    highs = np.random.default_rng(number // 1_440).uniform(9e4, 1.1e5, HIGHS)
    highs[number // 1_440 % HIGHS] = equity
    decision = Decision(
        bar=stamp,
        orders={symbol: random.uniform(-10.0, 10.0) for symbol in ordered},
        targets={symbol: random.uniform(-0.2, 0.2) for symbol in SYMBOLS},
        actions={symbol: random.randrange(4) for symbol in SYMBOLS},
        legal={symbol: [True, True, True, random.choice((True, False))] for symbol in SYMBOLS},
        closes=closes,
        equity=equity,
        shares=shares,
        cash=cash,
        account={
            "account": {"cash": cash, "equity": equity, "peak_equity": max(highs), "session_equity": highs[0]},
            "holdings": {"shares": list(shares.values()), "entry_price": list(closes.values())},
            "session_highs": highs.tolist(),
        },
        model={"regime": [random.random() for _ in range(3)], "tail_risk": {s: random.random() for s in SYMBOLS}},
    )
    yield [*fills, events.decided(decision, at)]
    working[:] = [Order(order_id("replay", stamp, s), stamp, s, decision.orders[s], closes[s]) for s in ordered]
    if working:
        yield [events.intended(order, at) for order in working]
    for order in working:
        yield [events.sent(order.id, 1, at)]
        yield [events.accepted(order.id, order.id, at)]
    yield [events.closed_bar(stamp, at)]


def write(path: Path) -> None:
    """Write bars for ever; print the number of events after each."""
    drawn, count, kept = random.Random(0), 0, 0  # noqa: S311 - no secret
    working: list[Order] = []
    with Journal(path) as journal:
        book = Book(rules(), journal, ReplayClock(), lambda _: None)
        for number in range(10**9):
            for facts in bar_facts(number, drawn, working):
                book.note(*facts)
                count += len(facts)
            if count - kept >= SNAPSHOT_EVENTS:
                book.snapshot()
                kept = count
            print(count, flush=True)


def measured(path: Path, count: int, repeat: int) -> dict[str, object]:
    """Write, kill, and recover again and again."""
    began = time.perf_counter()
    killed(path, count)
    seconds = time.perf_counter() - began
    with JournalReader(path) as reader:
        bars, written = sum(1 for _ in reader.events(kinds={"closed_bar"})), reader.count()
        begin = time.perf_counter()
        reader.verify()
        verified = time.perf_counter() - begin
    with_snapshot = [recovered(path) for _ in range(repeat)]
    begin = time.perf_counter()
    trader_status(path, TraderParameters(), SystemClock())
    status = time.perf_counter() - begin
    with Journal(path) as journal:
        durable = [timed(journal, place) for place in range(200)]
        journal._connection.execute("DELETE FROM snapshots")  # what a damaged one costs
    without = [recovered(path) for _ in range(3)]
    return {
        "events": written,
        "bytes_a_bar": round(path.stat().st_size / bars),
        "written_a_second": round(written / seconds),
        "ready_seconds": {"p50": quantile(with_snapshot, 0.5), "p95": quantile(with_snapshot, 0.95)},
        "ready_without_snapshot_seconds": quantile(without, 0.5),
        "durable_append_ms": {"p50": quantile(durable, 0.5) * 1e3, "p99": quantile(durable, 0.99) * 1e3},
        "verify_seconds": round(verified, 2),
        "status_seconds": round(status, 2),
    }


def killed(path: Path, count: int) -> None:
    """Let a process write until it has ``count`` events, and kill it.

    Raises:
        RuntimeError: If it ended by itself.
    """
    with subprocess.Popen(command("--write", path), stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        for line in process.stdout or ():
            if int(line) >= count:
                os.kill(process.pid, signal.SIGKILL)
                break
    if process.returncode != -signal.SIGKILL:
        raise RuntimeError(f"The writer ended with {process.returncode}.")


def recovered(path: Path) -> float:
    """Return the seconds until a new process knows its state, which is killed then."""
    began = time.perf_counter()
    with subprocess.Popen(command("--recover", path), stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        stamp = process.stdout.readline() if process.stdout else ""
        seconds = time.perf_counter() - began
        process.kill()
    if not stamp.strip():
        raise RuntimeError("The trader did not recover.")
    return seconds


def timed(journal: Journal, place: int) -> float:
    """Return the seconds of one order on disk."""
    began = time.perf_counter()
    journal.append([Event("alarm", f"benchmark {place}", 0.0, {"alarm": "benchmark"})], durable=True)
    return time.perf_counter() - began


def command(option: str, path: Path) -> list[str]:
    """Return the command line of another process of this file."""
    return [sys.executable, __file__, option, str(path)]


def quantile(values: list[float], share: float) -> float:
    """Return a quantile, to 4 digits."""
    return float(f"{np.quantile(values, share):.4g}")


if __name__ == "__main__":
    main()
