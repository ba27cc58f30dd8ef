"""Trust region around the policy that collected the experience: steps beyond it are undone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sentio_kedro.config import DivergenceParameters

Loss = Callable[[Tensor], tuple[Tensor, Any]]


class TrustRegion:
    """Trust region of one update; off where ``max_kl`` is null.

    The divergence of the weights after a step is known at the next minibatch, before its own step. If it lies beyond
    the region, the step is halved until it does not (backtracking line search, as in Schulman et al., arXiv 1502.05477,
    appendix C) or, failing that, undone with the optimiser's moments, and the update ends.
    """

    def __init__(self, network: nn.Module, optimiser: torch.optim.Optimizer, parameters: DivergenceParameters) -> None:
        """Watch ``network`` and its optimiser."""
        self.network, self.optimiser, self.parameters = network, optimiser, parameters
        self._weights: list[Tensor] = []
        self._moments: list[dict[str, Any]] = []

    def remember(self) -> None:
        """Keep weights and moments as they are before a step."""
        if self.parameters.max_kl is None:
            return
        present = list(self.network.parameters())
        self._weights = [weight.detach().clone() for weight in present]
        self._moments = [
            {name: x.clone() if isinstance(x, Tensor) else x for name, x in self.optimiser.state[weight].items()}
            for weight in present
        ]

    def exceeded(self, divergence: Tensor, index: Tensor, loss_of: Loss) -> bool:
        """Return whether the last step led beyond the region, and undo it, wholly or in part, if so.

        Args:
            divergence: 0-d, of the present weights on the windows ``index``, nats.
            index: ``[w]`` windows that halved steps are evaluated on.
            loss_of: Loss and report of windows.
        """
        limit = self.parameters.max_kl
        if limit is None or not self._weights or float(divergence) <= limit:
            return False
        self._undo(index, loss_of, limit)
        return True

    @torch.no_grad()
    def close(self, parts: Sequence[Tensor], loss_of: Loss) -> Tensor | None:
        """Check the last step of an update on all windows, part by part.

        Returns:
            The divergence after the update, 0-d; None where nothing depends on it.
        """
        if self.parameters.max_kl is None and not self.parameters.coefficient:
            return None
        divergence = torch.stack([loss_of(part)[1].kl for part in parts]).mean()
        self.exceeded(divergence, parts[0], loss_of)
        return divergence

    @torch.no_grad()
    def _undo(self, index: Tensor, loss_of: Loss, limit: float) -> None:
        present = list(self.network.parameters())
        for _ in range(self.parameters.halvings):
            for weight, before in zip(present, self._weights, strict=True):
                weight.lerp_(before, 0.5)
            if float(loss_of(index)[1].kl) <= limit:
                return
        for weight, before, moments in zip(present, self._weights, self._moments, strict=True):
            weight.copy_(before)
            self.optimiser.state[weight] = moments
