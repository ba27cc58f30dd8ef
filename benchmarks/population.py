"""Seconds of an update per member: as one batched model, or each alone. Prints JSON.

Default network and learner, one asset, 4,096 bars, one fold; each member has a seed of its own. ``stacked`` is one
batched model, ``one_by_one`` the members one after the other, ``threads`` as many of them at once as there are cores,
each on one core. ``cpu_seconds`` are those of all cores together, which are steadier on a busy machine.

    python benchmarks/population.py
    python benchmarks/population.py --device cuda --members 1 4 16 64
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.training.allocator import keep_freed_memory
from sentio_kedro.agent.training.batched.trainer import train_members_together
from sentio_kedro.agent.training.member import MemberKey
from sentio_kedro.agent.training.schedules import steps_per_update
from sentio_kedro.agent.training.trainer import train_member
from sentio_kedro.config import AgentParameters, FeatureColumn, NetworkParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.regimes import RegimeModel

BARS, SIGMA = 4096, 0.004
Task = tuple[TrainingSet, MemberKey]
COLUMNS = [
    FeatureColumn(name="return", indicator="log_return"),
    *(FeatureColumn(name=f"volatility_{bars}", indicator="volatility", bars=bars) for bars in (8, 32)),
]


def make_training_set() -> TrainingSet:
    """One fold of a random walk."""
    rng = np.random.default_rng(0)
    close = 100.0 * np.exp(np.cumsum(SIGMA * rng.standard_normal((BARS, 1)), axis=0))
    opened = np.vstack([close[:1], close[:-1]])
    timestamps = np.datetime64("2020-01-01T00:30", "ns") + np.arange(BARS) * np.timedelta64(30, "m")
    high, low = np.maximum(opened, close), np.minimum(opened, close)
    bars = AlignedBars(timestamps, ("A",), opened, high, low, close, np.ones((BARS, 1)))
    regimes = RegimeModel(np.zeros(2), np.array([0.003, 0.006]), np.full((2, 2), 0.5), np.full(2, 0.5), memory=64)
    fold = Fold(0, (Segment(200, 3400),), (Segment(3500, 4000),), ())
    return TrainingSet(fold, bars, compute_features(bars, COLUMNS), COLUMNS, regimes, 17520.0)


class Clock:
    """Keeps no checkpoints; notes when each update of each member was reported."""

    def __init__(self) -> None:
        """Start with no reports."""
        self.reported: dict[MemberKey, list[tuple[float, float]]] = {}

    def load(self, key: str) -> None:
        """Find nothing."""

    def save(self, key: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Keep nothing."""

    def update(self, key: MemberKey, update: int, updates: int, metrics: Mapping[str, float]) -> None:
        """Note one finished update."""
        self.reported.setdefault(key, []).append((time.perf_counter(), time.process_time()))

    def stop(self) -> None:
        """Stop nothing."""


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def typical(reported: Sequence[tuple[float, float]], share: int) -> dict[str, float]:
    """Median seconds between reports, of the clock and of all cores together, for each of ``share`` members.

    The first update warms up, and the last one is followed by validation.
    """
    gaps = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(reported[:-1])]
    wall, cpu = (statistics.median(column) / share for column in zip(*gaps, strict=True))
    return {"seconds": wall, "cpu_seconds": cpu}


def stacked(tasks: Sequence[Task], parameters: AgentParameters) -> dict[str, float]:
    """Time members as one batched model."""
    clock = Clock()
    train_members_together(tasks, parameters, clock, clock)
    return typical(clock.reported[tasks[-1][1]], len(tasks))


def one_by_one(tasks: Sequence[Task], parameters: AgentParameters) -> dict[str, float]:
    """Time a member that trains alone."""
    clock, (training_set, key) = Clock(), tasks[0]
    train_member(training_set, key, parameters, clock, clock)
    return typical(clock.reported[key], 1)


def in_threads(tasks: Sequence[Task], parameters: AgentParameters) -> dict[str, float]:
    """Time as many members at once as there are cores, one core each."""
    clock, workers = Clock(), min(len(tasks), len(os.sched_getaffinity(0)))
    with threads(1), ThreadPoolExecutor(workers) as pool:
        for future in [
            pool.submit(train_member, training_set, key, parameters, clock, clock) for training_set, key in tasks
        ]:
            future.result()
    return {"seconds": statistics.median(typical(x, workers)["seconds"] for x in clock.reported.values())}


def measure(members: int, updates: int, device: torch.device, parameters: AgentParameters) -> dict[str, Any]:
    """Time each way to train ``members`` members for ``updates`` updates."""
    training_set = make_training_set()
    steps = (updates + 2) * steps_per_update(parameters)
    how = replace(parameters, training=replace(parameters.training, total_steps=steps, validations=1))
    tasks = [(training_set, MemberKey(0, seed, 0)) for seed in range(members)]
    ways: dict[str, Callable[[Sequence[Task], AgentParameters], dict[str, float]]] = {
        "stacked": stacked,
        "one_by_one": one_by_one,
    }
    if device.type == "cpu" and members > 1:
        ways["threads"] = in_threads
    times: dict[str, Any] = {name: way(tasks, how) for name, way in ways.items()}
    fastest_alone = min(time_["seconds"] for name, time_ in times.items() if name != "stacked")
    return times | {"stacked_is_faster_by": fastest_alone / times["stacked"]["seconds"]}


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--members", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--updates", type=int, default=7, help="timed updates per result")
    parser.add_argument("--threads", type=int, default=None, help="torch threads, but for the members in threads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="compile steps and losses; a stack compiles its losses")
    parser.add_argument("--width", type=int, default=16, help="width of the network")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    device, result = torch.device(arguments.device), dict[str, Any]()
    network = NetworkParameters(width=arguments.width)
    for advantages in ("all_action", "sampled"):
        training = TrainingParameters(
            advantages=advantages,
            members=1,
            device=arguments.device,
            compile="always" if arguments.compile else "never",
        )
        parameters = AgentParameters(network, training, TradingParameters())
        result[advantages] = {
            str(count): measure(count, arguments.updates, device, parameters) for count in arguments.members
        }
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    result["machine"] = {"threads": torch.get_num_threads(), "torch": torch.__version__, "device": name}
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
