"""All-action advantages: the profit of every action, from every position, along the same market path.

Actions do not change the market, so the reward and the next position of every action follow from the path. Accounts
hold a grid of positions (one replica per level) at every bar; the value of a position is an exact expectation, computed
backwards along the path without action noise. The critic is needed only at a window's end.

Simplifications of the grid: positions do not drift, equity does not compound inside a window, and orders have no
latency and no remainders. Validation and backtest simulate the real account.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.network.distributions import divergence, entropy, masked_log_probabilities
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.grid_values import GridTargets
from sentio_kedro.agent.ppo.grid_walks import PositionGrid
from sentio_kedro.agent.ppo.losses import clipped_surrogate, critic_loss
from sentio_kedro.agent.ppo.update import Coefficients, UpdateReport, weighted_loss
from sentio_kedro.config import TradingParameters, TrainingParameters
from sentio_kedro.trading.accounts import AccountState, level_exposure, open_accounts
from sentio_kedro.trading.action_masks import decode, legal_actions, level_tensor
from sentio_kedro.trading.execution import execute
from sentio_kedro.trading.observations import account_features, asset_rewards, hold_positions
from sentio_kedro.trading.position_limits import PositionLimits, position_limits
from sentio_kedro.trading.step_data import StepData

DEEPEST_DRAWDOWN = 0.9  # of the limit: largest earlier loss of training accounts
LONGEST_HELD = 5.0  # log of the longest holding time of a training position, bars


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
    close = windows.step_data.close  # [S + 1, W, 1, A]
    _, count, _, assets = close.shape
    device, dtype = close.device, close.dtype
    shift = torch.randint(levels, (count, 1, assets), generator=generator, device=device)
    lost = torch.rand((count, levels), generator=generator, device=device, dtype=dtype)
    held = torch.rand((count, levels, assets), generator=generator, device=device, dtype=dtype)
    return GridDraws(shift, lost, held)


def position_grid(windows: Windows, parameters: TradingParameters, draws: GridDraws) -> PositionGrid:
    """Open accounts on every level at every bar and execute every action from there. Pure.

    Each asset holds every level once per bar; the levels of the other assets, earlier losses and holding times are
    random. Rewards come from the one execution step.

    Args:
        windows: W windows of S decisions.
        parameters: Levels, limits and costs.
        draws: Combination of levels, earlier losses, holding times.

    Returns:
        The grid.
    """
    step_data = windows.step_data
    close = step_data.close  # [S + 1, W, 1, A]
    _, count, _, assets = close.shape
    levels = level_tensor(parameters, close)
    size = len(parameters.levels)
    place = (torch.arange(size, device=close.device)[:, None] + draws.shift) % size  # [W, P, A]
    lost = draws.lost * DEEPEST_DRAWDOWN
    lost = torch.zeros_like(lost) if parameters.max_drawdown is None else lost * parameters.max_drawdown
    held = draws.held * LONGEST_HELD

    immediate = _without_delay(parameters)
    empty = open_accounts(close.new_full((close.shape[0], count, size), parameters.initial_cash), assets)
    empty = empty._replace(peak_equity=empty.equity / (1.0 - lost))
    cap = position_limits(empty, step_data, immediate).cap
    position = level_exposure(levels[1 + place], parameters).clamp(-cap, cap)
    account = hold_positions(empty, position, close)
    account = account._replace(bars_held=torch.where(position != 0.0, held.exp().floor(), 0.0))
    limits = position_limits(account, step_data, immediate)
    decisions = windows.decisions
    deciding = AccountState(*(part[:-1] for part in account))
    deciding_limits = position_limits(deciding, decisions, immediate)
    return PositionGrid(
        account=account_features(account, limits, immediate),
        legal=legal_actions(deciding, deciding_limits, decisions, immediate),
        rewards=_action_rewards(deciding, deciding_limits, decisions, windows.unit, levels, immediate),
        shift=draws.shift,
        filled=decisions.fillable,
        position=position,
        limits=(
            parameters.gross_limit,
            parameters.gross_limit if parameters.net_limit is None else parameters.net_limit,
        ),
    )


def _without_delay(parameters: TradingParameters) -> TradingParameters:
    """Let orders be filled or dropped at the next open, so that an action's reward is that of its own bar."""
    return replace(parameters, orders=replace(parameters.orders, latency_bars=0, unfilled="drop"))


def _action_rewards(
    account: AccountState,
    limits: PositionLimits,
    step_data: StepData,
    unit: Tensor,
    levels: Tensor,
    parameters: TradingParameters,
) -> Tensor:
    """Execute each action in all assets at once: ``[S, W, P, A, B]``."""
    rewards = []
    for action in range(len(levels)):
        decision = decode(torch.full_like(account.shares, action, dtype=torch.long), levels)
        _, fill = execute(account, limits, decision, step_data, parameters)
        rewards.append(asset_rewards(fill, unit))
    return torch.stack(rewards, dim=-1)


def grid_loss(
    network: PolicyNetwork,
    windows: Windows,
    grid: PositionGrid,
    targets: GridTargets,
    index: Tensor,
    parameters: TrainingParameters,
    coefficients: Coefficients | None = None,
) -> tuple[Tensor, UpdateReport]:
    """Loss of the windows ``index`` under the current weights, and its parts.

    The clipped surrogate of every action is weighted with its probability under the old policy.
    """
    embedding = windows.embedded_decisions(network.encoder, index)
    posterior = windows.posterior[:-1, index]
    hidden = network.head.hidden(network.head.project(embedding, posterior), grid.account[:-1, index])
    permitted = network.head.permitted(grid.legal[:, index])
    new = masked_log_probabilities(network.head.logits(hidden, posterior), permitted)
    old = targets.log_probabilities[:, index]
    surrogate = clipped_surrogate(new - old, targets.advantages[:, index], parameters.clip)
    policy_loss = (old.exp() * surrogate).sum(-1).mean()
    # one replica is enough for the critic: its level is random in each window and asset
    quantiles = network.head.quantiles(hidden[:, :, 0])
    value_loss = critic_loss(quantiles, targets.returns[:, index, 0]).mean()
    kl = divergence(old, new if parameters.divergence.coefficient else new.detach())
    terms = policy_loss, value_loss, entropy(new).mean(), kl.mean()
    return weighted_loss(*terms, parameters, coefficients or Coefficients.first(parameters, policy_loss))
