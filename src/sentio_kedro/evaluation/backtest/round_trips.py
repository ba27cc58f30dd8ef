"""Round trips from a ledger that comes chunk by chunk, exits inside a bar and splits included."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.trading.performance import round_trips
from sentio_kedro.trading.records import Integers, Records
from sentio_kedro.trading.step.walk import Ledger

MIN_NOTIONAL = 1e-12


class RoundTripTable(NamedTuple):
    """Round trips in order of account, asset and entry, one entry each.

    Attributes:
        account: Index of the account.
        asset: Index of the asset.
        side: 1 long, -1 short.
        entry_row: Decision row whose order opened the position.
        exit_row: Decision row in whose step it was closed; the last one simulated if it was not.
        pnl: Profit with dividends, net of costs, quote currency.
        cost: Commission, spread, impact, borrow fee and funding, quote currency.
        entry_equity: Equity at the decision that opened it, quote currency.
    """

    account: Integers
    asset: Integers
    side: Integers
    entry_row: Integers
    exit_row: Integers
    pnl: Floats
    cost: Floats
    entry_equity: Floats


class _Part(NamedTuple):
    """Round trips of a chunk, as ``performance.RoundTrips``; ``cost`` as in ``RoundTripTable``."""

    account: Integers
    asset: Integers
    side: Integers
    entry_row: Integers
    exit_row: Integers
    pnl: Floats
    still_open: NDArray[np.bool_]
    cost: Floats


class RoundTripCutter:
    """Cuts the ledger of N accounts in A assets into round trips.

    A bar has two rows: after the fill at its open, and after exits inside it, which may be partial. Shares and prices
    are those before all splits of the simulation. A position open at the end of a chunk goes on in the next one.
    """

    def __init__(self, accounts: int, assets: int) -> None:
        """Start with flat accounts."""
        zeros = np.zeros((accounts, assets))
        self.factor = np.ones(assets)  # new shares per share held at the start
        self.shares, self.side, self.entry = zeros, zeros.astype(np.int64), zeros.astype(np.int64)
        self.pnl, self.cost, self.equity = zeros, zeros, zeros
        self.last_row = -1
        self.parts: list[RoundTripTable] = []

    def add(self, first_row: int, facts: Records, ledger: Ledger) -> None:
        """Add the steps of a chunk.

        Args:
            first_row: Its first decision row.
            facts: Facts of its rows ``[S, A]``.
            ledger: Ledger ``[S, N, ...]``.
        """
        fills = ledger.fills
        factor = self.factor * facts.split.cumprod(axis=0)  # [S, A]
        close = facts.close * np.concatenate([self.factor[None], factor[:-1]])
        opening = np.broadcast_to((facts.open * factor)[:, None], fills.shape)  # [S, N, A]
        filled, after = fills.filled_shares / factor[:, None], fills.shares / factor[:, None]
        before = np.concatenate([self.shares[None], after[:-1]])
        inside = _exit_prices(fills, before, filled, opening, opening - close[:, None], factor[:, None])
        start = np.zeros_like(self.shares)[None]
        shares = np.concatenate([self.shares[None], _two_rows(filled, after)])  # [2 S + 1, N, A]
        prices = np.concatenate([np.broadcast_to(close[:1, None], start.shape), _two_rows(opening, inside)])
        costs = np.concatenate([start, _costs(fills, np.abs(filled - before) * opening)])
        dividends = np.concatenate([start, _two_rows(fills.dividends, np.zeros_like(filled))])
        self._add(_cut(shares, prices, costs, dividends, facts.next_close[-1] * factor[-1]), first_row, ledger)
        self.factor, self.shares, self.last_row = factor[-1], after[-1], first_row + len(fills) - 1

    def _add(self, part: _Part, first_row: int, ledger: Ledger) -> None:
        """Merge round trips that began in an earlier chunk; store closed ones, carry open ones over."""
        where = part.account, part.asset
        carried = part.entry_row == 0
        entry, leave = (np.maximum(rows - 1, 0) // 2 for rows in (part.entry_row, part.exit_row))
        equity = np.where(carried, self.equity[where], ledger.total.equity_before[entry, part.account])
        pnl = part.pnl + np.where(carried, self.pnl[where], 0.0)
        cost = part.cost + np.where(carried, self.cost[where], 0.0)
        entry = np.where(carried, self.entry[where], first_row + entry)
        table = RoundTripTable(*where, part.side, entry, first_row + leave, pnl, cost, equity)
        self.parts.append(RoundTripTable._make(column[~part.still_open] for column in table))
        still_open = RoundTripTable._make(column[part.still_open] for column in table)
        self.side, self.entry, self.pnl, self.cost, self.equity = (
            self._by_asset(still_open, column) for column in (still_open.side, still_open.entry_row, *still_open[-3:])
        )

    def _by_asset(self, table: RoundTripTable, column: NDArray[Any]) -> NDArray[Any]:
        """Spread a column of open round trips to ``[N, A]``, 0 without one."""
        state = np.zeros(self.shares.shape, column.dtype)
        state[table.account, table.asset] = column
        return state

    def finish(self) -> RoundTripTable:
        """Return all round trips; positions still open are valued at the last mark."""
        where = np.nonzero(self.side)
        columns = (self.side, self.entry, np.full_like(self.side, self.last_row), self.pnl, self.cost, self.equity)
        parts = [*self.parts, RoundTripTable._make((*where, *(column[where] for column in columns)))]
        table = RoundTripTable._make(np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((table.entry_row, table.asset, table.account))
        return RoundTripTable._make(column[order] for column in table)


def _cut(shares: Floats, prices: Floats, costs: Floats, dividends: Floats, last_mark: Floats) -> _Part:
    """Cut positions ``[rows, N, A]`` into round trips, see ``performance.round_trips``."""
    zeros = np.zeros_like(shares)
    trips = round_trips(*map(torch.from_numpy, (shares, prices, costs - dividends, last_mark)))
    paid = round_trips(*map(torch.from_numpy, (shares, zeros, costs, zeros[-1])))  # at prices of 0 only costs are left
    found = trips._asdict() | {"cost": -paid.pnl}
    return _Part._make(found[name].numpy() for name in _Part._fields)


def _exit_prices(
    fills: Records, before: Floats, filled: Floats, opening: Floats, gap: Floats, factor: Floats
) -> Floats:
    """Prices ``[S, N, A]`` at which positions were left inside the bar.

    Where nothing is left the price follows from the profit, which also holds for a ruined account: what it did not sell
    is lost at its last mark.
    """
    through = opening + (fills.price_pnl - before * gap) / np.where(filled == 0.0, 1.0, filled)
    return np.asarray(np.where(fills.shares == 0.0, through, fills.exit_price * factor))


def _two_rows(opening: Floats, inside: Floats) -> Floats:
    """Rows of the open and of the rest of the bar in turn ``[2 S, N, A]``."""
    return np.stack([opening, inside], axis=1).reshape(-1, *opening.shape[1:])


def _costs(fills: Records, traded: Floats) -> Floats:
    """Costs of both rows of each bar ``[2 S, N, A]``; ``traded`` is the notional of the fill at the open.

    Trading costs are shared in proportion to notional. The borrow fee belongs to the open, funding to the close.
    """
    trading = fills.commission + fills.spread + fills.impact
    share = np.where(fills.traded > 0.0, traded / np.maximum(fills.traded, MIN_NOTIONAL), 1.0).clip(max=1.0)
    return _two_rows(trading * share + fills.borrow, trading * (1.0 - share) + fills.funding)
