"""Market data of all steps of a simulation, computed before the first one.

None of it depends on an account. Fields that the parameters switch off are None.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import allocation

MIN_CAP = 1e-6  # of equity; no level is legal under a smaller cap
ROUNDING = 1e-9  # of a lot
FIXED = ("levels", "shortable")  # fields that are the same at all steps


class Levels(NamedTuple):
    """Exposures of ``trading.levels`` as tensors ``[levels]``.

    Attributes:
        exposure: Signed exposure of a level before any cap, fraction of equity.
        size: Absolute exposure.
        needed: Smallest cap at which a level is legal: slightly above the next smaller level on its side.
        limit: Largest position in one asset, fraction of equity, ``[]``.
        unlimited: Infinity, ``[]``, the cap of a layer that does not bind.
    """

    exposure: Tensor
    size: Tensor
    needed: Tensor
    limit: Tensor
    unlimited: Tensor


class StepData(NamedTuple):
    """Market data of S steps, each ``[S, ..., A]`` unless said otherwise, broadcastable to the accounts.

    A step goes from the close of bar t to the close of bar t + 1. A field with a default is None where it is off.

    Attributes:
        close: Close of bar t, quote currency.
        tradable: Whether the asset can be decided on at the close of bar t.
        open: Open of bar t + 1, the fill price.
        next_close: Close of bar t + 1.
        fillable: Whether bar t + 1 exists for the asset.
        half_spread: Half spread of bar t + 1, fraction of traded notional.
        high: High of bar t + 1, for stops.
        low: Low of bar t + 1, for stops.
        impact: Impact of trading one share, fraction of traded notional; grows with the root of the shares.
        max_shares: Largest fill at the open of bar t + 1, shares.
        split: New shares per old one at the start of bar t + 1.
        dividend: Cash per (new) share paid to holders at the close of bar t.
        funding: Funding rate of bar t + 1, fraction of the position at its close, paid by longs.
        delisted: Whether the asset's last bar was bar t.
        years: ``[S, ..., 1]`` years from close to close.
        session_starts: ``[S, ..., 1]`` whether bar t + 1 is the first of its session.
        session_ends: ``[S, ..., 1]`` whether bar t + 1 is the last of its session.
        must_leave: ``[S, ..., 1]`` whether this step's order is the last to be filled before the session's close.
        session_cap: ``[S, ..., 1]`` 0 in the session's first and last minutes, else infinite.
        volatility: Value at risk per unit of exposure: daily volatility times the quantile of ``masks.var_confidence``.
        var_cap: Cap of the value at risk, fraction of equity.
        volatility_cap: Cap of the target volatility, fraction of equity.
        regime_cap: ``[S, ..., 1]`` cap of the regime, fraction of equity.
        kelly_cap: Cap of the Kelly criterion, fraction of equity.
        liquidity: Largest position, quote currency.
        levels: Exposures of the levels, the same at all steps.
        shortable: ``[A]`` bool, whether the asset may be sold short; the same at all steps.
    """

    close: Tensor
    tradable: Tensor
    open: Tensor
    next_close: Tensor
    fillable: Tensor
    half_spread: Tensor
    high: Tensor | None = None
    low: Tensor | None = None
    impact: Tensor | None = None
    max_shares: Tensor | None = None
    split: Tensor | None = None
    dividend: Tensor | None = None
    funding: Tensor | None = None
    delisted: Tensor | None = None
    years: Tensor | None = None
    session_starts: Tensor | None = None
    session_ends: Tensor | None = None
    must_leave: Tensor | None = None
    session_cap: Tensor | None = None
    volatility: Tensor | None = None
    var_cap: Tensor | None = None
    volatility_cap: Tensor | None = None
    regime_cap: Tensor | None = None
    kelly_cap: Tensor | None = None
    liquidity: Tensor | None = None
    levels: Levels | None = None
    shortable: Tensor | None = None

    def table(self, parameters: TradingParameters) -> Levels:
        """Exposures of the levels; computed if they are not part of the data."""
        return level_table(parameters, self.assets, self.close) if self.levels is None else self.levels

    @property
    def steps(self) -> int:
        """Number of steps S."""
        return int(self.close.shape[0])

    @property
    def assets(self) -> int:
        """Number of assets A."""
        return int(self.close.shape[-1])

    def step(self, index: int | Tensor) -> StepData:
        """Market data of one step, or of each account's own step ``[N]``, without the leading dimension."""
        return StepData(*(x if name in FIXED or x is None else x[index] for name, x in self._asdict().items()))

    def part(self, start: int, stop: int) -> StepData:
        """Market data of the steps ``[start, stop)``."""
        return StepData(*(x if name in FIXED or x is None else x[start:stop] for name, x in self._asdict().items()))

    def each_step(self) -> Iterator[StepData]:
        """Market data of each step in turn; cheaper than ``step`` in a loop."""
        columns = [
            repeat(x, self.steps) if name in FIXED or x is None else x.unbind(0) for name, x in self._asdict().items()
        ]
        return map(StepData._make, zip(*columns, strict=True))


def _next_smaller(level: float, levels: Sequence[float]) -> float:
    """Absolute value of the next smaller level on the same side, 0 if there is none."""
    return max([0.0, *(abs(other) for other in levels if other * level > 0.0 and abs(other) < abs(level))])


def level_table(parameters: TradingParameters, assets: int, like: Tensor) -> Levels:
    """Compute the exposures of the levels on the device and in the dtype of ``like``."""
    exposure = torch.tensor(parameters.levels, device=like.device, dtype=like.dtype) * allocation(parameters, assets)
    needed = [_next_smaller(level, parameters.levels) * allocation(parameters, assets) for level in parameters.levels]
    needed = [
        max(size * (1.0 + MIN_CAP), MIN_CAP if level else 0.0)
        for size, level in zip(needed, parameters.levels, strict=True)
    ]
    limit, concentration = parameters.max_position, parameters.masks.concentration
    if concentration is not None:
        limit = min(limit, concentration * parameters.gross_limit)
    others = (torch.tensor(x, device=like.device, dtype=like.dtype) for x in (needed, limit, torch.inf))
    return Levels(exposure, exposure.abs(), *others)
