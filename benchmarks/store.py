"""Times the store of bars: first write, a new day, reads by the project and by DuckDB; prints JSON.

Run ``python benchmarks/store.py``; ``--symbols 50 --years 4 --days 20 --minute-symbols 5`` is a small one.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sentio_kedro.store import StoredBars

MINUTES_OF_DAY, DAYS_OF_YEAR = 390, 252
KNOWN = pd.Timestamp("2026-01-10", tz="UTC")


def main() -> None:
    """Run everything in a new folder and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--years", type=int, default=20)
    parser.add_argument("--days", type=int, default=60, help="new days, appended one after another")
    parser.add_argument("--minute-symbols", type=int, default=50)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        daily = _daily(folder / "daily", arguments.symbols, arguments.years, arguments.days)
        minutes = _minutes(folder / "minutes", arguments.minute_symbols)
    finally:
        shutil.rmtree(folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"daily": daily, "minutes": minutes, "peak_gib": round(peak, 2)}, indent=2))


def _daily(root: Path, symbols: int, years: int, days: int) -> dict[str, Any]:
    store = StoredBars(str(root))
    names = [f"S{number:03d}" for number in range(symbols)]
    ends = pd.bdate_range(end="2026-01-09", periods=years * DAYS_OF_YEAR, tz="UTC") + pd.Timedelta(hours=21)
    first, _ = _timed(lambda: store.append(_bars(names, ends), "vendor", KNOWN))
    before = _files(root)
    new = [_new_day(store, names, ends[-1], day) for day in range(1, days + 1)]
    after = _files(root)
    changed = [name for name, state in before.items() if after[name] != state and not name.endswith("manifest.json")]
    few = names[:: max(symbols // 5, 1)][:5]
    everything, frame = _timed(store.read)
    by_project, read = _timed(lambda: store.read(few))
    by_duckdb = statistics.median(_timed(lambda: _duckdb(store, few))[0] for _ in range(5))
    pd.testing.assert_frame_equal(_duckdb(store, few), read, check_dtype=False)
    return {
        "bars": len(frame),
        "first_write_seconds": round(first, 2),
        "first_write_parts": len(before),
        "mebibytes": round(sum(size for size, _ in after.values()) / 2**20, 1),
        "first_new_day_seconds": round(new[0], 2),
        "new_day_median_seconds": round(statistics.median(new), 2),
        "new_day_worst_seconds": round(max(new), 2),
        "files_a_new_day": (len(after) - len(before)) / days,
        "older_parts_changed": len(changed),
        "read_all_seconds": round(everything, 2),
        "read_5_symbols_seconds": round(by_project, 3),
        "duckdb_5_symbols_median_seconds": round(by_duckdb, 3),
    }


def _new_day(store: StoredBars, names: list[str], last: pd.Timestamp, day: int) -> float:
    """Append one day together with the one before, which the store holds."""
    ends = pd.DatetimeIndex([last + pd.Timedelta(days=day - 1), last + pd.Timedelta(days=day)])
    return _timed(lambda: store.append(_bars(names, ends), "vendor", KNOWN + pd.Timedelta(days=day)))[0]


def _minutes(root: Path, symbols: int) -> dict[str, Any]:
    store = StoredBars(str(root))
    days = pd.bdate_range(end="2025-12-31", periods=DAYS_OF_YEAR, tz="UTC") + pd.Timedelta(hours=14, minutes=31)
    minutes = np.tile(np.arange(MINUTES_OF_DAY), len(days))
    ends = days.repeat(MINUTES_OF_DAY) + pd.to_timedelta(minutes, unit="m")
    names = [f"M{number:02d}" for number in range(symbols)]
    first, _ = _timed(lambda: store.append(_bars(names, ends), "vendor", KNOWN))
    seconds, frame = _timed(store.read)
    return {"bars": len(frame), "first_write_seconds": round(first, 2), "read_seconds": round(seconds, 2)}


def _bars(names: list[str], ends: pd.DatetimeIndex) -> pd.DataFrame:
    """Return bars whose values follow from symbol and time alone, so that a bar told twice is the same."""
    place = np.repeat(np.arange(len(names)), len(ends))
    stamps = np.tile(ends.as_unit("s").asi8, len(names))
    noise = ((stamps // 60 * 7919 + place * 104_729) % 10_007) / 10_007
    close = np.round(100.0 + 10.0 * np.sin(stamps / 3e7 + place) + noise, 2)
    return pd.DataFrame(
        {
            "timestamp": ends[np.tile(np.arange(len(ends)), len(names))],
            "symbol": pd.Categorical.from_codes(place, names).astype("str"),
            "open": np.round(close - noise / 2, 2),
            "high": close + 1.0,
            "low": close - 1.0,
            "close": close,
            "volume": np.round(1e6 * noise),
        }
    )


def _duckdb(store: StoredBars, names: list[str]) -> pd.DataFrame:
    import duckdb  # noqa: PLC0415 - an extra

    with duckdb.connect() as connection:
        frame: pd.DataFrame = connection.sql(store.sql(names)).df()
    return frame.assign(timestamp=frame["timestamp"].dt.tz_convert("UTC"))


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def _files(root: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of each file."""
    states = {path.relative_to(root).as_posix(): path.stat() for path in root.rglob("*") if path.is_file()}
    return {name: (state.st_size, state.st_mtime_ns) for name, state in states.items()}


if __name__ == "__main__":
    main()
