"""Compute features: causal columns, none of them fitted."""

from __future__ import annotations

import pandas as pd

from sentio_kedro.config import FeatureParameters
from sentio_kedro.market.features import Features
from sentio_kedro.market.indicators import compute_features as compute
from sentio_kedro.market.indicators import longest_lookback, lookback
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars


def compute_features(aligned_bars: AlignedBars, parameters: FeatureParameters) -> Features:
    """Compute every feature column on every bar of the grid."""
    values = compute(aligned_bars, parameters.columns)
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
