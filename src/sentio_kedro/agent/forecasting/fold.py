"""Forecasts of one fold: its rule, fitted on its train rows, and its positions on the rows after them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sentio_kedro.agent.forecasting.dictionary import usable
from sentio_kedro.agent.forecasting.forecaster import FIRST_FORECAST, FORWARD_BLOCKS, forecast_rows
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.agent.forecasting.rule import ForecastRule
from sentio_kedro.agent.forecasting.sleeves import Sleeve, fit_sleeves
from sentio_kedro.config import ForecastingParameters
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Fold, Segment

logger = logging.getLogger(__name__)

MIN_ROWS = 600  # train rows, of which a third comes before the first forecast
FIRST_ROWS = 100  # rows whose targets end before the first forecast


@dataclass(frozen=True)
class FoldForecasts:
    """Forecasts of a fold and the positions of the rule.

    Attributes:
        fold: The fold.
        rule: Its rule, to be applied to other bars; it begins before the last test segment.
        train_rows: Train rows that are forecast out of fold.
        later_rows: Rows after train rows that are forecast by experts fitted on all of them, in order of time.
        forecasts: ``[T, A, segments]`` per bar and sleeve, volatilities; 0 on other rows.
        units: ``[T, A]`` positions of the rule in units of risk; 0 on train rows.
    """

    fold: Fold
    rule: ForecastRule
    train_rows: np.ndarray
    later_rows: np.ndarray
    forecasts: Mapping[str, Floats]
    units: Floats

    @property
    def sleeves(self) -> Sequence[Sleeve]:
        """Sleeves of the rule."""
        return self.rule.sleeves


def forecast_fold(market: ForecastMarket, fold: Fold, parameters: ForecastingParameters) -> FoldForecasts:
    """Fit a fold's sleeves on its train rows and follow the rule over the rows up to each test segment's end.

    The rule begins flat where the train rows before a test segment end, so that its positions in the test rows do not
    depend on the day of the first one.

    Args:
        market: The market, with the fold's regimes.
        fold: Train, validation and test rows.
        parameters: Sleeves, gate and price of risk.

    Returns:
        Forecasts and positions; without sleeves and flat, with a warning, below ``MIN_ROWS`` train rows or where fewer
        than ``FIRST_ROWS`` of their targets end before the first forecast.
    """
    rows = complete_rows(fold.train, market.purge)
    rows = rows[usable(market.inputs, rows).any(axis=1)]
    units, later = np.zeros(market.targets.shape), []
    begins = rule_begins(fold)
    time = np.datetime_as_string(market.timestamps[begins[-1]], unit="s")
    rule = ForecastRule((), market.segments, market.inputs.minutes, f"{time}Z")
    least = max(MIN_ROWS, FORWARD_BLOCKS // FIRST_FORECAST * (FIRST_ROWS + market.purge))
    if len(rows) < least:
        logger.warning(
            "Fold %d is not forecast and its rule stays flat: of its train rows %d have all inputs and targets of up "
            "to %d bars inside their segment, %d are needed; give more bars.",
            fold.number,
            len(rows),
            market.segments[-1].last,
            least,
        )
        return FoldForecasts(fold, rule, rows[:0], rows[:0], {}, units)
    sleeves, forecasts = fit_sleeves(market, rows, parameters)
    rule = replace(rule, sleeves=sleeves)
    for begin, test in zip(begins, fold.test, strict=True):
        after = np.arange(begin, test.stop)
        for sleeve in sleeves:
            forecasts[sleeve.name][after] = sleeve.forecaster.predict(market.inputs, after)
        parts = {name: found[after] for name, found in forecasts.items()}
        costs, volatility = market.costs[after], market.inputs.volatility[after]
        units[after] = rule.positions(parts, costs, volatility, rule.flat(costs.shape[1]))[0].units
        later.append(after)
    return FoldForecasts(fold, rule, forecast_rows(rows), np.unique(np.concatenate(later)), forecasts, units)


def rule_begins(fold: Fold) -> list[int]:
    """Rows from which the rule is followed to the end of each test segment: where the train rows before it end."""
    ends = [part.stop for part in fold.train]
    return [max((end for end in ends if end <= test.start), default=test.start) for test in fold.test]


def complete_rows(segments: Sequence[Segment], purge: int) -> np.ndarray:
    """Rows of ``segments`` whose targets, ``purge`` bars long, end inside their segment, in order of time."""
    parts = [np.arange(part.start, max(part.start, part.stop - purge)) for part in segments]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
