"""Latency of a decision: in a session, for many accounts at once, and through `mlflow models serve`. Prints JSON.

    python benchmarks/serving.py                  # all of it, a minute or two
    python benchmarks/serving.py --parts session  # a part of it: session, accounts or server

The workload is fixed: 5 assets in 30-minute bars, the features, network, limits and costs of `conf/base`, agents of 4
members with random weights, 1 and 2 of them (seeds). A session starts with the bars that the agents require; then each
new bar is given as a long frame together with the account. `wall` is what a caller waits; `processor` is the time that
the thread computed, which other work on the machine disturbs less. The server is asked with the whole history.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
import yaml

from sentio_kedro.agent.bundle import AgentBundle, AgentSpec
from sentio_kedro.agent.network.encoder import NetworkShape, receptive_field
from sentio_kedro.agent.network.network import build_network
from sentio_kedro.config import FeatureParameters, NetworkParameters, RegimeParameters, TradingParameters
from sentio_kedro.market.indicators import longest_lookback
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import aligned_to_frame
from sentio_kedro.market.ingestion.sessions import market_clock
from sentio_kedro.market.risk import trading_lookback
from sentio_kedro.serving.accounts import Account
from sentio_kedro.serving.session import DecisionSession
from sentio_kedro.tracking.model import log_model
from sentio_kedro.trading.accounts import open_accounts

CONF = Path(__file__).parents[1] / "conf" / "base"
SYMBOLS, MEMBERS, PER_SESSION = ("A", "B", "C", "D", "E"), 4, 48.0
WARM_UP = 20  # decisions that are not counted
MILLISECONDS = 1e3


def section(file: str, name: str) -> dict[str, Any]:
    """Read a section of the shipped parameters."""
    return dict(yaml.safe_load((CONF / f"parameters_{file}.yml").read_text())[name])


def random_bars(count: int) -> AlignedBars:
    """Draw random walks of half hours."""
    rng, shape = np.random.default_rng(0), (count, len(SYMBOLS))
    close = 100.0 * np.exp(np.cumsum(0.004 * rng.standard_normal(shape), axis=0))
    opened = np.vstack([close[:1], close[:-1]])
    high = np.maximum(opened, close) * (1.0 + 0.002 * rng.random(shape))
    low = np.minimum(opened, close) / (1.0 + 0.002 * rng.random(shape))
    timestamps = np.datetime64("2018-01-01T00:30", "ns") + np.arange(count) * np.timedelta64(30, "m")
    return AlignedBars(timestamps, SYMBOLS, opened, high, low, close, 1e4 * (1.0 + rng.random(shape)))


def random_agent(seed: int) -> AgentBundle:
    """Build an agent of the shipped configuration with random weights and three regimes."""
    columns = FeatureParameters(**section("features", "features")).columns
    network = NetworkParameters(**section("training", "network") | {"variant": "enhanced"})
    trading = TradingParameters(**section("training", "trading") | {"unit": "allocation"})
    memory = RegimeParameters(**section("regimes", "regimes")).memory
    stay = np.full((3, 3), 0.01) + 0.97 * np.eye(3)
    regimes = {
        "means": [0.0] * 3,
        "deviations": [0.001, 0.002, 0.004],
        "transition": stay.tolist(),
        "stationary": [1.0 / 3.0] * 3,
        "memory": memory,
    }
    shape = NetworkShape(len(columns), len(SYMBOLS), 3, len(trading.levels))
    weights = []
    for member in range(MEMBERS):
        built = build_network(network, shape, torch.Generator().manual_seed(100 * seed + member))
        with torch.no_grad():
            built.head.policy.weight.mul_(300.0)  # a fresh policy is nearly indifferent
        weights.append(built.state_dict())
    day = market_clock(random_bars(int(PER_SESSION)).timestamps, trading.calendar)
    needed = receptive_field(network) + max(longest_lookback(columns), memory, trading_lookback(trading, day))
    spec = AgentSpec(
        fold=0, seed=seed, members=MEMBERS, symbols=list(SYMBOLS), periods_per_year=17520.0, gamma=0.9,
        required_bars=needed, train_start="2017-01-01T00:00:00+00:00", train_end="2017-12-01T00:00:00+00:00",
        features=columns, network=network, trading=trading, regimes=regimes, train_sharpe=0.0, validation_sharpe=0.0,
        hashes={}, bars_per_session=PER_SESSION,
    )  # fmt: skip
    return AgentBundle(spec, tuple(weights))


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Summarise durations in milliseconds."""
    latencies = MILLISECONDS * np.array(seconds)
    return {
        "p50": float(np.median(latencies)),
        "p99": float(np.percentile(latencies, 99)),
        "largest": float(latencies.max()),
    }


def timed(action: Callable[[], object], wall: list[float], processor: list[float]) -> None:
    """Run ``action`` and note what it took."""
    began, computed = time.perf_counter(), time.thread_time()
    action()
    wall.append(time.perf_counter() - began)
    processor.append(time.thread_time() - computed)


