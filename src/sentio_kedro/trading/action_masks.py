"""Which actions an account may take: HOLD, or a target level, per asset.

Precedence, so that no row is ever empty: an asset that cannot be traded can only be held; a position that must shrink
cannot be held; flat is otherwise always legal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.execution import AccountState, Decision, allocation, headroom

HOLD = 0  # index of the HOLD action; level i has index i + 1
DRIFT_TOLERANCE = 1.25  # a held position may drift this far above its cap before it must be cut


def level_tensor(parameters: TradingParameters, like: Tensor) -> Tensor:
    """Levels ``[actions]`` on the device and dtype of ``like``; HOLD stands as 0."""
    return torch.tensor([0.0, *parameters.levels], device=like.device, dtype=like.dtype)


def level_mask(parameters: TradingParameters, assets: int, like: Tensor) -> Tensor:
    """Position cap: levels whose exposure is beyond ``max_position`` are illegal ``[levels]`` (bool)."""
    levels = level_tensor(parameters, like)[1:]
    return levels.abs() * allocation(parameters, assets) <= parameters.max_position + 1e-9


def must_shrink(account: AccountState, close: Tensor, parameters: TradingParameters) -> Tensor:
    """Whether a position is beyond its cap ``[..., A]``: position limit or what the drawdown limit leaves of it."""
    cap = min(allocation(parameters, close.shape[-1]), parameters.max_position) * headroom(account, parameters)
    exposure = (account.shares * close).abs() / account.equity.clamp_min(1e-12)[..., None]
    return exposure > DRIFT_TOLERANCE * cap[..., None]


def legal_actions(
    account: AccountState,
    close: Tensor,
    tradable: Tensor,
    parameters: TradingParameters,
    levels: Tensor | None = None,
) -> Tensor:
    """Combine the layers.

    Args:
        account: Accounts ``[...]`` at the close of the decision bar.
        close: ``[..., A]`` prices of that bar.
        tradable: ``[..., A]`` whether the asset has that bar.
        parameters: Limits.
        levels: What ``level_mask`` returns, from a caller that asks at every step.

    Returns:
        ``[..., A, actions]`` bool; each row has at least one legal action.
    """
    free = tradable & account.alive[..., None]
    levels = level_mask(parameters, close.shape[-1], close) if levels is None else levels
    stays = ~must_shrink(account, close, parameters) | ~free
    return torch.cat([stays[..., None], free[..., None] & levels], dim=-1)


def decode(action: Tensor, levels: Tensor) -> Decision:
    """Turn action indices ``[..., A]`` into a decision, with ``levels`` from ``level_tensor``."""
    return Decision(level=levels[action], hold=action == HOLD)
