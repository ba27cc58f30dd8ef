"""Check bars, put them on one grid and describe them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from sentio_kedro.config import IngestionParameters, TradingParameters, UniverseParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_and_find, bars_hash
from sentio_kedro.market.ingestion.data_quality import data_quality
from sentio_kedro.market.ingestion.membership import membership_quality
from sentio_kedro.market.ingestion.own_columns import feed_columns
from sentio_kedro.market.ingestion.problems import Problem, findings_text
from sentio_kedro.market.ingestion.session_checks import future_findings, placed_in_sessions, session_findings
from sentio_kedro.market.ingestion.sessions import session_schedule
from sentio_kedro.market.ingestion.timestamps import moment
from sentio_kedro.market.ingestion.universe import read_universe

logger = logging.getLogger(__name__)


def align_bars(
    bars: pd.DataFrame,
    universe: pd.DataFrame | None,
    parameters: IngestionParameters,
    leaving: UniverseParameters,
    trading: TradingParameters,
) -> tuple[AlignedBars, dict[str, Any]]:
    """Put the bars of members that end in sessions of their exchange on one grid of bar ends in UTC; describe them.

    What was repaired or is only told is logged once, and kept with gaps, holes, extremes and the hash of the bars.

    Raises:
        ValueError: If bars cannot be used; sessions a year are not those of the bars; or symbols share no timestamp.
    """
    aligned, findings = align_and_find(bars, parameters, universe, leaving)
    calendar = trading.calendar
    aligned = placed_in_sessions(aligned, parameters, trading)
    told = [*findings, *session_findings(aligned, parameters, trading)]
    told += future_findings(aligned.timestamps, moment(datetime.now(UTC)))
    schedule = None if calendar is None else session_schedule(aligned.timestamps, calendar)
    quality = data_quality(bars, aligned, parameters, told, schedule)
    if universe is not None:
        quality["membership"] = membership_quality(bars, aligned, read_universe(universe))
    text = findings_text(Problem(**{**one, "cases": tuple(one["cases"])}) for one in quality["findings"])
    if text:
        logger.warning("%s", text)
    return aligned, {"bars_hash": bars_hash(bars, feed_columns(parameters), universe), **quality}
