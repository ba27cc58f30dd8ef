"""Schedules of faults through the trader's reducer, and streams of orders through its limits. Prints JSON.

    python benchmarks/trader_faults.py                      # 50,000 schedules of 60 operations, 10,000 streams
    python benchmarks/trader_faults.py --schedules 2000

Each schedule is a trader, a venue of one of three kinds and a seed; journal, state and venue are compared after each
operation. `traps` is the share of schedules that fail with a mistake put in; it must not be 0. Seconds are of one
process's processor time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "venues"))

from fault_machine import run_schedule
from limit_streams import random_stream

from sentio_kedro.trader.core import upkeep

TRAPS = ("intent after send", "shares from statuses", "unreadable is flat")
CHUNK = 250


def chunk(first: int) -> tuple[dict[str, int], list[str], float]:
    """Run schedules from a seed on: counts of facts and faults, failures, and processor seconds."""
    counts, failures, begun = Counter[str](), [], time.process_time()
    for seed in range(first, first + CHUNK):
        try:
            machine = run_schedule(seed)
        except Exception as error:
            failures.append(f"{seed}: {type(error).__name__} {str(error)[:200]}")
            continue
        counts.update(fact.kind for fact in machine.journal)
        counts.update({f"fault {name}": count for name, count in machine.faults.counts.items()})
        counts["resent"] += sum(fact.kind == "sent" and fact.body["post"] > 1 for fact in machine.journal)
        counts["second leg"] += sum(fact.kind == "intended" and fact.body["leg"] for fact in machine.journal)
    return dict(counts), failures, time.process_time() - begun


def trapped(trap: str, schedules: int) -> float:
    """Return the share of schedules that fail with a mistake put in."""
    failed = 0
    for seed in range(schedules):
        try:
            run_schedule(seed, trap=trap)
        except (AssertionError, KeyError):
            failed += 1
    return failed / schedules


def resending(schedules: int) -> float:
    """The same without the look-up before an order is sent again."""
    looks, upkeep.LOOKS = upkeep.LOOKS, 0
    try:
        return trapped("", schedules)
    finally:
        upkeep.LOOKS = looks


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=50_000)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--trapped", type=int, default=200)
    parser.add_argument("--processes", type=int, default=1)
    chosen = parser.parse_args()
    counts, failures, seconds = Counter[str](), [], 0.0
    with ProcessPoolExecutor(chosen.processes) as pool:
        for part, failed, took in pool.map(chunk, range(0, chosen.schedules, CHUNK)):
            counts.update(part)
            failures += failed
            seconds += took
    streams, wrong = Counter[str](), []
    for seed in range(chosen.streams):
        try:
            streams.update(random_stream(seed))
        except AssertionError as error:
            wrong.append(f"{seed}: {error}")
    traps = {trap: trapped(trap, chosen.trapped) for trap in TRAPS}
    traps["resend without a look-up"] = resending(chosen.trapped)
    result = {
        "schedules": -(-chosen.schedules // CHUNK) * CHUNK,
        "failures": failures,
        "processor_seconds": round(seconds, 1),
        "counts": dict(sorted(counts.items())),
        "streams": {"number": chosen.streams, "failures": wrong, **streams},
        "traps": traps,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
