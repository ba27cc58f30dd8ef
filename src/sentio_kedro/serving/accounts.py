"""Accounts as plain numbers and as records."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field, TypeAdapter

from sentio_kedro.config import TradingParameters
from sentio_kedro.config.fields import parameters
from sentio_kedro.config.symbols import unknown_symbols
from sentio_kedro.market.ingestion.timestamps import Timestamps, moment
from sentio_kedro.trading.accounts import open_accounts
from sentio_kedro.trading.records import DAY_TRADE_SESSIONS, Accounts, Floats
from sentio_kedro.trading.simulate import require_indices
from sentio_kedro.trading.step.execution import DEAD_FRACTION

LARGEST = 1e18  # money, prices and shares beyond it are mistakes, and overflow when multiplied

Amount = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Worth = Annotated[float, Field(ge=0.0, le=LARGEST)]
Price = Annotated[float, Field(gt=0.0, le=LARGEST)]
Bars = Annotated[int, Field(ge=0, le=10**9)]

_BY_SYMBOL = ("shares", "bars_held", "in_flight", "entry_price", "trades_today", "opened_today")


def _in_range(time: datetime) -> datetime:
    moment(time)
    return time


@parameters
class Account:
    """One account at the close of a bar. Money in quote currency; a symbol that is not named has none.

    Attributes:
        cash: Cash, negative if borrowed.
        time: End of that bar, UTC if it names no zone; null is the newest bar.
        equity: Its worth; null takes the cash and the shares at their latest closes.
        shares: Shares or coins held by symbol, negative if short.
        peak_equity: Highest equity of the last ``trading.drawdown_sessions``, for the limit on drawdown; null takes the
            present equity.
        session_highs: Highest equity of each of the last ``trading.drawdown_sessions``, this session's last; by default
            ``peak_equity`` in this session.
        session_equity: Equity at the last close of the previous session, for the limit on the daily loss; null takes
            the present equity.
        initial_equity: Equity at the start: an account below a thousandth of it trades no more; null takes the present
            equity.
        bars_held: Bars since each position was opened; one that is not named counts as one bar old.
        in_flight: Orders under way by symbol, in shares: one number per bar of ``orders.latency_bars``, the one that
            reaches the market at the next open first.
        entry_price: Average price of each position, for stops of an account that the session keeps; a position that is
            not named was bought at the newest close.
        trades_today: Fills in this session by symbol.
        opened_today: Symbols whose position was opened or enlarged in this session.
        day_trades: Day trades of each of the last sessions, five at most, this session's last.
    """

    cash: Amount
    time: Annotated[datetime, AfterValidator(_in_range)] | None = None
    equity: Worth | None = None
    shares: dict[str, Amount] = Field(default_factory=dict)
    peak_equity: Worth | None = None
    session_highs: list[Worth] = Field(default_factory=list)
    session_equity: Worth | None = None
    initial_equity: Worth | None = None
    bars_held: dict[str, Bars] = Field(default_factory=dict)
    in_flight: dict[str, list[Amount]] = Field(default_factory=dict)
    entry_price: dict[str, Price] = Field(default_factory=dict)
    trades_today: dict[str, Bars] = Field(default_factory=dict)
    opened_today: list[str] = Field(default_factory=list)
    day_trades: list[Worth] = Field(default_factory=list, max_length=DAY_TRADE_SESSIONS)

    @property
    def bar(self) -> np.datetime64 | None:
        """``time`` as the stamp of a bar, UTC."""
        return None if self.time is None else moment(self.time)


ACCOUNT = TypeAdapter(Account)
GivenAccount = Account | Sequence[Account] | Accounts


def row_of(account: GivenAccount, timestamps: Timestamps) -> int:
    """Row of the bars ``[T]`` at whose close accounts stand: by default the newest.

    Raises:
        ValueError: If it is none of them, or accounts differ in it.
    """
    newest = len(timestamps) - 1
    given = [] if isinstance(account, Accounts) else [account] if isinstance(account, Account) else account
    bars = {timestamps[-1] if one.bar is None else one.bar for one in given}
    found = np.flatnonzero(np.isin(timestamps, np.array(list(bars), timestamps.dtype)))
    if len(bars) > 1 or len(found) != len(bars):
        ends = ", ".join(sorted(f"{np.datetime_as_string(bar, unit='s')}Z" for bar in bars))
        first, last = (f"{np.datetime_as_string(timestamps[row], unit='s')}Z" for row in (0, -1))
        raise ValueError(
            f"`account.time` must be the end of one bar from {first} to {last}, for all accounts the same, was {ends}; "
            "give the bars from there on, or accounts at the newest bar."
        )
    return int(found[0]) if len(found) else newest


def require_history(required: int, first: int, bars: int) -> None:
    """Refuse bars that are too few for agents to decide from row ``first`` on.

    Args:
        required: Bars that reproduce a decision (``AgentSpec.required_bars``).
        first: Row at whose close the account stands.
        bars: Number of bars.

    Raises:
        ValueError: If they are too few.
    """
    lacking = required - 1 - first
    if lacking > 0:
        raise ValueError(f"The agents need {bars + lacking} bars to decide, were given {bars}; give {lacking} more.")


def account_records(
    accounts: Sequence[Account], symbols: Sequence[str], close: Floats, trading: TradingParameters
) -> Accounts:
    """Turn accounts into records ``[B, ...]``.

    Args:
        accounts: B accounts.
        symbols: A assets, in the order of the agents.
        close: ``[A]`` their latest closes.
        trading: Latency of orders and memory of the drawdown.

    Raises:
        ValueError: If an account names other symbols, holds orders under way for another latency, or holds anything
            although it is ruined.
    """
    for account in accounts:
        _require_sane(account, symbols, trading)

    def by_symbol(name: str, missing: float = 0.0) -> Floats:
        return np.array([[getattr(account, name).get(symbol, missing) for symbol in symbols] for account in accounts])

    def of_account(name: str) -> Floats:
        values = [getattr(account, name) for account in accounts]
        return np.array([present if value is None else value for value, present in zip(values, equity, strict=True)])

    latency, shares = trading.orders.latency_bars, by_symbol("shares")
    worth = np.array([account.cash for account in accounts]) + (shares * close).sum(axis=1)
    known = [account.equity for account in accounts]
    equity = np.array([held if given is None else given for given, held in zip(known, worth, strict=True)])
    opened = open_accounts(len(accounts), len(symbols), trading)
    record, holdings = opened.account, opened.holdings
    record.cash, record.equity = [account.cash for account in accounts], np.maximum(equity, 0.0)
    record.session_equity = of_account("session_equity")
    record.initial_equity = np.maximum(of_account("initial_equity"), 0.0)
    record.peak_equity = np.maximum(of_account("peak_equity"), record.equity)
    record.alive = (equity > 0.0) & (equity > DEAD_FRACTION * record.initial_equity)
    prices = by_symbol("entry_price", np.nan)
    holdings.shares = shares
    holdings.entry_price = np.where(shares == 0.0, 0.0, np.where(np.isnan(prices), close, prices))
    holdings.bars_held = np.where(shares == 0.0, 0.0, by_symbol("bars_held", 1.0))
    holdings.trades_today = by_symbol("trades_today")
    holdings.opened_today = [[float(symbol in account.opened_today) for symbol in symbols] for account in accounts]
    opened.session_highs[:, 0] = record.peak_equity
    for place, account in enumerate(accounts):
        highs, counts = account.session_highs, account.day_trades
        if highs:
            opened.session_highs[place, : len(highs)] = highs
            record.session_slot[place] = len(highs) - 1
        opened.day_trades[place, DAY_TRADE_SESSIONS - len(counts) :] = counts
    under_way = [[account.in_flight.get(symbol, [0.0] * latency) for symbol in symbols] for account in accounts]
    opened.in_flight[:] = np.array(under_way).reshape(opened.in_flight.shape)
    _refuse_ruined(opened, equity)
    return opened


def _refuse_ruined(accounts: Accounts, equity: Floats) -> None:
    """Refuse ruined accounts that hold something: the backtest closes all at once, and trades no more."""
    holds = (accounts.holdings.shares != 0.0).any(-1) | (accounts.in_flight != 0.0).any((-2, -1))
    ruined = np.flatnonzero(holds & ~accounts.account.alive & np.isfinite(equity))
    if ruined.size:
        worth, start = equity[ruined[0]], accounts.account.initial_equity[ruined[0]]
        raise ValueError(
            f"`account` is ruined and must hold nothing: it is worth {worth:.10g}, which must be above 0 and above "
            f"{DEAD_FRACTION:g} of its `initial_equity`, {start:.10g}; close its positions, cancel its orders, and "
            "name what is left as `cash`."
        )


def account_report(accounts: Accounts, symbols: Sequence[str], bar: np.datetime64 | None = None) -> Account:
    """Return one account ``[]`` at the close of ``bar`` as plain numbers, the inverse of ``account_records``."""
    account, holdings = accounts.account, accounts.holdings
    highs = np.roll(accounts.session_highs, -1 - account.session_slot)

    def by_symbol(values: Floats) -> dict[str, float]:
        return {symbol: value for symbol, value in zip(symbols, values.tolist(), strict=True) if value}

    return Account(
        cash=float(account.cash),
        time=None if bar is None else pd.Timestamp(bar, tz="UTC").to_pydatetime(),
        equity=float(account.equity),
        shares=by_symbol(holdings.shares),
        peak_equity=float(account.peak_equity),
        session_highs=np.trim_zeros(highs, "f").tolist(),
        session_equity=float(account.session_equity),
        initial_equity=float(account.initial_equity),
        bars_held={name: int(bars) for name, bars in by_symbol(holdings.bars_held).items()},
        in_flight={s: row for s, row in zip(symbols, accounts.in_flight.tolist(), strict=True) if any(row)},
        entry_price=by_symbol(holdings.entry_price),
        trades_today={name: int(count) for name, count in by_symbol(holdings.trades_today).items()},
        opened_today=list(by_symbol(holdings.opened_today)),
        day_trades=np.trim_zeros(accounts.day_trades, "f").tolist(),
    )


def accounts_to_json(accounts: Mapping[str, Account]) -> dict[str, Any]:
    """Return named accounts as plain data, to the last bit."""
    return {name: ACCOUNT.dump_python(one, mode="json", exclude_defaults=True) for name, one in accounts.items()}


def in_agent_shape(accounts: Accounts, assets: int, trading: TradingParameters) -> Accounts:
    """Copy accounts ``[..., 1]``.

    Raises:
        ValueError: If the accounts have another shape, latency or place in the ring of session highs.
    """
    leading = accounts.account.shape
    if not leading or leading[-1] != 1:
        raise ValueError(
            f"`account` must have the shape [..., 1], was {list(leading)}; add a last dimension: "
            "`accounts.part(numpy.s_[:, None])`."
        )
    opened = open_accounts(1, assets, trading)
    for name, given, expected in zip(Accounts._fields, accounts, opened, strict=True):
        if given.shape != (*leading, *expected.shape[1:]):
            raise ValueError(
                f"`{name}` of the accounts must have the shape {[*leading, *expected.shape[1:]]} for {assets} assets, "
                f"`orders.latency_bars` = {trading.orders.latency_bars} and the agents' `drawdown_sessions`, was "
                f"{list(given.shape)}; open the accounts of the agents' market."
            )
    require_indices(accounts)
    return Accounts._make(part.copy() for part in accounts)


def _require_sane(account: Account, symbols: Sequence[str], trading: TradingParameters) -> None:
    latency, sessions = trading.orders.latency_bars, open_accounts(1, 1, trading).session_highs.shape[1]
    symbols_of: dict[str, Collection[str]] = {name: getattr(account, name) for name in _BY_SYMBOL}
    problems = [
        f"`account.{name}` names {unknown}, the agents trade {list(symbols)}; correct them, or leave them out"
        for name, values in symbols_of.items()
        if (unknown := unknown_symbols(values, symbols))
    ]
    problems += [
        f"`account.in_flight[{name}]` must hold one number per bar of `orders.latency_bars` = {latency}, held "
        f"{len(under_way)}; give the orders that reach the market at the next opens, the next one first"
        for name, under_way in account.in_flight.items()
        if len(under_way) != latency
    ]
    if len(account.session_highs) > sessions:
        problems.append(
            f"`account.session_highs` must name at most {sessions} sessions (`trading.drawdown_sessions`, 1 without "
            f"`trading.max_drawdown`), named {len(account.session_highs)}; leave out the oldest"
        )
    if problems:
        raise ValueError("; ".join(problems) + ".")
