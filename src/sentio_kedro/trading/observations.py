"""What an agent sees of its account, how its episodes start, and what it is paid."""

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
MIN_LEFT = 0.05  # positions are not measured in units smaller than this share of the full one
FURTHEST = 2.0  # units at which a drifted position is clipped


def account_features(account: AccountState, view: PositionLimits, parameters: TradingParameters) -> Tensor:
    """Describe accounts to the policy.

    Args:
        account: Accounts ``[...]`` at the close of the decision bar.
        view: What ``position_limits`` says of them.
        parameters: Limits.

    Returns:
        ``[..., A, G]``: position and gross exposure in units of what the hard limits leave of the allocation and of
        the gross limit, log bars held, and the share of the allocation that all layers leave.
    """
    position = view.position
    share = allocation(parameters, position.shape[-1])
    gross = position.abs().sum(-1, keepdim=True)
    room = view.headroom.clamp_min(MIN_LEFT)[..., None] * parameters.gross_limit
    columns = (
        (position / view.hold_cap.clamp(MIN_LEFT * share, share)).clamp(-FURTHEST, FURTHEST),
        (gross / room).clamp_max(FURTHEST).expand_as(position),
        torch.log1p(account.bars_held) * 0.2,
        view.cap.clamp_max(share) / share,
    )
    return torch.stack(columns, dim=-1)


def start_accounts(drawn: Tensor, close: Tensor, levels: Tensor, parameters: TradingParameters) -> AccountState:
    """Open training accounts that hold levels drawn at random, so that every position is visited.

    Args:
        drawn: ``[..., A]`` indices into ``levels``, one account per row.
        close: ``[..., A]`` prices of the first decision bar, broadcastable to the accounts.
        levels: ``[actions]`` from ``level_tensor``.
        parameters: Limits and starting equity.

    Returns:
        Accounts at the close of the first decision bar; fresh, whatever came before.
    """
    cash = close.new_full(drawn.shape[:-1], parameters.initial_cash)
    account = open_accounts(cash, close.shape[-1], parameters.orders.latency_bars)
    return hold_positions(account, level_exposure(levels[drawn], parameters), close)


def hold_positions(account: AccountState, position: Tensor, close: Tensor) -> AccountState:
    """Let flat accounts hold positions ``[..., A]`` (fraction of equity), bought at ``close`` without costs."""
    value = position * account.equity[..., None]
    shares = value / close
    return account._replace(
        cash=account.equity - value.sum(-1),
        shares=shares,
        bars_held=(shares != 0.0).to(close.dtype),
        entry_price=torch.where(shares == 0.0, 0.0, close),
    )


def reward_unit(step_data: StepData, volatility: Tensor, parameters: TradingParameters) -> Tensor:
    """Profit that one bar of a full position usually brings or costs ``[S, ..., A]``, fraction of equity.

    A full position is the allocation, or what target volatility and value at risk leave of it: so rewards keep their
    scale, and with it the weight of the entropy bonus, whatever the mandate.

    Args:
        step_data: Market facts ``[S, ..., A]``.
        volatility: ``[S, ..., A]`` trailing volatility per bar, known at the decision.
        parameters: Limits.
    """
    full = torch.full_like(volatility, allocation(parameters, step_data.assets))
    for cap in (step_data.volatility_cap, step_data.var_cap):
        full = full if cap is None else torch.minimum(full, cap)
    return volatility * full


def asset_rewards(fill: Fill, unit: Tensor) -> Tensor:
    """Pay each asset's net profit, in units of what one bar of a full position usually moves.

    Interest belongs to no asset and is shared equally.

    Args:
        fill: Ledger ``[S, ..., A]``.
        unit: ``[S, ..., A]`` from ``reward_unit``.

    Returns:
        ``[S, ..., A]`` rewards; 0 for accounts that are dead or nearly so.
    """
    net = asset_profit(fill)
    if fill.financing is not None:
        net = net - fill.financing[..., None] / net.shape[-1]
    return net / fill.equity_before.clamp_min(1e-6)[..., None] / unit
