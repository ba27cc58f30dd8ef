"""What an account is, what it decides and what a step did to it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters

DEAD_FRACTION = 1e-3  # of initial equity; an account below it is terminated
MIN_EQUITY = 1e-12  # what fractions of equity are divided by at least
DUST = 1e-6  # of its terms: a sum of orders below it is rounding
DAY_TRADE_SESSIONS = 5  # sessions over which day trades are counted (FINRA rule 4210)


class AccountState(NamedTuple):
    """A batch of accounts, marked at the close of bar t. Money in quote currency.

    Attributes:
        cash: ``[...]`` negative if borrowed.
        shares: ``[..., A]`` shares or coins held, negative if short.
        equity: ``[...]`` cash plus shares at the close.
        peak_equity: ``[...]`` highest equity so far, the initial one included.
        initial_equity: ``[...]`` equity at the start.
        bars_held: ``[..., A]`` bars since the position last changed, 0 if flat.
        alive: ``[...]`` false once equity has fallen under a thousandth of the initial one; never true again.
        entry_price: ``[..., A]`` average price of the position; 0 if flat, or if no stop needs it.
        working: ``[..., A]`` shares of orders that reached the market and are not filled yet.
        in_flight: ``[..., A, L]`` shares of orders under way; slot 0 reaches the market at the next open.
        session_equity: ``[...]`` equity at the last close of the previous session.
        trades_today: ``[..., A]`` fills in this session.
        opened_today: ``[..., A]`` 1 where the position was opened or enlarged in this session.
        day_trades: ``[..., 5]`` day trades of the last sessions, this one last.
    """

    cash: Tensor
    shares: Tensor
    equity: Tensor
    peak_equity: Tensor
    initial_equity: Tensor
    bars_held: Tensor
    alive: Tensor
    entry_price: Tensor
    working: Tensor
    in_flight: Tensor
    session_equity: Tensor
    trades_today: Tensor
    opened_today: Tensor
    day_trades: Tensor


class Decision(NamedTuple):
    """What to do: a target per asset or nothing.

    Attributes:
        level: ``[..., A]`` target in units of the asset's allocation, in [-1, 1].
        hold: ``[..., A]`` true sends no order for that asset, whatever ``level`` says.
    """

    level: Tensor
    hold: Tensor


class Variation(NamedTuple):
    """How single accounts of a batch differ from the parameters.

    Attributes:
        cost_multiplier: ``[..., 1]`` factor on commission, spread and impact; None is 1.
        latency: ``[..., 1]`` bars of latency, at most ``orders.latency_bars``; None is that for all.
        guarded: ``[..., 1]`` bool, whether the layers of the action mask and the limits on net exposure and value at
            risk hold for the account; None is all.
    """

    cost_multiplier: Tensor | None = None
    latency: Tensor | None = None
    guarded: Tensor | None = None


class Fill(NamedTuple):
    """Ledger of one step. Money in quote currency, ``[..., A]`` unless said otherwise; None where a line is off.

    The change of equity is price_pnl + dividends - commission - spread - impact - borrow - funding, summed over
    assets, less financing plus shortfall.

    Attributes:
        equity_before: ``[...]`` equity at the decision.
        equity: ``[...]`` equity at the close of the fill bar.
        price_pnl: Profit from price moves: gap, and bar until the close or the exit.
        commission: Commission paid.
        spread: Half spread paid.
        traded: Traded notional, not negative.
        filled_shares: Shares after the fill at the open.
        shares: Shares at the close.
        headroom: ``[...]`` share of full exposure that the drawdown limit leaves.
        impact: Market impact paid.
        borrow: Fee for borrowed shares.
        funding: Funding paid, negative if received.
        dividends: Dividends received, negative if short.
        financing: ``[...]`` interest paid on negative cash less interest earned on positive cash.
        shortfall: ``[...]`` loss beyond the equity of a bankrupt account, which its broker bears.
        exit_price: Price at which a stop, a target, the session's end or a delisting closed the position; NaN if none.
        called: ``[...]`` whether the account was sold out by a margin call.
        position: Position after the fill at the open, fraction of equity at the decision, at the fill price. This
            line and those below are telemetry, None unless asked for.
        ordered: Whether an order was sent.
        capped: Whether limits of any kind made the order smaller than the decision asked.
        projected: Whether a joint limit did.
        layers: ``[..., layers]`` share of the levels of all assets that each layer of the mask forbids.
    """

    equity_before: Tensor
    equity: Tensor
    price_pnl: Tensor
    commission: Tensor
    spread: Tensor
    traded: Tensor
    filled_shares: Tensor
    shares: Tensor
    headroom: Tensor
    impact: Tensor | None = None
    borrow: Tensor | None = None
    funding: Tensor | None = None
    dividends: Tensor | None = None
    financing: Tensor | None = None
    shortfall: Tensor | None = None
    exit_price: Tensor | None = None
    called: Tensor | None = None
    position: Tensor | None = None
    ordered: Tensor | None = None
    capped: Tensor | None = None
    projected: Tensor | None = None
    layers: Tensor | None = None


def asset_profit(fill: Fill) -> Tensor:
    """Net profit of each asset ``[..., A]``, quote currency: all lines of the ledger that belong to an asset."""
    net = fill.price_pnl - fill.commission - fill.spread
    for cost in (fill.impact, fill.borrow, fill.funding):
        net = net if cost is None else net - cost
    return net if fill.dividends is None else net + fill.dividends


def open_accounts(cash: Tensor, assets: int, latency: int = 0) -> AccountState:
    """Open flat accounts. No two fields share a tensor, so that a step compiled for the first bar serves all others.

    Args:
        cash: ``[...]`` starting equity, quote currency.
        assets: Number of assets A.
        latency: ``orders.latency_bars``.
    """
    shape = (*cash.shape, assets)
    return AccountState(
        cash=cash,
        shares=cash.new_zeros(shape),
        equity=cash.clone(),
        peak_equity=cash.clone(),
        initial_equity=cash.clone(),
        bars_held=cash.new_zeros(shape),
        alive=torch.ones_like(cash, dtype=torch.bool),
        entry_price=cash.new_zeros(shape),
        working=cash.new_zeros(shape),
        in_flight=cash.new_zeros((*shape, latency)),
        session_equity=cash.clone(),
        trades_today=cash.new_zeros(shape),
        opened_today=cash.new_zeros(shape),
        day_trades=cash.new_zeros((*cash.shape, DAY_TRADE_SESSIONS)),
    )


def allocation(parameters: TradingParameters, assets: int) -> float:
    """Exposure that level 1 of one asset stands for, fraction of equity."""
    return parameters.gross_limit / assets


def level_exposure(level: Tensor, parameters: TradingParameters) -> Tensor:
    """Position that levels ``[..., A]`` stand for where no layer caps it further, fraction of equity."""
    share = allocation(parameters, level.shape[-1])
    return (level * share).clamp(-parameters.max_position, parameters.max_position)


def headroom(account: AccountState, parameters: TradingParameters) -> Tensor:
    """Share of full exposure that the drawdown limit leaves.

    Full exposure up to the rung, then in proportion to what is left of the limit, so that the exposure is zero at
    the limit and an account that has lost can always re-enter small: the policy of Grossman and Zhou, Optimal
    Investment Strategies for Controlling Drawdowns (Mathematical Finance, 1993), discretised. The peak is never reset.

    Returns:
        ``[...]`` in [0, 1].
    """
    if parameters.max_drawdown is None:
        return torch.ones_like(account.equity)
    drawdown = 1.0 - account.equity / account.peak_equity
    span = parameters.max_drawdown * (1.0 - parameters.drawdown_soft_limit)
    return ((parameters.max_drawdown - drawdown) / span).clamp(0.0, 1.0)


def without_dust(shares: Tensor, size: Tensor) -> Tensor:
    """Sums of shares ``[..., A]``, 0 where they are nothing but rounding beside the ``size`` of their terms."""
    return shares.masked_fill(shares.abs() <= DUST * size, 0.0)
