"""What an agent sees of its account, how its episodes start, and what it is paid."""

from __future__ import annotations

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.execution import AccountState, Fill, allocation, headroom, level_exposure, open_accounts

ACCOUNT_FEATURES = 4  # G
LEAST_LEFT = 0.05  # positions are not measured in units smaller than this share of the full one
FURTHEST = 2.0  # units at which a drifted position is clipped


def account_features(account: AccountState, close: Tensor, parameters: TradingParameters) -> Tensor:
    """Describe accounts to the policy.

    Args:
        account: Accounts ``[...]`` at the close of the decision bar.
        close: ``[..., A]`` prices of that bar.
        parameters: Limits.

    Returns:
        ``[..., A, G]``: position and gross exposure in units of what the drawdown limit leaves of the allocation and
        of the gross limit, log bars held, and the share that the drawdown limit leaves.
    """
    equity = account.equity.clamp_min(1e-12)[..., None]
    left = headroom(account, parameters)[..., None]
    position = account.shares * close / equity / left.clamp_min(LEAST_LEFT)
    gross = position.abs().sum(-1, keepdim=True) / parameters.gross_limit
    columns = (
        (position / allocation(parameters, close.shape[-1])).clamp(-FURTHEST, FURTHEST),
        gross.clamp_max(FURTHEST).expand_as(position),
        torch.log1p(account.bars_held) * 0.2,
        left.expand_as(position),
    )
    return torch.stack(columns, dim=-1)


def start_accounts(
    shape: tuple[int, ...], close: Tensor, levels: Tensor, parameters: TradingParameters, generator: torch.Generator
) -> AccountState:
    """Open training accounts with equity 1 that hold random levels, so that every position is visited.

    Args:
        shape: Batch shape of the accounts.
        close: ``[..., A]`` prices of the first decision bar, broadcastable to ``shape``.
        levels: ``[actions]`` from ``level_tensor``.
        parameters: Limits.
        generator: Source of the draws.

    Returns:
        Accounts at the close of the first decision bar; fresh, whatever came before.
    """
    assets = close.shape[-1]
    account = open_accounts(close.new_ones(shape), assets)
    drawn = torch.randint(len(levels), (*shape, assets), generator=generator, device=close.device)
    shares = level_exposure(levels[drawn], parameters) / close
    return account._replace(
        cash=account.equity - (shares * close).sum(-1), shares=shares, bars_held=(shares != 0.0).to(close.dtype)
    )


def asset_rewards(fill: Fill, volatility: Tensor, parameters: TradingParameters) -> Tensor:
    """Pay each asset's net profit, in units of what one bar of a full position usually moves.

    Args:
        fill: Ledger ``[S, ..., A]``.
        volatility: ``[S, ..., A]`` trailing volatility per bar, known at the decision.
        parameters: Limits.

    Returns:
        ``[S, ..., A]`` rewards; 0 for accounts that are dead or nearly so.
    """
    net = fill.price_pnl - fill.commission - fill.spread
    unit = volatility * allocation(parameters, net.shape[-1])
    return net / fill.equity_before.clamp_min(1e-6)[..., None] / unit
