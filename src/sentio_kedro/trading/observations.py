"""Account features, starting positions of training windows, and rewards."""

from __future__ import annotations

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import (
    AccountState,
    Fill,
    allocation,
    asset_profit,
    level_exposure,
    open_accounts,
)
from sentio_kedro.trading.position_limits import PositionLimits
from sentio_kedro.trading.step_data import StepData

ACCOUNT_FEATURES = 4  # G
MIN_UNIT = 0.05  # smallest unit of positions, share of the allocation
MAX_UNITS = 2.0  # units at which a drifted position is clipped


def account_features(account: AccountState, limits: PositionLimits, parameters: TradingParameters) -> Tensor:
    """Compute the policy's features of accounts ``[..., A, G]``.

    Position and gross exposure in units of what the hard limits leave of the allocation and of the gross limit, log
    bars held, and the share of the allocation that all layers leave.
    """
    position = limits.position
    share = allocation(parameters, position.shape[-1])
    gross = position.abs().sum(-1, keepdim=True)
    room = limits.headroom.clamp_min(MIN_UNIT)[..., None] * parameters.gross_limit
    columns = (
        (position / limits.hold_cap.clamp(MIN_UNIT * share, share)).clamp(-MAX_UNITS, MAX_UNITS),
        (gross / room).clamp_max(MAX_UNITS).expand_as(position),
        torch.log1p(account.bars_held) * 0.2,
        limits.cap.clamp_max(share) / share,
    )
    return torch.stack(columns, dim=-1)


def start_accounts(drawn: Tensor, close: Tensor, levels: Tensor, parameters: TradingParameters) -> AccountState:
    """Open training accounts at random levels, so that every position is visited.

    Args:
        drawn: ``[..., A]`` indices into ``levels``.
        close: ``[..., A]`` prices of the first decision bar, broadcastable to the accounts.
        levels: ``[actions]`` from ``level_tensor``.
        parameters: Limits and starting equity.
    """
    cash = close.new_full(drawn.shape[:-1], parameters.initial_cash)
    account = open_accounts(cash, close.shape[-1], parameters.orders.latency_bars)
    return hold_positions(account, level_exposure(levels[drawn], parameters), close)


def hold_positions(account: AccountState, position: Tensor, close: Tensor) -> AccountState:
    """Give flat accounts positions ``[..., A]`` (fraction of equity), bought at ``close`` without costs."""
    value = position * account.equity[..., None]
    shares = value / close
    return account._replace(
        cash=account.equity - value.sum(-1),
        shares=shares,
        bars_held=(shares != 0.0).to(close.dtype),
        entry_price=torch.where(shares == 0.0, 0.0, close),
    )


def reward_unit(step_data: StepData, volatility: Tensor, parameters: TradingParameters) -> Tensor:
    """Unit of rewards ``[S, ..., A]``, fraction of equity: volatility per bar times a full position.

    A full position is the allocation within the caps of target volatility and value at risk. The scale of rewards, and
    the weight of the entropy bonus, do not depend on these limits. ``volatility`` ``[S, ..., A]`` is trailing, per bar.
    """
    full = torch.full_like(volatility, allocation(parameters, step_data.assets))
    for cap in (step_data.volatility_cap, step_data.var_cap):
        full = full if cap is None else torch.minimum(full, cap)
    return volatility * full


def asset_rewards(fill: Fill, unit: Tensor) -> Tensor:
    """Rewards ``[S, ..., A]``: net profit of each asset over equity, in units of ``reward_unit``.

    Assets share interest equally.
    """
    net = asset_profit(fill)
    if fill.financing is not None:
        net = net - fill.financing[..., None] / net.shape[-1]
    return net / fill.equity_before.clamp_min(1e-6)[..., None] / unit
