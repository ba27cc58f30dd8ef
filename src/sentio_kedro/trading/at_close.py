"""Close of bar t+1: mark to market, bankruptcy and session counters."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import AccountState
from sentio_kedro.trading.at_open import Opening
from sentio_kedro.trading.exits import has_stops
from sentio_kedro.trading.step_data import StepData


class Outcome(NamedTuple):
    """Result of a bar before accounts are marked.

    Attributes:
        filled: ``[..., A]`` signed shares filled at the open.
        held: ``[..., A]`` shares after that fill.
        shares: ``[..., A]`` shares at the close.
        entry_price: ``[..., A]`` average price of the position after the fill.
        working: ``[..., A]`` shares still unfilled in the market; None if unfilled orders are dropped.
        in_flight: ``[..., A, L]`` shares of delayed orders.
        equity: ``[...]`` equity at the close, not floored.
        exit_price: ``[..., A]`` price of an exit inside the bar, NaN where there was none; None if exits are off.
    """

    filled: Tensor
    held: Tensor
    shares: Tensor
    entry_price: Tensor
    working: Tensor | None
    in_flight: Tensor
    equity: Tensor
    exit_price: Tensor | None


def mark(
    account: AccountState,
    opening: Opening,
    outcome: Outcome,
    row: StepData,
    parameters: TradingParameters,
) -> tuple[AccountState, Tensor]:
    """Mark accounts at the close of bar t+1 and terminate bankrupt ones.

    Returns:
        Accounts at the close of bar t+1, and the shortfall ``[...]``.
    """
    live = opening.live[..., 0] & (outcome.equity > opening.floor)
    equity = outcome.equity.clamp_min(0.0)
    dead = ~live[..., None]
    shares = outcome.shares.masked_fill(dead, 0.0)
    exited = None if outcome.exit_price is None else ~outcome.exit_price.isnan()
    ended = dead if exited is None else dead | exited
    held = (account.bars_held + 1.0).masked_fill(outcome.filled != 0.0, 1.0).masked_fill(shares == 0.0, 0.0)
    working, in_flight = account.working, outcome.in_flight
    if outcome.working is not None:
        working = outcome.working.masked_fill(ended, 0.0)
    if in_flight.shape[-1]:
        in_flight = in_flight.masked_fill(ended[..., None], 0.0)
    entry = outcome.entry_price
    if has_stops(parameters):
        entry = entry.masked_fill(ended, 0.0)
    return (
        AccountState(
            cash=equity - (shares * row.next_close).sum(-1),
            shares=shares,
            equity=equity,
            peak_equity=torch.maximum(account.peak_equity, equity),
            initial_equity=account.initial_equity,
            bars_held=held,
            alive=live,
            entry_price=entry,
            working=working,
            in_flight=in_flight,
            **_session_state(account, opening, outcome, exited, row, parameters),
        ),
        equity - outcome.equity,
    )


def _session_state(
    account: AccountState,
    opening: Opening,
    outcome: Outcome,
    exited: Tensor | None,
    row: StepData,
    parameters: TradingParameters,
) -> dict[str, Tensor]:
    """Update the session counters that a rule reads."""
    masks, starts = parameters.masks, row.session_starts
    state = {
        "session_equity": account.session_equity,
        "trades_today": account.trades_today,
        "opened_today": account.opened_today,
        "day_trades": account.day_trades,
    }
    if starts is None:
        return state
    if masks.daily_loss is not None:
        state["session_equity"] = torch.where(starts[..., 0], account.equity, account.session_equity)
    if masks.trades_per_day is None and not masks.pattern_day_trader:
        return state
    sold = torch.zeros_like(outcome.held, dtype=torch.bool) if exited is None else exited & row.fillable
    dtype = account.shares.dtype
    before = torch.where(starts, 0.0, account.trades_today)
    state["trades_today"] = before + (outcome.filled != 0.0).to(dtype) + sold.to(dtype)
    opened_before = torch.where(starts, 0.0, account.opened_today)
    flipped = opening.shares * outcome.held < 0.0
    grown = (outcome.held.abs() > opening.shares.abs()) | flipped
    opened = torch.where(grown, 1.0, opened_before)
    closes = (opened_before > 0.0) & (outcome.filled * opening.shares < 0.0)
    trades = (closes.to(dtype) + (sold & (opened > 0.0)).to(dtype)).sum(-1)
    shifted = torch.cat([account.day_trades[..., 1:], torch.zeros_like(account.day_trades[..., :1])], dim=-1)
    day_trades = torch.where(starts, shifted, account.day_trades)
    state["opened_today"] = opened
    state["day_trades"] = torch.cat([day_trades[..., :-1], day_trades[..., -1:] + trades[..., None]], dim=-1)
    return state
