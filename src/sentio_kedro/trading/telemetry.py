"""What each layer of the mask forbade along a walk, worked out afterwards for many steps at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import MIN_EQUITY, AccountState, Fill, allocation
from sentio_kedro.trading.action_masks import forbidden_shares
from sentio_kedro.trading.position_limits import Caps, PositionLimits, session_cap
from sentio_kedro.trading.step_data import FIXED, StepData

BLOCK_STEPS = 128  # steps worked out at once, so that memory stays small


class TelemetryInputs(NamedTuple):
    """What cannot be told from ledger and tape afterwards, of one step or of S steps ``[S, ...]``.

    Attributes:
        alive: ``[...]`` whether the account lived at the decision.
        position: ``[..., A]`` position that the mask saw, fraction of equity.
        cap: ``[..., A]`` smallest cap of all layers.
        daily_loss: Cap of that layer; None where it is off.
        compliance: Cap of that layer; None where it is off.
    """

    alive: Tensor
    position: Tensor
    cap: Tensor
    daily_loss: Tensor | None
    compliance: Tensor | None


def telemetry_inputs_of(account: AccountState, view: PositionLimits) -> TelemetryInputs:
    """Keep what ``layers_of`` needs of a step."""
    return TelemetryInputs(account.alive, view.position, view.cap, view.caps.daily_loss, view.caps.compliance)


def layers_of(
    telemetry_inputs: TelemetryInputs, fill: Fill, step_data: StepData, parameters: TradingParameters
) -> Tensor:
    """Share of the levels of all assets that each layer cut or forbade at each step ``[S, ..., layers]``.

    Args:
        telemetry_inputs: Of the walk's steps.
        fill: Ledger of the walk.
        step_data: Facts of the walk.
        parameters: Limits.
    """
    blocks = []
    for start in range(0, step_data.steps, BLOCK_STEPS):
        rows = slice(start, min(start + BLOCK_STEPS, step_data.steps))
        seen = TelemetryInputs._make(None if x is None else x[rows] for x in telemetry_inputs)
        facts = _aligned(step_data.part(rows.start, rows.stop), seen.position)
        equity, left = fill.equity_before[rows], fill.headroom[rows]
        caps = _caps(seen, equity, left, facts, parameters)
        view = PositionLimits(seen.position, seen.position, seen.cap, seen.cap, left, None, None, caps)
        blocks.append(forbidden_shares(seen.alive, equity, view, facts, parameters))
    return torch.cat(blocks)


def _aligned(step_data: StepData, position: Tensor) -> StepData:
    """Give the facts of S steps as many dimensions as the accounts have, behind the first one."""
    ones = (1,) * (position.dim() - step_data.close.dim())
    return StepData._make(
        x if name in FIXED or x is None else x.view(x.shape[0], *ones, *x.shape[1:])
        for name, x in step_data._asdict().items()
    )


def _caps(
    telemetry_inputs: TelemetryInputs, equity: Tensor, left: Tensor, step_data: StepData, parameters: TradingParameters
) -> Caps:
    """The layers' caps once more, most of them from the tape."""
    levels, limited = step_data.table(parameters), parameters.max_drawdown is not None
    return Caps(
        exposure=levels.limit.expand_as(left)[..., None],
        drawdown=left[..., None] * allocation(parameters, step_data.assets) if limited else None,
        daily_loss=telemetry_inputs.daily_loss,
        value_at_risk=step_data.var_cap,
        volatility=step_data.volatility_cap,
        regime=step_data.regime_cap,
        session=session_cap(step_data, levels),
        liquidity=None
        if step_data.liquidity is None
        else step_data.liquidity / equity.clamp_min(MIN_EQUITY)[..., None],
        compliance=telemetry_inputs.compliance,
        kelly=step_data.kelly_cap,
    )
