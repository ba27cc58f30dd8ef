"""A compiled step: the same function as the eager one, wrapped, with the eager one to fall back on."""

from __future__ import annotations

import logging

import torch

from sentio_kedro.trading.accounts import AccountState
from sentio_kedro.trading.simulate import Advance, Moment, StepArguments, advance

logger = logging.getLogger(__name__)


class CompiledStep:
    """Takes steps compiled by ``torch.compile``.

    The first step of a walk compiles, which takes a minute or so on a CPU and needs a C++ compiler there; later steps
    are several times as fast as eager ones. Where compilation fails, a warning says why and steps are eager from then
    on. Compiled results equal eager ones up to rounding.

    Attributes:
        works: False once compilation has failed.
    """

    def __init__(self) -> None:
        """Wrap the step; nothing is compiled yet."""
        self.works = True
        self._step: Advance = torch.compile(advance, dynamic=False, fullgraph=True)

    def __call__(self, *arguments: *StepArguments) -> tuple[AccountState, Moment]:
        """Take one step as ``simulate.advance`` does."""
        if self.works:
            try:
                return self._step(*arguments)
            except Exception as error:
                self.works = False
                logger.warning("The step could not be compiled and runs eagerly: %s", str(error).splitlines()[0])
        return advance(*arguments)
