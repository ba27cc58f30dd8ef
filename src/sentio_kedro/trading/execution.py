"""Execution step from a decision at the close of bar t to the account at the close of bar t+1.

An order is fixed in shares at ``close[t]``, filled at ``open[t+1]`` (later with latency) and marked at ``close[t+1]``.
The old position earns the gap from close to open, the new one the rest of the bar. Training, validation, backtest and
serving all use this step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import MIN_EQUITY, AccountState, Decision, Fill, Variation, without_dust
from sentio_kedro.trading.at_close import Outcome, mark
from sentio_kedro.trading.at_open import Opening, fill_orders, open_bar
from sentio_kedro.trading.costs import Costs, trade_costs
from sentio_kedro.trading.exits import entry_price, exit_price
from sentio_kedro.trading.orders import Orders, enqueue, order_shares
from sentio_kedro.trading.position_limits import PositionLimits
from sentio_kedro.trading.step_data import StepData


def execute(
    account: AccountState,
    limits: PositionLimits,
    decision: Decision,
    row: StepData,
    parameters: TradingParameters,
    variation: Variation | None = None,
    *,
    telemetry: bool = True,
) -> tuple[AccountState, Fill]:
    """Fill a decision at the next open and mark the account at the next close.

    Args:
        account: Accounts ``[...]`` marked at the close of bar t.
        limits: Their limits, from ``position_limits``.
        decision: Decisions ``[..., A]`` taken at that close.
        row: Market data of the step.
        parameters: Limits and costs.
        variation: Deviations of single accounts.
        telemetry: Fill in the telemetry of the ledger, but for ``layers``.

    Returns:
        Accounts marked at the close of bar t+1, and the ledger of the step.
    """
    orders = order_shares(account, limits, decision, row, parameters)
    arriving, in_flight = enqueue(account, limits, decision, orders.shares, parameters, variation)
    if row.split is not None:
        arriving, in_flight = arriving * row.split, in_flight * row.split[..., None]
    opening = open_bar(account, row, parameters)
    filled = fill_orders(arriving, opening, limits, row, parameters)
    trades = _trade(filled, opening, row, parameters, variation)
    price_pnl, funding, equity = _profit(trades, opening, row)
    working = _still_working(arriving, filled, opening, limits, parameters)
    outcome = Outcome(
        filled, trades.held, trades.shares, trades.entry_price, working, in_flight, equity, trades.exit_price
    )
    state, shortfall = mark(account, opening, outcome, row, parameters)
    fill = Fill(
        equity_before=account.equity,
        equity=state.equity,
        price_pnl=price_pnl,
        commission=trades.costs.commission,
        spread=trades.costs.spread,
        traded=trades.traded,
        filled_shares=trades.held,
        shares=state.shares,
        headroom=limits.headroom,
        impact=trades.costs.impact,
        borrow=opening.borrow,
        funding=funding,
        dividends=opening.dividends,
        financing=opening.financing,
        shortfall=shortfall,
        exit_price=trades.exit_price,
        called=None if limits.called is None else limits.called[..., 0],
    )
    return state, _with_telemetry(fill, orders, decision, row) if telemetry else fill


def _with_telemetry(fill: Fill, orders: Orders, decision: Decision, row: StepData) -> Fill:
    return fill._replace(
        position=fill.filled_shares * row.open / fill.equity_before.clamp_min(MIN_EQUITY)[..., None],
        ordered=orders.shares != 0.0,
        capped=orders.cut(decision.hold),
        projected=orders.projected(decision.hold),
    )


class _Trades(NamedTuple):
    costs: Costs
    traded: Tensor
    held: Tensor
    shares: Tensor
    entry_price: Tensor
    exit_price: Tensor | None
    last_price: Tensor


def _trade(
    filled: Tensor, opening: Opening, row: StepData, parameters: TradingParameters, variation: Variation | None
) -> _Trades:
    """Trade at the open and, on an exit, inside the bar; both pay costs."""
    multiplier = None if variation is None else variation.cost_multiplier
    held, size = opening.shares + filled, filled.abs()
    traded = size * row.open
    costs = trade_costs(size, traded, row, parameters.costs, multiplier)
    entry = entry_price(opening, filled, held, row, parameters)
    exits = exit_price(held, entry, opening.live, row, parameters)
    if exits is None:
        return _Trades(costs, traded, held, held, entry, None, row.next_close)
    exited = ~exits.isnan()
    last, shares = torch.where(exited, exits, row.next_close), held.masked_fill(exited, 0.0)
    sold = (held - shares).abs()
    if row.delisted is not None:
        sold = sold * row.fillable  # a delisting pays without costs
    costs = costs.plus(trade_costs(sold, sold * last, row, parameters.costs, multiplier))
    return _Trades(costs, traded + sold * last, held, shares, entry, exits, last)


def _profit(trades: _Trades, opening: Opening, row: StepData) -> tuple[Tensor, Tensor | None, Tensor]:
    """Price profit and funding paid ``[..., A]``, and equity ``[...]`` at the close, not floored."""
    costs, funding = trades.costs, None
    if row.funding is not None:
        funding = row.funding * trades.shares * row.next_close * opening.live
    price_pnl = opening.gap + trades.held * (trades.last_price - row.open) * opening.live
    equity = opening.carried + (price_pnl - costs.commission - costs.spread).sum(-1)
    for cost in (costs.impact, funding):
        equity = equity if cost is None else equity - cost.sum(-1)
    return price_pnl, funding, equity


def _still_working(
    arriving: Tensor, filled: Tensor, opening: Opening, limits: PositionLimits, parameters: TradingParameters
) -> Tensor | None:
    """Unfilled shares that stay in the market ``[..., A]``; None if unfilled orders are dropped."""
    if parameters.orders.unfilled == "drop":
        return None
    rest = without_dust(arriving - filled, arriving.abs()) * opening.live
    return rest if limits.called is None else rest.masked_fill(limits.called, 0.0)
