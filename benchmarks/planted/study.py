"""Train a configuration on a planted market and score it by the known law."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from planted.catalogue import PlantedMarket
from planted.paths import PlantedPath, path_bars
from planted.reference import ridge_positions, ridge_predictions
from planted.scores import expected_sharpe, share_of_optimum, shares_per_asset
from sentio_kedro.agent.data.training_set import TrainingSet, visible_bars
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.agent.training.lifecycle import Checkpoints, Progress
from sentio_kedro.agent.training.population import train_agent
from sentio_kedro.config import (
    AgentParameters,
    BacktestParameters,
    CrossValidationParameters,
    FeatureParameters,
    IngestionParameters,
    RegimeParameters,
    RobustnessParameters,
    TradingParameters,
)
from sentio_kedro.evaluation.backtest.backtest import backtest_folds
from sentio_kedro.market.folds import make_folds
from sentio_kedro.market.indicators import compute_features, longest_lookback
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.sessions import market_clock
from sentio_kedro.market.ingestion.timestamps import Floats, periods_per_year
from sentio_kedro.market.purged_folds import Fold, Spans
from sentio_kedro.market.regimes import fit_regimes, market_return
from sentio_kedro.market.risk import trading_lookback
from sentio_kedro.trading.accounts import allocation

BASIS_POINT = 1e-4
CALM = BacktestParameters(
    baselines=[],
    robustness=RobustnessParameters(cost_multipliers=None, latency_bars=None, start_shares=None, paths=None),
)


@dataclass(frozen=True)
class LearningResult:
    """What an agent earned on a planted market. Shares are NaN where there is nothing to earn.

    Attributes:
        share_of_optimum: Expected profit over the optimum's on the same rows.
        asset_shares: The same for each asset alone.
        ridge_share: The same for a ridge regression on the agent's features and train rows.
        optimum_sharpe: Annualised net Sharpe ratio that the optimum may expect on these rows.
        sharpe: Realised annualised net Sharpe ratio; luck has a deviation of over 2 here.
        gross: Realised profit per bar before costs, fraction of equity ``[T]``.
        positions: Position per decision, fraction of equity ``[T, A]``.
        seconds: Seconds of training.
        validation_sharpe: Annualised net Sharpe ratio on the validation rows.
    """

    share_of_optimum: float
    asset_shares: list[float]
    ridge_share: float
    optimum_sharpe: float
    sharpe: float
    gross: Floats
    positions: Floats
    seconds: float
    validation_sharpe: float = math.nan


@dataclass(frozen=True)
class PlantedStudy:
    """A planted market, split and ready to train on.

    Attributes:
        path: The path and its law's means.
        bars: Its bars, aligned.
        features: ``[T, A, F]``.
        fold: Train, validation and test rows.
        spans: What a decision touches.
        training: What training may see.
        cost: Cost of trading, fraction of notional.
        levels: ``[P]`` positions of one asset, fraction of equity.
    """

    path: PlantedPath
    bars: AlignedBars
    features: Floats
    fold: Fold
    spans: Spans
    training: TrainingSet
    cost: float
    levels: Floats

    def test_rows_of(self, positions: Floats) -> Floats:
        """Cut ``positions`` ``[T, A]`` to the test rows."""
        (test,) = self.fold.test
        return positions[test.start : test.stop]


def prepare_study(
    market: PlantedMarket,
    seed: int,
    features: FeatureParameters,
    regimes: RegimeParameters,
    parameters: AgentParameters,
) -> PlantedStudy:
    """Draw a market, compute its features and split it.

    Args:
        market: The law and its sizes.
        seed: Seed of the path.
        features: Feature columns; the market's own come on top.
        regimes: Regime model.
        parameters: Network, training and trading.
    """
    path = market.law.draw(market.train_bars + market.test_bars, seed)
    bars = align_bars(path_bars(path), IngestionParameters())
    columns = [*features.columns, *market.columns]
    values = compute_features(bars, columns)
    rows = receptive_field(parameters.network)
    clock = market_clock(bars.timestamps, parameters.trading.calendar)
    memory = max(longest_lookback(columns), regimes.memory, trading_lookback(parameters.trading, clock))
    reward = 1 + parameters.trading.orders.latency_bars
    spans = Spans(input=rows + memory, reward=reward, episode=parameters.training.episode_bars)
    usable = len(path.returns) - spans.input
    split = CrossValidationParameters(folds=1, first_test=1.0 - market.test_bars / usable, lockbox=None)
    (fold,) = make_folds(len(path.returns), spans, split)
    visible, visible_features = visible_bars(bars, values, fold, spans)
    market_returns = market_return(bars)
    model = fit_regimes([market_returns[part.start : part.stop] for part in fold.train], regimes, seed=0)
    per_year = periods_per_year(bars.timestamps, IngestionParameters().sessions_per_year)
    training = TrainingSet(fold, visible, visible_features, columns, model, per_year, parameters.trading)
    cost, levels = proportional_cost(parameters.trading), asset_levels(parameters.trading, market.law.assets)
    return PlantedStudy(path, bars, values, fold, spans, training, cost, levels)


def measure_learning(
    market: PlantedMarket,
    seed: int,
    features: FeatureParameters,
    regimes: RegimeParameters,
    parameters: AgentParameters,
    store: Checkpoints,
    progress: Progress,
) -> LearningResult:
    """Train one agent on a planted market and let it trade the rows after.

    Args:
        market: The law and its sizes.
        seed: Seed of the path; the agent's own seed is another one.
        features: Feature columns; the market's own come on top.
        regimes: Regime model.
        parameters: Network, training and trading.
        store: Where checkpoints live.
        progress: Receiver of progress.

    Returns:
        What it earned.
    """
    study = prepare_study(market, seed, features, regimes, parameters)
    began = time.perf_counter()
    agent, _, _ = train_agent(study.training, 0, study.spans, parameters, store, progress, {})
    seconds = time.perf_counter() - began
    per_year = study.training.periods_per_year
    frames = backtest_folds(
        study.bars, study.features, [study.fold], {agent.name: agent}, parameters.trading, CALM, per_year
    )
    account = frames["accounts"].query("account == 'seed_0'")
    held = frames["positions"]["position"].to_numpy(dtype=np.float64).reshape(-1, market.law.assets)
    optimum = study.test_rows_of(market.law.optimum(study.path, study.cost, study.levels))
    means = study.test_rows_of(study.path.means)
    came = study.test_rows_of(np.roll(study.path.returns, -1, axis=0))  # a test row is never the last bar
    net = account["return"].to_numpy()
    return LearningResult(
        share_of_optimum=share_of_optimum(held, optimum, means, study.cost),
        asset_shares=shares_per_asset(held, optimum, means, study.cost),
        ridge_share=share_of_optimum(ridge_reference(study), optimum, means, study.cost),
        optimum_sharpe=expected_sharpe(optimum, means, came, study.cost, per_year),
        sharpe=float(net.mean() / max(net.std(), 1e-12) * per_year**0.5),
        gross=account["price_pnl"].to_numpy(dtype=np.float64),
        positions=held,
        seconds=seconds,
        validation_sharpe=agent.spec.validation_sharpe,
    )


def ridge_reference(study: PlantedStudy) -> Floats:
    """Positions ``[rows, A]`` of the ridge regression at the test rows."""
    train = study.fold.train
    predictions = ridge_predictions(study.features, study.path.returns, train)
    return study.test_rows_of(ridge_positions(predictions, train, study.cost, study.levels))


def proportional_cost(trading: TradingParameters) -> float:
    """Commission and half spread together, fraction of notional."""
    return (trading.costs.commission_bps + trading.costs.half_spread_bps) * BASIS_POINT


def asset_levels(trading: TradingParameters, assets: int) -> Floats:
    """Positions of one asset ``[P]`` that the levels stand for, fraction of equity."""
    exposure = np.array(trading.levels) * allocation(trading, assets)[0]
    return np.clip(exposure, -trading.max_position, trading.max_position)


class Forgetful:
    """No checkpoints and no progress: for measurements that are not resumed."""

    def load(self, key: str) -> None:
        """Find nothing."""

    def save(self, key: str, tensors: Any, state: Any) -> None:
        """Keep nothing."""

    def update(self, key: Any, update: int, updates: int, metrics: Any) -> None:
        """Ignore an update."""

    def stop(self) -> None:
        """Do nothing."""
