"""Split rows into purged folds."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from sentio_kedro.agent.forecasting.inputs.history import LOOKBACK
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.config import (
    CrossValidationParameters,
    NetworkParameters,
    RegimeParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.evaluation.plots.folds import fold_figure
from sentio_kedro.market.folds import Folds, lockbox_bars
from sentio_kedro.market.folds import make_folds as split
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.sessions import Clock, market_clock
from sentio_kedro.market.purged_folds import Spans
from sentio_kedro.market.risk import trading_lookback


def measure_spans(
    feature_table: pd.DataFrame,
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
    memory = max(int(feature_table["lookback"].max()), regimes.memory, trading_lookback(trading, clock))
    if trading.unit == "rule":
        memory = max(memory, LOOKBACK)
    return Spans(input=rows + memory, reward=1 + trading.orders.latency_bars, episode=training.episode_bars)


def make_folds(
    aligned_bars: AlignedBars,
    feature_table: pd.DataFrame,
    parameters: CrossValidationParameters,
    network: NetworkParameters,
    regimes: RegimeParameters,
    training: TrainingParameters,
    trading: TradingParameters,
) -> Folds:
    """Split the rows of the grid into purged folds that exclude the lockbox."""
    timestamps = aligned_bars.timestamps
    clock = market_clock(timestamps, trading.calendar)
    spans = measure_spans(feature_table, network, regimes, training, trading, clock)
    folds = split(len(timestamps), spans, parameters)
    return Folds.of(folds, spans, timestamps, lockbox_bars(len(timestamps), parameters))


def draw_folds(folds: Folds, aligned_bars: AlignedBars) -> go.Figure:
    """Draw the train, validation and test rows of each fold, and the rows between them."""
    return fold_figure(folds, aligned_bars.timestamps)
