"""Shapes of the reward. Each is a function of what was earned alone; none pays for trading."""

from __future__ import annotations

import torch
from torch import Tensor

from sentio_kedro.config import RewardParameters

MIN_VARIANCE = 1e-4  # of the moving moments, in squared units of reward


def loss_averse(rewards: Tensor, aversion: float) -> Tensor:
    """Let losses count ``1 + aversion`` times (Tversky and Kahneman, 1992, with a straight value function)."""
    return rewards - aversion * (-rewards).clamp_min(0.0)


def differential_sharpe(rewards: Tensor, memory_bars: float) -> Tensor:
    """Change of an exponentially weighted Sharpe ratio with each reward (Moody et al., 1998, equation 8).

    D = (B dA - A dB / 2) / (B - A^2)^(3/2) with moving first and second moments A and B. They start at 0 and 1: what an
    account that is always invested and earns nothing has, since rewards are in units of one bar's volatility.

    Args:
        rewards: ``[S, ..., A]`` net profits in units of one bar's volatility.
        memory_bars: Bars that the moments remember, above 1.
    """
    first, second = torch.zeros_like(rewards[0]), torch.ones_like(rewards[0])
    shaped = torch.empty_like(rewards)
    for step in range(rewards.shape[0]):
        change, change_of_square = rewards[step] - first, rewards[step].square() - second
        variance = (second - first.square()).clamp_min(MIN_VARIANCE)
        shaped[step] = (second * change - 0.5 * first * change_of_square) / variance**1.5
        first, second = first + change / memory_bars, second + change_of_square / memory_bars
    return shaped


def shaped_rewards(rewards: Tensor, parameters: RewardParameters) -> Tensor:
    """Shape rewards ``[S, ...]`` in units of one bar's volatility of a full position."""
    if parameters.shape == "downside":
        return loss_averse(rewards, parameters.loss_aversion)
    if parameters.shape == "differential_sharpe":
        return differential_sharpe(rewards, parameters.memory_bars)
    return rewards
