"""Inputs of a network that acts on a forecast rule: what the rule forecasts, what trading costs, and the session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sentio_kedro.agent.control import MOST_BARS
from sentio_kedro.agent.forecasting.rule import MIN_COST, ForecastRule, RulePath
from sentio_kedro.agent.forecasting.targets import Horizon
from sentio_kedro.config import TradingParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.sessions import Clock
from sentio_kedro.market.ingestion.timestamps import Floats

LARGEST = 5.0  # size at which ratios to the cost are cut off
SOON, LATE = 60.0, 480.0  # minutes to the session's close that count as near, and from which on it is far
NAMES = ("value", "units", "log_cost", "log_volatility", "session_end", "session_left")


def input_names(segments: Sequence[Horizon]) -> tuple[str, ...]:
    """Names of the columns of ``rule_inputs``."""
    return (*(f"forecast_{part.first}_{part.last}" for part in segments), *NAMES)


def rule_inputs(path: RulePath, segments: Sequence[Horizon], clock: Clock) -> Floats:
    """Inputs ``[T, A, F]``, NaN where the rule's are unknown.

    Columns: the forecast return of each segment over the cost of a trade; the marginal value of a flat position over
    that cost; the rule's position; logarithms of cost (in volatilities) and volatility; how near the session's close
    is, and what is left of the session.

    Args:
        path: The rule on T bars.
        segments: Segments of its forecasts.
        clock: Sessions of the bars; without a calendar no close is near.
    """
    costs = np.maximum(path.costs, MIN_COST)
    bars = np.array([min(part.bars, MOST_BARS) for part in segments])
    forecasts = np.clip(path.forecasts * bars / costs[..., None], -LARGEST, LARGEST)
    minutes = clock.minutes_to_close
    session = np.stack([np.exp(-minutes / SOON), np.minimum(minutes / LATE, 1.0)], axis=-1)  # [T, 2]
    columns = [path.values, path.units, np.log(costs), np.log(np.maximum(path.volatility, MIN_COST))]
    parts = [forecasts, np.stack(columns, axis=-1), np.broadcast_to(session[:, None], (*costs.shape, 2))]
    return np.where(path.volatility[..., None] > 0.0, np.concatenate(parts, axis=-1), np.nan)


def training_path(
    rule: ForecastRule,
    bars: AlignedBars,
    posterior: Floats,
    trading: TradingParameters,
    forecasts: Mapping[str, Floats],
    rows: np.ndarray,
) -> RulePath:
    """Follow a rule over train rows by forecasts that were made out of fold, and over later rows as it is traded.

    Args:
        rule: The rule.
        bars: Bars T x A of train and validation rows.
        posterior: ``[T, K]`` filtered regimes.
        trading: Costs.
        forecasts: ``[n, A, segments]`` out-of-fold forecasts of each open sleeve.
        rows: ``[n]`` their rows.
    """
    path = rule.follow(bars, posterior, trading)
    known = path.volatility[rows] > 0.0
    costs = np.where(known, path.costs[rows], np.inf)
    learned, _ = rule.positions(forecasts, costs, path.volatility[rows], rule.flat(costs.shape[1]))
    merged = [part.copy() for part in path]
    for whole, part in zip(merged, learned, strict=True):
        whole[rows] = part
    return RulePath._make(merged)
