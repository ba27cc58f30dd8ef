"""Advantages and returns along episodes that are cut, never ended, at the last step of a window."""

from __future__ import annotations

import torch
from torch import Tensor


def generalised_advantages(
    rewards: Tensor, values: Tensor, bootstrap: Tensor, alive: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """Generalised advantage estimation (Schulman et al., arXiv 1506.02438, equation 16).

    A window's end is a truncation: it bootstraps from the value of the state after the last step. The death of an
    account is a termination: its return ends there.

    Args:
        rewards: ``[S, ..., A]``.
        values: ``[S, ..., A]`` values of the states at the decisions.
        bootstrap: ``[..., A]`` values of the state after the last step.
        alive: ``[S, ..., A]`` 1 where the account lives on after the step, 0 where it died.
        gamma: Discount per bar.
        gae_lambda: Mixing of step counts.

    Returns:
        ``[S, ..., A]`` advantages.
    """
    advantages = torch.empty_like(rewards)
    following, value_after = torch.zeros_like(bootstrap), bootstrap
    for step in range(rewards.shape[0] - 1, -1, -1):
        delta = rewards[step] + gamma * alive[step] * value_after - values[step]
        following = delta + gamma * gae_lambda * alive[step] * following
        advantages[step] = following
        value_after = values[step]
    return advantages


def sampled_returns(rewards: Tensor, drawn: Tensor, stops: Tensor, alive: Tensor, gamma: float) -> Tensor:
    """Draw one return of each state from the lambda-return *distribution*.

    The bootstrap horizon is geometric: at every step the sum stops with probability 1 - lambda and a draw from the
    critic's distribution of the next state stands for the rest (a sample form of TD(lambda) for distributions, Nam et
    al., GMAC, arXiv 2105.11366).

    Args:
        rewards: ``[S, ..., A]``.
        drawn: ``[S, ..., A]`` draws from the critic's distribution of the states *after* each step, units of reward.
        stops: ``[S, ..., A]`` bool, whether the sum stops after the step; the last step always does.
        alive: ``[S, ..., A]`` 1 where the account lives on after the step.
        gamma: Discount per bar.

    Returns:
        ``[S, ..., A]`` returns in units of reward.
    """
    returns = torch.empty_like(rewards)
    following = drawn[-1]
    for step in range(rewards.shape[0] - 1, -1, -1):
        following = torch.where(stops[step], drawn[step], following)
        following = rewards[step] + gamma * alive[step] * following
        returns[step] = following
    return returns


def leave_one_out(advantages: Tensor, weights: Tensor, replica_dimension: int) -> Tensor:
    """Subtract the mean of the *other* replicas at the same bar.

    The price path does not depend on actions, so the others' advantages are an unbiased control variate (Mao et al.,
    Variance Reduction for Reinforcement Learning in Input-Driven Environments, ICLR 2019).

    Args:
        advantages: Advantages of all replicas.
        weights: Same shape, 1 where the replica counts (alive), else 0.
        replica_dimension: Dimension of the replicas.

    Returns:
        Advantages less the baseline; unchanged where no other replica counts.
    """
    weighted = advantages * weights
    total = weighted.sum(replica_dimension, keepdim=True)
    others = weights.sum(replica_dimension, keepdim=True) - weights
    return advantages - (total - weighted) / others.clamp_min(1.0)
