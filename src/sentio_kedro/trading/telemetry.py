"""Share of levels that each layer of the mask forbids, computed after a simulation for many steps at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import MIN_EQUITY, AccountState, Fill
from sentio_kedro.trading.action_masks import forbidden_shares
from sentio_kedro.trading.position_limits import PositionLimits, layer_caps
from sentio_kedro.trading.step_data import FIXED, StepData

BLOCK_STEPS = 128  # steps computed at once, to bound memory


class TelemetryInputs(NamedTuple):
    """Per-step account data needed to recompute mask telemetry after a simulation.

    Attributes:
        alive: ``[...]`` whether the account is alive at the decision.
        position: ``[..., A]`` position and orders in flight, fraction of equity.
        cap: ``[..., A]`` smallest cap of all layers.
        daily_loss: Cap of that layer; None where it is off.
        compliance: Cap of that layer; None where it is off.
    """

    alive: Tensor
    position: Tensor
    cap: Tensor
    daily_loss: Tensor | None
    compliance: Tensor | None


def telemetry_inputs_of(account: AccountState, limits: PositionLimits) -> TelemetryInputs:
    """Select the inputs of ``layers_of`` at one step."""
    return TelemetryInputs(account.alive, limits.position, limits.cap, limits.caps.daily_loss, limits.caps.compliance)


def layers_of(
    telemetry_inputs: TelemetryInputs, fill: Fill, step_data: StepData, parameters: TradingParameters
) -> Tensor:
    """Share of the levels of all assets that each layer cuts or forbids at each step ``[S, ..., layers]``."""
    blocks = []
    for start in range(0, step_data.steps, BLOCK_STEPS):
        rows = slice(start, min(start + BLOCK_STEPS, step_data.steps))
        inputs = TelemetryInputs._make(None if x is None else x[rows] for x in telemetry_inputs)
        block = _aligned(step_data.part(rows.start, rows.stop), inputs.position)
        equity, room = fill.equity_before[rows], fill.headroom[rows]
        positive = equity.clamp_min(MIN_EQUITY)[..., None]
        caps = layer_caps(block, room, positive, inputs.daily_loss, inputs.compliance, parameters)
        limits = PositionLimits(inputs.position, inputs.position, inputs.cap, inputs.cap, room, None, None, caps)
        blocks.append(forbidden_shares(inputs.alive, equity, limits, block, parameters))
    return torch.cat(blocks)


def _aligned(step_data: StepData, position: Tensor) -> StepData:
    """Give step data as many dimensions as the accounts have, behind the first one."""
    ones = (1,) * (position.dim() - step_data.close.dim())
    return StepData._make(
        x if name in FIXED or x is None else x.view(x.shape[0], *ones, *x.shape[1:])
        for name, x in step_data._asdict().items()
    )
