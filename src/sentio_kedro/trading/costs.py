"""Costs of a trade."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from sentio_kedro.config import CostParameters

BASIS_POINT = 1e-4


class Costs(NamedTuple):
    """Costs in quote currency, each ``[..., A]`` and never negative."""

    commission: Tensor
    spread: Tensor


def trade_costs(notional: Tensor, parameters: CostParameters) -> Costs:
    """Price a trade: commission and half spread in proportion to what is traded.

    Args:
        notional: ``[..., A]`` traded value, quote currency, not negative.
        parameters: Rates in bps of notional.

    Returns:
        The two costs.
    """
    return Costs(
        commission=notional * (parameters.commission_bps * BASIS_POINT),
        spread=notional * (parameters.half_spread_bps * BASIS_POINT),
    )
