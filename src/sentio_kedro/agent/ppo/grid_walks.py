"""Greedy accounts on the position grid, and the log return of the episode after each action."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.ppo.constraints import log_growth
from sentio_kedro.agent.ppo.position_grid import PositionGrid


class GreedySimulation(NamedTuple):
    """Accounts that take the likeliest actions, one from each position: the policy that is traded after training.

    Attributes:
        factor: ``[S, W, 1]`` share of their positions that the joint limits leave, mean over the accounts.
        earned: ``[S + 1, W, P]`` log return of each account before each decision and at the end.
        ahead: ``[S + 1, W, P, A]`` profit of each position from a decision to the window's end, fraction of equity.
    """

    factor: Tensor
    earned: Tensor
    ahead: Tensor


def simulate_greedy(log_probabilities: Tensor, windows: Windows, grid: PositionGrid) -> GreedySimulation:
    """Follow the likeliest actions from every position."""
    likeliest = log_probabilities.argmax(-1)
    after = grid.after(likeliest)
    profit = grid.rewards.gather(-1, likeliest[..., None])[..., 0] * windows.unit  # fraction of equity
    at = torch.arange(profit.shape[2], device=profit.device)[None, :, None].expand(profit.shape[1:])
    earned, factors = [torch.zeros_like(profit[0, ..., 0])], []
    for step in range(len(profit)):
        gained = profit[step].gather(1, at).sum(-1)
        at = after[step].gather(1, at)
        factors.append(grid.joint_factor(grid.position[step + 1].gather(1, at)))
        earned.append(earned[-1] + log_growth(factors[-1] * gained))
    factor = torch.stack(factors).mean(-1, keepdim=True)
    ahead, following = torch.zeros_like(grid.position), torch.zeros_like(profit[0])
    for step in range(len(profit) - 1, -1, -1):
        following = profit[step] * factor[step][..., None] + following.gather(1, after[step])
        ahead[step] = following
    return GreedySimulation(factor, torch.stack(earned), ahead)


def outcomes_of_actions(simulation: GreedySimulation, windows: Windows, grid: PositionGrid) -> Tensor:
    """Log return of the episode after each action ``[S, W, P, A, B]``, the likeliest actions taken from then on.

    It follows from the path; no critic is used. Approximations: a position after an action is the nearest one of the
    grid; before the decision the account has earned what the
    one simulated from the same replica had, wherever that stands now; joint limits bind as they do for these accounts
    on average; later profits are added up without compounding.
    """
    others = simulation.ahead[:-1].sum(-1, keepdim=True) - simulation.ahead[:-1]
    outcomes = []
    for action in range(grid.rewards.shape[-1]):
        after = grid.after(torch.full(others.shape, action, device=others.device))
        gained = grid.rewards[..., action] * windows.unit * simulation.factor[..., None]
        outcomes.append(simulation.earned[:-1, ..., None] + others + gained + simulation.ahead[1:].gather(2, after))
    return torch.stack(outcomes, dim=-1)
