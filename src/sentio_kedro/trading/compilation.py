"""A compiled function: the same as the eager one, wrapped, with the eager one to fall back on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

import torch

from sentio_kedro.trading.simulate import advance

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


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
            name: What the warning calls it.
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
