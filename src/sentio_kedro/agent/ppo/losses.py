"""The terms of the objective, each a pure function."""

from __future__ import annotations

import torch
from torch import Tensor

from sentio_kedro.config import DivergenceParameters

KAPPA = 0.02  # width of the Huber loss, in units of the critic's output
NEAR = 1.5  # a divergence within this factor of its target leaves the coefficient as it is


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
    tau = quantile_levels(predicted.shape[-1], error)  # at least as precise as the target
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


def critic_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Loss of a critic: squared error of a single output, or quantile regression of quantiles.

    Args:
        predicted: ``[..., Q]``.
        target: ``[...]``.

    Returns:
        ``[...]`` losses.
    """
    if predicted.shape[-1] == 1:
        return (target - predicted[..., 0]).square()
    return quantile_huber(predicted, target, KAPPA)


def adapted_coefficient(coefficient: Tensor, divergence: Tensor, parameters: DivergenceParameters) -> Tensor:
    """Adapt the coefficient of the divergence penalty (Schulman et al., arXiv 1707.06347, section 4).

    Args:
        coefficient: 0-d, as in the last update; 0 is off and stays 0.
        divergence: 0-d, after that update, nats.
        parameters: Target, factor and bounds.

    Returns:
        0-d coefficient for the next update.
    """
    raised = torch.where(divergence > NEAR * parameters.target, coefficient * parameters.change, coefficient)
    lowered = torch.where(divergence < parameters.target / NEAR, raised / parameters.change, raised)
    return torch.where(
        coefficient > 0.0, lowered.clamp(parameters.min_coefficient, parameters.max_coefficient), coefficient
    )


def tail_of(outcomes: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Value at risk and conditional value at risk of equally likely outcomes.

    CVaR = max over v of v - E[(v - G)+] / alpha (Rockafellar and Uryasev, Journal of Risk, 2000, theorem 1, for gains);
    the maximum is at the alpha-quantile.

    Args:
        outcomes: ``[n]``.
        alpha: Tail probability in (0, 1].

    Returns:
        The quantile v and the CVaR, both 0-d; the CVaR is never above the mean.
    """
    ranked = outcomes.sort().values
    place = max(0, -(-round(alpha * len(ranked) * 1e6) // 1_000_000) - 1)  # the outcome that straddles alpha
    threshold = ranked[place]
    return threshold, threshold - (threshold - outcomes).clamp_min(0.0).mean() / alpha
