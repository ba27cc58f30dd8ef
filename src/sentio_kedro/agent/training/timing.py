"""How long the phases of an update take, and how much memory was in use at most."""

from __future__ import annotations

import resource
import time

import torch

GIGABYTE = 1024.0**3


class Phases:
    """Times phases that follow each other; waits for a GPU at each end, so that its time counts where it belongs."""

    def __init__(self, device: torch.device) -> None:
        """Start the first phase."""
        self._device = device
        self._seconds: dict[str, float] = {}
        self._began = self._now()

    def end(self, phase: str) -> None:
        """End the phase that runs and start the next."""
        now = self._now()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._began
        self._began = now

    def row(self, shared_by: int = 1) -> dict[str, float]:
        """Seconds by phase (``seconds_<phase>``), and the most memory so far: of the GPU, else of the process.

        Args:
            shared_by: Members that the phases served; the seconds are each one's share.
        """
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._device) / GIGABYTE
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0 / GIGABYTE
        shares = {f"seconds_{name}": seconds / shared_by for name, seconds in self._seconds.items()}
        return shares | {"peak_gigabytes": peak}

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
