"""Trust region around the policy that collected the experience: a line search along each update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sentio_kedro.config import TrainingParameters

Evaluation = Sequence[tuple[Tensor, Any]]
"""Losses of equal parts of the windows, with their terms, which name ``kl`` and ``value_loss``."""


class TrustRegion:
    """Trust region of one update; off where ``max_kl`` is null.

    All steps of the optimiser in an update are one step. It is accepted if, on all windows, the divergence lies within
    the region and the policy's part of the loss is not worse than before. Else it is halved until both hold
    (backtracking line search, as in Schulman et al., arXiv 1502.05477, appendix C) or, failing that, undone with the
    optimiser's moments. Single steps are not judged: where rewards are mostly noise, a step along the mean of many
    gradients often worsens the loss of its own minibatch.
    """

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        parameters: TrainingParameters,
        evaluate: Callable[[], Evaluation],
    ) -> None:
        """Keep weights, moments and loss as they are before the update.

        Args:
            network: The member.
            optimiser: Over its weights.
            parameters: Region, and the critic's coefficient.
            evaluate: Loss of all windows under the present weights.
        """
        self.network, self.optimiser, self.parameters, self.evaluate = network, optimiser, parameters, evaluate
        if parameters.divergence.max_kl is None:
            return
        present = list(network.parameters())
        self._weights = [weight.detach().clone() for weight in present]
        self._moments = [
            {name: x.clone() if isinstance(x, Tensor) else x for name, x in optimiser.state[weight].items()}
            for weight in present
        ]
        with torch.no_grad():
            self._before = self._surrogate(evaluate())

    @torch.no_grad()
    def close(self) -> Tensor | None:
        """Judge the update, and undo it, wholly or in part, if it is not accepted.

        Returns:
            The divergence that the whole update led to, 0-d, nats; None where nothing depends on it.
        """
        region = self.parameters.divergence
        if region.max_kl is None and not region.coefficient:
            return None
        after = self.evaluate()
        if region.max_kl is not None and not self._accepts(after, region.max_kl):
            self._shorten(region.max_kl)
        return _divergence(after)

    def _accepts(self, after: Evaluation, limit: float) -> bool:
        return bool((_divergence(after) <= limit) & (self._surrogate(after) <= self._before))

    def _surrogate(self, found: Evaluation) -> Tensor:
        """The loss without the critic's part: clipped surrogate, entropy bonus, divergence penalty."""
        return torch.stack([loss - self.parameters.value * terms.value_loss for loss, terms in found]).mean()

    def _shorten(self, limit: float) -> None:
        present = list(self.network.parameters())
        for _ in range(self.parameters.divergence.halvings):
            for weight, before in zip(present, self._weights, strict=True):
                weight.lerp_(before, 0.5)
            if self._accepts(self.evaluate(), limit):
                return
        for weight, before, moments in zip(present, self._weights, self._moments, strict=True):
            weight.copy_(before)
            self.optimiser.state[weight] = moments


def _divergence(found: Evaluation) -> Tensor:
    return torch.stack([terms.kl for _, terms in found]).mean()
