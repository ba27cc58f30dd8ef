"""Legal actions per asset: HOLD, or a target level.

Precedence, so that no row is ever empty: an asset that cannot be traded can only be held; a position that must shrink
cannot be held; then compliance; then all other layers. No layer but tradability forbids reducing a position, and flat
is always a reduction. Execution cuts a level beyond a cap to the cap. Of these levels the smallest on each side stays
legal, so that an account can always re-enter small; the others are illegal.

A layer is a cap on the size of a position: add it in ``position_limits.layer_caps``, and its name in ``LAYERS``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import AccountState, Decision
from sentio_kedro.trading.position_limits import PositionLimits
from sentio_kedro.trading.step_data import Levels, StepData

HOLD = 0  # index of the HOLD action; level i has index i + 1
TIE = 1e-6  # relative difference up to which two exposures are equal
MIN_SHARE = 0.99  # of a level; a layer with a smaller cap cuts it
DRIFT_TOLERANCE = 1.25  # a held position may drift this far above its cap before it must be cut
LAYERS = (
    "validity",
    "exposure",
    "drawdown",
    "daily_loss",
    "value_at_risk",
    "volatility",
    "regime",
    "session",
    "liquidity",
    "compliance",
    "kelly",
)


def level_tensor(parameters: TradingParameters, like: Tensor) -> Tensor:
    """Level of each action ``[actions]`` on the device and dtype of ``like``; that of HOLD is 0."""
    return torch.tensor([0.0, *parameters.levels], device=like.device, dtype=like.dtype)


def decode(action: Tensor, levels: Tensor) -> Decision:
    """Decode action indices ``[..., A]`` with ``levels`` from ``level_tensor``."""
    return Decision(level=levels[action], hold=action == HOLD)


def legal_actions(
    account: AccountState, limits: PositionLimits, row: StepData, parameters: TradingParameters
) -> Tensor:
    """Combine the layers to the mask of legal actions ``[..., A, actions]`` (bool), at least one per asset."""
    levels = row.table(parameters)
    free = row.tradable & account.alive[..., None]
    increase = levels.needed <= limits.cap[..., None]
    if row.shortable is not None:
        increase = increase & allowed_sides(levels, row.shortable)
    large_enough = _large_enough(account.equity, limits, levels, row, parameters)
    increase = increase if large_enough is None else increase & large_enough
    legal = increase | reducing(limits.position, levels)
    if limits.must_flatten is not None:
        legal = legal & (~limits.must_flatten[..., None] | (levels.size == 0.0))
    holds = (limits.position.abs() <= DRIFT_TOLERANCE * limits.hold_cap) | ~free
    return torch.cat([holds[..., None], legal & free[..., None]], dim=-1)


def require_choice(legal: Tensor) -> None:
    """Refuse a mask ``[..., A, actions]`` without a legal action, for which a policy's choice would be uniform.

    The layers leave one by construction: flat where an asset trades, HOLD elsewhere. The check synchronises with the
    device: call it after a simulation, not at each step.

    Raises:
        ValueError: If an asset has no legal action.
    """
    empty = int((~legal.any(-1)).sum())
    if empty:
        raise ValueError(
            f"`legal` must allow an action in every decision of every asset, allowed none in {empty}; let the "
            "mask leave flat where an asset can be traded, and HOLD elsewhere."
        )


def where_chosen(values: Tensor, legal: Tensor) -> Tensor:
    """Set ``values`` to NaN if a decision has no legal action ``[..., actions]``: ``require_choice`` without a sync."""
    return torch.where(legal.any(-1).all(), values, torch.nan)


def reducing(position: Tensor, levels: Levels) -> Tensor:
    """Mask of the levels that enlarge no position and change no sign ``[..., A, levels]`` (bool)."""
    held = position[..., None]
    return (levels.size <= held.abs() * (1.0 + TIE)) & (levels.exposure * held >= 0.0)


def allowed_sides(levels: Levels, shortable: Tensor) -> Tensor:
    """Mask of the levels that the no-short list allows ``[A, levels]`` (bool)."""
    return shortable[:, None] | (levels.exposure >= 0.0)


def _large_enough(
    equity: Tensor, limits: PositionLimits, levels: Levels, row: StepData, parameters: TradingParameters
) -> Tensor | None:
    """Mask of the levels whose order reaches the minimum notional and one lot ``[..., A, levels]`` (bool)."""
    notional, lot = parameters.orders.min_notional, parameters.orders.lot_size
    if notional is None and lot is None:
        return None
    cap = limits.cap[..., None]
    order = levels.exposure.clamp(-cap, cap) - limits.position[..., None]
    value = order.abs() * equity[..., None, None]
    notional = notional or 0.0
    smallest = notional if lot is None else (row.close * lot).clamp_min(notional)[..., None]
    return value * (1.0 + TIE) >= smallest


def objections(
    alive: Tensor, equity: Tensor, limits: PositionLimits, row: StepData, parameters: TradingParameters
) -> dict[str, Tensor | None]:
    """Levels that each layer alone cuts or forbids, for accounts ``[...]``.

    Returns:
        By the names of ``LAYERS``, ``[..., A, levels]`` bool without HOLD; None where the layer is off. No layer
        objects to a reduction but validity, where the asset cannot be traded.
    """
    levels = row.table(parameters)
    free = (row.tradable & alive[..., None])[..., None]
    grows = ~reducing(limits.position, levels)
    needed = levels.size * MIN_SHARE
    large_enough = _large_enough(equity, limits, levels, row, parameters)
    invalid = ~free if large_enough is None else ~free | (grows & ~large_enough)
    cuts: dict[str, Tensor | None] = {"validity": invalid}
    for layer, cap in zip(LAYERS[1:], limits.caps, strict=True):
        beyond = None if cap is None else cap[..., None] < needed
        if layer == "compliance" and row.shortable is not None:
            sides = ~allowed_sides(levels, row.shortable)
            beyond = sides if beyond is None else beyond | sides
        cuts[layer] = None if beyond is None else grows & beyond
    return {layer: None if cut is None else cut.expand_as(grows) for layer, cut in cuts.items()}


def forbidden_shares(
    alive: Tensor, equity: Tensor, limits: PositionLimits, row: StepData, parameters: TradingParameters
) -> Tensor:
    """Share of the levels of all assets that each layer cuts or forbids ``[..., layers]``."""
    count, zero = row.assets * len(parameters.levels), torch.zeros_like(equity)
    cuts = objections(alive, equity, limits, row, parameters).values()
    shares = [zero if cut is None else cut.sum((-2, -1), dtype=zero.dtype) / count for cut in cuts]
    return torch.stack(shares, dim=-1)
