"""SIGKILLs a download at random times and types the same command again: the store must have the same bytes.

A local server answers as Binance does, so the real client of ccxt runs. ``python benchmarks/download_kills.py``
prints JSON; ``--kills`` sets the number.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.vendors.fakes import FakeBinance, market, serving

SYMBOLS = ("AAA/USDT", "BBB/USDT", "CCC/USDT")
ENDS = pd.date_range("2023-09-01", "2024-04-01", freq="h", tz="UTC").as_unit("ns")
STEPS = (ENDS[-400], ENDS[-1])  # two downloads, the second with a new part of the history

DOWNLOAD = """
import sys
import pandas as pd
from sentio_kedro.store import StoredBars
from sentio_kedro.vendors import download, open_vendor
from sentio_kedro.vendors.contract import Clock

url, root, now, *symbols = sys.argv[1:]
download.MANY = 1000
clock = Clock(now=lambda: float(now))
vendor = open_vendor("ccxt", "1h", url=url, per_minute=1e6, clock=clock)
print("begin", flush=True)
download.download(vendor, StoredBars(root), symbols, pd.Timestamp("2023-09-01", tz="UTC"), None, clock)
"""


def command(fake: FakeBinance, root: Path) -> subprocess.Popen[str]:
    """Begin a download in a process of its own, and wait until it has imported what it needs.

    One that goes on begins minutes later; one that was killed before it kept its plan has not begun.
    """
    later = 60.0 * len(list(root.glob(".download.*.json")))
    words = [sys.executable, "-c", DOWNLOAD, fake.url, str(root), str(fake.now.timestamp() + later), *SYMBOLS]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603
    if process.stdout is not None:
        process.stdout.readline()
    return process


def finished(fake: FakeBinance, root: Path) -> float:
    """Download to the end and return the seconds that it took."""
    process = command(fake, root)
    begin = time.perf_counter()
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)
    return time.perf_counter() - begin


def digest(root: Path) -> str:
    """Hash of names and content of a store's files, locks aside."""
    total = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix != ".lock":
            total.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)  # noqa: S311 - times, no secrets
    bars = {symbol: market(ENDS, seed) for seed, symbol in enumerate(SYMBOLS)}
    folder = Path(tempfile.mkdtemp())
    kills = same = ended = rounds = files = 0
    with serving(FakeBinance()) as fake:
        fake.page, seconds = 200, []
        for step in STEPS:
            fake.reset(bars, step + pd.Timedelta(minutes=5))
            seconds.append(finished(fake, folder / "whole"))
        truth = digest(folder / "whole")
        while kills < arguments.kills:
            root, rounds = folder / "killed", rounds + 1
            for step, span in zip(STEPS, seconds, strict=True):
                fake.reset(bars, step + pd.Timedelta(minutes=5))
                for _ in range(chance.randint(1, 3)):
                    process = command(fake, root)
                    time.sleep(chance.uniform(0.0, span))
                    ended += process.poll() is not None
                    process.kill()
                    kills += process.wait() == -signal.SIGKILL
                    process.communicate()
                finished(fake, root)
            same += digest(root) == truth
            files = sum(path.is_file() for path in root.rglob("*.parquet"))
            shutil.rmtree(root)
    shutil.rmtree(folder)
    held = {"bars": len(SYMBOLS) * len(ENDS), "parts": files, "seconds": [round(one, 2) for one in seconds]}
    print(json.dumps({"kills": kills, "ended_before": ended, "stores": rounds, "same_bytes": same, **held}))
    sys.exit(same != rounds)


if __name__ == "__main__":
    main()
