"""The one entry: everything about a run that can be known before it works."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from sentio_kedro.manifests import STAGES
from sentio_kedro.preflight.market import Load, MarketPlan, attempt, plan_market
from sentio_kedro.preflight.resources import disk_bytes, memory_bytes, resource_problems
from sentio_kedro.preflight.settings import KINDS
from sentio_kedro.preflight.sizes import Sizes, sizes_of

WHOLE_RUN = "preflight"
"""Pipeline that checks what all of ``STAGES`` need."""

_BARS = frozenset({*STAGES, "search", "lockbox", "external_test", "signals", "final"})
"""Pipelines that read bars of the catalog."""

_TRADERS = frozenset({"backtest", "lockbox", "external_test", "signals"})
"""Pipelines that read agents, or files that parameters name."""


@dataclass(frozen=True)
class Plan:
    """What a run will do and need.

    Attributes:
        market: The bars and their folds.
        sizes: The sizes of the run.
        device: ``training.device``.
        memory: Memory that it will need beyond what its process has, bytes.
        disk: Disk that its artifacts will need, bytes.
    """

    market: MarketPlan
    sizes: Sizes
    device: str
    memory: float
    disk: float


def check(sections: Mapping[str, Any], load: Load, running: Collection[str]) -> Plan | None:
    """Refuse a run whose settings, bars, files or device do not fit each other. Nothing is written.

    What is checked is what the nodes use: the same functions are called on the same values.

    Args:
        sections: Parameters by section, as plain values or as the typed classes.
        load: Loads a dataset of the catalog by name, and ``bar_minutes`` of ``globals.yml``; null if there is none.
        running: Names of the pipelines that run, in whole or in part; ``preflight`` stands for all of ``STAGES``.

    Returns:
        The plan; null for pipelines that read no bars.

    Raises:
        ValueError: With every problem, each with what is wrong, its bound and the remedy.
    """
    stages = {*running, *(STAGES if WHOLE_RUN in running else ())}
    parameters = {
        name: TypeAdapter(kind).validate_python(sections[name]) for name, kind in KINDS.items() if name in sections
    }
    problems: list[str] = []
    market = sizes = None
    if not _BARS.isdisjoint(stages):
        market = plan_market(load("bars"), parameters, stages, problems, load("universe"), load("bar_minutes"))
    if market is not None and not _TRADERS.isdisjoint(stages):
        from sentio_kedro.preflight.files import file_problems  # noqa: PLC0415 - torch, which earlier ones do not need

        problems += file_problems(market, parameters, load, stages)
    if market is not None:
        sizes = attempt(problems, sizes_of, parameters, market, stages)
    if sizes is not None:
        problems += resource_problems(sizes, stages, Path(load("artifacts_folder")))
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
    if market is None or sizes is None:
        return None
    return Plan(market, sizes, parameters["training"].device, memory_bytes(sizes, stages), disk_bytes(sizes, stages))
