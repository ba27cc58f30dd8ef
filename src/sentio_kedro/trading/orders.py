"""From a decision to orders: what is wished, what the limits leave of it, and when it reaches the market."""

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
BALANCED = 1e-6  # of equity: increases whose sum is smaller leave net exposure as it is
COARSE_ROUNDING = 1e-5  # of a lot in single precision
NOTICED = 1e-7  # of equity: what a limit takes away at least before it counts as having cut


class Projection(NamedTuple):
    """Positions that meet the joint limits.

    Attributes:
        position: ``[..., A]`` fraction of equity, between the current and the wished one.
        factor: ``[...]`` what all increases were scaled by, in [0, 1].
    """

    position: Tensor
    factor: Tensor


class Orders(NamedTuple):
    """Orders fixed in shares at the close of the decision bar.

    Attributes:
        shares: ``[..., A]`` signed shares.
        asked: Positions that the decision asked for, fraction of equity.
        wished: What the layers left of them; what is held where the decision holds.
        target: What the joint limits left.
    """

    shares: Tensor
    asked: Tensor
    wished: Tensor
    target: Tensor

    def capped(self, hold: Tensor) -> Tensor:
        """Whether a limit of any kind cut the order ``[..., A]`` (bool)."""
        return ~hold & self._differs(self.target, self.asked)

    def projected(self, hold: Tensor) -> Tensor:
        """Whether a joint limit cut the order ``[..., A]`` (bool)."""
        return ~hold & self._differs(self.target, self.wished)

    def _differs(self, left: Tensor, asked: Tensor) -> Tensor:
        return (left - asked).abs() > NOTICED


def project(
    current: Tensor,
    target: Tensor,
    gross_limit: Tensor,
    net_limit: float | Tensor | None = None,
    var_limit: float | Tensor | None = None,
    volatility: Tensor | None = None,
) -> Projection:
    """Meet joint limits by scaling risk-increasing orders; reductions pass whole.

    An order through zero is a reduction to flat and an increase from there. All increases of an account shrink by the
    largest common factor that keeps gross exposure, net exposure and value at risk within their limits. Value at risk
    is summed over assets, as if all moved together: an upper bound whatever their correlation.

    Args:
        current: ``[..., A]`` positions, fraction of equity.
        target: ``[..., A]`` wished positions, fraction of equity.
        gross_limit: ``[...]`` most gross exposure, fraction of equity.
        net_limit: Most net exposure of either sign, fraction of equity; None is off.
        var_limit: Most value at risk, fraction of equity; None is off.
        volatility: ``[..., A]`` loss per unit of exposure that ``var_limit`` counts.
    """
    reduced = target.clamp(current.clamp_max(0.0), current.clamp_min(0.0))  # between flat and what is held
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
    account: AccountState, view: PositionLimits, decision: Decision, row: StepData, parameters: TradingParameters
) -> Orders:
    """Turn a decision into orders.

    An order is what the target asks beyond what is held and under way. Limits make it smaller, never larger. Closing
    orders are exact; others are whole lots and worth the minimum notional, or are not sent.

    Args:
        account: Accounts ``[...]`` at the close of the decision bar.
        view: What ``position_limits`` says of them.
        decision: Decisions ``[..., A]``.
        row: Facts of the step.
        parameters: Limits.
    """
    equity = account.equity.clamp_min(MIN_EQUITY)[..., None]
    asked = level_exposure(decision.level, parameters)
    wished = torch.where(decision.hold, view.position, asked.clamp(-view.cap, view.cap))
    gross, net = parameters.gross_limit * view.headroom, parameters.net_limit
    net = None if net is None or net >= parameters.gross_limit else net  # gross exposure bounds net exposure
    limits = (_if_guarded(net, view), _if_guarded(parameters.var_limit, view))
    target = project(view.position, wished, gross, *limits, row.volatility).position
    orders = (target - view.position) * equity / row.close
    orders = torch.where(target == 0.0, -view.committed, orders)
    if parameters.orders.lot_size is not None:
        orders = torch.where(target == 0.0, orders, whole_lots(orders, parameters.orders.lot_size))
    if parameters.orders.min_notional is not None:
        small = orders.abs() * row.close < parameters.orders.min_notional
        orders = orders.masked_fill(small & (target != 0.0), 0.0)
    if view.called is not None:
        orders = torch.where(view.called, -account.shares, orders)
    return Orders(orders, asked, wished, target)  # where the decision holds, the target is the position: no order


def _if_guarded(limit: float | None, view: PositionLimits) -> float | Tensor | None:
    if limit is None or view.guarded is None:
        return limit
    return torch.full_like(view.headroom, limit).masked_fill(~view.guarded[..., 0], torch.inf)


def whole_lots(shares: Tensor, lot: float) -> Tensor:
    """Round shares towards zero to whole lots; what is a whole lot but for rounding is one."""
    rounding = ROUNDING if shares.dtype == torch.float64 else COARSE_ROUNDING
    return shares.sign() * (shares.abs() / lot + rounding).floor() * lot


class Queue(NamedTuple):
    """Orders of a step.

    Attributes:
        arriving: ``[..., A]`` shares that reach the market at the next open.
        in_flight: ``[..., A, L]`` shares still under way.
    """

    arriving: Tensor
    in_flight: Tensor


def enqueue(
    account: AccountState,
    view: PositionLimits,
    decision: Decision,
    orders: Tensor,
    parameters: TradingParameters,
    variation: Variation | None = None,
) -> Queue:
    """Send orders on their way; a new order for an asset cancels at once what is still unfilled in the market.

    Args:
        account: Accounts ``[...]``.
        view: What ``position_limits`` says of them; a margin call cancels everything under way.
        decision: Decisions; holding lets older orders work on.
        orders: ``[..., A]`` new orders, shares.
        parameters: Latency, and what becomes of unfilled orders.
        variation: Accounts with a latency of their own.
    """
    latency = parameters.orders.latency_bars
    waiting = account.in_flight
    working: Tensor | None = None
    if parameters.orders.unfilled == "carry":
        working = account.working.masked_fill(~decision.hold, 0.0)
    if view.called is not None:
        waiting = waiting.masked_fill(view.called[..., None], 0.0) if latency else waiting
        working = None if working is None else working.masked_fill(view.called, 0.0)
    if not latency:
        return Queue(orders if working is None else _sum((orders, working)), waiting)
    orders = orders.masked_fill(~account.alive[..., None], 0.0)
    shifted = torch.cat([waiting[..., 1:], torch.zeros_like(waiting[..., :1])], dim=-1)
    slots = torch.arange(latency + 1, device=orders.device)
    own = torch.full_like(account.equity, latency)[..., None] if variation is None else variation.latency
    own = torch.full_like(account.equity, latency)[..., None] if own is None else own
    if view.called is not None:
        own = torch.where(view.called, 0.0, own.to(orders.dtype))  # the broker sells at the next open
    placed = torch.where((own == slots)[..., None, :], orders[..., None], 0.0)  # [..., A, L + 1]
    terms = (waiting[..., 0], placed[..., 0]) if working is None else (waiting[..., 0], placed[..., 0], working)
    return Queue(_sum(terms), shifted + placed[..., 1:])


def _sum(terms: tuple[Tensor, ...]) -> Tensor:
    """Add orders that reach the market together; what cancels is 0."""
    total, largest = terms[0], terms[0].abs()
    for term in terms[1:]:
        total, largest = total + term, torch.maximum(largest, term.abs())
    return without_dust(total, largest)
