"""Signals at the newest bar, from raw bars alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import SignalParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.serving.accounts import Account, row_of
from sentio_kedro.serving.session import DecisionSession
from sentio_kedro.serving.signal import START_TOLERANCE, Signal
from sentio_kedro.trading.accounts import lot_sizes


def choose_agents(agents: Mapping[str, AgentBundle], fold: int | None, key: str = "signals.fold") -> list[AgentBundle]:
    """Pick the agents of one fold, by default the latest.

    Args:
        agents: All agents.
        fold: The fold.
        key: Name of the parameter that says so.

    Raises:
        ValueError: If there is no agent of that fold.
    """
    folds = sorted({agent.spec.fold for agent in agents.values()})
    chosen_fold = folds[-1] if fold is None and folds else fold
    chosen = [agent for agent in agents.values() if agent.spec.fold == chosen_fold]
    if not chosen:
        raise ValueError(f"`{key}` must be one of {folds}, was {fold}; train first or name another fold.")
    return sorted(chosen, key=lambda agent: agent.spec.seed)


def newest_signals(
    agents: Sequence[AgentBundle], bars: AlignedBars, parameters: SignalParameters, account: Account | None = None
) -> pd.DataFrame:
    """Let agents decide at the newest bar; the order would fill at the next open, or ``orders.latency_bars`` later.

    Args:
        agents: Agents of one fold, which decide as one.
        bars: Aligned bars, the newest last.
        parameters: Equity to size the shares for.
        account: Account that the agents trade from its bar to the newest; null opens one there.

    Returns:
        Frame of ``Signal.frame``. ``shares`` are those of ``target`` for ``signals.equity``, whatever the account
        earned; ``order`` is in its own shares.

    Raises:
        ValueError: If the bars are too few or of other symbols, or two starts disagree and
            ``signals.refuse_disagreement`` is set.
    """
    session = DecisionSession(agents, traced=False)
    signal = decide_from(session, bars, Account(cash=parameters.equity) if account is None else account)
    if parameters.refuse_disagreement and not signal.start_agrees().all():
        raise ValueError(
            f"Targets {signal.target} of {signal.symbols} would be {signal.other_target} if trading had begun later, "
            f"more than {START_TOLERANCE} of the largest position away: an accident of the first day. Set "
            "`signals.refuse_disagreement` to false to see the signals all the same, marked."
        )
    return signal.sized(parameters.equity, lot_sizes(session.trading, len(session.symbols))).frame()


def decide_from(session: DecisionSession, bars: AlignedBars, account: Account) -> Signal:
    """Let an account trade from its bar to the newest, and compare its target with one that begins halfway.

    The second account is flat and follows the agents' rule from its own first bar on, as in the start-date test.

    Raises:
        ValueError: If the bars are too few or of other symbols, the account does not fit, or the decision is no finite
            number.
    """
    signal = session.start(bars, account)
    numbers = np.array([signal.target, signal.shares, signal.orders, signal.tail_risk])
    if not np.isfinite(numbers).all() or not np.isfinite(signal.regime).all():
        raise ValueError(
            f"A decision must be finite numbers, was {signal.target.tolist()} as target; bars or account hold numbers "
            "that no market has: correct what is far too large or too small."
        )
    timestamps = session.market.bars.grid.timestamps
    first, last = row_of(account, timestamps), len(timestamps) - 1
    if first == last:
        return signal
    begin = timestamps[(first + last) // 2]
    time = pd.Timestamp(begin, tz="UTC").to_pydatetime()
    other = session.begun_at(begin).start(bars, Account(cash=session.trading.initial_cash, time=time))
    return replace(signal, other_target=other.target)
