"""Round trips of a walk whose ledger comes piece by piece, exits inside a bar and splits included."""

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
    """Round trips in order of account, asset and entry, one entry per trip.

    Attributes:
        account: Index of the account.
        asset: Index of the asset.
        side: 1 long, -1 short.
        entry_row: Decision row whose order opened the position.
        exit_row: Decision row in whose step it was closed; the last one walked if it was not.
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
    those before all splits of the walk. A position open at the end of a piece goes on in the next one.
    """

    def __init__(self, accounts: int, assets: int) -> None:
        """Start with flat accounts."""
        zeros = torch.zeros(accounts, assets, dtype=torch.float64)
        self.factor = torch.ones(assets, dtype=torch.float64)  # new shares per share held at the start
        self.held, self.side, self.entry = zeros, zeros.long(), zeros.long()
        self.pnl, self.cost, self.equity = zeros, zeros, zeros
        self.last_row = -1
        self.parts: list[RoundTripTable] = []

    def add(self, first_row: int, step_data: StepData, fill: Fill) -> None:
        """Add the steps of a piece.

        Args:
            first_row: Its first decision row.
            step_data: Facts ``[S, 1, A]``.
            fill: Ledger ``[S, N, ...]``.
        """
        steps, accounts, assets = fill.shares.shape
        ones = torch.ones(steps, assets, dtype=torch.float64)
        factor = self.factor * (ones if step_data.split is None else step_data.split[:, 0]).cumprod(0)  # [S, A]
        close = step_data.close[:, 0] * torch.cat([self.factor[None], factor[:-1]])
        opening = (step_data.open[:, 0] * factor)[:, None].expand(steps, accounts, assets)
        held, after = fill.filled_shares / factor[:, None], fill.shares / factor[:, None]
        before = torch.cat([self.held[None], after[:-1]])
        gap = before * (opening - close[:, None])
        # The price at which a position ended inside the bar follows from its profit, that of a ruined account too.
        leaving = opening + (fill.price_pnl - gap) / torch.where(held == 0.0, 1.0, held)
        paid = _costs(fill, (held - before).abs() * opening)
        shares = torch.cat([self.held[None], _two_rows(held, after)])  # [2 S + 1, N, A], taken over at the first close
        prices = torch.cat([close[:1, None].expand(1, accounts, assets), _two_rows(opening, leaving)])
        costs = torch.cat([torch.zeros_like(self.held)[None], paid])
        charged = costs
        if fill.dividends is not None:
            charged = costs - torch.cat(
                [torch.zeros_like(self.held)[None], _two_rows(fill.dividends, torch.zeros_like(held))]
            )
        chunk_round_trips = round_trips(shares, prices, charged, step_data.next_close[-1, 0] * factor[-1])
        nothing = torch.zeros_like(shares)
        self._keep(chunk_round_trips, -round_trips(shares, nothing, costs, nothing[-1]).pnl, first_row, fill)
        self.factor, self.held, self.last_row = factor[-1], after[-1], first_row + steps - 1

    def _keep(self, chunk_round_trips: RoundTrips, cost: Tensor, first_row: int, fill: Fill) -> None:
        """Join what goes on from the piece before, set aside what goes on into the next, and keep the rest."""
        where = chunk_round_trips.account, chunk_round_trips.asset
        goes_on = chunk_round_trips.entry_row == 0
        entry, leave = (
            (rows - 1).clamp_min(0) // 2 for rows in (chunk_round_trips.entry_row, chunk_round_trips.exit_row)
        )
        equity = torch.where(goes_on, self.equity[where], fill.equity_before[entry, chunk_round_trips.account])
        pnl = chunk_round_trips.pnl + torch.where(goes_on, self.pnl[where], 0.0)
        cost = cost + torch.where(goes_on, self.cost[where], 0.0)
        entry = torch.where(goes_on, self.entry[where], first_row + entry)
        done = ~chunk_round_trips.still_open
        whole = (*where, chunk_round_trips.side, entry, first_row + leave, pnl, cost, equity)
        self.parts.append(RoundTripTable._make(x[done].numpy() for x in whole))
        self.side, self.entry, self.pnl, self.cost, self.equity = (
            torch.zeros_like(known).index_put(tuple(x[~done] for x in where), values[~done])
            for known, values in (
                *((self.side, chunk_round_trips.side), (self.entry, entry), (self.pnl, pnl)),
                *((self.cost, cost), (self.equity, equity)),
            )
        )

    def finish(self) -> RoundTripTable:
        """Return all trips; positions still open are valued at the last mark."""
        account, asset = self.side.nonzero(as_tuple=True)
        where = account, asset
        last = torch.full_like(account, self.last_row)
        still = (account, asset, self.side[where], self.entry[where], last)
        money = (self.pnl[where], self.cost[where], self.equity[where])
        parts = [*self.parts, RoundTripTable._make(x.numpy() for x in (*still, *money))]
        whole = RoundTripTable._make(np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((whole.entry_row, whole.asset, whole.account))
        return RoundTripTable._make(column[order] for column in whole)


def _two_rows(opening: Tensor, leaving: Tensor) -> Tensor:
    """Rows of the open and of the rest of the bar in turn ``[2 S, N, A]``."""
    return torch.stack([opening, leaving], dim=1).flatten(0, 1)


def _costs(fill: Fill, bought: Tensor) -> Tensor:
    """What both rows of each bar cost ``[2 S, N, A]``; ``bought`` is the notional of the fill at the open.

    Trading costs are shared in proportion to notional. The borrow fee belongs to the open, funding to the close.
    """
    trading = fill.commission + fill.spread
    trading = trading if fill.impact is None else trading + fill.impact
    share = torch.where(fill.traded > 0.0, bought / fill.traded.clamp_min(MIN_NOTIONAL), 1.0).clamp_max(1.0)
    opening, leaving = trading * share, trading * (1.0 - share)
    opening = opening if fill.borrow is None else opening + fill.borrow
    return _two_rows(opening, leaving if fill.funding is None else leaving + fill.funding)
