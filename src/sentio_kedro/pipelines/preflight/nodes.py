"""Say what a whole run will do and need."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sentio_kedro.agent.training.member import choose_device
from sentio_kedro.market.purged_folds import count_rows
from sentio_kedro.preflight.check import WHOLE_RUN, Plan, check
from sentio_kedro.preflight.resources import GIGABYTE, available_memory, free_disk

logger = logging.getLogger(__name__)


def summarise(
    bars: pd.DataFrame, universe: pd.DataFrame | None, artifacts_folder: str, sections: dict[str, Any]
) -> None:
    """Check everything that a run of all stages needs, and log what it will do.

    Raises:
        ValueError: With every problem.
    """
    data = {"bars": bars, "universe": universe, "artifacts_folder": artifacts_folder}
    plan = check(sections, data.get, {WHOLE_RUN})
    if plan is not None:  # it is not: all stages read bars
        logger.info("%s", description(plan, artifacts_folder))


def description(plan: Plan, folder: str) -> str:
    """Describe in a line each: bars, look-back, folds, agents, memory, disk.

    Args:
        plan: What the run will do and need.
        folder: Folder of artifacts.
    """
    grid, sizes, folds = plan.market.bars, plan.sizes, plan.market.folds
    trained_on = choose_device(plan.device)
    first, last = (np.datetime_as_string(grid.timestamps[row], unit="m") for row in (0, -1))
    lines = [
        f"bars: {sizes.bars:,} of {sizes.assets} symbols, from {first} to {last} UTC ({', '.join(grid.symbols)})",
        f"agents: {sizes.agents} of {sizes.members} networks, {sizes.updates:,} updates each, on {trained_on}",
        f"memory: about {plan.memory / GIGABYTE:.1f} GB of {available_memory() / GIGABYTE:.1f} GB that are free",
        f"disk: about {plan.disk / GIGABYTE:.1f} GB of {free_disk(Path(folder)) / GIGABYTE:.1f} GB, in `{folder}`",
    ]
    if folds is not None:
        rows = [
            f"{count_rows(fold.train)} + {count_rows(fold.validation)} + {count_rows(fold.test)}"
            for fold in folds.folds
        ]
        locked = "none" if folds.lockbox is None else f"{folds.lockbox.stop - folds.lockbox.start} bars"
        lines[1:1] = [
            f"look-back: a decision reads {folds.spans.input} bars",
            f"folds: {len(rows)}, of train + validation + test rows: {', '.join(rows)}; lockbox: {locked}",
        ]
    return "A whole run can begin.\n" + "\n".join(lines)
