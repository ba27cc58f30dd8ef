"""A session that can be left at any bar and gone on from, and is told what became of its orders: the trader's."""

from __future__ import annotations

import torch

from sentio_kedro.serving.accounts import Account, require_history
from sentio_kedro.serving.following.state import SessionState
from sentio_kedro.serving.incoming_bars import GapBounds, RawBars
from sentio_kedro.serving.session import DecisionSession
from sentio_kedro.serving.signal import Signal
from sentio_kedro.trading.records import Accounts, Mask
from sentio_kedro.trading.simulate import one_thread
from sentio_kedro.trading.step.settlement import Booked


class FollowingSession(DecisionSession):
    """The agents of one fold, or one agent, that follow a feed for one account."""

    @property
    def followed_bars(self) -> int:
        """Bars of history with which ``resume`` ends with the bits of a session that began earlier."""
        return 2 * self.required_bars + 2

    @torch.inference_mode()
    def resume(self, history: RawBars, state: SessionState | Account | None = None) -> Signal:
        """Take a history, and decide at its newest bar, at whose close the account stands, as ``follow`` does.

        The bars that decisions read are added one by one, as a feed brings them. From ``followed_bars`` bars on it does
        not matter to any bit when a session was resumed.

        Args:
            history: As in ``start``.
            state: What ``state`` returned at this bar, or an account; None opens one with ``trading.initial_cash``.

        Returns:
            The signal, as in ``start``.

        Raises:
            ValueError: As in ``start``, or if the account stands at another bar.
            BarsError: If a bar is invalid.
        """
        bars, kept = self._read(history), state if isinstance(state, SessionState) else None
        given = Account(cash=self.trading.initial_cash) if state is None else state
        account = given.accounts if isinstance(given, SessionState) else given
        count, newest = len(bars.timestamps), bars.timestamps[-1]
        require_history(self.required_bars, count - 1, count)
        stands = given.bar if given.bar is not None else newest
        if stands != newest:
            raise ValueError(
                f"The account stands at the close of {stands}Z, the newest bar of the history is {newest}Z; give a "
                "history up to the account's bar and the bars after it one by one."
            )
        with one_thread(), self._restored_on_error():
            self._begin(bars, max(self.required_bars, count - self.required_bars - 2))
            if kept is not None and kept.rule is not None:
                self._market = self.market.with_rule(kept.rule)
            self._closed = None if kept is None else kept.closed
            self._accounts = self._records(account, bars.traded_close()[-1])
            return self._decide(None)

    def state(self) -> SessionState:
        """Return what ``resume`` goes on from."""
        accounts = Accounts._make(part.copy() for part in self.accounts)
        return SessionState(self.market.bars.grid.timestamps[-1], accounts, self.market.rule_state(), self._closed)

    @torch.inference_mode()
    def follow(self, bar: RawBars, execution: Mask | Booked, *, closing: bool = False) -> Signal:
        """Take one new bar with what became of the last orders, and decide at its close.

        Args:
            bar: One timestamp, as in ``decide``.
            execution: ``[A]`` orders that were withheld; the others fill at the bar's open by the execution step, see
                ``executed``. Or what a venue booked by the bar's close.
            closing: Close all positions, whatever the agents would do.

        Returns:
            The signal, as in ``decide``.

        Raises:
            ValueError: As in ``decide``, or if the agents decide at no such bar.
            BarsError: If a bar is invalid.
        """
        rows = self._new_rows(bar, GapBounds(self._shortest_gap, self._allowed_gap))
        if len(rows) != 1:
            raise ValueError(f"`bar` must be one bar at which the agents decide, were {len(rows)}; leave others out.")
        with one_thread(), self._restored_on_error():
            self._market = self.market.with_bar(rows[0])
            self._closed = (rows[0].timestamps[0] if self._closed is None else self._closed) if closing else None
            return self._decide(self._pending, execution)
