"""The losses of a minibatch, eager or compiled.

What changes from update to update reaches these functions in tensors (coefficients of the objective) or not at all (the
learning rate, which only the optimiser reads), so that no graph can freeze it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from sentio_kedro.agent.ppo.update import UpdateReport
from sentio_kedro.config import TrainingParameters

logger = logging.getLogger(__name__)

PAYS_FROM = 20_000_000  # environment steps per member that a compilation on a CPU is paid back by

Loss = Callable[..., tuple[Tensor, UpdateReport]]


class CompiledLoss:
    """Calls a loss of a network compiled by ``torch.compile``, on a GPU captured in CUDA graphs on request.

    The first call compiles, which takes a minute or so on a CPU and needs a C++ compiler there; so do calls with
    tensors of other shapes. Where compilation fails, a warning says why and calls are eager from then on. Compiled
    results equal eager ones up to rounding. Numbers that change from call to call must come as tensors: others are
    compiled in as constants.

    Attributes:
        eager: The loss that was wrapped.
        graphs: Whether forward and backward are captured in CUDA graphs.
        works: False once compilation has failed.
    """

    def __init__(self, eager: Loss, *, graphs: bool) -> None:
        """Wrap a pure loss whose first argument is a network; nothing is compiled yet."""
        self.eager, self.graphs, self.works, self._proved = eager, graphs, True, False
        mode = "reduce-overhead" if graphs else None
        self._compiled: Loss = torch.compile(eager, dynamic=False, fullgraph=True, mode=mode)

    def __call__(self, network: nn.Module, *arguments: Any) -> tuple[Tensor, UpdateReport]:
        """Loss and report."""
        if self.works:
            try:
                return self._attempt(network, *arguments)
            except Exception as error:
                self.works = False
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                logger.warning("The loss could not be compiled and runs eagerly: %s", reason)
        return self.eager(network, *arguments)

    def _attempt(self, network: nn.Module, *arguments: Any) -> tuple[Tensor, UpdateReport]:
        """Call the compiled loss; its first gradient is tried as well, which is compiled apart from the loss."""
        if torch.is_grad_enabled() and not self._proved:
            weights = [weight for weight in network.parameters() if weight.requires_grad]
            torch.autograd.grad(self._compiled(network, *arguments)[0], weights, allow_unused=True)
            self._proved = True
        if not self.graphs:
            return self._compiled(network, *arguments)
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # what earlier replays left in the graphs' memory is not read again
        loss, report = self._compiled(network, *arguments)
        return loss, UpdateReport(*(term.clone() for term in report))  # reports outlive the next replay


def shared_loss(eager: Loss, training: TrainingParameters, device: torch.device | None) -> Loss:
    """Loss of all members: a compiled one where ``training.compile`` asks for it; it compiles once for each shape."""
    if device is None or not compiles(training, device):
        return eager
    return _compiled_loss(eager, graphs=_captures(training, device))


_compiled_loss = cache(CompiledLoss)


def compiles(training: TrainingParameters, device: torch.device | None) -> bool:
    """Return whether ``training.compile`` asks for compiled functions on ``device``; never without one."""
    if device is None:
        return False
    least = {"never": math.inf, "auto": 0 if device.type == "cuda" else PAYS_FROM, "always": 0}[training.compile]
    return training.total_steps >= least


def _captures(training: TrainingParameters, device: torch.device) -> bool:
    """Return whether compiled losses are captured in CUDA graphs.

    A minibatch in parts adds up gradients in place, which the memory of a CUDA graph does not outlive: with
    ``training.accumulation`` above 1 nothing is captured.
    """
    return device.type == "cuda" and training.accumulation == 1
