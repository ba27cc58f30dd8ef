"""Masked categorical distributions over actions, as functions of logits."""

from __future__ import annotations

import torch
from torch import Tensor

ILLEGAL = -1e9  # logit of an illegal action: finite, so that products with probability 0 stay 0 in float32


def masked_log_probabilities(logits: Tensor, legal: Tensor) -> Tensor:
    """Normalise logits over legal actions.

    Args:
        logits: ``[..., actions]``, any floating type; the result is float32 or wider.
        legal: ``[..., actions]`` bool, at least one true per row.

    Returns:
        ``[..., actions]`` log probabilities; about ``ILLEGAL`` where illegal, with no gradient to those logits.
    """
    return normalised(masked_logits(logits, legal))


def masked_logits(logits: Tensor, legal: Tensor) -> Tensor:
    """Put ``ILLEGAL`` where an action is not legal; float32 or wider."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return torch.where(legal, wide, ILLEGAL)


def normalised(logits: Tensor) -> Tensor:
    """Log probabilities of logits over the last dimension: log_softmax, which wakes all threads for a few numbers."""
    shifted = logits - logits.amax(-1, keepdim=True).detach()
    return shifted - shifted.exp().sum(-1, keepdim=True).log()


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw standard Gumbel noise of ``shape`` on the device and dtype of ``like``."""
    uniform = torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)
    return -torch.log((-torch.log(uniform.clamp_min(1e-20))).clamp_min(1e-20))


def entropy(log_probabilities: Tensor) -> Tensor:
    """Entropy in nats ``[...]`` of ``log_probabilities`` ``[..., actions]``; illegal actions add nothing."""
    return -(log_probabilities.exp() * log_probabilities).sum(-1)


def divergence(old: Tensor, new: Tensor) -> Tensor:
    """Exact Kullback-Leibler divergence of two masked categoricals with the same legal actions.

    Args:
        old: ``[..., actions]`` log probabilities that the expectation is taken under.
        new: ``[..., actions]`` log probabilities.

    Returns:
        ``[...]`` nats, not negative.
    """
    return (old.exp() * (old - new)).sum(-1)
