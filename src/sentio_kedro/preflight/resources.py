"""Memory and disk that a run needs, estimated from its sizes and compared with what there is.

The estimates are sums of products of sizes with the bytes that were measured (`benchmarks/memory.py`); they are meant
to be right within a factor of two. A run is refused only where it needs more than ``SLACK`` times what is free.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from sentio_kedro.market.large_arrays import LARGEST_IN_MEMORY
from sentio_kedro.preflight.sizes import PARAMETERS, Sizes

GIGABYTE = 1e9
SLACK = 1.5  # by which an estimate may exceed what is free: a false refusal is worse than a missed one
LIBRARIES = 300e6  # bytes of compiled code and of libraries that a run loads later
_CGROUP = Path("/sys/fs/cgroup")

Estimate = Callable[[Sizes], float]


def market_bytes(sizes: Sizes) -> float:
    """Bars, features, regimes and facts of one market; its largest arrays lie in files."""
    cells = float(sizes.bars * sizes.assets)
    in_memory = min(cells, LARGEST_IN_MEMORY / 8.0)
    return 270.0 * cells + 330.0 * in_memory + 2.5 * min(8.0 * sizes.inputs * cells, LARGEST_IN_MEMORY)


def forecasting_bytes(sizes: Sizes) -> float:
    """Inputs, targets and forecasts of the experts, for the folds that are fitted at once."""
    return sizes.bars * sizes.assets * 2_000.0 * min(sizes.forecast_workers, max(1, sizes.folds))


def training_bytes(sizes: Sizes) -> float:
    """Markets of all folds, rollouts and gradients of the members that train at once, all weights and all curves."""
    path = float(sizes.windows * sizes.episode_bars)
    cells, context = path * sizes.assets, 1.0 + sizes.context / sizes.episode_bars
    accounts, batch = sizes.accounts, cells / sizes.parts
    of_critic = sizes.quantiles * (accounts if sizes.sampled else 1)
    attention = 13.0 * sizes.heads * sizes.window if sizes.attends else 0.0
    rollout = cells * (context * (8.0 * sizes.inputs + 60.0 * sizes.width + attention) + 9.0 * accounts * sizes.hidden)
    rollout += cells * accounts * (22.0 * sizes.levels + (330.0 if sizes.sampled else 0.0)) + 1_800.0 * path
    rollout += sizes.windows * accounts * sizes.drawdown_sessions * 8.0 if sizes.sampled else 0.0
    gradient = batch * (32.0 * sizes.width * (context + sizes.layers) + 4.0 * accounts * sizes.hidden)
    gradient += batch * 40.0 * of_critic + 16.0 * sizes.quantiles**2
    validation = 40.0 * sizes.validation * sizes.assets * sizes.hidden
    one = rollout + gradient + validation + 22.0 * sizes.weights
    return sizes.folds * market_bytes(sizes) + sizes.workers * one + agents_bytes(sizes) + curves_bytes(sizes)


def agents_bytes(sizes: Sizes) -> float:
    """Weights of all agents."""
    return 4.0 * sizes.agents * sizes.members * (sizes.weights + 2_000.0)


def curves_bytes(sizes: Sizes) -> float:
    """A row per member and update."""
    return 2_500.0 * sizes.agents * sizes.members * sizes.updates


def backtest_bytes(sizes: Sizes) -> float:
    """Frames of all accounts, heads of all members, and the variants of the stress tests."""
    accounts, variants, networks = sizes.seeds + 14, sizes.paths + 12, sizes.seeds * sizes.members
    frames = sizes.tested * (660.0 * accounts + 160.0 * sizes.assets * (sizes.seeds + 3))
    heads = 16.0 * networks * max(sizes.assets * sizes.tested // max(1, sizes.folds), 12_800) * sizes.hidden
    stress = variants * (1_024 * sizes.assets * 250.0 + 8.0 * sizes.drawdown_sessions + 40.0 * sizes.tested)
    return frames + heads + stress + 3.0 * agents_bytes(sizes)


def reporting_bytes(sizes: Sizes) -> float:
    """Frames of all accounts, and the resampled metrics."""
    accounts = sizes.seeds + 14
    return 600.0 * sizes.tested * accounts + 230.0 * sizes.bootstrap_samples * accounts


STAGES: dict[str, Estimate] = {
    "forecasting": forecasting_bytes,
    "training": training_bytes,
    "search": training_bytes,
    "backtest": backtest_bytes,
    "lockbox": backtest_bytes,
    "reporting": reporting_bytes,
}
"""What pipelines need beyond the market."""


def memory_bytes(sizes: Sizes, running: Collection[str]) -> float:
    """Return the most memory that a run will need beyond what its process has, bytes."""
    return LIBRARIES + market_bytes(sizes) + max((STAGES[name](sizes) for name in STAGES if name in running), default=0)


def disk_bytes(sizes: Sizes, running: Collection[str]) -> float:
    """Return the disk that the artifacts of a run will need, bytes, those of MLflow included."""
    total = 0.0
    if "ingestion" in running or "features" in running:
        total += sizes.bars * sizes.assets * (60.0 + 8.0 * sizes.inputs)
    if "forecasting" in running:
        total += sizes.folds * sizes.bars * sizes.assets * 60.0
    if "training" in running or "search" in running:
        total += 3.0 * agents_bytes(sizes) + sizes.workers * 16.0 * sizes.weights + 0.2 * curves_bytes(sizes)
        total += sizes.agents * 20e3
    if "backtest" in running:
        total += sizes.tested * (100.0 * (sizes.seeds + 14) + 20.0 * sizes.assets * (sizes.seeds + 3))
    return total + 50e6  # figures, report, database


def available_memory(groups: Path = _CGROUP) -> float:
    """Return the memory that is free, bytes: of the machine, or of the control group that limits this process.

    Args:
        groups: Folder of control groups, of version 2 or 1.
    """
    free = float(psutil.virtual_memory().available)
    for limit, statistics, used in (
        ("memory.max", "memory.stat", "anon"),
        ("memory/memory.limit_in_bytes", "memory/memory.stat", "total_rss"),
    ):
        try:
            bound = int((groups / limit).read_text())
            held = dict(line.split() for line in (groups / statistics).read_text().splitlines())
            free = min(free, float(bound - int(held[used])))
        except (OSError, ValueError, KeyError):  # no such group, or no limit ("max")
            continue
    return free


def free_disk(folder: Path) -> float:
    """Return the bytes that are free where ``folder`` is or will be."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return float(shutil.disk_usage(there).free)


