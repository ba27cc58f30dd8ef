"""The terms of the objective, each a pure function."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_surrogate(log_ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Clipped surrogate of proximal policy optimisation (Schulman et al., arXiv 1707.06347, equation 7), negated.

    Args:
        log_ratio: ``[...]`` log probability of the action taken, new less old.
        advantages: ``[...]``.
        clip: Range of the ratio around 1.

    Returns:
        ``[...]`` losses to minimise.
    """
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages)


def quantile_levels(quantiles: int, like: Tensor) -> Tensor:
    """Midpoints ``(2 i + 1) / (2 Q)`` of Q equal probability bins."""
    return (torch.arange(quantiles, device=like.device, dtype=like.dtype) + 0.5) / quantiles


def quantile_huber(predicted: Tensor, target: Tensor, kappa: float) -> Tensor:
    """Quantile regression with the Huber loss (Dabney et al., arXiv 1710.10044, equation 10).

    Args:
        predicted: ``[..., Q]`` quantiles.
        target: ``[...]`` one sample of the return.
        kappa: Width of the quadratic part, small against the target's spread so that quantiles stay quantiles.

    Returns:
        ``[...]`` losses, averaged over quantiles.
    """
    error = target[..., None] - predicted
    size = error.abs()
    near = size.clamp_max(kappa)
    huber = near * (size - 0.5 * near)  # kappa times the loss: quadratic up to kappa, linear beyond
    tau = quantile_levels(predicted.shape[-1], predicted)
    half = tau.new_tensor(0.5)
    weight = torch.addcmul(half, error.detach().sign(), tau - half)  # tau above the quantile, 1 - tau below
    return (weight * huber).mean(-1) / kappa


def lower_tail_mean(quantiles: Tensor, alpha: float) -> Tensor:
    """Conditional value at risk of evenly spaced quantiles: the mean of the lowest share ``alpha``.

    Fractional weights: a bin that straddles ``alpha`` counts in part, so that no alpha gives an empty tail.

    Args:
        quantiles: ``[..., Q]`` in rising order.
        alpha: Tail probability in (0, 1].

    Returns:
        ``[...]`` never above the mean of all quantiles.
    """
    count = quantiles.shape[-1]
    edges = torch.arange(count, device=quantiles.device, dtype=quantiles.dtype)
    weights = (alpha * count - edges).clamp(0.0, 1.0)
    return (quantiles * weights).sum(-1) / weights.sum()
