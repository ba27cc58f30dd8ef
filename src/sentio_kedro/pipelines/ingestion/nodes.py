"""Bars come in: checked, put on one grid, described."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sentio_kedro.config import IngestionParameters
from sentio_kedro.market import bars as market
from sentio_kedro.market.aligned_bars import AlignedBars


def align_bars(bars: pd.DataFrame, parameters: IngestionParameters) -> AlignedBars:
    """Put the bars of all symbols on one grid of bar ends in UTC.

    Args:
        bars: Long bars as the feed delivers them.
        parameters: How they are to be read.

    Returns:
        The bars on one grid.
    """
    return market.align_bars(bars, parameters)


def describe_data_quality(
    bars: pd.DataFrame, aligned_bars: AlignedBars, parameters: IngestionParameters
) -> dict[str, Any]:
    """Count gaps and oddities of the bars, and name them by their hash.

    Args:
        bars: Long bars as the feed delivers them.
        aligned_bars: The same bars on one grid.
        parameters: How they were read.

    Returns:
        JSON-able figures, whole and per symbol.
    """
    quality = market.data_quality(bars, aligned_bars, parameters)
    return {"bars_hash": market.bars_hash(bars), **quality}
