"""What an account looks like at a decision: its positions, and how large the layers of the mask let them be.

Every layer is a cap on the size of a position, a fraction of equity; infinity is no cap and zero means that a position
can only be reduced. Computed once per step and read by masks, policies and execution alike.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import MIN_EQUITY, AccountState, Variation, allocation, headroom, without_dust
from sentio_kedro.trading.step_data import Levels, StepData

DAY_TRADER_EQUITY = 25_000.0  # FINRA rule 4210: below it, three day trades in five sessions are the most
DAY_TRADES = 3.0


class Caps(NamedTuple):
    """Caps of the layers, each broadcastable to ``[..., A]``, fraction of equity; None where a layer is off.

    Attributes:
        exposure: Of ``trading.max_position`` and ``masks.concentration``.
        drawdown: Of what is left of ``trading.max_drawdown``.
        daily_loss: Of the session's loss.
        value_at_risk: Of the position's value at risk.
        volatility: Of the target on volatility.
        regime: Of the filtered regimes.
        session: Of the minutes from open and to close, and of the night.
        liquidity: Of the daily volume.
        compliance: Of short sales, trades a day and holding time.
        kelly: Of trailing mean over variance.
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
    """Accounts at the close of the decision bar.

    Attributes:
        position: ``[..., A]`` what is held and under way, fraction of equity.
        committed: ``[..., A]`` the same in shares.
        cap: ``[..., A]`` largest position that the layers allow, fraction of equity.
        hold_cap: ``[..., A]`` size beyond which (times a tolerance for drift) a position must shrink.
        headroom: ``[...]`` share of full exposure that the drawdown limit leaves.
        must_flatten: ``[..., 1]`` bool, whether all must be sold: a margin call, or the last chance before the
            session's close; None if nothing can force it.
        called: ``[..., 1]`` bool, whether it is a margin call; None if margin is off.
        caps: Caps of each layer.
        guarded: ``[..., 1]`` bool, whether the layers and the limits on net exposure and value at risk hold for the
            account; None if for all.
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
    """Look at accounts at the close of a decision bar.

    Args:
        account: Accounts ``[...]`` marked at that close.
        row: Facts of the step.
        parameters: Limits.
        variation: Accounts that differ; those not guarded know no layer but the position limit and margin calls.
    """
    equity = account.equity.clamp_min(MIN_EQUITY)[..., None]
    committed = account.shares
    if account.in_flight.shape[-1]:
        size = committed.abs() + account.in_flight.abs().sum(-1)
        committed = without_dust(committed + account.in_flight.sum(-1), size)
    position = committed * row.close / equity
    left = headroom(account, parameters)
    caps = layer_caps(account, row, left, equity, parameters)
    hold_cap = _smallest(caps.exposure, caps.drawdown, caps.value_at_risk)
    cap = _smallest(hold_cap, *caps[2:3], *caps[4:])
    called = _margin_call(account, row, parameters)
    leave = row.must_leave
    if variation is not None and variation.guarded is not None:
        cap = torch.where(variation.guarded, cap, parameters.max_position)
        hold_cap = torch.where(variation.guarded, hold_cap, torch.inf)
        left = torch.where(variation.guarded[..., 0], left, 1.0)
        leave = None if leave is None else leave & variation.guarded
    must_flatten = called if leave is None else leave if called is None else called | leave
    if must_flatten is not None:
        cap = cap.masked_fill(must_flatten, 0.0)
        hold_cap = hold_cap.masked_fill(must_flatten, 0.0)
    guarded = None if variation is None else variation.guarded
    return PositionLimits(
        position, committed, cap.expand_as(position), hold_cap, left, must_flatten, called, caps, guarded
    )


def layer_caps(
    account: AccountState, row: StepData, left: Tensor, equity: Tensor, parameters: TradingParameters
) -> Caps:
    """Compute the cap of each layer.

    Args:
        account: Accounts ``[...]``.
        row: Facts of the step.
        left: ``[...]`` headroom.
        equity: ``[..., 1]`` equity, positive.
        parameters: Limits.
    """
    masks = parameters.masks
    levels = row.table(parameters)
    lost = None
    if masks.daily_loss is not None:
        floor = account.session_equity * (1.0 - masks.daily_loss)
        lost = levels.unlimited.masked_fill((account.equity < floor)[..., None], 0.0)
    limited = parameters.max_drawdown is not None
    drawdown = left[..., None] * allocation(parameters, row.assets) if limited else None
    return Caps(
        exposure=levels.limit,
        drawdown=drawdown,
        daily_loss=lost,
        value_at_risk=row.var_cap,
        volatility=row.volatility_cap,
        regime=row.regime_cap,
        session=session_cap(row, levels),
        liquidity=None if row.liquidity is None else row.liquidity / equity,
        compliance=_compliance_cap(account, levels.unlimited, parameters),
        kelly=row.kelly_cap,
    )


def session_cap(row: StepData, levels: Levels) -> Tensor | None:
    """Zero in the session's first and last minutes, and where positions would stay over night; None if both are off."""
    if row.must_leave is None:
        return row.session_cap
    return (levels.unlimited if row.session_cap is None else row.session_cap).masked_fill(row.must_leave, 0.0)


def _compliance_cap(account: AccountState, unlimited: Tensor, parameters: TradingParameters) -> Tensor | None:
    """Zero where a rule of the house or the regulator lets positions only shrink."""
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
    return None if broken is None else unlimited.masked_fill(broken, 0.0)


def _margin_call(account: AccountState, row: StepData, parameters: TradingParameters) -> Tensor | None:
    maintenance = parameters.margin.maintenance
    if maintenance is None:
        return None
    gross = (account.shares * row.close).abs().sum(-1)
    return (account.alive & (account.equity < maintenance * gross))[..., None]


def _smallest(*caps: Tensor | None) -> Tensor:
    known = [cap for cap in caps if cap is not None]
    least = known[0]
    for cap in known[1:]:
        least = torch.minimum(least, cap)
    return least
