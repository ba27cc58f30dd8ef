"""Round trips from a ledger that comes chunk by chunk, exits inside a bar and splits included."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentio_kedro.trading.accounts import Fill
from sentio_kedro.trading.performance import RoundTrips, round_trips
from sentio_kedro.trading.step_data import StepData

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

    account: NDArray[np.int64]
    asset: NDArray[np.int64]
    side: NDArray[np.int64]
    entry_row: NDArray[np.int64]
    exit_row: NDArray[np.int64]
    pnl: NDArray[np.float64]
    cost: NDArray[np.float64]
    entry_equity: NDArray[np.float64]


class RoundTripCutter:
    """Cuts the ledger of N accounts in A assets into round trips.

    A bar has two rows: after the fill at its open, and after what closed positions inside it. Shares and prices are
    those before all splits of the simulation. A position open at the end of a chunk goes on in the next one.
    """

    def __init__(self, accounts: int, assets: int) -> None:
        """Start with flat accounts."""
        zeros = torch.zeros(accounts, assets, dtype=torch.float64)
        self.factor = torch.ones(assets, dtype=torch.float64)  # new shares per share held at the start
        self.shares, self.side, self.entry = zeros, zeros.long(), zeros.long()
        self.pnl, self.cost, self.equity = zeros, zeros, zeros
        self.last_row = -1
        self.parts: list[RoundTripTable] = []

    def add(self, first_row: int, step_data: StepData, fill: Fill) -> None:
        """Add the steps of a chunk.

        Args:
            first_row: Its first decision row.
            step_data: Step data ``[S, 1, A]``.
            fill: Ledger ``[S, N, ...]``.
        """
        steps, accounts, assets = fill.shares.shape
        ones = torch.ones(steps, assets, dtype=torch.float64)
        factor = self.factor * (ones if step_data.split is None else step_data.split[:, 0]).cumprod(0)  # [S, A]
        close = step_data.close[:, 0] * torch.cat([self.factor[None], factor[:-1]])
        opening = (step_data.open[:, 0] * factor)[:, None].expand(steps, accounts, assets)
        filled, after = fill.filled_shares / factor[:, None], fill.shares / factor[:, None]
        before = torch.cat([self.shares[None], after[:-1]])
        gap = before * (opening - close[:, None])
        # The price at which a position ended inside the bar follows from its profit, that of a ruined account too.
        exit_price = opening + (fill.price_pnl - gap) / torch.where(filled == 0.0, 1.0, filled)
        start = torch.zeros_like(self.shares)[None]
        shares = torch.cat([self.shares[None], _two_rows(filled, after)])  # [2 S + 1, N, A], taken over at the close
        prices = torch.cat([close[:1, None].expand(1, accounts, assets), _two_rows(opening, exit_price)])
        costs = torch.cat([start, _costs(fill, (filled - before).abs() * opening)])
        net = costs
        if fill.dividends is not None:
            net = costs - torch.cat([start, _two_rows(fill.dividends, torch.zeros_like(filled))])
        zeros = torch.zeros_like(shares)
        cost = -round_trips(shares, zeros, costs, zeros[-1]).pnl
        self._add(round_trips(shares, prices, net, step_data.next_close[-1, 0] * factor[-1]), cost, first_row, fill)
        self.factor, self.shares, self.last_row = factor[-1], after[-1], first_row + steps - 1

    def _add(self, part: RoundTrips, cost: Tensor, first_row: int, fill: Fill) -> None:
        """Merge round trips that began in an earlier chunk; store closed ones, carry open ones over."""
        where = part.account, part.asset
        carried = part.entry_row == 0
        entry, leave = ((rows - 1).clamp_min(0) // 2 for rows in (part.entry_row, part.exit_row))
        equity = torch.where(carried, self.equity[where], fill.equity_before[entry, part.account])
        pnl = part.pnl + torch.where(carried, self.pnl[where], 0.0)
        cost = cost + torch.where(carried, self.cost[where], 0.0)
        entry = torch.where(carried, self.entry[where], first_row + entry)
        closed, still_open = ~part.still_open, part.still_open
        table = (*where, part.side, entry, first_row + leave, pnl, cost, equity)
        self.parts.append(RoundTripTable._make(column[closed].numpy() for column in table))
        cells = tuple(index[still_open] for index in where)
        self.side, self.entry, self.pnl, self.cost, self.equity = (
            torch.zeros_like(state).index_put(cells, column[still_open])
            for state, column in (
                *((self.side, part.side), (self.entry, entry), (self.pnl, pnl)),
                *((self.cost, cost), (self.equity, equity)),
            )
        )

    def finish(self) -> RoundTripTable:
        """Return all round trips; positions still open are valued at the last mark."""
        where = self.side.nonzero(as_tuple=True)
        last = torch.full_like(where[0], self.last_row)
        columns = (*where, self.side[where], self.entry[where], last)
        money = (self.pnl[where], self.cost[where], self.equity[where])
        parts = [*self.parts, RoundTripTable._make(column.numpy() for column in (*columns, *money))]
        table = RoundTripTable._make(np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((table.entry_row, table.asset, table.account))
        return RoundTripTable._make(column[order] for column in table)


def _two_rows(opening: Tensor, inside: Tensor) -> Tensor:
    """Rows of the open and of the rest of the bar in turn ``[2 S, N, A]``."""
    return torch.stack([opening, inside], dim=1).flatten(0, 1)


def _costs(fill: Fill, bought: Tensor) -> Tensor:
    """Costs of both rows of each bar ``[2 S, N, A]``; ``bought`` is the notional of the fill at the open.

    Trading costs are shared in proportion to notional. The borrow fee belongs to the open, funding to the close.
    """
    trading = fill.commission + fill.spread
    trading = trading if fill.impact is None else trading + fill.impact
    share = torch.where(fill.traded > 0.0, bought / fill.traded.clamp_min(MIN_NOTIONAL), 1.0).clamp_max(1.0)
    opening, inside = trading * share, trading * (1.0 - share)
    opening = opening if fill.borrow is None else opening + fill.borrow
    return _two_rows(opening, inside if fill.funding is None else inside + fill.funding)
