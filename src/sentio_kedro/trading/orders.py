"""Orders of a decision: requested, capped and projected positions, and their way to the market."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import (
    MIN_EQUITY,
    AccountState,
    Decision,
    Variation,
    level_exposure,
    without_dust,
)
from sentio_kedro.trading.position_limits import PositionLimits
from sentio_kedro.trading.step_data import ROUNDING, StepData

MIN_EXPOSURE = 1e-12
BALANCED = 1e-6  # of equity; increases with a smaller sum leave net exposure unchanged
COARSE_ROUNDING = 1e-5  # of a lot in single precision
MIN_CUT = 1e-7  # of equity; a smaller reduction by a limit is rounding


class Projection(NamedTuple):
    """Positions that meet the joint limits.

    Attributes:
        position: ``[..., A]`` fraction of equity, between the current position and the target.
        factor: ``[...]`` scale of all increases, in [0, 1].
    """

    position: Tensor
    factor: Tensor


class Orders(NamedTuple):
    """Orders fixed in shares at the close of the decision bar.

    Attributes:
        shares: ``[..., A]`` signed shares.
        requested: ``[..., A]`` positions of the action, fraction of equity.
        capped: ``[..., A]`` these after the mask's caps; the current position where the decision holds.
        target: ``[..., A]`` these after the joint limits.
    """

    shares: Tensor
    requested: Tensor
    capped: Tensor
    target: Tensor

    def cut(self, hold: Tensor) -> Tensor:
        """Mask of the orders that a limit of any kind reduced ``[..., A]`` (bool)."""
        return ~hold & ((self.target - self.requested).abs() > MIN_CUT)

    def projected(self, hold: Tensor) -> Tensor:
        """Mask of the orders that a joint limit reduced ``[..., A]`` (bool)."""
        return ~hold & ((self.target - self.capped).abs() > MIN_CUT)


def project(
    current: Tensor,
    target: Tensor,
    gross_limit: Tensor,
    net_limit: float | Tensor | None = None,
    var_limit: float | Tensor | None = None,
    volatility: Tensor | None = None,
) -> Projection:
    """Meet joint limits by scaling risk-increasing orders; reductions pass unscaled.

    An order through zero is a reduction to flat and an increase from there. All increases of an account shrink by the
    largest common factor that keeps gross exposure, net exposure and value at risk within their limits. Value at risk
    is summed over assets, as if all moved together: an upper bound whatever their correlation.

    Args:
        current: ``[..., A]`` current positions, fraction of equity.
        target: ``[..., A]`` target positions, fraction of equity.
        gross_limit: ``[...]`` maximum gross exposure, fraction of equity.
        net_limit: Maximum net exposure of either sign, fraction of equity; None is off.
        var_limit: Maximum value at risk, fraction of equity; None is off.
        volatility: ``[..., A]`` value at risk per unit of exposure.
    """
    reduced = target.clamp(current.clamp_max(0.0), current.clamp_min(0.0))  # between flat and the current position
    increase = target - reduced
    sizes = reduced.abs(), increase.abs()
    factor = (gross_limit - sizes[0].sum(-1)) / sizes[1].sum(-1).clamp_min(MIN_EXPOSURE)
    if net_limit is not None:
        net = increase.sum(-1)
        room = net_limit - net.sign() * reduced.sum(-1)
        bounded = torch.minimum(factor, room / net.abs().clamp_min(MIN_EXPOSURE))
        factor = torch.where(net.abs() <= BALANCED, factor, bounded)
    if var_limit is not None and volatility is not None:
        room = var_limit - (volatility * sizes[0]).sum(-1)
        factor = torch.minimum(factor, room / (volatility * sizes[1]).sum(-1).clamp_min(MIN_EXPOSURE))
    factor = factor.clamp(0.0, 1.0)
    return Projection(reduced + factor[..., None] * increase, factor)


def order_shares(
    account: AccountState, limits: PositionLimits, decision: Decision, row: StepData, parameters: TradingParameters
) -> Orders:
    """Compute orders: target less position and orders in flight.

    Limits make an order smaller, never larger. Closing orders are exact. Others are whole lots of at least the minimum
    notional, or are not sent.
    """
    equity = account.equity.clamp_min(MIN_EQUITY)[..., None]
    requested = level_exposure(decision.level, parameters)
    capped = torch.where(decision.hold, limits.position, requested.clamp(-limits.cap, limits.cap))
    gross, net = parameters.gross_limit * limits.headroom, parameters.net_limit
    net = None if net is None or net >= parameters.gross_limit else net  # gross exposure bounds net exposure
    joint = _if_guarded(net, limits), _if_guarded(parameters.var_limit, limits)
    target = project(limits.position, capped, gross, *joint, row.volatility).position
    orders = (target - limits.position) * equity / row.close
    orders = torch.where(target == 0.0, -limits.committed, orders)
    if parameters.orders.lot_size is not None:
        orders = torch.where(target == 0.0, orders, whole_lots(orders, parameters.orders.lot_size))
    if parameters.orders.min_notional is not None:
        small = orders.abs() * row.close < parameters.orders.min_notional
        orders = orders.masked_fill(small & (target != 0.0), 0.0)
    if limits.called is not None:
        orders = torch.where(limits.called, -account.shares, orders)
    return Orders(orders, requested, capped, target)  # where the decision holds, the target is the position: no order


def _if_guarded(limit: float | None, limits: PositionLimits) -> float | Tensor | None:
    if limit is None or limits.guarded is None:
        return limit
    return torch.full_like(limits.headroom, limit).masked_fill(~limits.guarded[..., 0], torch.inf)


def whole_lots(shares: Tensor, lot: float) -> Tensor:
    """Round shares towards zero to whole lots, with a tolerance for floating-point error."""
    rounding = ROUNDING if shares.dtype == torch.float64 else COARSE_ROUNDING
    return shares.sign() * (shares.abs() / lot + rounding).floor() * lot


def enqueue(
    account: AccountState,
    limits: PositionLimits,
    decision: Decision,
    orders: Tensor,
    parameters: TradingParameters,
    variation: Variation | None = None,
) -> tuple[Tensor, Tensor]:
    """Queue new ``orders`` (shares ``[..., A]``) behind those in flight.

    A new order for an asset cancels at once what is still unfilled in the market; HOLD leaves it working. A margin call
    cancels all older orders.

    Returns:
        Shares that reach the market at the next open ``[..., A]``, and later ``[..., A, L]``.
    """
    latency = parameters.orders.latency_bars
    waiting = account.in_flight
    working: Tensor | None = None
    if parameters.orders.unfilled == "carry":
        working = account.working.masked_fill(~decision.hold, 0.0)
    if limits.called is not None:
        waiting = waiting.masked_fill(limits.called[..., None], 0.0) if latency else waiting
        working = None if working is None else working.masked_fill(limits.called, 0.0)
    if not latency:
        return orders if working is None else _sum((orders, working)), waiting
    orders = orders.masked_fill(~account.alive[..., None], 0.0)
    shifted = torch.cat([waiting[..., 1:], torch.zeros_like(waiting[..., :1])], dim=-1)
    slots = torch.arange(latency + 1, device=orders.device)
    delay = None if variation is None else variation.latency
    delay = torch.full_like(account.equity, latency)[..., None] if delay is None else delay
    if limits.called is not None:
        delay = torch.where(limits.called, 0.0, delay.to(orders.dtype))  # the broker sells at the next open
    placed = torch.where((delay == slots)[..., None, :], orders[..., None], 0.0)  # [..., A, L + 1]
    terms = (waiting[..., 0], placed[..., 0]) if working is None else (waiting[..., 0], placed[..., 0], working)
    return _sum(terms), shifted + placed[..., 1:]


def _sum(terms: tuple[Tensor, ...]) -> Tensor:
    """Add orders that reach the market together; orders that cancel sum to exactly 0."""
    total, largest = terms[0], terms[0].abs()
    for term in terms[1:]:
        total, largest = total + term, torch.maximum(largest, term.abs())
    return without_dust(total, largest)
