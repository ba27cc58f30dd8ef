"""Compute features: causal columns, none of them fitted."""

from __future__ import annotations

import pandas as pd

from sentio_kedro.config import FeatureParameters, TradingParameters
from sentio_kedro.market.features import Features
from sentio_kedro.market.indicators import column_times, longest_lookback, lookback
from sentio_kedro.market.indicators import compute_features as compute
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars


def compute_features(aligned_bars: AlignedBars, parameters: FeatureParameters, trading: TradingParameters) -> Features:
    """Compute every feature column on every bar of the grid, in the sessions of ``trading.calendar``."""
    times = column_times(aligned_bars.timestamps, parameters.columns, trading.calendar)
    values = compute(aligned_bars, parameters.columns, times)
    names = [column.name for column in parameters.columns]
    return Features(names, aligned_bars.timestamps, aligned_bars.symbols, values)


def list_features(parameters: FeatureParameters) -> pd.DataFrame:
    """List the columns with the lookback of each.

    Returns:
        ``name``, ``indicator``, ``bars`` and ``lookback`` (bars that reproduce the column to 1e-6).
    """
    longest_lookback(parameters.columns)  # refuses every column that claims too few bars at once
    return pd.DataFrame(
        [
            {"name": column.name, "indicator": column.indicator, "bars": column.bars, "lookback": lookback(column)}
            for column in parameters.columns
        ]
    )