def resource_problems(
    sizes: Sizes, running: Collection[str], folder: Path, memory: float | None = None, disk: float | None = None
) -> list[str]:
    """List memory and disk that are not there, with the parameters that ask for them.

    Args:
        sizes: Sizes of the run.
        running: Pipelines that run.
        folder: Folder of artifacts.
        memory: Free memory, bytes; null looks.
        disk: Free disk, bytes; null looks.
    """
    problems = []
    free = available_memory() if memory is None else memory
    problems += _beyond("memory", sizes, lambda of: memory_bytes(of, running), free)
    free = free_disk(folder) if disk is None else disk
    problems += _beyond(f"disk in `{folder}`", sizes, lambda of: disk_bytes(of, running), free)
    return problems


def _beyond(what: str, sizes: Sizes, estimate: Estimate, free: float) -> list[str]:
    needed = estimate(sizes)
    if needed <= SLACK * free:
        return []
    causes = [
        f"`{name}` = {getattr(sizes, field):,}, at most {fitting:,}"
        for field, name in PARAMETERS.items()
        if (fitting := _largest(sizes, field, lambda of: estimate(of) <= SLACK * free)) is not None
    ]
    choice = "lower one of " if len(causes) > 1 else "lower "
    remedy = choice + "; ".join(causes) if causes else "give fewer bars or symbols, or lower several sizes"
    amounts = f"{needed / GIGABYTE:,.1f} GB of {what}, where {free / GIGABYTE:,.1f} GB are free"
    return [f"This run needs about {amounts}: {remedy}."]


def _largest(sizes: Sizes, field: str, fits: Callable[[Sizes], bool]) -> int | None:
    """Return the largest value of one size at which all fits; null if no value does."""
    step = {"windows": sizes.parts, "width": 2 * sizes.heads}.get(field, 1)
    low, high = 1, getattr(sizes, field) // step

    def fits_at(value: int) -> bool:
        changed: dict[str, Any] = {field: value * step}
        return fits(replace(sizes, **changed))

    if high <= low or not fits_at(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits_at(middle) else (low, middle)
    return low * step
