"""What positions and actions on the grid are worth: exact expectations, and what single accounts draw from them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.agent.distributions import gumbel_noise, masked_log_probabilities, sample_actions
from sentio_kedro.agent.networks import PolicyNetwork
from sentio_kedro.agent.rewards import shaped_rewards
from sentio_kedro.agent.rollout import Windows
from sentio_kedro.agent.tail import TailState, log_growth, shortfall_beyond
from sentio_kedro.agent.update import value_scale
from sentio_kedro.config import TrainingParameters


class PositionGrid(NamedTuple):
    """Accounts at every bar of W windows, one replica per level. B counts actions, P levels.

    Attributes:
        account: ``[S + 1, W, P, A, G]`` account features, the bar after the last decision included.
        legal: ``[S, W, P, A, B]``.
        rewards: ``[S, W, P, A, B]`` reward of each action, the other assets' positions held.
        shift: ``[W, 1, A]`` replica p holds level ``(p + shift) mod P`` of asset a.
        filled: ``[S, W, 1, A]`` whether an order can be filled at the next bar.
        position: ``[S + 1, W, P, A]`` position held, fraction of equity.
        limits: Most gross and most net exposure, fraction of equity.
    """

    account: Tensor
    legal: Tensor
    rewards: Tensor
    shift: Tensor
    filled: Tensor
    position: Tensor
    limits: tuple[float, float]

    def replica_of_level(self) -> Tensor:
        """Replica that holds each level ``[W, P, A]``."""
        size = self.rewards.shape[2]
        return (torch.arange(size, device=self.shift.device)[:, None] - self.shift) % size

    def after(self, action: Tensor) -> Tensor:
        """Replica that holds the position after ``action`` ``[S, W, P, A]``: its own after HOLD or a dropped order."""
        own = torch.arange(action.shape[2], device=action.device)[:, None].expand(action.shape)
        places = self.replica_of_level().expand(action.shape)
        moved = places.gather(2, (action - 1).clamp_min(0))
        return torch.where((action > 0) & self.filled, moved, own)

    def joint_factor(self, position: Tensor) -> Tensor:
        """Share of positions ``[..., A]`` that the joint limits leave of them ``[...]``; the grid's know none."""
        gross, net = self.limits
        size, sum_ = position.abs().sum(-1), position.sum(-1).abs()
        return torch.minimum(gross / size.clamp_min(gross), net / sum_.clamp_min(net))


class GridTargets(NamedTuple):
    """What an update learns from.

    Attributes:
        log_probabilities: ``[S, W, P, A, B]`` of the policy before the update.
        advantages: ``[S, W, P, A, B]``, mean 0 under that policy.
        returns: ``[S, W, P, A]`` values, or draws from their distribution, in units of the critic.
        outcomes: ``[W, P]`` log returns of greedy accounts that walked the windows; None without a limit on the tail.
    """

    log_probabilities: Tensor
    advantages: Tensor
    returns: Tensor
    outcomes: Tensor | None = None


class WalkDraws(NamedTuple):
    """What is random where the critic learns the distribution of returns, drawn before.

    Attributes:
        noise: ``[S, W, P, A, B]`` standard Gumbel noise of the actions.
        quantile: ``[W, P, A]`` which quantile of the critic stands behind a window's end.
    """

    noise: Tensor
    quantile: Tensor


def draw_walks(shape: tuple[int, ...], quantiles: int, generator: torch.Generator, like: Tensor) -> WalkDraws:
    """Draw walks over a grid whose rewards have ``shape`` ``[S, W, P, A, B]``, on the device and dtype of ``like``."""
    noise = gumbel_noise(shape, generator, like)
    return WalkDraws(noise, torch.randint(quantiles, shape[1:-1], generator=generator, device=like.device))


class Walk(NamedTuple):
    """Accounts that take the likeliest actions, one from each position: what is traded once training is over.

    Attributes:
        factor: ``[S, W, 1]`` share of their positions that the joint limits leave these accounts, mean over them.
        earned: ``[S + 1, W, P]`` its log return before each decision and at last.
        ahead: ``[S + 1, W, P, A]`` what each position earns from a decision to the window's end, fraction of equity.
    """

    factor: Tensor
    earned: Tensor
    ahead: Tensor