def measure_session(seeds: int, bars: int) -> dict[str, Any]:
    """Feed ``bars`` bars one by one, each with the account."""
    session = DecisionSession([random_agent(seed) for seed in range(seeds)])
    market = random_bars(session.required_bars + WARM_UP + bars)
    began = time.perf_counter()
    session.start(market.rows(slice(0, session.required_bars)))
    started = time.perf_counter() - began
    account = Account(cash=80_000.0, shares={"A": 100.0, "B": -50.0})
    wall: list[float] = []
    processor: list[float] = []
    for row in range(session.required_bars, len(market.timestamps)):
        new = aligned_to_frame(market.rows(slice(row, row + 1)))
        timed(lambda new=new: session.decide(new, account), wall, processor)  # type: ignore[misc]
    return {
        "required_bars": session.required_bars,
        "decisions": bars,
        "start_milliseconds": MILLISECONDS * started,
        "wall_milliseconds": percentiles(wall[WARM_UP:]),
        "processor_milliseconds": percentiles(processor[WARM_UP:]),
    }


def measure_accounts(seeds: int, accounts: int, bars: int) -> dict[str, Any]:
    """Decide for many accounts at each new bar."""
    session = DecisionSession([random_agent(seed) for seed in range(seeds)])
    market = random_bars(session.required_bars + WARM_UP + bars)
    session.start(market.rows(slice(0, session.required_bars)))
    batch = open_accounts(accounts, len(SYMBOLS), session.trading).part(np.s_[:, None])
    for name in ("cash", "equity", "peak_equity", "initial_equity", "session_equity"):
        batch.account[name] = np.linspace(1e4, 1e6, accounts)[:, None]
    wall: list[float] = []
    processor: list[float] = []
    for row in range(session.required_bars, len(market.timestamps)):
        new = market.rows(slice(row, row + 1))
        timed(lambda new=new: session.decide(new, batch), wall, processor)  # type: ignore[misc]
    seconds = {"wall": sum(wall[WARM_UP:]), "processor": sum(processor[WARM_UP:])}
    return {f"decisions_per_second_{name}": accounts * bars / spent for name, spent in seconds.items()}


@contextmanager
def serving(model: str, store: str) -> Iterator[str]:
    """Start ``mlflow models serve`` on a free port and give its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["models", "serve", "--model-uri", model, "--env-manager", "local", "--workers", "1", "--port", str(port)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "mlflow", *command],
        env={**os.environ, "MLFLOW_TRACKING_URI": store, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        for line in process.stdout or ():
            if "Uvicorn running on" in line:
                break
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()


def measure_server(seeds: int, requests: int) -> dict[str, Any]:
    """Ask a server with the required bars and an account, over and over."""
    agents = {agent.name: agent for agent in map(random_agent, range(seeds))}
    needed = next(iter(agents.values())).spec.required_bars
    frame = aligned_to_frame(random_bars(needed))
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{folder}/mlflow.db"
        mlflow.set_tracking_uri(store)
        mlflow.set_experiment(experiment_id=mlflow.create_experiment("serving", Path(folder, "artifacts").as_uri()))
        with mlflow.start_run():
            uri = log_model(agents, random_bars(needed + 2))
        split = json.loads(frame.to_json(orient="split", index=False, date_format="iso"))
        account = json.dumps({"cash": 80_000.0, "shares": {"A": 100.0, "B": -50.0}})
        body = json.dumps({"dataframe_split": split, "params": {"account": account}}).encode()
        wall: list[float] = []
        began = time.perf_counter()
        with serving(str(mlflow.artifacts.download_artifacts(uri)), store) as address:
            ready = time.perf_counter() - began
            for _ in range(WARM_UP + requests):
                request = urllib.request.Request(address, body, {"Content-Type": "application/json"})  # noqa: S310
                timed(lambda request=request: urllib.request.urlopen(request).read(), wall, [])  # type: ignore[misc]  # noqa: S310
    return {
        "requests": requests,
        "request_kilobytes": len(body) / 1024,
        "seconds_until_it_answers": ready,
        "wall_milliseconds": percentiles(wall[WARM_UP:]),
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["session", "accounts", "server"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--accounts", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--bars", type=int, default=1_000)
    parser.add_argument("--requests", type=int, default=100)
    arguments = parser.parse_args()
    result: dict[str, Any] = {"load_before": os.getloadavg()[0], "cores": os.cpu_count(), "torch": torch.__version__}
    for seeds in arguments.seeds:
        measured: dict[str, Any] = {}
        if "session" in arguments.parts:
            measured["session"] = measure_session(seeds, arguments.bars)
        if "accounts" in arguments.parts:
            several = {str(n): measure_accounts(seeds, n, arguments.bars // 10) for n in arguments.accounts}
            measured["accounts"] = several
        if "server" in arguments.parts:
            measured["server"] = measure_server(seeds, arguments.requests)
        result[f"{seeds}_seeds"] = measured
    result["load_after"] = os.getloadavg()[0]
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
