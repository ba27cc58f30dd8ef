"""An account at the close of bar t + 1 from what a venue did since bar t, instead of from the step's own execution."""

from __future__ import annotations

from typing import NamedTuple

from sentio_kedro.trading.compilation import compiled
from sentio_kedro.trading.records import Accounts, Floats, Market, Scratch
from sentio_kedro.trading.step.execution import DEAD_FRACTION, begin_session, mark
from sentio_kedro.trading.step.orders import cancel
from sentio_kedro.trading.step.trades import update_entry


class Booked(NamedTuple):
    """What a venue says of N accounts at the close of bar t + 1.

    Attributes:
        cash: ``[N]``.
        shares: ``[N, A]`` positions.
        traded: ``[N, A]`` signed shares traded since bar t.
        price: ``[N, A]`` their average price.
    """

    cash: Floats
    shares: Floats
    traded: Floats
    price: Floats


@compiled
def settle(row: int, market: Market, accounts: Accounts, booked: Booked, scratch: Scratch) -> None:
    """Carry accounts, in place, from a row to the next close; sessions, peaks, ages and entries are the step's own.

    Shares and cash are the venue's, after splits. It keeps no order for later bars. A position that nobody traded was
    entered at the close.
    """
    for n in range(len(booked.cash)):
        account, equity = accounts.account[n], booked.cash[n]
        if market.clock[row].session_starts:
            begin_session(n, accounts)
        for a in range(booked.shares.shape[1]):
            holding, fact, fill, limit = (
                accounts.holdings[n, a],
                market.facts[row, a],
                scratch.fills[n, a],
                scratch.limits[n, a],
            )
            shares, traded = booked.shares[n, a], booked.traded[n, a]
            holding.shares *= fact.split
            holding.entry_price /= fact.split
            if traded != 0.0:
                update_entry(holding, traded, booked.price[n, a])
            if holding.shares * shares <= 0.0:
                holding.entry_price, holding.bars_held = fact.next_close, 0.0
            limit.order, fill.filled_shares, fill.shares = traded, shares, shares
            equity += shares * fact.next_close
            cancel(accounts.in_flight[n, a])
        account.alive = account.alive and equity > DEAD_FRACTION * account.initial_equity
        mark(max(equity, 0.0), n, row, market, accounts, scratch)
        account.cash = booked.cash[n]
