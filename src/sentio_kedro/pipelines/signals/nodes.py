"""Decide at the newest bar."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import IngestionParameters, SignalParameters
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.serving.accounts import ACCOUNT
from sentio_kedro.serving.newest import choose_agents, newest_signals


def decide(
    bars: pd.DataFrame,
    agents: dict[str, AgentBundle],
    account_states: dict[str, dict[str, Any]],
    ingestion: IngestionParameters,
    parameters: SignalParameters,
) -> pd.DataFrame:
    """Go on with the account that was tested, from its fold's first test row, and decide at the newest bar.

    Returns:
        Signals as from ``newest_signals``.

    Raises:
        ValueError: If no account of the fold was saved.
    """
    chosen = choose_agents(agents, parameters.fold)
    name = f"fold_{chosen[0].spec.fold}"
    if name not in account_states:
        raise ValueError(
            f"`account_states` must have an account of `{name}`, has {sorted(account_states)}; run `kedro run "
            "--pipeline backtest`."
        )
    account = ACCOUNT.validate_python(account_states[name])
    return newest_signals(chosen, align_bars(bars, ingestion), parameters, account)
