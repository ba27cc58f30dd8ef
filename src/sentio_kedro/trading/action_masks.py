"""Which actions an account may take: HOLD, or a target level, per asset.

Precedence, so that no row is ever empty: an asset that cannot be traded can only be held; a position that must shrink
cannot be held; then compliance; then all other layers. No layer but tradability forbids reducing a position, and flat
is always a reduction. A level beyond a cap stands for the cap: of the levels beyond it the smallest on each side stays
legal, so that an account can always re-enter small, and the others, which would stand for the same, are illegal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import AccountState, Decision
from sentio_kedro.trading.position_limits import PositionLimits
from sentio_kedro.trading.step_data import Levels, StepData

HOLD = 0  # index of the HOLD action; level i has index i + 1
TIE = 1e-6  # relative difference at which two exposures count as the same
NOTICED = 0.99  # of a level: what a layer leaves of it at least, or else it counts as cut by the layer
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
    """Levels ``[actions]`` on the device and dtype of ``like``; HOLD stands as 0."""
    return torch.tensor([0.0, *parameters.levels], device=like.device, dtype=like.dtype)


def decode(action: Tensor, levels: Tensor) -> Decision:
    """Turn action indices ``[..., A]`` into a decision, with ``levels`` from ``level_tensor``."""
    return Decision(level=levels[action], hold=action == HOLD)


def legal_actions(account: AccountState, view: PositionLimits, row: StepData, parameters: TradingParameters) -> Tensor:
    """Combine the layers.

    Args:
        account: Accounts ``[...]`` at the close of the decision bar.
        view: What ``position_limits`` says of them.
        row: Facts of the step.
        parameters: Limits.

    Returns:
        ``[..., A, actions]`` bool; each row has at least one legal action.
    """
    levels = row.table(parameters)
    free = row.tradable & account.alive[..., None]
    increase = levels.needed <= view.cap[..., None]
    if row.shortable is not None:
        increase = increase & allowed_sides(levels, row.shortable)
    enough = _worth_sending(account.equity, view, levels, row, parameters)
    increase = increase if enough is None else increase & enough
    legal = increase | reducing(view.position, levels)
    if view.must_flatten is not None:
        legal = legal & (~view.must_flatten[..., None] | (levels.size == 0.0))
    holds = (view.position.abs() <= DRIFT_TOLERANCE * view.hold_cap) | ~free
    return torch.cat([holds[..., None], legal & free[..., None]], dim=-1)


def require_choice(legal: Tensor) -> None:
    """Refuse a mask that leaves an asset without a legal action, which a policy would read as a uniform choice.

    The layers leave one by construction: flat where an asset trades, HOLD elsewhere. The check waits for the device: it
    is for the end of a walk, not for its steps.

    Args:
        legal: ``[..., A, actions]`` bool from ``legal_actions``.

    Raises:
        ValueError: If a row has no legal action.
    """
    stranded = int((~legal.any(-1)).sum())
    if stranded:
        raise ValueError(
            f"`legal` must allow an action in every decision of every asset, allowed none in {stranded}; let the "
            "mask leave flat where an asset can be traded, and HOLD elsewhere."
        )


def where_chosen(figures: Tensor, legal: Tensor) -> Tensor:
    """Spoil what came of decisions if one of them had no legal action: ``require_choice`` without waiting. Pure.

    Args:
        figures: ``[...]`` what came of them.
        legal: ``[..., actions]`` bool.

    Returns:
        ``figures``, or not numbers.
    """
    return torch.where(legal.any(-1).all(), figures, torch.nan)


def reducing(position: Tensor, levels: Tensor | Levels) -> Tensor:
    """Whether a level leaves no larger position on the same side ``[..., A, levels]``."""
    exposure, size = (levels, levels.abs()) if isinstance(levels, Tensor) else levels[:2]
    held = position[..., None]
    return (size <= held.abs() * (1.0 + TIE)) & (exposure * held >= 0.0)


def allowed_sides(levels: Levels, shortable: Tensor) -> Tensor:
    """Layer of the no-short list ``[A, levels]``."""
    return shortable[:, None] | (levels.exposure >= 0.0)


def _worth_sending(
    equity: Tensor, view: PositionLimits, levels: Levels, row: StepData, parameters: TradingParameters
) -> Tensor | None:
    """Levels whose order is worth at least the minimum notional and one lot ``[..., A, levels]``."""
    least, lot = parameters.orders.min_notional, parameters.orders.lot_size
    if least is None and lot is None:
        return None
    cap = view.cap[..., None]
    order = levels.exposure.clamp(-cap, cap) - view.position[..., None]
    value = order.abs() * equity[..., None, None]
    smallest = least or 0.0 if lot is None else (row.close * lot).clamp_min(least or 0.0)[..., None]
    return value * (1.0 + TIE) >= smallest


def objections(
    alive: Tensor, equity: Tensor, view: PositionLimits, row: StepData, parameters: TradingParameters
) -> dict[str, Tensor | None]:
    """Ask each layer alone which levels it cuts or forbids.

    Args:
        alive: ``[...]`` whether the accounts live.
        equity: ``[...]`` their equity, quote currency.
        view: What ``position_limits`` says of them.
        row: Facts of the step.
        parameters: Limits.

    Returns:
        By the names of ``LAYERS``, ``[..., A, levels]`` bool without HOLD; None where the layer is off. No layer
        objects to a reduction but validity, where the asset cannot be traded.
    """
    levels = row.table(parameters)
    free = (row.tradable & alive[..., None])[..., None]
    grows = ~reducing(view.position, levels)
    needed = levels.size * NOTICED
    enough = _worth_sending(equity, view, levels, row, parameters)
    found: dict[str, Tensor | None] = {"validity": ~free if enough is None else ~free | (grows & ~enough)}
    for layer, cap in zip(LAYERS[1:], view.caps, strict=True):
        beyond = None if cap is None else cap[..., None] < needed
        if layer == "compliance" and row.shortable is not None:
            sides = ~allowed_sides(levels, row.shortable)
            beyond = sides if beyond is None else beyond | sides
        found[layer] = None if beyond is None else grows & beyond
    return {layer: None if cut is None else cut.expand_as(grows) for layer, cut in found.items()}


def forbidden_shares(
    alive: Tensor, equity: Tensor, view: PositionLimits, row: StepData, parameters: TradingParameters
) -> Tensor:
    """Share of the levels of all assets that each layer cuts or forbids ``[..., layers]``; see ``objections``."""
    count, nothing = row.assets * len(parameters.levels), torch.zeros_like(equity)
    found = objections(alive, equity, view, row, parameters).values()
    return torch.stack([nothing if cut is None else _share(cut, count, nothing) for cut in found], dim=-1)


def _share(forbidden: Tensor, count: int, like: Tensor) -> Tensor:
    return forbidden.sum((-2, -1), dtype=like.dtype) / count
