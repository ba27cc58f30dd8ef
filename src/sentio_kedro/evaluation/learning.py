"""Can a configuration learn, and does it cheat? Train it on a planted market and judge it by the known law."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from sentio_kedro.agent.networks import receptive_field
from sentio_kedro.agent.paths import TrainingSet
from sentio_kedro.agent.population import train_agent, visible_bars
from sentio_kedro.agent.trainer import AgentParameters, CheckpointStore, Progress
from sentio_kedro.config import (
    BacktestParameters,
    CrossValidationParameters,
    FeatureParameters,
    IngestionParameters,
    RegimeParameters,
)
from sentio_kedro.evaluation.backtest import backtest_folds
from sentio_kedro.evaluation.planted import (
    autoregressive_returns,
    optimal_positions,
    planted_bars,
    share_of_optimum,
)
from sentio_kedro.market.bars import Floats, align_bars, periods_per_year
from sentio_kedro.market.indicators import compute_features, longest_lookback
from sentio_kedro.market.regimes import fit_regimes, market_return
from sentio_kedro.market.splits import Spans, make_folds
from sentio_kedro.trading.market_facts import lookback

BASIS_POINT = 1e-4


@dataclass(frozen=True)
class PlantedMarket:
    """A first-order autoregression: see ``planted``.

    Attributes:
        phi: Autoregression of the returns.
        sigma: Deviation of the noise per bar.
        seed: Seed of the noise.
        train_bars: Bars before the test, warm-up and validation included.
        test_bars: Decisions that are judged.
    """

    phi: float = 0.1
    sigma: float = 0.004
    seed: int = 0
    train_bars: int = 8_000
    test_bars: int = 4_000


@dataclass(frozen=True)
class LearningResult:
    """What an agent earned on a planted market.

    Attributes:
        share_of_optimum: Expected profit over the optimum's on the same rows; NaN where there is nothing to earn.
        sharpe: Realised annualised net Sharpe ratio; luck has a deviation of over 2 here.
        gross: Realised profit per bar before costs, fraction of equity ``[T]``.
        positions: Position per decision, fraction of equity ``[T]``.
        seconds: Seconds of training.
    """

    share_of_optimum: float
    sharpe: float
    gross: Floats
    positions: Floats
    seconds: float


def measure_learning(
    market: PlantedMarket,
    features: FeatureParameters,
    regimes: RegimeParameters,
    parameters: AgentParameters,
    store: CheckpointStore,
    progress: Progress,
) -> LearningResult:
    """Train one agent on a planted market and let it trade the rows after.

    Args:
        market: The law and its sizes.
        features: Feature columns.
        regimes: Regime model.
        parameters: Network, training and trading.
        store: Where checkpoints live.
        progress: Who hears of the training.

    Returns:
        What it earned.
    """
    returns = autoregressive_returns(market.train_bars + market.test_bars, market.phi, market.sigma, market.seed)
    bars = align_bars(planted_bars(returns), IngestionParameters())
    values = compute_features(bars, features.columns)
    rows = receptive_field(parameters.network)
    memory = max(longest_lookback(features.columns), regimes.memory, lookback(parameters.trading))
    reward = 1 + parameters.trading.orders.latency_bars
    spans = Spans(input=rows + memory, reward=reward, episode=parameters.training.episode_bars)
    usable = len(returns) - spans.input
    split = CrossValidationParameters(folds=1, first_test=1.0 - market.test_bars / usable)
    (fold,) = make_folds(len(returns), spans, split)
    seen, known = visible_bars(bars, values, fold, spans)
    moves = market_return(bars)
    model = fit_regimes([moves[part.start : part.stop] for part in fold.train], regimes, seed=0)
    per_year = periods_per_year(bars.timestamps, IngestionParameters().sessions_per_year)
    study = TrainingSet(fold, seen, known, features.columns, model, per_year, parameters.trading)

    began = time.perf_counter()
    agent, _, _ = train_agent(study, 0, spans, parameters, store, progress, {})
    seconds = time.perf_counter() - began
    frames = backtest_folds(
        bars, values, [fold], {agent.name: agent}, parameters.trading, BacktestParameters(), per_year
    )
    account = frames["accounts"].query("account == 'seed_0'")
    positions = frames["positions"]["position"].to_numpy(dtype=np.float64)
    judged = slice(fold.test[0].start, fold.test[0].stop)
    net = account["return"].to_numpy()
    return LearningResult(
        share_of_optimum=_share(market, parameters, returns, positions, judged),
        sharpe=float(net.mean() / max(net.std(), 1e-12) * per_year**0.5),
        gross=account["price_pnl"].to_numpy(dtype=np.float64),
        positions=positions,
        seconds=seconds,
    )


def _share(
    market: PlantedMarket, parameters: AgentParameters, returns: Floats, positions: Floats, judged: slice
) -> float:
    costs = parameters.trading.costs
    rate = (costs.commission_bps + costs.half_spread_bps) * BASIS_POINT
    if market.phi == 0.0:
        return float("nan")
    levels = np.array(parameters.trading.levels)
    optimum = optimal_positions(returns, market.phi, market.sigma, rate, levels)[judged]
    return share_of_optimum(positions, optimum, returns[judged], market.phi, rate)


class Forgetful:
    """Keeps no checkpoints and listens to no progress: for measurements that nobody resumes."""

    def load(self, key: str) -> None:
        """Find nothing."""

    def save(self, key: str, tensors: Any, state: Any) -> None:
        """Keep nothing."""

    def update(self, key: Any, update: int, updates: int, metrics: Any) -> None:
        """Hear of an update."""

    def stop(self) -> None:
        """Do nothing."""
