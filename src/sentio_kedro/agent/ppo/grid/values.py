"""Action values on the position grid, by backward recursion of exact expectations."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.network.distributions import masked_log_probabilities, normalised
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.constraints import TailFound, TailState
from sentio_kedro.agent.ppo.grid.positions import PositionGrid
from sentio_kedro.agent.ppo.grid.walks import find_price
from sentio_kedro.agent.ppo.update import value_scale
from sentio_kedro.config import TrainingParameters


class GridTargets(NamedTuple):
    """Targets of an update from all actions.

    Attributes:
        log_probabilities: ``[S, W, P, A, B]`` of the policy before the update.
        advantages: ``[S, W, P, A, B]``, mean 0 under that policy.
        returns: ``[S, W, P, A]`` values, in units of the critic.
        tail: What the greedy accounts of the windows say about the price of risk; None without a limit.
    """

    log_probabilities: Tensor
    advantages: Tensor
    returns: Tensor
    tail: TailFound | None = None


@torch.no_grad()
def evaluate_grid(
    network: PolicyNetwork,
    windows: Windows,
    grid: PositionGrid,
    parameters: TrainingParameters,
    tail: TailState | None = None,
) -> GridTargets:
    """Value every position and action under the present policy, backwards along each window.

    ``V_t(p) = sum over b of pi_t(b | p) Q_t(p, b)`` with ``Q_t(p, b) = r_t(p, b) + gamma V_{t+1}(p after b)``
    (Sutton and Barto, Reinforcement Learning, 2018, equations 3.14 and 4.6), interpolated between the positions of the
    grid; the critic stands for V behind the end.

    With a limit on the tail, risk is valued in the same way: what each step adds to the shortfall, and behind the end
    what the critic's quantiles of later profit add. Advantages are those of profit less the price times those of risk.

    Args:
        network: The member.
        windows: W windows.
        grid: Positions on them.
        parameters: Discount, greedy exponent, constraint on the tail.
        tail: Price of risk and episodes before; None without a limit.
    """
    gamma, embedding = parameters.gamma, windows.embedded(network.encoder)
    hidden = network.head.hidden(network.head.project(embedding, windows.posterior), grid.account)
    logits = network.head.logits(hidden[:-1], windows.posterior[:-1])
    log_probabilities = masked_log_probabilities(logits, network.head.permitted(grid.legal))
    behind = network.head.value(hidden[-1]) * value_scale(gamma)  # [W, P, A]
    probabilities = log_probabilities.exp()
    following = normalised(log_probabilities * parameters.greedy_exponent)  # [S, W, P, A, B]
    values, advantages = _expectations(grid.rewards, following.exp(), behind, grid, gamma)
    advantages = advantages - (probabilities * advantages).sum(-1, keepdim=True)
    found = None
    if tail is not None:
        risk = _risk(
            network.head.quantiles(hidden[-1]) * value_scale(gamma), following.exp(), windows, grid, tail, parameters
        )
        risk = risk - (probabilities * risk).sum(-1, keepdim=True)
        found = find_price(log_probabilities, risk, windows, grid, parameters, tail)
        advantages = advantages - tail.price * risk
    return GridTargets(log_probabilities, advantages, values / value_scale(gamma), found)


def _risk(
    quantiles: Tensor,
    probabilities: Tensor,
    windows: Windows,
    grid: PositionGrid,
    tail: TailState,
    parameters: TrainingParameters,
) -> Tensor:
    """Risk that each action adds ``[S, W, P, A, B]``, in units of reward.

    Args:
        quantiles: ``[W, P, A, Q]`` of the profit behind the windows' ends, units of reward.
        probabilities: ``[S, W, P, A, B]`` of later actions.
        windows: W windows.
        grid: Positions on them.
        tail: Episodes before.
        parameters: Limit and discount.
    """
    unit, last = windows.unit[..., None], windows.unit[-1]
    costs = tail.shortfall_added(grid.rewards * unit, parameters.tail) / unit
    behind = tail.shortfall_added(quantiles * last[..., None], parameters.tail).mean(-1) / last
    return _expectations(costs, probabilities, behind, grid, parameters.gamma)[1]


def _expectations(
    rewards: Tensor, probabilities: Tensor, value: Tensor, grid: PositionGrid, gamma: float
) -> tuple[Tensor, Tensor]:
    """Values ``[S, W, P, A]`` and advantages ``[S, W, P, A, B]``."""
    advantages, values = torch.empty_like(rewards), torch.empty_like(rewards[..., 0])
    for step in range(rewards.shape[0] - 1, -1, -1):
        quality = rewards[step] + gamma * grid.following(value, step)
        value = (probabilities[step] * quality).sum(-1)
        values[step] = value
        advantages[step] = quality - value[..., None]
    return values, advantages
