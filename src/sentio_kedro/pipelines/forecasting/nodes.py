"""Forecast returns fold by fold, on train rows alone, and test the forecasts."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import plotly.graph_objects as go
from threadpoolctl import threadpool_limits

from sentio_kedro.agent.forecasting.fold import FoldForecasts, forecast_fold
from sentio_kedro.agent.forecasting.frames import evidence_frame, forecast_frame
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.agent.forecasting.rule import ForecastRule
from sentio_kedro.config import ForecastingParameters, IngestionParameters, TradingParameters
from sentio_kedro.evaluation.plots.forecasts import evidence_figure
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.purged_folds import Fold
from sentio_kedro.market.regimes import RegimeModel, market_return
from sentio_kedro.market.timestamps import periods_per_year

logger = logging.getLogger(__name__)


def fit_forecasts(
    aligned_bars: AlignedBars,
    folds: Folds,
    regime_models: dict[int, RegimeModel],
    parameters: ForecastingParameters,
    trading: TradingParameters,
    ingestion: IngestionParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, ForecastRule]]:
    """Fit experts on each fold's train rows, weigh them by evidence, and follow the rule; the lockbox is left out.

    Returns:
        Forecasts with the rule's positions, the evidence, and the rules by fold.
    """
    bars = aligned_bars.rows(folds.open_bars)
    per_year = periods_per_year(bars.timestamps, ingestion.sessions_per_year)
    market, returns = ForecastMarket.of(bars, trading, per_year), market_return(bars)

    def of_fold(fold: Fold) -> tuple[FoldForecasts, pd.DataFrame, pd.DataFrame]:
        with_regimes = market.with_regimes(regime_models[fold.number].filter(returns))
        found = forecast_fold(with_regimes, fold, parameters)
        return found, forecast_frame(bars, market, found), evidence_frame(with_regimes, found)

    # Set and restored here: threads that each restored what they found would leave the process with one thread.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(parameters.workers) as executor:
        results = list(executor.map(of_fold, folds.folds))
    for found, _, _ in results:
        for sleeve in found.sleeves:
            logger.info(
                "fold %d, %s: %d of %d segments have evidence, gate t %.2f, %s",
                found.fold.number,
                sleeve.name,
                sum(sleeve.forecaster.supported),
                len(market.segments),
                sleeve.gate_t,
                "open" if sleeve.weight else "closed",
            )
    forecasts, evidence = (pd.concat(frames, ignore_index=True) for frames in list(zip(*results, strict=True))[1:])
    return forecasts, evidence, {f"fold_{found.fold.number}": found.rule for found, _, _ in results}


def draw_evidence(evidence: pd.DataFrame) -> go.Figure:
    """Draw the correlation of forecasts and returns by horizon."""
    return evidence_figure(evidence)
