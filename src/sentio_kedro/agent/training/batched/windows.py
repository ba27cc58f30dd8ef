"""Windows of many members, drawn ahead on the CPU and stacked. M counts members."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.training.batched.batching import leaves, stack_members, with_leaves
from sentio_kedro.agent.training.lifecycle import MemberRun
from sentio_kedro.agent.training.member import PATH_STREAM, MemberKey
from sentio_kedro.agent.training.schedules import count_updates
from sentio_kedro.config import AgentParameters

NEUTRAL: dict[str, float | bool] = {"split": 1.0, "dividend": 0.0, "funding": 0.0, "delisted": False}
"""Optional fields of the step data, with the values that change no result."""


class PathQueue:
    """Draws every member's next windows in threads while the network learns from the present ones.

    Windows do not depend on weights, and each draw has a seed of its own: when it is made does not matter.
    """

    def __init__(self, member_runs: Sequence[MemberRun], parameters: AgentParameters) -> None:
        """Prepare the members' samplers."""
        self._seed, self._updates = parameters.training.seed, count_updates(parameters)
        self._samplers = {run.key: run.sampler(parameters, torch.device("cpu")) for run in member_runs}
        self._drawn: dict[MemberKey, Future[Windows]] = {}
        self._pool = ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), len(member_runs)), "paths")

    def close(self) -> None:
        """Stop drawing."""
        self._pool.shutdown(cancel_futures=True)

    def take(self, member_runs: Sequence[MemberRun], device: torch.device) -> Windows:
        """Return the windows of the next updates, stacked ``[M, ...]`` on ``device``, and start drawing those after."""
        places = [(member_run.key, member_run.member.updates_done) for member_run in member_runs]
        futures = [self._drawn.pop(key) if key in self._drawn else self._draw(key, update) for key, update in places]
        windows = stack_windows([future.result() for future in futures])
        self._drawn |= {key: self._draw(key, update + 1) for key, update in places if update + 1 < self._updates}
        return with_leaves(windows, (x.to(device, non_blocking=True) for x in leaves(windows)))

    def _draw(self, key: MemberKey, update: int) -> Future[Windows]:
        rng = np.random.default_rng(key.stream(self._seed, PATH_STREAM, update))
        return self._pool.submit(self._samplers[key].draw, rng)


def stack_windows(windows: Sequence[Windows]) -> Windows:
    """Stack windows of different markets ``[M, ...]``; neutral values fill facts that only some of them have."""
    filled = list(windows)
    for name, neutral in NEUTRAL.items():
        present = [getattr(one.step_data, name) is not None for one in filled]
        if any(present) and not all(present):
            filled = [one if has else _with_fact(one, name, neutral) for one, has in zip(filled, present, strict=True)]
    return stack_members(filled)


def _with_fact(windows: Windows, name: str, neutral: float | bool) -> Windows:
    fact: dict[str, Any] = {
        name: torch.full_like(windows.step_data.close, neutral, dtype=torch.bool if neutral is False else None)
    }
    return windows._replace(step_data=windows.step_data._replace(**fact))
