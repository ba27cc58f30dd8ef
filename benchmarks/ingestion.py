"""Time and memory of loading, checking and aligning bars: 50 symbols of minutes, 88 daily, 8 of five minutes.

    .venv/bin/python benchmarks/ingestion.py [--sizes minutes daily five_minutes]

Each size is written to Parquet once, and a new process loads it through the catalog's validator, aligns it and
describes it. Prints JSON: seconds of each step on the clock and of the processors, and the most memory of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SIZES = {  # symbols, bars of each, minutes of a bar, bars of a session (0: the market never closes)
    "minutes": (50, 98_280, 1, 390),
    "daily": (88, 1_250, 1_440, 0),
    "five_minutes": (8, 25_000, 5, 0),
}


def write_bars(path: Path, size: str) -> None:
    """Write random walks in the order of time, as feeds do."""
    symbols, bars, minutes, session = SIZES[size]
    rng = np.random.default_rng(0)
    number = np.arange(bars)
    if session:
        days = pd.bdate_range("2023-01-02", periods=-(-bars // session)).to_numpy()
        ends = days[number // session] + (number % session + 870) * np.timedelta64(minutes, "m")
    else:
        ends = np.datetime64("2019-01-01") + number * np.timedelta64(minutes, "m")
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 1e-4 * np.sqrt(minutes), (bars, symbols)), axis=0))
    opens = np.concatenate([close[:1], close[:-1]])
    frame = pd.DataFrame(
        {
            "timestamp": pd.DatetimeIndex(np.repeat(ends, symbols)).tz_localize("UTC"),
            "symbol": np.tile([f"S{place:03}" for place in range(symbols)], bars),
            "open": opens.ravel(),
            "high": (np.maximum(opens, close) * 1.0001).ravel(),
            "low": (np.minimum(opens, close) * 0.9999).ravel(),
            "close": close.ravel(),
            "volume": rng.integers(1, 10_000, bars * symbols).astype(float),
        }
    )
    frame.to_parquet(path, index=False)


def measure(path: Path) -> dict[str, Any]:
    """Load, align and describe the bars of a file in this process."""
    from kedro.io import DataCatalog  # noqa: PLC0415 - not a part of what is measured

    from sentio_kedro.config import IngestionParameters  # noqa: PLC0415
    from sentio_kedro.market.ingestion.bars import align_and_find, bars_hash  # noqa: PLC0415
    from sentio_kedro.market.ingestion.data_quality import data_quality  # noqa: PLC0415

    entry = {"type": "pandas.ParquetDataset", "filepath": str(path), "validator": "sentio_kedro.schemas.Bars"}
    catalog, parameters = DataCatalog.from_config({"bars": entry}), IngestionParameters()
    imports = most_memory()
    times = [(time.perf_counter(), time.process_time())]
    frame = catalog.load("bars")
    times.append((time.perf_counter(), time.process_time()))
    bars, findings = align_and_find(frame, parameters)
    times.append((time.perf_counter(), time.process_time()))
    aligned = most_memory()
    data_quality(frame, bars, parameters, findings)
    times.append((time.perf_counter(), time.process_time()))
    bars_hash(frame)
    times.append((time.perf_counter(), time.process_time()))
    names = ("load_and_check", "check_and_align", "describe", "hash")
    clock, processor = np.diff(np.array(times), axis=0).T.round(3)
    return {
        "rows": len(frame),
        "load_check_align": {"clock": clock[:2].sum(), "processor": processor[:2].sum()},
        "clock_seconds": dict(zip(names, clock.tolist(), strict=True)),
        "processor_seconds": dict(zip(names, processor.tolist(), strict=True)),
        "imports_mib": imports,
        "load_check_align_mib": aligned,
        "most_mib": most_memory(),
    }


def most_memory() -> float:
    """Return the most memory that this process has held, MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Measure the sizes, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.file is not None:
        print(json.dumps(measure(options.file)))
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            path = Path(folder) / f"{size}.parquet"
            write_bars(path, size)
            command = [sys.executable, __file__, "--file", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)  # noqa: S603
            results[size] = json.loads(done.stdout.splitlines()[-1])
            path.unlink()
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
