"""Seconds from the start of ``kedro run`` to its first node, of each pipeline, on bars that train in seconds. JSON.

A copy of the project in a temporary folder runs all stages of the environment ``smoke`` once. Then each pipeline runs
by itself, one process at a time, with the files in the system's cache. Wall clock and processor time (user and system)
are medians. With ``--against``, the sources of another checkout run the same commands in turn, so that what else the
machine does falls on both.

    python benchmarks/startup.py
    python benchmarks/startup.py --repeat 3 --pipelines ingestion training --against ../before
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

PROJECT = Path(__file__).parent.parent
PIPELINES = ("ingestion", "forecasting", "training", "backtest", "reporting", "signals", "comparison", "__default__")
FIRST_NODE = "Running node"


def main() -> None:
    """Measure the pipelines and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipelines", nargs="+", default=list(PIPELINES))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--against", type=Path, help="another checkout, measured in turn with this one")
    given = parser.parse_args()
    checkouts = {"here": PROJECT} | ({"against": given.against.resolve()} if given.against else {})
    with TemporaryDirectory() as folder:
        copies = {name: copied(checkout, Path(folder, name)) for name, checkout in checkouts.items()}
        for copy in copies.values():
            first_node(copy, "__default__")
        seconds: dict[str, Any] = {}
        for pipeline in given.pipelines:
            runs: dict[str, list[tuple[float, float]]] = {name: [] for name in copies}
            for _ in range(given.repeat):
                for name, copy in copies.items():
                    runs[name].append(first_node(copy, pipeline))
            seconds[pipeline] = {name: medians(values) for name, values in runs.items()}
            print(json.dumps({pipeline: seconds[pipeline]}), file=sys.stderr)
    print(json.dumps({"repeat": given.repeat, "cores": os.cpu_count(), "seconds": seconds}))


def copied(checkout: Path, folder: Path) -> Path:
    """Lay out what a run needs of ``checkout`` in ``folder``, which gets the artifacts."""
    for name in ("conf", "src"):
        shutil.copytree(checkout / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(checkout / name, folder)
    (folder / "data").mkdir()
    (folder / "data" / "01_raw").symlink_to(checkout / "data" / "01_raw")
    return folder


def first_node(folder: Path, pipeline: str) -> tuple[float, float]:
    """Run ``pipeline`` to its end; return wall clock and processor seconds before its first node.

    Raises:
        RuntimeError: If the run fails.
    """
    command = [sys.executable, "-m", "kedro", "run", "--env=smoke", f"--pipelines={pipeline}"]
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "COLUMNS": "200"}
    began, reached, lines = time.perf_counter(), None, []
    with subprocess.Popen(  # noqa: S603 - its own interpreter
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            if reached is None and FIRST_NODE in line:
                used = psutil.Process(process.pid).cpu_times()
                reached = time.perf_counter() - began, used.user + used.system
    if process.returncode or reached is None:
        raise RuntimeError(f"`{pipeline}` must run, but did not:\n{''.join(lines)}")
    return reached


def medians(runs: list[tuple[float, float]]) -> dict[str, float]:
    """Medians of wall clock and processor time."""
    return {
        name: round(statistics.median(values), 2)
        for name, values in zip(("wall", "processor"), zip(*runs, strict=True), strict=True)
    }


if __name__ == "__main__":
    main()
