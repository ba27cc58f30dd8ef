"""Rows are split into folds that cannot leak."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.config import (
    CrossValidationParameters,
    NetworkParameters,
    RegimeParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.evaluation.plots.folds import fold_figure
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.fold_shapes import Spans
from sentio_kedro.market.splits import Folds, lockbox_bars
from sentio_kedro.market.splits import make_folds as split
from sentio_kedro.trading.precompute import trading_lookback


def measure_spans(
    feature_table: pd.DataFrame,
    network: NetworkParameters,
    regimes: RegimeParameters,
    training: TrainingParameters,
    trading: TradingParameters,
) -> Spans:
    """Add up which bars a decision touches.

    The network reads as many rows as its receptive field has; the oldest of them looks back as far as the longest
    of features, regime filter, and what masks and costs look back on. A reward needs the bar at which orders fill.

    Args:
        feature_table: Feature columns with their ``trading_lookback`` in bars.
        network: Layers, window and convolution.
        regimes: The filter's memory.
        training: The episode's length.
        trading: Masks and costs that look back, and the latency of orders.
    """
    rows = receptive_field(network)
    memory = max(int(feature_table["lookback"].max()), regimes.memory, trading_lookback(trading))
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
    """Split the rows of the grid into purged folds that leave the lockbox alone.

    Args:
        aligned_bars: Long bars on one grid.
        feature_table: Feature columns with their ``trading_lookback`` in bars.
        parameters: The scheme.
        network: Sizes that decide how far a decision looks back.
        regimes: The filter's memory.
        training: The episode's length.
        trading: Masks and costs that look back, and the latency of orders.

    Returns:
        The folds with their spans and the lockbox.
    """
    timestamps = aligned_bars.timestamps
    spans = measure_spans(feature_table, network, regimes, training, trading)
    folds = split(len(timestamps), spans, parameters)
    return Folds.of(folds, spans, timestamps, lockbox_bars(len(timestamps), parameters))


def draw_folds(folds: Folds, aligned_bars: AlignedBars) -> go.Figure:
    """Draw which bars train, choose, judge and are left out.

    Args:
        folds: Spans, folds and lockbox.
        aligned_bars: Long bars on one grid.

    Returns:
        The figure.
    """
    return fold_figure(folds, aligned_bars.timestamps)
