"""The open of bar t+1: corporate actions, what holding cost, the gap, and the fill of what reaches the market."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import DEAD_FRACTION, MIN_EQUITY, AccountState, without_dust
from sentio_kedro.trading.orders import project, whole_lots
from sentio_kedro.trading.position_limits import PositionLimits
from sentio_kedro.trading.step_data import StepData


class Opening(NamedTuple):
    """Accounts at the open of bar t+1, before any fill. Money in quote currency.

    Attributes:
        shares: ``[..., A]`` shares held since bar t, after splits.
        entry_price: ``[..., A]`` average price of the position, after splits.
        gap: ``[..., A]`` profit from the gap between close and open.
        carried: ``[...]`` equity at the decision plus what holding brought and cost, before any price moved.
        equity: ``[...]`` equity at the open.
        floor: ``[...]`` equity at which an account ends.
        live: ``[..., 1]`` whether the account lives at the open.
        borrow: ``[..., A]`` fee for borrowed shares; None where it is off.
        financing: ``[...]`` interest paid less interest earned; None where it is off.
        dividends: ``[..., A]`` dividends received; None if there are none.
    """

    shares: Tensor
    entry_price: Tensor
    gap: Tensor
    carried: Tensor
    equity: Tensor
    floor: Tensor
    live: Tensor
    borrow: Tensor | None
    financing: Tensor | None
    dividends: Tensor | None


def open_bar(account: AccountState, row: StepData, parameters: TradingParameters) -> Opening:
    """Corporate actions, what holding costs from close to close, and the gap."""
    shares, entry, reference = account.shares, account.entry_price, row.close
    if row.split is not None:
        shares, entry, reference = shares * row.split, entry / row.split, reference / row.split
    carry, carried = parameters.carry, account.equity
    dividends = None if row.dividend is None else shares * row.dividend
    borrow = financing = None
    if row.years is not None and carry.borrow_rate:
        borrow = shares.clamp_max(0.0) * reference * (row.years * -carry.borrow_rate)
        carried = carried - borrow.sum(-1)
    if row.years is not None and (carry.financing_rate or carry.interest_rate):
        owed, earning = account.cash.clamp_max(0.0), account.cash.clamp_min(0.0)
        interest = owed * carry.financing_rate + earning * carry.interest_rate
        financing = (interest * row.years[..., 0]).neg().masked_fill(~account.alive, 0.0)
        carried = carried - financing
    if dividends is not None:
        carried = carried + dividends.sum(-1)
    gap = shares * (row.open - reference)
    equity = carried + gap.sum(-1)
    floor = DEAD_FRACTION * account.initial_equity
    live = account.alive & (equity > floor)
    return Opening(shares, entry, gap, carried, equity, floor, live[..., None], borrow, financing, dividends)


def fill_orders(
    arriving: Tensor, opening: Opening, view: PositionLimits, row: StepData, parameters: TradingParameters
) -> Tensor:
    """Cut what reaches the market to what can be traded ``[..., A]`` in shares; nothing is ever enlarged."""
    whole = arriving * (row.fillable & opening.live)
    filled = whole
    if row.max_shares is not None:
        filled = filled.clamp(-row.max_shares, row.max_shares)
    if parameters.margin.initial is not None:
        equity = opening.equity.clamp_min(MIN_EQUITY)[..., None]
        current = opening.shares * row.open / equity
        target = (opening.shares + filled) * row.open / equity
        most = torch.full_like(opening.equity, 1.0 / parameters.margin.initial)
        position, factor = project(current, target, most)
        bought = torch.where(position == 0.0, -opening.shares, (position - current) * equity / row.open)
        filled = torch.where((position == target) | (factor == 1.0)[..., None], filled, bought)
    if filled is not whole:
        if parameters.orders.lot_size is not None:
            filled = torch.where(filled == whole, filled, whole_lots(filled, parameters.orders.lot_size))
        if view.called is not None:
            filled = torch.where(view.called, whole, filled)
    if parameters.orders.splits_orders:
        left = without_dust(opening.shares + filled, opening.shares.abs())
        filled = torch.where(left == 0.0, -opening.shares, filled)
    return filled
