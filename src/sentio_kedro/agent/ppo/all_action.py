"""All-action advantages: what every action would have earned, from every position, along the same market path.

The market does not answer to an account, so the reward and the next position of each action are known, not only those
of the action that a sampled account took. Accounts stand on a grid of positions (one replica per level) at every bar;
the value of a position follows by exact expectation backwards along the path, and no action noise is left. The critic
is needed only where a window ends.

What the grid leaves out: a held position does not drift, equity does not compound inside a window, and orders arrive
without latency and are not worked on. Validation and backtest walk the real account.
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

DEEPEST_DRAWDOWN = 0.9  # of the limit; what training accounts may have lost before
LONGEST_HELD = 5.0  # log of the most bars that a training position may have been held


class GridDraws(NamedTuple):
    """All that is random in a grid of positions, drawn before it. P counts levels.

    Attributes:
        shift: ``[W, 1, A]`` by how many levels each asset's replicas are shifted, so that assets meet at random.
        lost: ``[W, P]`` uniform, how much of the drawdown limit an account has lost before.
        held: ``[W, P, A]`` uniform, how long its positions were held.
    """

    shift: Tensor
    lost: Tensor
    held: Tensor


def draw_grid(windows: Windows, levels: int, generator: torch.Generator) -> GridDraws:
    """Draw what ``position_grid`` needs for P levels from ``generator``, which is on the windows' device."""
    close = windows.step_data.close  # [S + 1, W, 1, A]
    _, count, _, assets = close.shape
    device, dtype = close.device, close.dtype
    shift = torch.randint(levels, (count, 1, assets), generator=generator, device=device)
    lost = torch.rand((count, levels), generator=generator, device=device, dtype=dtype)
    held = torch.rand((count, levels, assets), generator=generator, device=device, dtype=dtype)
    return GridDraws(shift, lost, held)


def position_grid(windows: Windows, parameters: TradingParameters, draws: GridDraws) -> PositionGrid:
    """Stand accounts on every level at every bar and execute every action from there. Pure.

    Each asset meets every level once per bar; which levels of the others it meets with, how much was lost before and
    how long positions were held is random. Rewards come from the one execution step.

    Args:
        windows: W windows of S decisions.
        parameters: Levels, limits and costs.
        draws: Which levels meet, what was lost before, how long positions were held.

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
    lost = lost * parameters.max_drawdown if parameters.max_drawdown < 1.0 else torch.zeros_like(lost)
    held = draws.held * LONGEST_HELD

    prompt = _without_delay(parameters)
    flat = open_accounts(close.new_full((close.shape[0], count, size), parameters.initial_cash), assets)
    flat = flat._replace(peak_equity=flat.equity / (1.0 - lost))
    cap = position_limits(flat, step_data, prompt).cap
    position = level_exposure(levels[1 + place], parameters).clamp(-cap, cap)
    account = hold_positions(flat, position, close)
    account = account._replace(bars_held=torch.where(position != 0.0, held.exp().floor(), 0.0))
    view = position_limits(account, step_data, prompt)
    decisions = windows.decisions
    deciding = AccountState(*(part[:-1] for part in account))
    seen = position_limits(deciding, decisions, prompt)
    return PositionGrid(
        account=account_features(account, view, prompt),
        legal=legal_actions(deciding, seen, decisions, prompt),
        rewards=_action_rewards(deciding, seen, decisions, windows.unit, levels, prompt),
        shift=draws.shift,
        filled=decisions.fillable,
        position=position,
        limits=(
            parameters.gross_limit,
            parameters.gross_limit if parameters.net_limit is None else parameters.net_limit,
        ),
    )


def _without_delay(parameters: TradingParameters) -> TradingParameters:
    """Let orders reach the market at the next open: what an action is worth is judged by its own bar."""
    return replace(parameters, orders=replace(parameters.orders, latency_bars=0, unfilled="drop"))


def _action_rewards(
    account: AccountState,
    view: PositionLimits,
    step_data: StepData,
    unit: Tensor,
    levels: Tensor,
    parameters: TradingParameters,
) -> Tensor:
    """Execute each action in all assets at once: ``[S, W, P, A, B]``."""
    rewards = []
    for action in range(len(levels)):
        decision = decode(torch.full_like(account.shares, action, dtype=torch.long), levels)
        _, fill = execute(account, view, decision, step_data, parameters)
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
    """Judge the windows ``index`` under the current weights.

    The clipped surrogate of every action counts with the probability that the old policy gave it.

    Returns:
        The loss, and its parts.
    """
    embedding = windows.embedded_decisions(network.encoder, index)
    posterior = windows.posterior[:-1, index]
    hidden = network.head.hidden(network.head.project(embedding, posterior), grid.account[:-1, index])
    permitted = network.head.permitted(grid.legal[:, index])
    new = masked_log_probabilities(network.head.logits(hidden, posterior), permitted)
    old = targets.log_probabilities[:, index]
    surrogate = clipped_surrogate(new - old, targets.advantages[:, index], parameters.clip)
    policy_loss = (old.exp() * surrogate).sum(-1).mean()
    # one replica is enough for the critic: which level it holds was drawn for each window and asset
    quantiles = network.head.quantiles(hidden[:, :, 0])
    value_loss = critic_loss(quantiles, targets.returns[:, index, 0]).mean()
    kl = divergence(old, new if parameters.divergence.coefficient else new.detach())
    terms = policy_loss, value_loss, entropy(new).mean(), kl.mean()
    return weighted_loss(*terms, parameters, coefficients or Coefficients.first(parameters, policy_loss))
