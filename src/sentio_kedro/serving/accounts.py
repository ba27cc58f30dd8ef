"""Accounts as plain numbers and as tensors."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from pydantic import Field
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.config.fields import NonNegative, NonNegativeCount, Positive, parameters
from sentio_kedro.trading.accounts import DAY_TRADE_SESSIONS, DEAD_FRACTION, AccountState, open_accounts

_BY_SYMBOL = ("shares", "bars_held", "in_flight", "working", "entry_price", "trades_today", "opened_today")


@parameters
class Account:
    """One account at the close of the newest bar. Money in quote currency; a symbol that is not named has none.

    Attributes:
        cash: Cash, negative if borrowed.
        shares: Shares or coins held by symbol, negative if short.
        peak_equity: Highest equity so far, for the limit on drawdown; null takes the present equity.
        session_equity: Equity at the last close of the previous session, for the limit on the daily loss; null takes
            the present equity.
        initial_equity: Equity at the start: an account below a thousandth of it trades no more; null takes the present
            equity.
        bars_held: Bars since each position last changed; a position that is not named counts as one bar old.
        in_flight: Orders under way by symbol, in shares: one number per bar of ``orders.latency_bars``, the one that
            reaches the market at the next open first.
        working: Shares of orders in the market that are not filled yet, by symbol.
        entry_price: Average price of each position, for stops of an account that the session keeps; a position that is
            not named was bought at the newest close.
        trades_today: Fills in this session by symbol.
        opened_today: Symbols whose position was opened or enlarged in this session.
        day_trades: Day trades of the last five sessions together.
    """

    cash: float
    shares: dict[str, float] = Field(default_factory=dict)
    peak_equity: NonNegative | None = None
    session_equity: NonNegative | None = None
    initial_equity: NonNegative | None = None
    bars_held: dict[str, NonNegativeCount] = Field(default_factory=dict)
    in_flight: dict[str, list[float]] = Field(default_factory=dict)
    working: dict[str, float] = Field(default_factory=dict)
    entry_price: dict[str, Positive] = Field(default_factory=dict)
    trades_today: dict[str, NonNegativeCount] = Field(default_factory=dict)
    opened_today: list[str] = Field(default_factory=list)
    day_trades: NonNegative = 0.0


def account_states(
    accounts: Sequence[Account], symbols: Sequence[str], close: Tensor, trading: TradingParameters
) -> AccountState:
    """Turn accounts into tensors ``[B, ...]``.

    Args:
        accounts: B accounts.
        symbols: A assets, in the order of the agents.
        close: ``[A]`` their latest closes.
        trading: Latency of orders.

    Raises:
        ValueError: If an account names other symbols, holds values that are not finite, or orders under way for another
            latency.
    """
    for account in accounts:
        _require_sane(account, symbols, trading.orders.latency_bars)

    def by_symbol(name: str, missing: float = 0.0) -> Tensor:
        rows = [[getattr(account, name).get(symbol, missing) for symbol in symbols] for account in accounts]
        return torch.tensor(rows, dtype=close.dtype)

    def of_account(name: str, missing: Tensor) -> Tensor:
        values = [getattr(account, name) for account in accounts]
        return torch.tensor([torch.nan if x is None else x for x in values], dtype=close.dtype).where(
            torch.tensor([x is not None for x in values]), missing
        )

    cash = torch.tensor([account.cash for account in accounts], dtype=close.dtype)
    latency, opened = trading.orders.latency_bars, [account.opened_today for account in accounts]
    shares = by_symbol("shares")
    equity = cash + (shares * close).sum(-1)
    initial = of_account("initial_equity", equity)
    state = open_accounts(cash, len(symbols), latency)
    under_way = [[account.in_flight.get(symbol, [0.0] * latency) for symbol in symbols] for account in accounts]
    prices = by_symbol("entry_price", torch.nan)
    return state._replace(
        shares=shares,
        equity=equity.clamp_min(0.0),
        peak_equity=torch.maximum(of_account("peak_equity", equity), equity).clamp_min(0.0),
        initial_equity=initial.clamp_min(0.0),
        bars_held=torch.where(shares == 0.0, 0.0, by_symbol("bars_held", 1.0)),
        alive=(equity > 0.0) & (equity > DEAD_FRACTION * initial),
        entry_price=torch.where(shares == 0.0, 0.0, torch.where(prices.isnan(), close, prices)),
        working=by_symbol("working"),
        in_flight=torch.tensor(under_way, dtype=close.dtype).view(len(accounts), len(symbols), latency),
        session_equity=of_account("session_equity", equity),
        trades_today=by_symbol("trades_today"),
        opened_today=torch.tensor([[float(s in names) for s in symbols] for names in opened], dtype=close.dtype),
        day_trades=torch.tensor(
            [[0.0] * (DAY_TRADE_SESSIONS - 1) + [account.day_trades] for account in accounts], dtype=close.dtype
        ),
    )


def account_report(state: AccountState, symbols: Sequence[str]) -> Account:
    """Return one account ``[]`` as plain numbers, the inverse of ``account_states``."""

    def by_symbol(values: Tensor) -> dict[str, float]:
        return {symbol: value for symbol, value in zip(symbols, values.tolist(), strict=True) if value}

    return Account(
        cash=float(state.cash),
        shares=by_symbol(state.shares),
        peak_equity=float(state.peak_equity),
        session_equity=float(state.session_equity),
        initial_equity=float(state.initial_equity),
        bars_held={name: int(bars) for name, bars in by_symbol(state.bars_held).items()},
        in_flight={s: row for s, row in zip(symbols, state.in_flight.tolist(), strict=True) if any(row)},
        working=by_symbol(state.working),
        entry_price=by_symbol(state.entry_price),
        trades_today={name: int(count) for name, count in by_symbol(state.trades_today).items()},
        opened_today=list(by_symbol(state.opened_today)),
        day_trades=float(state.day_trades.sum()),
    )


def for_agents(state: AccountState, agents: int, assets: int, latency: int) -> AccountState:
    """Expand accounts ``[..., 1]`` or ``[..., N]`` to N agents: ``[..., N]``.

    Raises:
        ValueError: If the accounts have another shape.
    """
    leading = state.cash.shape
    if not leading or leading[-1] not in (1, agents):
        raise ValueError(
            f"`account.cash` must have the shape [..., 1] (all agents have the same accounts) or [..., {agents}] "
            f"(an account of its own for each agent), was {list(leading)}; add a last dimension."
        )
    expected = {"shares": (assets,), "bars_held": (assets,), "in_flight": (assets, latency)}
    for name, values in state._asdict().items():
        trailing = expected.get(name, tuple(values.shape[len(leading) :]))
        if tuple(values.shape) != (*leading, *trailing):
            raise ValueError(
                f"`account.{name}` must have the shape {[*leading, *trailing]} for {assets} assets and "
                f"`orders.latency_bars` = {latency}, was {list(values.shape)}; open the accounts of the agents' market."
            )
    if leading[-1] == agents:
        return state
    dims = len(leading)
    return AccountState._make(x.expand(*leading[:-1], agents, *x.shape[dims:]) for x in state)


def _require_sane(account: Account, symbols: Sequence[str], latency: int) -> None:
    symbols_of: dict[str, Collection[str]] = {name: getattr(account, name) for name in _BY_SYMBOL}
    problems = [
        f"`account.{name}` names {sorted(set(values) - set(symbols))}, the agents trade {list(symbols)}; leave them out"
        for name, values in symbols_of.items()
        if not set(values) <= set(symbols)
    ]
    numbers = {"cash": account.cash}
    for field, amounts in (("shares", account.shares), ("working", account.working)):
        numbers |= {f"{field}[{name}]": amount for name, amount in amounts.items()}
    for name, under_way in account.in_flight.items():
        numbers |= {f"in_flight[{name}][{bar}]": amount for bar, amount in enumerate(under_way)}
    problems += [
        f"`account.{name}` must be a finite number, was {value}; correct it"
        for name, value in numbers.items()
        if not math.isfinite(value)
    ]
    problems += [
        f"`account.in_flight[{name}]` must hold one number per bar of `orders.latency_bars` = {latency}, held "
        f"{len(under_way)}; give the orders that reach the market at the next opens, the next one first"
        for name, under_way in account.in_flight.items()
        if len(under_way) != latency
    ]
    if problems:
        raise ValueError("; ".join(problems) + ".")
