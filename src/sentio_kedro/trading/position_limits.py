"""Positions and their caps at a decision, computed once per step for masks, policies and execution.

Every layer of the mask is a cap on the size of a position, fraction of equity. Infinity is no cap; at zero a position
can only be reduced.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import MIN_EQUITY, AccountState, Variation, allocation, headroom, without_dust
from sentio_kedro.trading.step_data import Levels, StepData

DAY_TRADER_EQUITY = 25_000.0  # FINRA rule 4210 limits accounts below it to three day trades in five sessions
DAY_TRADES = 3.0


class Caps(NamedTuple):
    """Caps of the layers, each broadcastable to ``[..., A]``, fraction of equity; None where a layer is off.

    Attributes:
        exposure: ``trading.max_position`` and ``masks.concentration``.
        drawdown: Headroom below ``trading.max_drawdown``.
        daily_loss: Loss of the session.
        value_at_risk: Value at risk of the position.
        volatility: Target volatility.
        regime: Filtered regimes.
        session: Minutes since the open and to the close, and overnight positions.
        liquidity: Daily volume.
        compliance: Trades a day, day trades and holding time.
        kelly: Trailing mean over variance.
    """

    exposure: Tensor | None = None
    drawdown: Tensor | None = None
    daily_loss: Tensor | None = None
    value_at_risk: Tensor | None = None
    volatility: Tensor | None = None
    regime: Tensor | None = None
    session: Tensor | None = None
    liquidity: Tensor | None = None
    compliance: Tensor | None = None
    kelly: Tensor | None = None


class PositionLimits(NamedTuple):
    """Positions and limits of accounts at the close of the decision bar.

    Attributes:
        position: ``[..., A]`` position and orders in flight, fraction of equity.
        committed: ``[..., A]`` position and orders in flight, shares.
        cap: ``[..., A]`` largest position that the layers allow, fraction of equity.
        hold_cap: ``[..., A]`` size beyond which (times a tolerance for drift) a position must shrink.
        headroom: ``[...]`` share of full exposure that the drawdown limit leaves.
        must_flatten: ``[..., 1]`` bool, whether all positions must be closed, by a margin call or before the session's
            close; None if both are off.
        called: ``[..., 1]`` bool, margin call; None if margin is off.
        caps: Caps of each layer.
        guarded: ``[..., 1]`` accounts that the layers and joint limits apply to (bool); None is all.
    """

    position: Tensor
    committed: Tensor
    cap: Tensor
    hold_cap: Tensor
    headroom: Tensor
    must_flatten: Tensor | None
    called: Tensor | None
    caps: Caps
    guarded: Tensor | None = None


def position_limits(
    account: AccountState, row: StepData, parameters: TradingParameters, variation: Variation | None = None
) -> PositionLimits:
    """Compute the limits of accounts ``[...]`` at the close of a decision bar.

    For accounts that are not guarded only the position limit and margin calls apply.
    """
    equity = account.equity.clamp_min(MIN_EQUITY)[..., None]
    committed = account.shares
    if account.in_flight.shape[-1]:
        size = committed.abs() + account.in_flight.abs().sum(-1)
        committed = without_dust(committed + account.in_flight.sum(-1), size)
    position = committed * row.close / equity
    room = headroom(account, parameters)
    rules = _daily_loss_cap(account, row, parameters), _compliance_cap(account, row, parameters)
    caps = layer_caps(row, room, equity, *rules, parameters)
    hold_cap = _smallest(caps.exposure, caps.drawdown, caps.value_at_risk)
    of_market = caps.volatility, caps.regime, caps.session, caps.liquidity, caps.kelly
    cap = _smallest(hold_cap, caps.daily_loss, caps.compliance, *of_market)
    called = _margin_call(account, row, parameters)
    leave = row.must_leave
    if variation is not None and variation.guarded is not None:
        cap = torch.where(variation.guarded, cap, parameters.max_position)
        hold_cap = torch.where(variation.guarded, hold_cap, torch.inf)
        room = torch.where(variation.guarded[..., 0], room, 1.0)
        leave = None if leave is None else leave & variation.guarded
    must_flatten = called if leave is None else leave if called is None else called | leave
    if must_flatten is not None:
        cap = cap.masked_fill(must_flatten, 0.0)
        hold_cap = hold_cap.masked_fill(must_flatten, 0.0)
    guarded = None if variation is None else variation.guarded
    return PositionLimits(
        position, committed, cap.expand_as(position), hold_cap, room, must_flatten, called, caps, guarded
    )


def layer_caps(
    row: StepData,
    room: Tensor,
    equity: Tensor,
    daily_loss: Tensor | None,
    compliance: Tensor | None,
    parameters: TradingParameters,
) -> Caps:
    """Collect the caps of all layers, from headroom ``room`` ``[...]`` and positive ``equity`` ``[..., 1]``."""
    levels, limited = row.table(parameters), parameters.max_drawdown is not None
    return Caps(
        exposure=levels.limit,
        drawdown=room[..., None] * allocation(parameters, row.assets) if limited else None,
        daily_loss=daily_loss,
        value_at_risk=row.var_cap,
        volatility=row.volatility_cap,
        regime=row.regime_cap,
        session=_session_cap(row, levels),
        liquidity=None if row.liquidity is None else row.liquidity / equity,
        compliance=compliance,
        kelly=row.kelly_cap,
    )


def _session_cap(row: StepData, levels: Levels) -> Tensor | None:
    """Cap of the session layer: zero in its first and last minutes and before a night; None if both are off."""
    if row.must_leave is None:
        return row.session_cap
    return (levels.unlimited if row.session_cap is None else row.session_cap).masked_fill(row.must_leave, 0.0)


def _daily_loss_cap(account: AccountState, row: StepData, parameters: TradingParameters) -> Tensor | None:
    """Cap of the daily loss layer: zero after the loss; None if it is off."""
    if parameters.masks.daily_loss is None:
        return None
    floor = account.session_equity * (1.0 - parameters.masks.daily_loss)
    return row.table(parameters).unlimited.masked_fill((account.equity < floor)[..., None], 0.0)


def _compliance_cap(account: AccountState, row: StepData, parameters: TradingParameters) -> Tensor | None:
    """Cap of the compliance layer: zero where a rule allows reductions only; None if all rules are off."""
    masks = parameters.masks
    broken: Tensor | None = None
    if masks.trades_per_day is not None:
        broken = account.trades_today >= masks.trades_per_day
    if masks.min_holding_bars is not None:
        young = (account.bars_held > 0.0) & (account.bars_held < masks.min_holding_bars)
        broken = young if broken is None else broken | young
    if masks.pattern_day_trader:
        trades = account.day_trades.sum(-1) >= DAY_TRADES
        stopped = (trades & (account.equity < DAY_TRADER_EQUITY))[..., None]
        broken = stopped if broken is None else broken | stopped
    return None if broken is None else row.table(parameters).unlimited.masked_fill(broken, 0.0)


def _margin_call(account: AccountState, row: StepData, parameters: TradingParameters) -> Tensor | None:
    maintenance = parameters.margin.maintenance
    if maintenance is None:
        return None
    gross = (account.shares * row.close).abs().sum(-1)
    return (account.alive & (account.equity < maintenance * gross))[..., None]


def _smallest(*caps: Tensor | None) -> Tensor:
    given = [cap for cap in caps if cap is not None]
    smallest = given[0]
    for cap in given[1:]:
        smallest = torch.minimum(smallest, cap)
    return smallest