@torch.no_grad()
def evaluate_grid(
    network: PolicyNetwork,
    windows: Windows,
    grid: PositionGrid,
    parameters: TrainingParameters,
    draws: WalkDraws | None = None,
    price: TailState | None = None,
) -> GridTargets:
    """Value every position and action under the present policy, backwards along each window.

    ``V_t(p) = sum over b of pi_t(b | p) Q_t(p, b)`` with ``Q_t(p, b) = r_t(p, b) + gamma V_{t+1}(p after b)``
    (Sutton and Barto, Reinforcement Learning, 2018, equations 3.14 and 4.6); the critic stands for V behind the end.

    Args:
        network: The member.
        windows: W windows.
        grid: Positions on them.
        parameters: Discount, shape of the reward, what the critic learns.
        draws: The walks that ``critic_target: distribution`` needs.
        price: Price of the tail; None charges nothing.
    """
    steps, gamma = grid.rewards.shape[0], parameters.gamma
    embedding = network.encoder(windows.features, steps + 1, windows.dropout).transpose(0, 1)[:, :, None]
    hidden = network.head.hidden(network.head.project(embedding, windows.posterior), grid.account)
    logits = network.head.logits(hidden[:-1], windows.posterior[:-1])
    log_probabilities = masked_log_probabilities(logits, network.head.permitted(grid.legal))
    rewards = shaped_rewards(grid.rewards, parameters.reward)
    behind = network.head.value(hidden[-1]) * value_scale(gamma)  # [W, P, A]
    values, advantages = _expectations(rewards, log_probabilities.exp(), behind, grid, gamma)
    returns = values
    if parameters.critic_target == "distribution":
        if draws is None:
            raise ValueError("`draws` must be given for `critic_target: distribution`, was None.")
        quantiles = network.head.quantiles(hidden[-1]) * value_scale(gamma)  # [W, P, A, Q]
        returns = _sampled_returns(rewards, log_probabilities, quantiles, grid, gamma, draws)
    walk = None if parameters.tail.limit is None else _greedy_walk(log_probabilities, windows, grid)
    if walk is not None and price is not None:
        cost = shortfall_beyond(price.threshold, _outcomes_of_actions(walk, windows, grid))
        cost = cost - (log_probabilities.exp() * cost).sum(-1, keepdim=True)
        advantages = advantages - price.dual / parameters.tail.alpha * cost / windows.unit[..., None]
    outcomes = None if walk is None else walk.earned[-1]
    return GridTargets(log_probabilities, advantages, returns / value_scale(gamma), outcomes)


def _expectations(
    rewards: Tensor, probabilities: Tensor, value: Tensor, grid: PositionGrid, gamma: float
) -> tuple[Tensor, Tensor]:
    """Values ``[S, W, P, A]`` and advantages ``[S, W, P, A, B]``."""
    place = grid.replica_of_level()
    advantages, values = torch.empty_like(rewards), torch.empty_like(rewards[..., 0])
    for step in range(rewards.shape[0] - 1, -1, -1):
        moved = value.gather(1, place).transpose(1, 2)[:, None]  # [W, 1, A, levels]
        stayed = value[..., None]
        moved = torch.where(grid.filled[step][..., None], moved, stayed)  # a dropped order leaves the position
        quality = rewards[step] + gamma * torch.cat([stayed, moved.expand(*stayed.shape[:-1], -1)], dim=-1)
        value = (probabilities[step] * quality).sum(-1)
        values[step] = value
        advantages[step] = quality - value[..., None]
    return values, advantages


def _sampled_returns(
    rewards: Tensor,
    log_probabilities: Tensor,
    behind: Tensor,
    grid: PositionGrid,
    gamma: float,
    draws: WalkDraws,
) -> Tensor:
    """What an account that samples actions earns from each position on, discounted ``[S, W, P, A]``, units of reward.

    Behind the end stands a draw from the critic's distribution ``[W, P, A, Q]``.
    """
    action = sample_actions(log_probabilities, draws.noise)  # [S, W, P, A]
    taken, after = rewards.gather(-1, action[..., None])[..., 0], grid.after(action)
    following = behind.gather(-1, draws.quantile[..., None])[..., 0]
    returns = torch.empty_like(taken)
    for step in range(len(rewards) - 1, -1, -1):
        following = taken[step] + gamma * following.gather(1, after[step])
        returns[step] = following
    return returns


def _greedy_walk(log_probabilities: Tensor, windows: Windows, grid: PositionGrid) -> Walk:
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
    return Walk(factor, torch.stack(earned), ahead)


def _outcomes_of_actions(walk: Walk, windows: Windows, grid: PositionGrid) -> Tensor:
    """Log return of the episode after each action ``[S, W, P, A, B]``, the likeliest actions taken from then on.

    All of it follows from the path, so that no critic is asked. What is approximated: before the decision the account
    has earned what the one that walked from the same replica had, wherever that stands now; joint limits bind as they
    do for these accounts on average; what is still to come is added up without compounding.
    """
    others = walk.ahead[:-1].sum(-1, keepdim=True) - walk.ahead[:-1]
    outcomes = []
    for action in range(grid.rewards.shape[-1]):
        after = grid.after(torch.full(others.shape, action, device=others.device))
        gained = grid.rewards[..., action] * windows.unit * walk.factor[..., None]
        outcomes.append(walk.earned[:-1, ..., None] + others + gained + walk.ahead[1:].gather(2, after))
    return torch.stack(outcomes, dim=-1)
