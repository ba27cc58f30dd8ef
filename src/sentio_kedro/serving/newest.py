"""Signals at the newest bar, from raw bars alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import SignalParameters
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.serving.accounts import Account
from sentio_kedro.serving.session import DecisionSession


def choose_agents(agents: Mapping[str, AgentBundle], fold: int | None) -> list[AgentBundle]:
    """Pick the agents of one fold, by default the latest.

    Raises:
        ValueError: If there is no agent of that fold.
    """
    folds = sorted({agent.spec.fold for agent in agents.values()})
    chosen_fold = folds[-1] if fold is None and folds else fold
    chosen = [agent for agent in agents.values() if agent.spec.fold == chosen_fold]
    if not chosen:
        raise ValueError(f"`signals.fold` must be one of {folds}, was {fold}; train first or name another fold.")
    return sorted(chosen, key=lambda agent: agent.spec.seed)


def newest_signals(agents: Sequence[AgentBundle], bars: AlignedBars, parameters: SignalParameters) -> pd.DataFrame:
    """Let agents decide at the newest bar.

    As one they first trade the last ``replay_bars`` bars from flat, then decide at the newest one; the order would
    fill at the next open, or ``orders.latency_bars`` later.

    Args:
        agents: Agents of one fold.
        bars: Aligned bars, the newest last.
        parameters: Equity and replay.

    Returns:
        Frame of ``Signal.frame``. ``shares`` are those of ``target`` for ``signals.equity``, whatever the replay
        earned; ``order`` is that of the replayed account, in its own shares.

    Raises:
        ValueError: If the bars are too few or of other symbols.
    """
    return signals_of(DecisionSession(agents, traced=False), bars, parameters)


def signals_of(session: DecisionSession, bars: AlignedBars, parameters: SignalParameters) -> pd.DataFrame:
    """Start a session with ``bars`` and return the frame of ``newest_signals``."""
    replayable = max(0, len(bars.timestamps) - session.required_bars)
    signal = session.start(bars, Account(cash=parameters.equity), min(parameters.replay_bars, replayable))
    return signal.sized(parameters.equity, session.trading.orders.lot_size).frame()
