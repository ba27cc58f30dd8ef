"""Signals of the chosen agents at the newest bar."""

from __future__ import annotations

import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import IngestionParameters, SignalParameters
from sentio_kedro.market.bars import align_bars
from sentio_kedro.serving.newest import choose_agents, newest_signals


def decide(
    bars: pd.DataFrame, agents: dict[str, AgentBundle], ingestion: IngestionParameters, parameters: SignalParameters
) -> pd.DataFrame:
    """Return the target positions of the chosen agents from the next open on; columns of ``Signal.frame``."""
    return newest_signals(choose_agents(agents, parameters.fold), align_bars(bars, ingestion), parameters)
