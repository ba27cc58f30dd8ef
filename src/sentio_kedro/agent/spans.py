"""The bars that a decision depends on, and the folds that follow from them."""

from __future__ import annotations

from sentio_kedro.agent.forecasting.inputs.history import LOOKBACK
from sentio_kedro.config import (
    CrossValidationParameters,
    NetworkParameters,
    RegimeParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.config.network import receptive_field
from sentio_kedro.market.folds import Folds, lockbox_bars, make_folds
from sentio_kedro.market.ingestion.sessions import Clock, market_clock
from sentio_kedro.market.ingestion.timestamps import Timestamps
from sentio_kedro.market.purged_folds import Spans
from sentio_kedro.market.risk import trading_lookback


def measure_spans(
    feature_lookback: int,
    network: NetworkParameters,
    regimes: RegimeParameters,
    training: TrainingParameters,
    trading: TradingParameters,
    clock: Clock,
) -> Spans:
    """Add up the bars that a decision depends on.

    The network reads the rows of its receptive field; the oldest of them depends on the longest lookback of features,
    regime filter, masks, costs and forecasts. A reward needs the bar at which orders fill.
    """
    rows = receptive_field(network)
    memory = max(feature_lookback, regimes.memory, trading_lookback(trading, clock))
    if trading.unit == "rule":
        memory = max(memory, LOOKBACK)
    return Spans(input=rows + memory, reward=1 + trading.orders.latency_bars, episode=training.episode_bars)


def plan_folds(
    timestamps: Timestamps,
    feature_lookback: int,
    parameters: CrossValidationParameters,
    network: NetworkParameters,
    regimes: RegimeParameters,
    training: TrainingParameters,
    trading: TradingParameters,
) -> Folds:
    """Split the rows of bars that end at ``timestamps`` [T] into purged folds that exclude the lockbox.

    Args:
        timestamps: Bar ends [T], UTC.
        feature_lookback: Longest lookback of the features, bars.
        parameters: The scheme, its sizes and the lockbox.
        network: Its receptive field counts.
        regimes: The memory of the filter counts.
        training: The length of an episode counts.
        trading: Calendar, memory and latency count.

    Raises:
        ValueError: If the calendar does not fit the bars, or they are too few.
    """
    clock = market_clock(timestamps, trading.calendar)
    spans = measure_spans(feature_lookback, network, regimes, training, trading, clock)
    folds = make_folds(len(timestamps), spans, parameters)
    return Folds.of(folds, spans, timestamps, lockbox_bars(len(timestamps), parameters))
