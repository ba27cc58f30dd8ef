"""Decide at the newest bar."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import IngestionParameters, SignalParameters, UniverseParameters
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.session_checks import placed_in_sessions
from sentio_kedro.market.ingestion.timestamps import moment
from sentio_kedro.serving.accounts import ACCOUNT, row_of
from sentio_kedro.serving.newest import choose_agents, newest_signals
from sentio_kedro.serving.newest_bar import require_newest, require_same_feed

logger = logging.getLogger(__name__)


def decide(
    bars: pd.DataFrame,
    agents: dict[str, AgentBundle],
    account_states: dict[str, dict[str, Any]],
    ingestion: IngestionParameters,
    parameters: SignalParameters,
    universe: pd.DataFrame | None = None,
    leaving: UniverseParameters | None = None,
) -> pd.DataFrame:
    """Go on with the account that was tested, from its fold's first test row, and decide at the newest bar.

    Of a symbol that has left the universe the target is 0.

    Returns:
        Signals as from ``newest_signals``.

    Raises:
        ValueError: If no account of the fold was saved, or the newest bar has not ended, is too old, or follows bars of
            another length or after a gap.
    """
    chosen = choose_agents(agents, parameters.fold)
    name = f"fold_{chosen[0].spec.fold}"
    if name not in account_states:
        raise ValueError(
            f"`account_states` must have an account of `{name}`, has {sorted(account_states)}; run `kedro run "
            "--pipeline backtest`."
        )
    account, aligned = ACCOUNT.validate_python(account_states[name]), align_bars(bars, ingestion, universe, leaving)
    spec = chosen[0].spec
    placed = placed_in_sessions(aligned, ingestion, spec.trading)
    logger.warning("%s", require_newest(placed.timestamps, moment(datetime.now(UTC)), parameters.max_age))
    require_same_feed(placed.timestamps, row_of(account, placed.timestamps), parameters.longest_gap)
    return newest_signals(chosen, placed, parameters, account)
