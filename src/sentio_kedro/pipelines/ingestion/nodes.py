"""Check bars, put them on one grid and describe them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from sentio_kedro.config import IngestionParameters, TradingParameters
from sentio_kedro.market.ingestion import bars as market
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.own_columns import feed_columns
from sentio_kedro.market.ingestion.session_checks import future_problem, placed_in_sessions, session_findings
from sentio_kedro.market.ingestion.timestamps import moment

logger = logging.getLogger(__name__)


def align_bars(bars: pd.DataFrame, parameters: IngestionParameters, trading: TradingParameters) -> AlignedBars:
    """Put the bars of all symbols that end in sessions of the exchange on one grid of bar ends in UTC."""
    return placed_in_sessions(market.align_bars(bars, parameters), parameters, trading.calendar)


def measure_data_quality(
    bars: pd.DataFrame, aligned_bars: AlignedBars, parameters: IngestionParameters, trading: TradingParameters
) -> dict[str, Any]:
    """Count gaps and extremes of the bars, in all and per symbol, tell what is odd about them, and hash them.

    Raises:
        ValueError: If sessions a year are not those of the bars, or no timestamp has bars of two symbols.
    """
    told = session_findings(aligned_bars, parameters, trading.calendar)
    unfinished = future_problem(aligned_bars.timestamps, moment(datetime.now(UTC)))
    told += [] if unfinished is None else [unfinished]
    for text in told:
        logger.warning("%s", text)
    quality = market.data_quality(bars, aligned_bars, parameters)
    return {"bars_hash": market.bars_hash(bars, feed_columns(parameters)), **quality, "told": told}
