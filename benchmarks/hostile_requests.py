"""Hostile requests to `mlflow models serve`: what is answered, what leaks, what stays in memory. Prints JSON.

    python benchmarks/hostile_requests.py                        # trains the smoke environment first, minutes
    python benchmarks/hostile_requests.py --model URI --store sqlite:///mlflow.db

Some 450 requests and a dozen connections that break the protocol, shuffled by a fixed seed, twice; the second time
tells whether memory grows. A good request follows every tenth, and its answer must be the first one's to the byte.
`faults` lists every answer that has a status of its own kind, 500 and more, a stack, a path, a bare NaN or no reason.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import psutil

import hostile_bodies
import hostile_values
from hostile_bodies import Hostile, encoded
from hostile_connections import CONNECTIONS, Connection

ROOT = Path(__file__).parents[1]
PIPELINES = "ingestion,features,cross_validation,regimes,forecasting,training"
WAIT, WARM_UP, BETWEEN, LAST = 120.0, 20, 10, 100
LEAKS = re.compile(r'Traceback|File "|site-packages|\.py\b|line \d+, in |sentio_kedro\.|errors\.pydantic')


def all_requests(good: dict[str, Any]) -> list[Hostile]:
    """Return every request that is made from a ``good`` one."""
    bodies = (
        hostile_bodies.no_json,
        hostile_bodies.envelopes,
        hostile_bodies.given_parameters,
        hostile_bodies.http_requests,
    )
    values = (hostile_values.accounts, hostile_values.account_times, hostile_values.cells, hostile_values.frames)
    return [request for maker in (*bodies, *values) for request in maker(good)]


def faults_of(name: str, status: int, right: tuple[int, ...], text: str, folders: tuple[str, ...] = ()) -> list[str]:
    """Return what is wrong with an answer.

    Args:
        name: Name of the request.
        status: Status of the answer.
        right: Statuses that are right.
        text: Body of the answer.
        folders: Folders of this machine, which no answer may name.
    """
    found = [] if status in right else [f"{status} instead of {right}"]
    found += [f"leaks {leak.group()!r}" for leak in (LEAKS.search(text),) if leak]
    found += [f"names {folder}" for folder in folders if folder in text]
    if status in (200, 400) and text.startswith("{"):
        try:
            answer = json.loads(text, parse_constant=_refuse)
        except ValueError as error:
            return [*(f"{name}: {fault}" for fault in found), f"{name}: {error}"]
        if status == hostile_bodies.BAD and not str(answer.get("message", "")).split("\n")[0].endswith((".", "...")):
            found.append(f"first line is no reason: {text[:120]}")
    return [f"{name}: {fault}" for fault in found]


def _refuse(constant: str) -> None:
    raise ValueError(f"a bare {constant}")


def ask(port: int, request: Hostile) -> tuple[int, str]:
    """Send a request over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    try:
        connection.request(request.method, request.path, request.body or None, request.headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@contextmanager
def serving(model: str, store: str) -> Iterator[tuple[int, psutil.Process]]:
    """Start ``mlflow models serve``; give its port and the process that answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["models", "serve", "--model-uri", model, "--env-manager", "local", "--workers", "1", "--port", str(port)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with tempfile.NamedTemporaryFile("w+") as told:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "mlflow", *command],
            env={**os.environ, "MLFLOW_TRACKING_URI": store, "PATH": path},
            stdout=told,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while "Uvicorn running on" not in Path(told.name).read_text():
                if process.poll() is not None:
                    raise RuntimeError(Path(told.name).read_text())
                time.sleep(0.2)
            family = psutil.Process(process.pid).children(recursive=True)
            yield port, max(family, key=lambda child: child.memory_info().rss)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def trained(folder: Path) -> tuple[str, str]:
    """Train the smoke environment in a copy; return the model's address and the store."""
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("credentials*"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "src").mkdir()  # the package is the installed one
    (folder / "data" / "01_raw").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "01_raw" / "equities_daily.parquet", folder / "data" / "01_raw")
    command = [sys.executable, "-m", "kedro", "run", "--env=smoke", f"--pipelines={PIPELINES}"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if ran.returncode:
        raise RuntimeError(ran.stdout + ran.stderr)
    logged = json.loads((folder / "data" / "smoke" / "06_models" / "logged_model.json").read_text())
    return logged["model_uri"], f"sqlite:///{folder / 'mlflow.db'}"


def measure(model: str, store: str, passes: int) -> dict[str, Any]:
    """Send everything ``passes`` times."""
    mlflow.set_tracking_uri(store)
    example = Path(mlflow.artifacts.download_artifacts(model), "serving_input_example.json")
    good = json.loads(example.read_text())
    plan: list[Hostile | Connection] = [*all_requests(good), *CONNECTIONS]
    folders = (str(ROOT), sys.prefix, tempfile.gettempdir() + "/", str(Path.home()) + "/")
    right, draw = Hostile("good", encoded(good), (200,)), random.Random(0)  # noqa: S311 - no secret
    statuses: Counter[int] = Counter()
    faults: list[str] = []
    resident: list[int] = []
    latencies: list[float] = []
    with serving(model, store) as (port, server):
        first = [ask(port, right) for _ in range(WARM_UP)][-1]
        faults += faults_of("good", *((first[0], (200,), first[1])), folders)
        begin = server.memory_info().rss
        for _ in range(passes):
            for place, one in enumerate(draw.sample(plan, len(plan))):
                answers = one.answers(port, right) if isinstance(one, Connection) else [ask(port, one)]
                for status, text in answers:
                    statuses[status] += 1
                    faults += faults_of(one.name, status, one.statuses, text, folders)
                if place % BETWEEN == 0:
                    began = time.perf_counter()
                    faults += [] if ask(port, right) == first else [f"after {one.name}: the good answer changed"]
                    latencies.append(time.perf_counter() - began)
                resident.append(server.memory_info().rss)
    megabytes = [size / 1024**2 for size in (begin, *resident)]
    return {
        "hostile": len(plan) * passes,
        "statuses": dict(sorted(statuses.items())),
        "server_errors": sum(count for status, count in statuses.items() if status >= 500),  # noqa: PLR2004
        "faults": faults,
        "resident_megabytes": {"begin": megabytes[0], "largest": max(megabytes), "end": megabytes[-1]},
        "growth_over_last_hundred": megabytes[-1] / megabytes[-LAST] - 1.0,
        "growth_over_last_pass": megabytes[-1] / megabytes[-len(plan)] - 1.0,
        "good_request_median_milliseconds": 1e3 * float(np.median(latencies)),
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="address of a logged model; trains one by default")
    parser.add_argument("--store", default="sqlite:///mlflow.db", help="tracking store of --model")
    parser.add_argument("--passes", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, store = (arguments.model, arguments.store) if arguments.model else trained(Path(folder))
        result = measure(model, store, arguments.passes)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
