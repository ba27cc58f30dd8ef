"""Environment steps per second of rollout and update together, on the standard workload. Prints JSON.

`env_steps_per_second` is the learner `enhanced` at realistic costs and masks with 16 replicas, compiled
(`training.compile: always`). Beside it stand the same `eager`, the learner `plain` (sampled proximal policy
optimisation at proportional costs, compiled and eager), and 1 and 64 replicas. `workload.py` says what these are. A
step is one account and one decision; the median of several updates counts. Steps per second of processor time tell what
one core does on a machine that is busy with other things; there, OMP_WAIT_POLICY=passive keeps torch's threads from
spinning while they wait for each other. Compilation comes before and is reported separately.

    python benchmarks/throughput.py                        # this project
    python benchmarks/throughput.py --peer                 # and sb3-contrib's MaskablePPO (extra `bench`)
    python benchmarks/throughput.py --seed-workload        # the large network instead: minutes and memory
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

from sentio_kedro.agent.training.allocator import keep_freed_memory
from sentio_kedro.agent.training.schedules import steps_per_update
from workload import NETWORK, LearningRun, Workload, seed_workload, standard_workload

ROLLOUTS = 8  # of the seed workload: 8 x 8 windows x 16 replicas are 1,024 episodes
TARGET_MINUTES = 30.0


def timed(run: LearningRun, rounds: int) -> list[dict[str, float]]:
    """Wall and processor seconds of ``rounds`` updates, and those of their phases."""
    rows = []
    for _ in range(rounds):
        began, used = time.perf_counter(), time.process_time()
        phases = run.update()
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        rows.append({"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - used} | phases)
    return rows


def measure(workload: Workload, rounds: int, device: torch.device) -> dict[str, float]:
    """Time ``rounds`` updates; the median counts."""
    run, training = LearningRun(workload, device), workload.parameters.training
    first = timed(run, 3)  # compile
    before = run.optimiser_steps()
    rows = timed(run, rounds)
    middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    steps, typical = steps_per_update(workload.parameters), middle["seconds"]
    return {
        "env_steps_per_second": steps / typical,
        "fastest_env_steps_per_second": steps / min(row["seconds"] for row in rows),
        "env_steps_per_cpu_second": steps / middle["cpu_seconds"],
        "unique_bars_per_second": training.windows * training.episode_bars / typical,
        "optimizer_steps_per_second": (run.optimiser_steps() - before) / rounds / typical,
        "optimizer_steps_per_update": (run.optimiser_steps() - before) / rounds,
        "seconds_per_update": typical,
        "seconds_before_timing": sum(row["seconds"] for row in first),
        **{name: value for name, value in middle.items() if name.startswith("seconds_") or name == "peak_gigabytes"},
    }


def standard(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Measure the standard workload in all its forms."""
    rounds, compiled = arguments.rounds, not arguments.eager
    result: dict[str, Any] = measure(standard_workload("enhanced", 16, compiled), rounds, device)
    if compiled:
        result["eager"] = measure(standard_workload(), rounds, device)
    result["plain"] = measure(standard_workload("plain", 16, compiled), rounds, device)
    if compiled:
        result["plain"]["eager"] = measure(standard_workload("plain", 16), rounds, device)
    others = {} if arguments.short else {str(count): count for count in (1, 64)}
    result["replicas"] = {
        name: measure(standard_workload("enhanced", count, compiled), rounds, device) for name, count in others.items()
    }
    if arguments.peer:
        import throughput_peer  # noqa: PLC0415 - needs the extra

        given = standard_workload("plain")
        result["peer"] = throughput_peer.measure(given.market, NETWORK, given.shape)
        result["ratio_to_peer"] = result["env_steps_per_second"] / result["peer"]["env_steps_per_second"]
    return result


def large(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Train the seed workload, all its rollouts and updates."""
    workload = seed_workload(arguments.precision, compiled=not arguments.eager)
    run = LearningRun(workload, device)
    rows = timed(run, arguments.rollouts)
    seconds = sum(row["seconds"] for row in rows)
    return {
        "seed_workload_seconds": seconds,
        "rollouts": float(len(rows)),
        "episodes": float(len(rows) * workload.parameters.training.windows * workload.parameters.training.replicas),
        "met": len(rows) >= ROLLOUTS and seconds < 60.0 * TARGET_MINUTES,
        "cpu_seconds": sum(row["cpu_seconds"] for row in rows),
        "peak_gigabytes": rows[-1]["peak_gigabytes"],
        "precision": arguments.precision,
        "updates": rows,
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peer", action="store_true", help="also run sb3-contrib's MaskablePPO")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    parser.add_argument("--short", action="store_true", help="16 replicas alone")
    parser.add_argument("--seed-workload", action="store_true", help="the large network instead")
    parser.add_argument("--rollouts", type=int, default=ROLLOUTS, help="of the seed workload")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the seed workload")
    parser.add_argument("--rounds", type=int, default=7, help="timed updates per result")
    parser.add_argument("--threads", type=int, default=None, help="torch threads; default: torch's own choice")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    device = torch.device(arguments.device)
    result = large(arguments, device) if arguments.seed_workload else standard(arguments, device)
    result["machine"] = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpu": platform.machine(),
        "load_average": os.getloadavg()[0],
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
