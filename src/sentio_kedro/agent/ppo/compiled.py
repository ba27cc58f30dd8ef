"""The step of a rollout and the losses of a minibatch, eager or compiled.

What changes from update to update reaches these functions in tensors (coefficients of the objective) or not at all (the
learning rate, which only the optimiser reads), so that no graph can freeze it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import cache
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor

from sentio_kedro.agent.ppo.update import UpdateReport
from sentio_kedro.config import TrainingParameters
from sentio_kedro.trading.simulate import Advance, advance

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
PAYS_FROM = 20_000_000  # environment steps per member that a compilation on a CPU is paid back by

Loss = Callable[..., tuple[Tensor, UpdateReport]]


class Compiled(Generic[P, R]):
    """Calls a function compiled by ``torch.compile``.

    The first call compiles, which takes a minute or so on a CPU and needs a C++ compiler there; so do calls with
    tensors of other shapes. Where compilation fails, a warning says why and calls are eager from then on. Compiled
    results equal eager ones up to rounding. Numbers that change from call to call must come as tensors: others are
    compiled in as constants.

    Attributes:
        eager: The function that was wrapped.
        works: False once compilation has failed.
    """

    def __init__(self, eager: Callable[P, R], name: str, mode: str | None = None) -> None:
        """Wrap a function; nothing is compiled yet.

        Args:
            eager: The function, pure.
            name: Name in the warning.
            mode: Of ``torch.compile``; ``reduce-overhead`` captures CUDA graphs.
        """
        self.eager, self.name, self.works = eager, name, True
        self._compiled: Callable[P, R] = torch.compile(eager, dynamic=False, fullgraph=True, mode=mode)

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        """Call the function."""
        if self.works:
            try:
                return self.attempt(*arguments, **named)
            except Exception as error:
                self.works = False
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                logger.warning("%s could not be compiled and runs eagerly: %s", self.name, reason)
        return self.eager(*arguments, **named)

    def attempt(self, *arguments: P.args, **named: P.kwargs) -> R:
        """Call the compiled function; whatever it raises ends its use."""
        return self._compiled(*arguments, **named)


class CompiledStep(Compiled[Any, Any]):
    """Takes steps compiled by ``torch.compile``, several times as fast as ``simulate.advance``, which it wraps."""

    def __init__(self) -> None:
        """Wrap the step."""
        super().__init__(advance, "The step")


class CompiledLoss(Compiled[Any, tuple[Tensor, UpdateReport]]):
    """A compiled loss of its first argument: a network, or the weights of many. On a GPU it is captured on request."""

    def __init__(self, eager: Loss, *, graphs: bool) -> None:
        """Wrap a loss; ``graphs`` captures it, forward and backward, in CUDA graphs."""
        super().__init__(eager, "The loss", "reduce-overhead" if graphs else None)
        self.graphs, self._proved = graphs, False

    def attempt(self, *arguments: Any, **named: Any) -> tuple[Tensor, UpdateReport]:
        """Call the compiled loss; its first gradient is tried as well, which is compiled apart from the loss."""
        if torch.is_grad_enabled() and not self._proved:
            first = arguments[0]
            weights = [x for x in ([first] if isinstance(first, Tensor) else first.parameters()) if x.requires_grad]
            torch.autograd.grad(super().attempt(*arguments, **named)[0].sum(), weights, allow_unused=True)
            self._proved = True
        if not self.graphs:
            return super().attempt(*arguments, **named)
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # what earlier replays left in the graphs' memory is not read again
        loss, report = super().attempt(*arguments, **named)
        return loss, UpdateReport(*(term.clone() for term in report))  # reports outlive the next replay


def shared_step(training: TrainingParameters, device: torch.device | None) -> Advance:
    """Step of a rollout: the compiled one of this process where ``training.compile`` asks for it, else ``advance``."""
    return _compiled_step() if compiles(training, device) else advance


def shared_loss(eager: Loss, training: TrainingParameters, device: torch.device | None) -> Loss:
    """Likewise for a loss; it compiles once for each shape however many members train."""
    if device is None or not compiles(training, device):
        return eager
    return _compiled_loss(eager, graphs=_captures(training, device))


def stacked_loss(eager: Loss, training: TrainingParameters, device: torch.device) -> Loss:
    """Likewise for the loss of the weights ``[M, N]`` of a stack; each stack compiles its own."""
    return CompiledLoss(eager, graphs=_captures(training, device)) if compiles(training, device) else eager


_compiled_step = cache(CompiledStep)
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
