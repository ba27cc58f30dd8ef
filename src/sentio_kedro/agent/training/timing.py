"""Seconds of the phases of an update, and peak memory."""

from __future__ import annotations

import resource
import time

import torch

GIGABYTE = 1024.0**3


class Phases:
    """Times consecutive phases; waits for a GPU at the end of each."""

    def __init__(self, device: torch.device) -> None:
        """Start the first phase."""
        self._device = device
        self._seconds: dict[str, float] = {}
        self._began = self._now()

    def end(self, phase: str) -> None:
        """End the current phase and start the next."""
        now = self._now()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._began
        self._began = now

    def row(self) -> dict[str, float]:
        """Return ``seconds_<phase>``, and peak memory of the GPU or process."""
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._device) / GIGABYTE
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0 / GIGABYTE
        return {f"seconds_{name}": seconds for name, seconds in self._seconds.items()} | {"peak_gigabytes": peak}

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
