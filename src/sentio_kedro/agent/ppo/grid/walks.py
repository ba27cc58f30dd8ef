"""Greedy accounts on the position grid, and the price of risk at which they meet the limit on their worst episodes."""

from __future__ import annotations

import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.ppo.constraints import TailFound, TailState, bisected_price, log_growth
from sentio_kedro.agent.ppo.grid.positions import PositionGrid
from sentio_kedro.config import TrainingParameters

MIN_ENTROPY = 0.01  # coefficient, in units of reward, below which the logits no longer follow from it


def greedy_outcomes(log_probabilities: Tensor, windows: Windows, grid: PositionGrid) -> Tensor:
    """Log returns ``[W, P]`` over the windows of accounts that take the likeliest actions, one from each position."""
    likeliest = log_probabilities.argmax(-1)
    after = grid.after(likeliest)
    profit = grid.rewards.gather(-1, likeliest[..., None])[..., 0] * windows.unit  # fraction of equity
    at = torch.arange(profit.shape[2], device=profit.device)[None, :, None].expand(profit.shape[1:])
    earned = torch.zeros_like(profit[0, ..., 0])
    for step in range(len(profit)):
        gained = profit[step].gather(1, at).sum(-1)
        at = after[step].gather(1, at)
        earned = earned + log_growth(grid.joint_factor(grid.position[step + 1].gather(1, at)) * gained)
    return earned


def find_price(
    log_probabilities: Tensor,
    risk: Tensor,
    windows: Windows,
    grid: PositionGrid,
    parameters: TrainingParameters,
    tail: TailState,
) -> TailFound:
    """Find the price of risk at which greedy accounts meet the limit, by bisection.

    With an entropy bonus the best logits are action values over its coefficient. A change of the price therefore moves
    them by that change times the risk that an action adds. Its mean over bars and positions stands for what the policy
    can know of it.

    Args:
        log_probabilities: ``[S, W, P, A, B]`` of the policy, which has learnt with the price before.
        risk: ``[S, W, P, A, B]`` risk that each action adds, units of reward.
        windows: W windows.
        grid: Positions on them.
        parameters: Limit, share of the worst, entropy coefficient.
        tail: Price and episodes before.
    """
    limit, alpha = parameters.tail.limit or 0.0, parameters.tail.alpha
    outcomes = greedy_outcomes(log_probabilities, windows, grid)
    state = tail.observed(outcomes)
    response = risk.mean((0, 1, 2)) / max(parameters.entropy, MIN_ENTROPY)  # [A, B] of the logits, per unit of price

    def met(price: float) -> bool:
        walked = greedy_outcomes(log_probabilities - (price - tail.price) * response, windows, grid)
        return float(state.tail(walked, alpha)) >= -limit

    return TailFound(tail.price.new_tensor(bisected_price(met)), state.tail(outcomes, alpha), state)
