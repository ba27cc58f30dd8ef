"""Forecast returns fold by fold, on train rows alone, and test the forecasts."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.forecasting.fold import FoldForecasts, forecast_fold
from sentio_kedro.agent.forecasting.frames import evidence_frame, forecast_frame
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.agent.forecasting.rule import ForecastRule
from sentio_kedro.config import ForecastingParameters, IngestionParameters, TradingParameters
from sentio_kedro.config.trading import is_mixed
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import periods_per_year
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.regimes import RegimeModel, market_return

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
    per_year = periods_per_year(bars.timestamps, ingestion.sessions_per_year, mixed=is_mixed(trading))
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


def fit_final(
    aligned_bars: AlignedBars,
    folds: Folds,
    agents: dict[str, AgentBundle],
    parameters: ForecastingParameters,
    ingestion: IngestionParameters,
) -> dict[str, AgentBundle]:
    """Fit the rule of the latest fold's agents again, on all bars outside the lockbox; the rest of them stays.

    They follow it from where the fold's own rule begins. No bars are left that test it, so they are marked. Networks of
    a fold whose rule held nothing were not trained, and leave the decision to the new one.

    Raises:
        ValueError: If the agents act on no rule.
    """
    bars, last = aligned_bars.rows(folds.open_bars), len(aligned_bars.timestamps[folds.open_bars]) - 1
    latest = max(agent.spec.fold for agent in agents.values())
    chosen = {name: agent for name, agent in agents.items() if agent.spec.fold == latest}
    trained = next(iter(chosen.values()))
    if trained.rule is None:
        raise ValueError(
            f"The pipeline `final` fits forecast rules; agent {trained.name} acts on none. Train agents with "
            "`trading.unit: rule`, or leave it out."
        )
    first = min(part.start for fold in folds.folds for part in fold.train)
    whole = Fold(latest, (Segment(first, last),), (), (Segment(last, last + 1),))
    posterior = trained.regime_model().filter(market_return(bars))
    mixed = is_mixed(trained.spec.trading)
    per_year = periods_per_year(bars.timestamps, ingestion.sessions_per_year, mixed=mixed)
    market = ForecastMarket.of(bars, trained.spec.trading, per_year).with_regimes(posterior)
    with threadpool_limits(limits=1, user_api="blas"):
        rule = replace(forecast_fold(market, whole, parameters).rule, begin=trained.rule.begin)
    end = f"{np.datetime_as_string(bars.timestamps[last], unit='s')}+00:00"
    untrained = not trained.rule.opened
    return {
        name: replace(
            agent,
            rule=rule,
            spec=replace(agent.spec, train_end=end, untested=True, abstains=agent.spec.abstains or untrained),
        )
        for name, agent in chosen.items()
    }
