"""The agents of a trader on recorded bars, one by one, from the journal's first account, by the execution step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.evaluation.live.split import Replay
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Timestamps
from sentio_kedro.serving.accounts import require_history
from sentio_kedro.serving.following.session import FollowingSession
from sentio_kedro.serving.following.state import SessionState
from sentio_kedro.trading.facts import DAYS_PER_YEAR

MANY_ROWS = 500  # from which on it pays to trace the networks
ANY_GAP = np.timedelta64(36_500, "D")  # a journal says itself which bars were missed


def replay(
    agents: Sequence[AgentBundle],
    bars: AlignedBars,
    state: SessionState,
    silent: Timestamps,
    closing: np.datetime64 | None,
) -> Replay:
    """Let the agents trade from the bar of a state to the newest.

    Args:
        agents: Agents of one fold, which decide as one.
        bars: Bars with the agents' history before the state's.
        state: What the session stood at when it decided first.
        silent: Ends of bars at which nobody decided, so that no order was sent.
        closing: Bar from whose close on the agents close all positions; null is none.

    Raises:
        ValueError: If bars, agents and state do not fit.
    """
    stamps = bars.timestamps
    start = int(np.searchsorted(stamps, state.bar))
    session = FollowingSession(agents, ANY_GAP, traced=len(stamps) - start > MANY_ROWS)
    require_history(session.required_bars, start, len(stamps))
    signal = session.resume(bars.rows(slice(max(0, start + 1 - session.followed_bars), start + 1)), state)
    nobody, steps, actions = np.isin(stamps, silent), [], []
    for row in range(start + 1, len(stamps)):
        actions.append(signal.actions)
        withheld = np.full(len(session.symbols), nobody[row - 1])
        bar = bars.rows(slice(row, row + 1))
        signal = session.follow(bar, withheld, closing=closing is not None and bool(stamps[row] >= closing))
        if session.executed is None:
            raise ValueError(f"The session executed no bar at {stamps[row]}Z; start it with an account.")
        steps.append(session.executed)
    fills = np.stack([step.fills[0] for step in steps]).view(np.recarray)
    facts = np.stack([step.facts for step in steps]).view(np.recarray)
    held = np.concatenate([state.accounts.holdings.shares, fills.shares])
    before = held[:-1] * facts.split
    moved = fills.price_pnl - before * (facts.next_close - facts.close / facts.split)
    equity = [float(step.total.equity[0]) for step in steps]
    return Replay(
        timestamps=stamps[start:],
        equity=np.array([float(state.accounts.account.equity[0]), *equity]),
        shares=held,
        actions=np.stack(actions),
        facts=facts,
        years=np.diff(stamps[start:]) / np.timedelta64(1, "D") / DAYS_PER_YEAR,
        value=(held[1:] - before) * facts.next_close - moved,
        costs=fills.commission + fills.spread + fills.impact + fills.borrow + fills.funding - fills.dividends,
    )
