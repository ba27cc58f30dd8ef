"""Split rows into purged folds."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from sentio_kedro.agent.spans import plan_folds
from sentio_kedro.config import (
    CrossValidationParameters,
    NetworkParameters,
    RegimeParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.evaluation.plots.folds import fold_figure
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars


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
    lookback = int(feature_table["lookback"].max())
    return plan_folds(aligned_bars.timestamps, lookback, parameters, network, regimes, training, trading)


def draw_folds(folds: Folds, aligned_bars: AlignedBars) -> go.Figure:
    """Draw the train, validation and test rows of each fold, and the rows between them."""
    return fold_figure(folds, aligned_bars.timestamps)
