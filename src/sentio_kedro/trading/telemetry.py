"""What each layer of the mask forbade along a walk, worked out afterwards for many steps at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import LEAST_EQUITY, AccountState, Fill, allocation
from sentio_kedro.trading.action_masks import forbidden_shares
from sentio_kedro.trading.position_limits import Caps, View, session_cap
from sentio_kedro.trading.step_data import FIXED, Tape

BLOCK_STEPS = 128  # steps worked out at once, so that memory stays small


class Sight(NamedTuple):
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


def sight_of(account: AccountState, view: View) -> Sight:
    """Keep what ``layers_of`` needs of a step."""
    return Sight(account.alive, view.position, view.cap, view.caps.daily_loss, view.caps.compliance)


def layers_of(sight: Sight, fill: Fill, tape: Tape, parameters: TradingParameters) -> Tensor:
    """Share of the levels of all assets that each layer cut or forbade at each step ``[S, ..., layers]``.

    Args:
        sight: Of the walk's steps.
        fill: Ledger of the walk.
        tape: Facts of the walk.
        parameters: Limits.
    """
    blocks = []
    for start in range(0, tape.steps, BLOCK_STEPS):
        rows = slice(start, min(start + BLOCK_STEPS, tape.steps))
        seen = Sight._make(None if x is None else x[rows] for x in sight)
        facts = _aligned(tape.part(rows.start, rows.stop), seen.position)
        equity, left = fill.equity_before[rows], fill.headroom[rows]
        caps = _caps(seen, equity, left, facts, parameters)
        view = View(seen.position, seen.position, seen.cap, seen.cap, left, None, None, caps)
        blocks.append(forbidden_shares(seen.alive, equity, view, facts, parameters))
    return torch.cat(blocks)


def _aligned(tape: Tape, position: Tensor) -> Tape:
    """Give the facts of S steps as many dimensions as the accounts have, behind the first one."""
    ones = (1,) * (position.dim() - tape.close.dim())
    return Tape._make(
        x if name in FIXED or x is None else x.view(x.shape[0], *ones, *x.shape[1:])
        for name, x in tape._asdict().items()
    )


def _caps(sight: Sight, equity: Tensor, left: Tensor, tape: Tape, parameters: TradingParameters) -> Caps:
    """The layers' caps once more, most of them from the tape."""
    levels, limited = tape.table(parameters), parameters.max_drawdown < 1.0
    return Caps(
        exposure=levels.limit.expand_as(left)[..., None],
        drawdown=left[..., None] * allocation(parameters, tape.assets) if limited else None,
        daily_loss=sight.daily_loss,
        value_at_risk=tape.var_cap,
        volatility=tape.volatility_cap,
        regime=tape.regime_cap,
        session=session_cap(tape, levels),
        liquidity=None if tape.liquidity is None else tape.liquidity / equity.clamp_min(LEAST_EQUITY)[..., None],
        compliance=sight.compliance,
        kelly=tape.kelly_cap,
    )
