"""Rows are split into folds that cannot leak."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sentio_kedro.config import CrossValidationParameters, NetworkParameters, RegimeParameters, TrainingParameters
from sentio_kedro.market.bars import aligned_from_frame
from sentio_kedro.market.splits import Spans, folds_to_dict
from sentio_kedro.market.splits import make_folds as split
from sentio_kedro.market.tensors import VOLATILITY_MEMORY


def measure_spans(
    feature_table: pd.DataFrame, network: NetworkParameters, regimes: RegimeParameters, training: TrainingParameters
) -> Spans:
    """Add up which bars a decision touches.

    The network reads ``layers x (window - 1) + convolution`` rows; the oldest of them looks back as far as the longest
    of features, regime filter and trailing volatility. A reward needs the next bar.

    Args:
        feature_table: Feature columns with their ``lookback`` in bars.
        network: Layers, window and convolution.
        regimes: The filter's memory.
        training: The episode's length.
    """
    rows = network.layers * (network.window - 1) + network.convolution
    memory = max(int(feature_table["lookback"].max()), regimes.memory, VOLATILITY_MEMORY + 1)
    return Spans(input=rows + memory, reward=1, episode=training.episode_bars)


def make_folds(
    aligned_bars: pd.DataFrame,
    feature_table: pd.DataFrame,
    parameters: CrossValidationParameters,
    network: NetworkParameters,
    regimes: RegimeParameters,
    training: TrainingParameters,
) -> dict[str, Any]:
    """Split the rows of the grid into purged folds.

    Args:
        aligned_bars: Long bars on one grid.
        feature_table: Feature columns with their ``lookback`` in bars.
        parameters: The scheme.
        network: Sizes that decide how far a decision looks back.
        regimes: The filter's memory.
        training: The episode's length.

    Returns:
        Spans and folds, as rows and stamps.
    """
    stamps = aligned_from_frame(aligned_bars).timestamps
    spans = measure_spans(feature_table, network, regimes, training)
    return folds_to_dict(split(len(stamps), spans, parameters), stamps, spans)
