"""Exits inside bar t+1: stop loss, take profit, the session's close, a delisting."""

from __future__ import annotations

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.at_open import Opening
from sentio_kedro.trading.step_data import StepData


def has_stops(parameters: TradingParameters) -> bool:
    """Return true if a stop loss or a take profit is on."""
    return parameters.orders.stop_loss is not None or parameters.orders.take_profit is not None


def entry_price(opening: Opening, filled: Tensor, held: Tensor, row: StepData, parameters: TradingParameters) -> Tensor:
    """Average price of the position after the fill ``[..., A]``; updated only for stop loss and take profit."""
    if not has_stops(parameters):
        return opening.entry_price
    enlarged = opening.shares * filled > 0.0
    average = (opening.shares * opening.entry_price + filled * row.open) / torch.where(held == 0.0, 1.0, held)
    opened = opening.shares * held <= 0.0
    entry = torch.where(opened, row.open, torch.where(enlarged, average, opening.entry_price))
    return torch.where(held == 0.0, 0.0, entry)


def exit_price(
    held: Tensor, entry: Tensor, live: Tensor, row: StepData, parameters: TradingParameters
) -> Tensor | None:
    """Price of an exit inside the bar ``[..., A]``, NaN where there is none; None if all exits are off.

    A bar that opens beyond a stop or a target fills at its open. If both lie inside the bar, the stop fills.
    """
    if row.high is None and row.session_ends is None and row.delisted is None:
        return None
    orders, prices = parameters.orders, torch.full_like(held, torch.nan)
    if row.session_ends is not None:
        prices = torch.where(row.session_ends, row.next_close, prices)
    if row.high is not None and row.low is not None:
        long = held > 0.0
        worst, best = torch.where(long, row.low, row.high), torch.where(long, row.high, row.low)
        side = held.sign()
        if orders.take_profit is not None:
            target = entry * (1.0 + side * orders.take_profit)
            prices = torch.where(side * (best - target) >= 0.0, target, prices)
        if orders.stop_loss is not None:
            stop = entry * (1.0 - side * orders.stop_loss)
            prices = torch.where(side * (worst - stop) <= 0.0, stop, prices)
        if orders.take_profit is not None:
            prices = torch.where(side * (row.open - target) >= 0.0, row.open, prices)
        if orders.stop_loss is not None:
            prices = torch.where(side * (row.open - stop) <= 0.0, row.open, prices)
    prices = torch.where(row.fillable, prices, torch.nan)
    if row.delisted is not None:
        prices = torch.where(row.delisted, row.next_close, prices)
    return torch.where((held != 0.0) & live, prices, torch.nan)
