"""Check bars, put them on one grid and describe them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion import bars as market
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars


def align_bars(bars: pd.DataFrame, parameters: IngestionParameters) -> AlignedBars:
    """Put the bars of all symbols on one grid of bar ends in UTC."""
    return market.align_bars(bars, parameters)


def measure_data_quality(
    bars: pd.DataFrame, aligned_bars: AlignedBars, parameters: IngestionParameters
) -> dict[str, Any]:
    """Count gaps and extremes of the bars, in all and per symbol, and hash the bars."""
    quality = market.data_quality(bars, aligned_bars, parameters)
    return {"bars_hash": market.bars_hash(bars), **quality}
