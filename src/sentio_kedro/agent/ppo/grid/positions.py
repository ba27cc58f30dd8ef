"""The position grid: every level of every asset at every bar, and what each action leads to from there.

Actions do not change the market, so the reward and the next position of every action follow from the path. Positions
are those that the account could hold: sized by the limits of the bar before. Each action is executed by the step that
trades everywhere else, for one asset at a time.

What the grid leaves out: latency, limits on several assets together, and compounding inside a window. It holds no entry
prices, which stops and targets would need.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.ppo.grid.accounts import GridAccounts, GridArrays, walk_grid
from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.records import CHARGES, CLOCK, FACTS, Market, records
from sentio_kedro.trading.simulate import make_scratch
from sentio_kedro.trading.step.policies import ACCOUNT_FEATURES

DEEPEST_DRAWDOWN = 0.9  # of the limit: largest earlier loss of training accounts
LONGEST_HELD = 5.0  # log of the longest holding time of a training position, bars
NEARER = 0.5  # weight from which the upper of two positions is the nearer one


class GridDraws(NamedTuple):
    """All that is random in a grid of positions, drawn before it. P counts levels.

    Attributes:
        shift: ``[W, 1, A]`` levels that each asset's replicas are shifted by, so that assets are combined at random.
        lost: ``[W, P]`` uniform, share of the drawdown limit that an account has lost before.
        held: ``[W, P, A]`` uniform, holding time of its positions.
    """

    shift: Tensor
    lost: Tensor
    held: Tensor


def draw_grid(windows: Windows, levels: int, generator: torch.Generator) -> GridDraws:
    """Draw the random parts of ``position_grid`` for P levels; ``generator`` is on the windows' device."""
    count, assets, like = windows.size, windows.assets, windows.features
    device, dtype = like.device, like.dtype
    shift = torch.randint(levels, (count, 1, assets), generator=generator, device=device)
    lost = torch.rand((count, levels), generator=generator, device=device, dtype=dtype)
    held = torch.rand((count, levels, assets), generator=generator, device=device, dtype=dtype)
    return GridDraws(shift, lost, held)


class PositionGrid(NamedTuple):
    """Accounts at every bar of W windows, one replica per level. B counts actions, P levels; they are equal.

    The position after an action lies between two positions of the next bar. Its value is interpolated between theirs.

    Attributes:
        account: ``[S + 1, W, P, A, G]`` account features, the bar after the last decision included.
        legal: ``[S, W, P, A, B]``.
        rewards: ``[S, W, P, A, B]`` reward of each action, less the price of its risk.
        below: ``[S, W, P, A, B]`` replica that holds the next bar's level below the position after each action.
        above: ``[S, W, P, A, B]`` replica that holds the next level above.
        weight: ``[S, W, P, A, B]`` weight of the latter, in [0, 1].
        position: ``[S + 1, W, P, A]`` position held, fraction of equity.
        limits: Most gross and most net exposure, fraction of equity.
    """

    account: Tensor
    legal: Tensor
    rewards: Tensor
    below: Tensor
    above: Tensor
    weight: Tensor
    position: Tensor
    limits: tuple[float, float]

    def after(self, action: Tensor) -> Tensor:
        """Replica that holds the position nearest to that after ``action`` ``[S, W, P, A]``."""
        below, above, weight = (
            part.gather(-1, action[..., None])[..., 0] for part in (self.below, self.above, self.weight)
        )
        return torch.where(weight < NEARER, below, above)

    def following(self, value: Tensor, step: int) -> Tensor:
        """Interpolate the next bar's values ``[W, P, A]`` after each action at ``step``: ``[W, P, A, B]``."""
        of_level = value[..., None].expand(self.below.shape[1:])
        below, above = (of_level.gather(1, part[step]) for part in (self.below, self.above))
        return below + self.weight[step] * (above - below)

    def joint_factor(self, position: Tensor) -> Tensor:
        """Share that the joint limits leave of ``position`` ``[..., A]``: ``[...]``. The grid itself ignores them."""
        (max_gross, max_net), gross, net = self.limits, position.abs().sum(-1), position.sum(-1)
        return torch.minimum(max_gross / gross.clamp_min(max_gross), max_net / net.abs().clamp_min(max_net))


def position_grid(windows: Windows, parameters: TradingParameters, draws: GridDraws) -> PositionGrid:
    """Open accounts on every level at every bar and execute every action from there.

    Each asset holds every level once per bar; the levels of the other assets, earlier losses and holding times are
    random. The grid does not depend on a policy.

    Args:
        windows: W windows of S decisions.
        parameters: Levels, limits and costs.
        draws: Combination of levels, earlier losses, holding times.
    """
    steps, count, assets, size = windows.steps, windows.size, windows.assets, len(parameters.levels)
    orders = replace(parameters.orders, latency_bars=0)
    at_once = replace(parameters, orders=orders, drawdown_sessions=None)  # an earlier peak is all that it remembers
    shape = (steps, count, size, assets, size)
    found = GridArrays(
        account=np.zeros((steps + 1, *shape[1:4], ACCOUNT_FEATURES)),
        legal=np.zeros(shape, np.bool_),
        rewards=np.zeros(shape),
        below=np.zeros(shape, np.int64),
        above=np.zeros(shape, np.int64),
        weight=np.zeros(shape),
        position=np.zeros((steps + 1, *shape[1:4])),
    )
    lost = draws.lost.double().cpu().numpy() * DEEPEST_DRAWDOWN * (parameters.max_drawdown or 0.0)
    shift, held = draws.shift[:, 0].cpu().numpy(), draws.held.double().cpu().numpy() * LONGEST_HELD
    joint, alone = open_accounts(1, assets, at_once), open_accounts(1, 1, at_once)
    market = Market(records((1, 1), FACTS), records((1,), CLOCK), np.zeros((1, 1, 2)))
    terms, order = terms_of(at_once, assets), np.argsort(parameters.levels)
    terms_alone = terms._replace(charges=records((1,), CHARGES))
    accounts = GridAccounts(joint, alone, make_scratch(joint, size), make_scratch(alone, size), market, terms_alone)
    walk_grid(windows.rows, windows.market, terms, order, shift, lost, held, windows.risk_price, accounts, found)
    like, net = windows.features, parameters.net_limit
    tensors = (torch.from_numpy(part) for part in found)
    account, legal, rewards, below, above, weight, position = (
        part.to(like.device, like.dtype if part.is_floating_point() else part.dtype) for part in tensors
    )
    limits = parameters.gross_limit, parameters.gross_limit if net is None else net
    return PositionGrid(account, legal, rewards, below, above, weight, position, limits)
