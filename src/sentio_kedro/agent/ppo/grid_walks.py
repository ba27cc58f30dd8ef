"""Accounts on the grid that take the likeliest actions: where they go, and what episodes come of each action."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.ppo.constraints import EpisodeOutcomes, log_growth
from sentio_kedro.trading.performance import log_drawdown


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
        return self.factor_of(position.abs().sum(-1), position.sum(-1))

    def factor_of(self, gross: Tensor, net: Tensor) -> Tensor:
        """Share that the joint limits leave of positions with ``gross`` and ``net`` exposure ``[...]``."""
        max_gross, max_net = self.limits
        return torch.minimum(max_gross / gross.clamp_min(max_gross), max_net / net.abs().clamp_min(max_net))


class Walk(NamedTuple):
    """Accounts that take the likeliest actions, one from each position: what is traded once training is over.

    Attributes:
        factor: ``[S, W, 1]`` share of their positions that the joint limits leave these accounts, mean over them.
        earned: ``[S + 1, W, P]`` its log return before each decision and at last.
        ahead: ``[S + 1, W, P, A]`` what each position earns from a decision to the window's end, fraction of equity.
        profit: ``[S, W, P, A]`` what the likeliest action from each position earns at the next bar, fraction of equity.
        after: ``[S, W, P, A]`` replica that holds the position after it.
        at: ``[S, W, P, A]`` replica whose position each of these accounts holds before its decisions.
    """

    factor: Tensor
    earned: Tensor
    ahead: Tensor
    profit: Tensor
    after: Tensor
    at: Tensor

    def outcomes(self) -> EpisodeOutcomes:
        """Log return and maximum drawdown of each account ``[W, P]``; its equity at first counts as a peak."""
        return EpisodeOutcomes(self.earned[-1], log_drawdown(self.earned).amax(0))


def greedy_walk(log_probabilities: Tensor, windows: Windows, grid: PositionGrid) -> Walk:
    """Follow the likeliest actions from every position."""
    likeliest = log_probabilities.argmax(-1)
    after = grid.after(likeliest)
    profit = grid.rewards.gather(-1, likeliest[..., None])[..., 0] * windows.unit  # fraction of equity
    at = torch.arange(profit.shape[2], device=profit.device)[None, :, None].expand(profit.shape[1:])
    earned, factors, visited = [torch.zeros_like(profit[0, ..., 0])], [], []
    for step in range(len(profit)):
        visited.append(at)
        gained = profit[step].gather(1, at).sum(-1)
        at = after[step].gather(1, at)
        factors.append(grid.joint_factor(grid.position[step + 1].gather(1, at)))
        earned.append(earned[-1] + log_growth(factors[-1] * gained))
    factor = torch.stack(factors).mean(-1, keepdim=True)
    ahead, following = torch.zeros_like(grid.position), torch.zeros_like(profit[0])
    for step in range(len(profit) - 1, -1, -1):
        following = profit[step] * factor[step][..., None] + following.gather(1, after[step])
        ahead[step] = following
    return Walk(factor, torch.stack(earned), ahead, profit, after, torch.stack(visited))


def outcomes_of_actions(walk: Walk, windows: Windows, grid: PositionGrid) -> Tensor:
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


def drawdowns_of_actions(walk: Walk, windows: Windows, grid: PositionGrid) -> Tensor:
    """Maximum drawdown of the episode after each action ``[S, W, P, A, B]``, log of peak over trough.

    The account is the one that walked from the same replica: until the decision it did what it did, and its other
    assets go on as they did. The asset holds the replica's position, takes the action, and then the likeliest ones. So
    the whole path is known, joint limits and compounding included. It is followed backwards once, for every account
    and every position of the asset beside the others, so that the work grows with the bars and not with their square.

    With e the log equity at the decision, m its peak, and f the log equity from there on less e, the maximum drawdown
    is the largest of the one so far, m - e - min f, and the deepest inside f.
    """
    beside = _beside(walk, grid)
    below = log_drawdown(walk.earned)[..., None, None]
    so_far = below.cummax(0).values
    choices = torch.arange(grid.rewards.shape[-1], device=grid.shift.device)
    after = torch.stack([grid.after(choice.expand(walk.after.shape)) for choice in choices], dim=-1)  # [S, W, P, A, B]
    reached = grid.position[1:, ..., None].expand(after.shape).gather(2, after)
    gained = beside.growth(grid, grid.rewards * windows.unit[..., None], reached)
    ahead = grid.position[1:].gather(2, walk.after)  # [S, W, Q, A] position after the likeliest action from position q
    found = torch.empty_like(gained)
    low = deep = gained.new_zeros(*gained.shape[1:3], *ahead.shape[2:])  # [W, P, Q, A] min f, and the deepest inside f
    for step in range(len(gained) - 1, -1, -1):
        index = after[step].transpose(-1, -2)  # [W, P, B, A]
        trough = gained[step] + low.gather(2, index).transpose(-1, -2)
        inside = torch.maximum(deep.gather(2, index).transpose(-1, -2), below[step] - trough)
        found[step] = torch.maximum(inside, so_far[step])
        index = walk.after[step][:, None].expand_as(low)
        onward = beside.at(step).growth(grid, walk.profit[step][:, None], ahead[step][:, None])
        low = (onward + low.gather(2, index)).clamp_max(0.0)
        deep = torch.maximum(deep.gather(2, index), -low)
    return found


class _Beside(NamedTuple):
    """What the other assets of each walking account do, broadcastable over positions of the asset left out.

    Attributes:
        profit: ``[S, W, P, A, 1]`` what they earn at the next bar, fraction of equity.
        gross: ``[S, W, P, A, 1]`` their gross exposure after the decision.
        net: ``[S, W, P, A, 1]`` their net exposure.
    """

    profit: Tensor
    gross: Tensor
    net: Tensor

    def at(self, step: int) -> _Beside:
        """Those of one step ``[W, P, 1, A]``, beside positions of the asset."""
        return _Beside(*(part[step].transpose(-1, -2) for part in self))

    def growth(self, grid: PositionGrid, profit: Tensor, position: Tensor) -> Tensor:
        """Log return of a step in which the asset earns ``profit`` and reaches ``position``."""
        factor = grid.factor_of(self.gross + position.abs(), self.net + position)
        return log_growth(factor * (self.profit + profit))


def _beside(walk: Walk, grid: PositionGrid) -> _Beside:
    held = grid.position[1:].gather(2, walk.after.gather(2, walk.at))
    parts = walk.profit.gather(2, walk.at), held.abs(), held
    return _Beside(*((part.sum(-1, keepdim=True) - part)[..., None] for part in parts))
