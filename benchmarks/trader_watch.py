"""How often clean journals raise alarms, how late planted faults do, and what looking costs: JSON on standard output.

    python benchmarks/trader_watch.py [--journals 20] [--bars 1000]

False alarms are those of the journals of a trader that does nothing wrong: random walks, fills at half the spread.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "venues"))

from journals import Author, write

from sentio_kedro.config.live.trader import TraderParameters
from sentio_kedro.trader.journal.store import JournalReader, Stored
from sentio_kedro.trader.watch.alarms.evaluate import Standing, evaluate
from sentio_kedro.trader.watch.band import band_of
from sentio_kedro.trader.watch.fold import fold
from sentio_kedro.trader.watch.metrics import Surroundings, samples
from sentio_kedro.trader.watch.served.exporter import exposition
from sentio_kedro.trader.watch.served.page import render
from sentio_kedro.trader.watch.view import View
from sentio_kedro.trader.watch.watching import Seen

PARAMETERS = TraderParameters(name="paper", limits={"turnover_per_day": 90.0})


def equity_returns(seed: int, bars: int) -> np.ndarray:
    """Return the returns per bar of one clean account."""
    author = Author(seed=seed, trades=0.3)
    equities = [event.body["equity"] for _ in range(bars) for event in author.bar() if event.kind == "decided"]
    return np.diff(equities) / equities[:-1]


def false_alarms(journals: int, bars: int) -> dict[str, int]:
    """Return how many clean journals raised each alarm; the band is that of other such accounts."""
    backtest = np.concatenate([equity_returns(10_000 + seed, bars) for seed in range(4)])
    around = Surroundings(PARAMETERS, cost_bps=2.0, band=band_of(backtest, mean_block=1.0))
    found: Counter[str] = Counter()
    for seed in range(journals):
        author, view, standing, told = Author(seed=seed, trades=0.3), View(), Standing(), set()
        for group in (author.start(), *(author.bar() for _ in range(bars))):
            view = fold(view, [Stored(view.seq + place, event) for place, event in enumerate(group, 1)])
            for late in (0.1, 58.0):
                now = group[-1].at + late
                standing, messages = evaluate(standing, samples(view, now, around), now, view.seq)
                told |= {message.name for message in messages if message.kind == "raised"}
        found.update(told - {"WatchdogAlive"})
    return dict(found)


def median_seconds(work: object, times: int = 50) -> float:
    """Return the median time of a call."""
    spent = []
    for _ in range(times):
        begin = time.perf_counter()
        work()  # type: ignore[operator]
        spent.append(time.perf_counter() - begin)
    return float(np.median(spent))


def costs(bars: int) -> dict[str, float]:
    """Return what it costs to read a journal, to show it and to be scraped."""
    with tempfile.TemporaryDirectory() as folder:
        author = write(Path(folder) / "paper.sqlite", bars, Author(trades=0.3))
        begin = time.perf_counter()
        with JournalReader(Path(folder) / "paper.sqlite") as reader:
            view = fold(View(), reader.events())
        read = time.perf_counter() - begin
    seen, now = Seen(view, Surroundings(PARAMETERS, cost_bps=2.0)), author.end + 5.0
    scrape = exposition(lambda: seen, lambda: now)
    render(seen, now)
    return {
        "events": view.seq,
        "read_events_per_second": view.seq / read,
        "scrape_ms": 1e3 * median_seconds(scrape),
        "page_ms": 1e3 * median_seconds(lambda: render(seen, now)),
        "page_bytes": len(render(replace(seen), now).encode()),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--journals", type=int, default=20)
    parser.add_argument("--bars", type=int, default=1_000)
    given = parser.parse_args()
    measured = {
        "journals": given.journals,
        "bars": given.bars,
        "journals_with_false_alarms": false_alarms(given.journals, given.bars),
        "costs": costs(given.bars),
    }
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
