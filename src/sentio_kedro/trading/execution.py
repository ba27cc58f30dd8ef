"""The execution step: from a decision at the close of bar t to the account at the close of bar t+1.

An order is fixed in shares at ``close[t]``, filled at ``open[t+1]`` and marked at ``close[t+1]``. The old position
carries the gap from close to open, the new one the rest of the bar. Training, validation, backtest and serving call
this step and no other.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.costs import trade_costs

DEAD_FRACTION = 1e-3  # of initial equity; an account below it is terminated


class AccountState(NamedTuple):
    """A batch of accounts, marked at the close of bar t.

    Attributes:
        cash: ``[...]`` quote currency, negative if borrowed.
        shares: ``[..., A]`` shares or coins held, negative if short.
        equity: ``[...]`` cash plus shares at the close.
        peak_equity: ``[...]`` highest equity so far, the initial one included.
        initial_equity: ``[...]`` equity at the start.
        bars_held: ``[..., A]`` bars since the position last changed, 0 if flat.
        alive: ``[...]`` false once equity has fallen under a thousandth of the initial one; never true again.
    """

    cash: Tensor
    shares: Tensor
    equity: Tensor
    peak_equity: Tensor
    initial_equity: Tensor
    bars_held: Tensor
    alive: Tensor


class Decision(NamedTuple):
    """What to do: a target per asset or nothing.

    Attributes:
        level: ``[..., A]`` target in units of the asset's allocation, in [-1, 1].
        hold: ``[..., A]`` true keeps the shares of that asset, whatever ``level`` says.
    """

    level: Tensor
    hold: Tensor


class BarPair(NamedTuple):
    """Prices of the decision bar t and the fill bar t+1, each ``[..., A]``."""

    close: Tensor
    next_open: Tensor
    next_close: Tensor
    next_tradable: Tensor


class Fill(NamedTuple):
    """Ledger of one step. Money is in quote currency, ``[..., A]`` unless said otherwise.

    Attributes:
        equity_before: ``[...]`` equity at the decision.
        equity: ``[...]`` equity at the close of the fill bar.
        price_pnl: Profit from price moves, gap and bar.
        commission: Commission paid.
        spread: Half spread paid.
        traded: Traded notional, not negative.
        position: Position after the fill, fraction of equity at the decision, at the fill price.
        shares: Shares after the fill.
        cut: Whether a limit made the order smaller than the decision asked.
    """

    equity_before: Tensor
    equity: Tensor
    price_pnl: Tensor
    commission: Tensor
    spread: Tensor
    traded: Tensor
    position: Tensor
    shares: Tensor
    cut: Tensor


def open_accounts(cash: Tensor, assets: int) -> AccountState:
    """Open flat accounts holding ``cash`` ``[...]``."""
    zeros = cash.new_zeros((*cash.shape, assets))
    return AccountState(cash, zeros, cash, cash, cash, zeros, torch.ones_like(cash, dtype=torch.bool))


def allocation(parameters: TradingParameters, assets: int) -> float:
    """Exposure that level 1 of one asset stands for, fraction of equity."""
    return parameters.gross_limit / assets


def level_exposure(level: Tensor, parameters: TradingParameters) -> Tensor:
    """Position that levels ``[..., A]`` stand for while there is no drawdown, fraction of equity."""
    share = allocation(parameters, level.shape[-1])
    return (level * share).clamp(-parameters.max_position, parameters.max_position)


def headroom(account: AccountState, parameters: TradingParameters) -> Tensor:
    """Share of full exposure that the drawdown limit leaves.

    Full exposure up to the rung, then in proportion to what is left of the limit, so that the exposure is zero at
    the limit and an account that has lost can always re-enter small: the policy of Grossman and Zhou, Optimal
    Investment Strategies for Controlling Drawdowns (Mathematical Finance, 1993), discretised.

    Returns:
        ``[...]`` in [0, 1].
    """
    if parameters.max_drawdown >= 1.0:
        return torch.ones_like(account.equity)
    drawdown = 1.0 - account.equity / account.peak_equity
    span = parameters.max_drawdown * (1.0 - parameters.drawdown_rung)
    return ((parameters.max_drawdown - drawdown) / span).clamp(0.0, 1.0)


def project(current: Tensor, target: Tensor, limit: Tensor) -> Tensor:
    """Meet the gross limit by scaling risk-increasing orders; reductions pass whole.

    An order through zero is a reduction to flat and an increase from there. All increases of an account shrink by the
    largest common factor that keeps the sum of absolute positions within ``limit``.

    Args:
        current: ``[..., A]`` positions, fraction of equity.
        target: ``[..., A]`` wished positions, fraction of equity.
        limit: ``[...]`` most gross exposure, fraction of equity.

    Returns:
        ``[..., A]`` positions to order, between ``current`` and ``target``.
    """
    reduced = target.clamp(current.clamp_max(0.0), current.clamp_min(0.0))  # between flat and what is held
    increase = target - reduced
    room = limit - reduced.abs().sum(-1)
    factor = (room / increase.abs().sum(-1).clamp_min(1e-12)).clamp(0.0, 1.0)
    return reduced + factor[..., None] * increase


def order_shares(
    account: AccountState, decision: Decision, close: Tensor, parameters: TradingParameters
) -> tuple[Tensor, Tensor]:
    """Turn a decision into orders fixed in shares at the close of the decision bar.

    Returns:
        Orders ``[..., A]`` in shares, and whether a limit cut each ``[..., A]``.
    """
    scale = headroom(account, parameters)
    equity = account.equity.clamp_min(1e-12)[..., None]
    current = account.shares * close / equity
    share = allocation(parameters, close.shape[-1])
    wished = level_exposure(decision.level, parameters)
    target = torch.where(decision.hold, current, wished * scale[..., None])
    position = project(current, target, parameters.gross_limit * scale)
    idle = decision.hold | ~account.alive[..., None]
    orders = torch.where(idle, 0.0, (position - current) * equity / close)
    cut = ~idle & ((position - wished).abs() > 1e-6 * share)
    return orders, cut


def execute(
    account: AccountState, decision: Decision, bars: BarPair, parameters: TradingParameters
) -> tuple[AccountState, Fill]:
    """Fill a decision at the next open and mark the account at the next close.

    Args:
        account: Accounts ``[...]`` marked at the close of bar t.
        decision: Decisions ``[..., A]`` taken at that close.
        bars: Prices of bars t and t+1. An order for an asset that has no bar t+1 is dropped.
        parameters: Limits and costs.

    Returns:
        Accounts marked at the close of bar t+1, and the ledger of the step. In it, the change of equity equals
        price PnL less commission and spread, summed over assets.
    """
    orders, cut = order_shares(account, decision, bars.close, parameters)
    orders = torch.where(bars.next_tradable, orders, 0.0)
    shares = account.shares + orders
    traded = orders.abs() * bars.next_open
    costs = trade_costs(traded, parameters.costs)
    gap = account.shares * (bars.next_open - bars.close)
    price_pnl = gap + shares * (bars.next_close - bars.next_open)
    paid = costs.commission + costs.spread
    cash = account.cash - (orders * bars.next_open + paid).sum(-1)
    equity = account.equity + (price_pnl - paid).sum(-1)

    alive = account.alive & (equity > DEAD_FRACTION * account.initial_equity)
    died = account.alive & ~alive
    kept = torch.where(died[..., None], 0.0, shares)
    held = torch.where(kept != 0.0, torch.where(orders != 0.0, 1.0, account.bars_held + 1.0), 0.0)
    state = AccountState(
        cash=torch.where(died, equity, cash),
        shares=kept,
        equity=equity,
        peak_equity=torch.maximum(account.peak_equity, equity),
        initial_equity=account.initial_equity,
        bars_held=held,
        alive=alive,
    )
    position = shares * bars.next_open / account.equity.clamp_min(1e-12)[..., None]
    fill = Fill(account.equity, equity, price_pnl, costs.commission, costs.spread, traded, position, shares, cut)
    return state, fill
