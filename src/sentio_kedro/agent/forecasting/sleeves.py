"""Sleeves of a fold: forecasts, the rule that trades them, and the gate that opens them on train rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from sentio_kedro.agent.control import Control
from sentio_kedro.agent.forecasting.experts import block_t
from sentio_kedro.agent.forecasting.forecaster import SleeveForecaster, fit_sleeve, forecast_rows
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.agent.forecasting.targets import RELATIVE, segment_targets
from sentio_kedro.config import ForecastingParameters
from sentio_kedro.market.timestamps import Floats

GATE_BLOCKS = 60  # of the out-of-fold rows, for the t of the net profit


@dataclass(frozen=True)
class Sleeve:
    """One sleeve of a fold.

    Attributes:
        name: ``relative``, ``directional`` or ``premium``.
        forecaster: Experts and their weights.
        control: The rule.
        gate_t: T statistic of its net profit on out-of-fold train rows.
        sharpe: Annualised Sharpe ratio there.
        weight: Of its positions in those of the fold; 0 while the gate is closed.
    """

    name: str
    forecaster: SleeveForecaster
    control: Control
    gate_t: float
    sharpe: float
    weight: float = 0.0

    @property
    def neutral(self) -> bool:
        """Whether its positions sum to 0 in units of risk."""
        return self.name == RELATIVE

    def units(self, forecasts: Floats, costs: Floats, start: Floats | None = None) -> Floats:
        """Follow the rule over rows ``[n, A]`` from positions ``start`` ``[A]``; null is flat."""
        start = np.zeros(costs.shape[1]) if start is None else start
        return self.control.positions(forecasts, np.ascontiguousarray(costs), start, neutral=self.neutral)


def net_profit(units: Floats, targets: Floats, costs: Floats) -> Floats:
    """Profit of positions ``[n, A]`` after costs, in units of risk ``[n]``; flat before."""
    changes = np.abs(np.diff(units, axis=0, prepend=0.0))
    paid = np.where(changes > 0.0, changes * np.where(np.isfinite(costs), costs, 0.0), 0.0)
    return np.asarray((units * np.nan_to_num(targets) - paid).sum(axis=1))


def fit_sleeves(
    market: ForecastMarket, rows: np.ndarray, parameters: ForecastingParameters
) -> tuple[list[Sleeve], dict[str, Floats]]:
    """Fit every sleeve on train ``rows`` and open those that earned there out of fold.

    Returns:
        The sleeves, and the out-of-fold forecasts per bar of each ``[T, A, segments]``, 0 elsewhere.
    """
    sleeves: list[Sleeve] = []
    forecasts: dict[str, Floats] = {}
    for name in parameters.sleeves:
        targets = segment_targets(market.targets, market.segments, name, rows)
        forecaster, found = fit_sleeve(market.inputs, targets, market.segments, rows, market.purge, name)
        tested = forecast_rows(rows)
        price = market.price_of_risk(rows, parameters.price_of_risk)
        control = Control.of([part.bars for part in market.segments], market.periods_per_year, price)
        control = control.with_surprise(found[tested], market.costs[tested])
        draft = Sleeve(name, forecaster, control, 0.0, 0.0)
        profit = net_profit(
            draft.units(found[tested], market.costs[tested]), market.targets[tested], market.costs[tested]
        )
        blocks = np.arange(len(profit)) * GATE_BLOCKS // max(len(profit), 1)
        sharpe = profit.mean() / max(profit.std(), 1e-12) * market.periods_per_year**0.5
        sleeves.append(replace(draft, gate_t=block_t(profit, blocks), sharpe=float(sharpe)))
        forecasts[name] = found
    return weighted(sleeves, parameters.gate_level), forecasts


def weighted(sleeves: Sequence[Sleeve], level: float) -> list[Sleeve]:
    """Open sleeves by Holm's step-down test of their gate's t; weigh them by their Sharpe ratios, shrunk.

    The largest weight is 1.
    """
    order = sorted(range(len(sleeves)), key=lambda index: -sleeves[index].gate_t)
    weights = np.zeros(len(sleeves))
    for place, index in enumerate(order):
        t = sleeves[index].gate_t
        if NormalDist().cdf(-t) > level / (len(sleeves) - place):
            break
        weights[index] = max(sleeves[index].sharpe, 0.0) * (1.0 - max(t, 1.0) ** -2)
    weights = weights / max(weights.max(), 1e-12)
    return [replace(sleeve, weight=float(weight)) for sleeve, weight in zip(sleeves, weights, strict=True)]
