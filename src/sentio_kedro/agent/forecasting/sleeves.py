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
from sentio_kedro.agent.forecasting.targets import RELATIVE, less_mean, segment_targets
from sentio_kedro.config import ForecastingParameters
from sentio_kedro.market.ingestion.timestamps import Floats

GATE_BLOCKS = 60  # of the out-of-fold rows, for the gate's t


@dataclass(frozen=True)
class Sleeve:
    """One sleeve of a fold.

    Attributes:
        name: ``relative``, ``directional`` or ``premium``.
        forecaster: Experts and their weights.
        control: The rule.
        gate_t: ``forecast_t`` of its forecasts on out-of-fold train rows.
        sharpe: Annualised Sharpe ratio of its net profit there.
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


def forecast_t(units: Floats, forecasts: Floats, targets: Floats, paid: float) -> float:
    """T statistic of what forecasts are worth beyond the costs of trading them.

    Positions that were promised a profit of sum(u f) and paid c for it break even where a return rises by the share
    c / sum(u f) of its forecast. The t is that of sum(f (y - share x f)): whether it rises by more. Positions at their
    limit weigh a strong forecast like a weak one, so the t of their profit needs several times the rows.

    Args:
        units: ``[n, A]`` positions u of the rule.
        forecasts: ``[n, A]`` f of the next bar.
        targets: ``[n, A]`` its return y.
        paid: All costs of the positions c.

    Returns:
        T over ``GATE_BLOCKS`` blocks of time; 0 if the positions were promised nothing.
    """
    promised = float((units * forecasts).sum())
    if promised <= 0.0:
        return 0.0
    beyond = (forecasts * (targets - paid / promised * forecasts)).sum(axis=1)
    return block_t(beyond, np.arange(len(beyond)) * GATE_BLOCKS // len(beyond))


def fit_sleeves(
    market: ForecastMarket, rows: np.ndarray, parameters: ForecastingParameters
) -> tuple[list[Sleeve], dict[str, Floats]]:
    """Fit every sleeve on train ``rows`` and open those whose gate passes there out of fold.

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
        sleeves.append(tried(draft, found[tested], market, tested))
        forecasts[name] = found
    return weighted(sleeves, parameters.gate_level), forecasts


def tried(sleeve: Sleeve, forecasts: Floats, market: ForecastMarket, rows: np.ndarray) -> Sleeve:
    """Follow a sleeve's rule over out-of-fold forecasts ``[n, A, segments]`` of ``rows`` and fill in what they show."""
    targets, costs, first = np.nan_to_num(market.targets[rows]), market.costs[rows], forecasts[:, :, 0]
    units = sleeve.units(forecasts, costs)
    profit, paid = net_profit(units, targets, costs), -net_profit(units, np.zeros_like(units), costs).sum()
    if sleeve.neutral:  # what its positions cannot hold is no evidence
        first, targets = (less_mean(part, np.isfinite(costs)) for part in (first, targets))
    sharpe = profit.mean() / max(profit.std(), 1e-12) * market.periods_per_year**0.5
    return replace(sleeve, gate_t=forecast_t(units, first, targets, float(paid)), sharpe=float(sharpe))


def weighted(sleeves: Sequence[Sleeve], level: float) -> list[Sleeve]:
    """Open sleeves whose gate's t passes the ``level`` that they share by Bonferroni's correction.

    They are weighed by their Sharpe ratios x (1 - (least t / t)^2): one that just passes gets little beside a stronger
    one. The largest weight is 1.
    """
    least = max(NormalDist().inv_cdf(1.0 - level / len(sleeves)), 1.0)
    kept = [1.0 - (least / max(sleeve.gate_t, least)) ** 2 for sleeve in sleeves]
    weights = np.array([max(sleeve.sharpe, 0.0) * share for sleeve, share in zip(sleeves, kept, strict=True)])
    weights /= max(weights.max(initial=0.0), 1e-12)
    return [replace(sleeve, weight=float(weight)) for sleeve, weight in zip(sleeves, weights, strict=True)]
