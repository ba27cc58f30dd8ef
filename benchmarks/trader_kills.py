"""SIGKILLs a trader at random times, again and again, and compares venue and journal with an uninterrupted run.

The venue is a process of its own that survives: ids unique for ever, among open orders only, or the latter with
look-ups that see nothing for two seconds; 10 % of the answers to orders are lost after their effect. Agents are a stub,
so that a restart takes milliseconds and imports no torch. ``python benchmarks/trader_kills.py`` prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import signal
import socketserver
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "venues"))
from memory_venue import KINDS, Faults, Kind, Venue, Wire
from stub_agents import BAR, START, StubDecider, StubFeed, price, stub_rules

from sentio_kedro.trader import events
from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.journal.store import Journal, JournalReader
from sentio_kedro.trader.orders import (
    CorporateAction,
    Fill,
    Holdings,
    Lattice,
    Order,
    Outcome,
    UnreadableError,
    VenueOrder,
)
from sentio_kedro.trader.runtime import Trader
from sentio_kedro.trader.runtime.venue import Venue as Questions

NAME, SYMBOLS = "kills", ("A", "B", "C")
SHAPES = {"Outcome": Outcome, "VenueOrder": VenueOrder, "Fill": Fill, "Holdings": Holdings, "Action": CorporateAction}


class Exchange(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A venue behind a socket: one question a connection, answered after ``latency`` seconds."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path, kind: Kind, lost: float, seed: int, latency: float = 0.01) -> None:
        super().__init__(str(path), Answering)
        self.path, self.latency, self.lock, self.world_time = path, latency, threading.Lock(), START
        self.venue = Venue(kind=kind, time=lambda: self.world_time)
        self.wire = Wire(self.venue, Faults(share={"lost_answer": lost}, seed=seed))
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, method: str, now: float, argument: Any) -> Any:
        """Answer at the asker's time, which never goes back; prices are those of its bar."""
        with self.lock:
            self.world_time = max(self.world_time, now)
            bar = int((self.world_time - START) // BAR)
            self.venue.prices = {symbol: price(bar, j) for j, symbol in enumerate(SYMBOLS)}
            given = () if argument is None else (Order(**argument) if isinstance(argument, dict) else argument,)
            return getattr(self.wire, method)(*given)


class Answering(socketserver.StreamRequestHandler):
    """One question and its answer as lines of JSON."""

    server: Exchange

    def handle(self) -> None:
        """Answer."""
        line = self.rfile.readline()
        if not line:
            return  # the asker was killed
        asked = json.loads(line)
        try:
            told = self.server.answer(**asked)
            text = json.dumps({"told": [asdict(one) for one in told] if isinstance(told, list) else _data(told)})
        except UnreadableError as error:
            text = json.dumps({"unreadable": str(error)})
        time.sleep(self.server.latency)
        try:
            self.wfile.write(text.encode() + b"\n")
        except BrokenPipeError:
            pass  # the asker was killed


def _data(told: Any) -> Any:
    return told if told is None or isinstance(told, float) else asdict(told)


class SocketBroker:
    """The trader's side of the socket."""

    name, crosses_zero, simulated = "socket", True, False

    def __init__(self, path: str, clock: ReplayClock) -> None:
        self._path, self._clock = path, clock

    async def _ask(self, method: str, argument: Any = None) -> Any:
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            asked = {"method": method, "now": self._clock.now(), "argument": argument}
            writer.write(json.dumps(asked).encode() + b"\n")
            told = json.loads(await reader.readline())
        finally:
            writer.close()
        if "unreadable" in told:
            raise UnreadableError(told["unreadable"])
        return told["told"]

    async def account_id(self) -> str:
        """The account."""
        return "socket-1"

    async def now(self) -> float:
        """Its clock."""
        return float(await self._ask("now"))

    async def lattices(self, symbols: Any) -> dict[str, Lattice]:
        """Any number of shares."""
        return {symbol: Lattice() for symbol in symbols}

    async def window(self, order: Order) -> None:
        """At once."""
        return None

    async def submit(self, order: Order) -> Outcome:
        """POST."""
        return Outcome(**await self._ask("submit", asdict(order)))

    async def find(self, order: Order) -> VenueOrder | None:
        """Look up."""
        told = await self._ask("find", asdict(order))
        return None if told is None else VenueOrder(**told)

    async def cancel(self, order: Order) -> Outcome:
        """Cancel one."""
        return Outcome(**await self._ask("cancel", asdict(order)))

    async def cancel_all(self) -> None:
        """Cancel all."""
        await self._ask("cancel_all")

    async def open_orders(self) -> list[VenueOrder]:
        """What is open."""
        return [VenueOrder(**one) for one in await self._ask("open_orders")]

    async def fills(self, since: float) -> list[Fill]:
        """Executions."""
        return [Fill(**one) for one in await self._ask("fills", since)]

    async def holdings(self) -> Holdings:
        """Cash and positions."""
        return Holdings(**await self._ask("holdings"))

    async def actions(self, since: float) -> list[CorporateAction]:
        """Splits and cash flows."""
        return [CorporateAction(**one) for one in await self._ask("actions", since)]

    async def arm(self, seconds: float) -> bool:
        """It cannot."""
        return False

    async def close(self) -> None:
        """There is nothing to close."""


def trade(path: str, socket: str, bars: int, trap: bool) -> None:
    """Go on from a journal to the last bar; a process of its own, that may be killed."""
    if trap:
        resend_without_asking()
    clock = ReplayClock(START)

    async def run() -> None:
        broker = SocketBroker(socket, clock)
        clock.set(await broker.now())  # time does not go back because a process was killed
        rules = stub_rules(NAME, SYMBOLS, simulated=False, settle_seconds=2.5, decide_within=0.9)
        with Journal(Path(path)) as journal:
            feed, decider = StubFeed(SYMBOLS, clock, bars), StubDecider(NAME, SYMBOLS)
            await Trader(rules, journal, broker, feed, decider, clock).run()

    asyncio.run(run())
    if "torch" in sys.modules:
        raise RuntimeError("A restart of the stub must not import torch.")


def resend_without_asking() -> None:
    """Put the fault in: an order without an answer is sent again in place of the question for it."""
    find = Questions.find

    async def resend(self: Any, order: Order) -> Any:
        one = self._book.state.orders.get(order.id)
        if one is None or one.accepted:
            return await find(self, order)
        outcome = await self._broker.submit(order)
        if outcome.kind == "accepted":
            return self._book.keep([events.accepted(order.id, outcome.venue_id, self._book.now())])
        return self._book.learn(events.absent(order.id, self._book.now()))

    Questions.find = resend  # type: ignore[method-assign]


def run(
    folder: Path, kind: Kind, bars: int, kills: int, *, seed: int, lost: float, trap: bool = False
) -> dict[str, Any]:
    """Run a trader to the end, killed so many times on the way, and say what came of it."""
    context = multiprocessing.get_context("forkserver")
    exchange = Exchange(folder / f"{kind}-{seed}-{kills}-{trap}.socket", kind, lost, seed)
    path = folder / f"{kind}-{seed}-{kills}-{trap}.sqlite"
    draw, done, seconds = random.Random(seed), 0, []  # noqa: S311
    while True:
        process = context.Process(target=trade, args=(str(path), str(exchange.path), bars, trap))
        process.start()
        if done < kills:
            process.join(draw.uniform(0.05, 0.6))
            if process.exitcode is None and process.pid is not None:
                os.kill(process.pid, signal.SIGKILL)
                done += 1
        begin = time.perf_counter()
        process.join(120)
        seconds.append(time.perf_counter() - begin)
        if process.exitcode == 0:
            break
        if process.exitcode != -signal.SIGKILL and not trap:
            raise RuntimeError(f"The trader ended with {process.exitcode}.")
        if process.exitcode not in (0, -signal.SIGKILL):
            break  # the trap was noticed, and the trader refuses to go on
    exchange.shutdown()
    exchange.server_close()
    with JournalReader(path) as reader:
        booked = sorted(one.event.key for one in reader.events(kinds={"filled"}))
        halted = [one.event.body["reason"] for one in reader.events(kinds={"halted"})]
        verified = reader.verify()
    executions = exchange.venue.executions
    times = Counter(one.order for one in executions)
    return {
        "kills": done,
        "lost_answers": exchange.wire.faults.counts.get("lost_answer", 0),
        "executions": sorted((one.order, one.symbol, one.shares, one.price) for one in executions),
        "doubled": sum(count > 1 for count in times.values()),
        "account": (exchange.venue.cash, exchange.venue.shares),
        "journal_is_venue": booked == sorted(one.id for one in executions),
        "halted": halted,
        "events": verified,
    }


def judged(found: dict[str, Any], clean: dict[str, Any]) -> dict[str, Any]:
    """Compare a run with the uninterrupted one."""
    ids, expected = {one[0] for one in found["executions"]}, {one[0] for one in clean["executions"]}
    return {
        "kills": found["kills"],
        "lost_answers": found["lost_answers"],
        "doubled": found["doubled"],
        "lost": len(expected - ids),
        "equal": (found["executions"], found["account"]) == (clean["executions"], clean["account"]),
        "journal_is_venue": found["journal_is_venue"],
        "halted": found["halted"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="for each kind of venue")
    parser.add_argument("--each", type=int, default=5, help="kills in a run")
    parser.add_argument("--bars", type=int, default=60)
    parser.add_argument("--traps", type=int, default=12)
    chosen = parser.parse_args()
    multiprocessing.set_forkserver_preload(["pandas", "sentio_kedro.trader.runtime", "stub_agents", "memory_venue"])
    result: dict[str, Any] = {"bars": chosen.bars}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in KINDS:
            clean = run(folder, kind, chosen.bars, 0, seed=-1, lost=0.0)
            runs = [
                judged(run(folder, kind, chosen.bars, chosen.each, seed=seed, lost=0.1), clean)
                for seed in range(-(-chosen.kills // chosen.each))
            ]
            result[kind] = {
                "runs": len(runs),
                **{what: sum(one[what] for one in runs) for what in ("kills", "lost_answers", "doubled", "lost")},
                "equal_to_uninterrupted": sum(one["equal"] for one in runs),
                "journal_is_venue": sum(one["journal_is_venue"] for one in runs),
                "halted": [reason for one in runs for reason in one["halted"]],
                "executions": len(clean["executions"]),
            }
            print(json.dumps({kind: result[kind]}), file=sys.stderr, flush=True)
        traps = [
            run(folder, "unique_open", chosen.bars, chosen.each, seed=100 + seed, lost=0.1, trap=True)
            for seed in range(chosen.traps)
        ]
        result["trap_runs"] = len(traps)
        result["trap_runs_with_doubled_orders"] = sum(one["doubled"] > 0 for one in traps)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
