"""Costs of a trade."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import CostParameters
from sentio_kedro.trading.step_data import StepData

BASIS_POINT = 1e-4


class Costs(NamedTuple):
    """Costs in quote currency, each ``[..., A]`` and never negative.

    Attributes:
        commission: Commission paid.
        spread: Half spread paid.
        impact: Market impact paid; None where it is off.
    """

    commission: Tensor
    spread: Tensor
    impact: Tensor | None

    def plus(self, other: Costs) -> Costs:
        """Add the costs of another trade in the same step."""
        impact = None if self.impact is None or other.impact is None else self.impact + other.impact
        return Costs(self.commission + other.commission, self.spread + other.spread, impact)


def trade_costs(
    shares: Tensor, notional: Tensor, row: StepData, parameters: CostParameters, multiplier: Tensor | None = None
) -> Costs:
    """Cost of a trade: commission, half spread, and impact by the square-root law.

    Impact is coefficient x daily volatility x sqrt(order / daily volume), a fraction of notional (Toth et al.,
    Anomalous Price Impact and the Critical Nature of Liquidity in Financial Markets, Physical Review X, 2011).

    Args:
        shares: ``[..., A]`` shares traded, not negative.
        notional: ``[..., A]`` their value, quote currency.
        row: Half spread and impact of the bar.
        parameters: Commission.
        multiplier: ``[..., 1]`` factor on all costs; None is 1.
    """
    commission = notional * (parameters.commission_bps * BASIS_POINT)
    if parameters.commission_per_share:
        commission = commission + shares * parameters.commission_per_share
    if parameters.min_commission:
        commission = torch.where(shares > 0.0, commission.clamp_min(parameters.min_commission), 0.0)
    spread = notional * row.half_spread
    impact = None if row.impact is None else shares.sqrt() * row.impact * notional
    if multiplier is None:
        return Costs(commission, spread, impact)
    return Costs(commission * multiplier, spread * multiplier, None if impact is None else impact * multiplier)
