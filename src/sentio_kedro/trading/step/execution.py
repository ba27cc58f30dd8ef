"""Execution of one account's orders from the close of bar t to the close of bar t + 1.

An order is fixed in shares at ``close[t]``, filled at ``open[t+1]`` (later with latency) and marked at ``close[t+1]``.
The old position earns the gap from close to open, the new one the rest of the bar.
"""

from __future__ import annotations

from math import inf, nan

from sentio_kedro.trading.compilation import compiled
from sentio_kedro.trading.records import Accounts, Market, Scratch, Terms
from sentio_kedro.trading.step.limits import DUST, MIN_EQUITY, within_band
from sentio_kedro.trading.step.orders import (
    MIN_CUT,
    ROUNDING,
    band_of,
    cancel,
    gross_factor,
    joint_factor,
    lapse,
    queue_orders,
    reduced_position,
    whole_lots,
)
from sentio_kedro.trading.step.trades import exit_of, liquidation_point, trade_costs, update_entry, worst_price

DEAD_FRACTION = 1e-3  # of initial equity; an account below it is terminated


@compiled
def execute(n: int, row: int, market: Market, accounts: Accounts, terms: Terms, scratch: Scratch) -> None:
    """Fill the planned orders at the next open and mark account ``n`` at the next close, in place.

    The ledger goes to ``scratch.fills`` and ``scratch.total``.
    """
    account, total = accounts.account[n], scratch.total[n]
    _begin_ledger(n, accounts, terms, scratch)
    if not account.alive:
        return
    if market.clock[row].session_starts:
        begin_session(n, accounts)
    queue_orders(n, row, market, accounts, scratch)
    carried, equity = _open_bar(n, row, market, accounts, terms, scratch)
    floor = DEAD_FRACTION * account.initial_equity
    bankrupt = equity <= floor
    if not bankrupt:
        _fill(equity, n, row, market, accounts, terms, scratch)
        equity = _trade_inside_bar(carried, n, row, market, accounts, terms, scratch)
        bankrupt = equity <= floor
    if bankrupt:
        _bury(equity, n, accounts, scratch)
    else:
        mark(equity, n, row, market, accounts, scratch)
    total.equity = account.equity


@compiled
def _begin_ledger(n: int, accounts: Accounts, terms: Terms, scratch: Scratch) -> None:
    account, bounds, total = accounts.account[n], scratch.bounds[n], scratch.total[n]
    band = band_of(account, terms.rules[0])
    total.equity_before, total.equity, total.headroom = account.equity, account.equity, bounds.headroom
    total.financing, total.shortfall, total.called = 0.0, 0.0, bounds.called
    for a in range(scratch.fills.shape[1]):
        fill, limit = scratch.fills[n, a], scratch.limits[n, a]
        fill.price_pnl, fill.commission, fill.spread, fill.impact = 0.0, 0.0, 0.0, 0.0
        fill.borrow, fill.funding, fill.dividends, fill.traded = 0.0, 0.0, 0.0, 0.0
        fill.filled_shares, fill.shares, fill.exit_price, fill.position = 0.0, 0.0, nan, 0.0
        fill.ordered = limit.order != 0.0
        wanted = not within_band(limit.capped, limit.position, band)
        fill.projected = bounds.factor < 1.0 and wanted and abs(limit.capped - limit.target) > MIN_CUT
        fill.capped = fill.projected or abs(limit.capped - limit.requested) > MIN_CUT


@compiled
def begin_session(n: int, accounts: Accounts) -> None:
    """Reset what is counted by session; bar t was the last of one. The peak forgets the oldest session."""
    account, session_highs, day_trades = accounts.account[n], accounts.session_highs[n], accounts.day_trades[n]
    account.session_equity = account.equity
    slot = (account.session_slot + 1) % len(session_highs)
    account.session_slot, session_highs[slot] = slot, account.equity
    if len(session_highs) > 1:
        peak = 0.0
        for session in range(len(session_highs)):
            peak = max(peak, session_highs[session])
        account.peak_equity = peak
    for session in range(len(day_trades) - 1):
        day_trades[session] = day_trades[session + 1]
    day_trades[len(day_trades) - 1] = 0.0
    for a in range(accounts.holdings.shape[1]):
        accounts.holdings[n, a].trades_today, accounts.holdings[n, a].opened_today = 0.0, 0.0


@compiled
def _open_bar(
    n: int, row: int, market: Market, accounts: Accounts, terms: Terms, scratch: Scratch
) -> tuple[float, float]:
    """Corporate actions, carry from close to close, and the gap.

    Returns:
        Equity after carry and dividends, and the equity at the open.
    """
    account, years, rules = accounts.account[n], market.clock[row].years, terms.rules[0]
    owed, owned = max(-account.cash, 0.0), max(account.cash, 0.0)
    financing = years * (rules.financing_rate * owed - rules.interest_rate * owned)
    scratch.total[n].financing = financing
    carried, gap = account.equity - financing, 0.0
    for a in range(scratch.fills.shape[1]):
        holding, fact, fill = accounts.holdings[n, a], market.facts[row, a], scratch.fills[n, a]
        holding.shares *= fact.split
        holding.entry_price /= fact.split
        reference = fact.close / fact.split
        fill.borrow = max(-holding.shares, 0.0) * reference * (years * terms.charges[a].borrow_rate)
        fill.dividends = holding.shares * fact.dividend
        fill.price_pnl = holding.shares * (fact.open - reference)
        fill.filled_shares, fill.shares = holding.shares, holding.shares
        fill.position = holding.shares * fact.open / max(account.equity, MIN_EQUITY)
        carried += fill.dividends - fill.borrow
        gap += fill.price_pnl
    return carried, carried + gap


@compiled
def _fill(
    equity_open: float, n: int, row: int, market: Market, accounts: Accounts, terms: Terms, scratch: Scratch
) -> None:
    """Cut arriving orders to tradable shares, in place of ``limits.order``; no order is enlarged.

    Where positions will not be what was decided, joint limits count again, at the prices of the decision: what one
    order was to make room for is not filled without it.
    """
    account, holdings, facts, limits = accounts.account[n], accounts.holdings[n], market.facts[row], scratch.limits[n]
    called, rules = scratch.bounds[n].called, terms.rules[0]
    held, added, factor, apart = 0.0, 0.0, 1.0, account.latency > 0
    for a in range(len(holdings)):
        before, fact, limit = holdings[a].shares, facts[a], limits[a]
        shares = limit.order if fact.fillable else 0.0
        if fact.reducing:
            shares = reduced_position(before, before + shares) - before
        shares = min(max(shares, -fact.max_shares), fact.max_shares)
        exposure = fact.close / fact.split / max(account.equity, MIN_EQUITY)  # of a share
        target = (before + shares) * exposure
        apart = apart or abs(target - limit.target) > MIN_CUT
        limit.filled, limit.position, limit.target = shares, before * exposure, target
        kept = reduced_position(before, before + shares)
        held += abs(kept) * fact.open
        added += abs(before + shares - kept) * fact.open
    if apart and not called:
        factor = joint_factor(n, row, market, accounts, terms, scratch)
    if rules.initial_margin > 0.0 and not called:
        factor = min(factor, gross_factor(held, added, max(equity_open, MIN_EQUITY) / rules.initial_margin))
    for a in range(len(holdings)):
        before, limit = holdings[a].shares, limits[a]
        shares = limit.filled
        if factor < 1.0 - ROUNDING:
            kept = reduced_position(before, before + shares)
            shares = kept + factor * (before + shares - kept) - before
        if shares != limit.order and not called:
            shares = whole_lots(shares, terms.charges[a].lot_size)
        if abs(before + shares) <= DUST * abs(before):
            shares = -before
        lapse(limit.order, shares, accounts.in_flight[n, a])
        limit.order = shares


@compiled
def _trade_inside_bar(
    carried: float, n: int, row: int, market: Market, accounts: Accounts, terms: Terms, scratch: Scratch
) -> float:
    """Trade at the open and on exits inside the bar. Returns the equity at the close, not floored."""
    account, holdings, facts, clock = accounts.account[n], accounts.holdings[n], market.facts[row], market.clock[row]
    limits, fills, total, rules = scratch.limits[n], scratch.fills[n], scratch.total[n], terms.rules[0]
    for a in range(len(holdings)):
        holding, fact, fill = holdings[a], facts[a], fills[a]
        traded = limits[a].order
        trade_costs(traded, fact.open, fact, account.cost_multiplier, terms.charges[a], rules.max_impact, fill)
        update_entry(holding, traded, fact.open)
        fill.filled_shares = holding.shares
        fill.position = holding.shares * fact.open / max(account.equity, MIN_EQUITY)
    reached = liquidation_point(holdings, facts, carried, rules, limits, fills) if rules.intrabar else inf
    total.called = total.called or reached < inf
    equity = carried
    for a in range(len(holdings)):
        holding, fact, fill = holdings[a], facts[a], fills[a]
        held, traded = holding.shares, limits[a].order
        price, sold = exit_of(holding, fact, clock, abs(traded), rules)
        if reached < inf and held != 0.0 and fact.fillable:
            price, sold = fact.open + reached * (worst_price(holding, fact, abs(traded), rules) - fact.open), held
            fill.commission += rules.liquidation_fee * abs(held) * price
        if sold != 0.0:
            fill.exit_price = price
            fill.price_pnl += sold * (price - fact.open)
            impact = fact.fillable  # a delisting is no trade in the market
            before = fill.impact
            trade_costs(sold, price, fact, account.cost_multiplier, terms.charges[a], rules.max_impact, fill)
            fill.impact = fill.impact if impact else before
        kept = held - sold
        fill.price_pnl += kept * (fact.next_close - fact.open)
        fill.shares = kept
        fill.funding = fact.funding * kept * fact.next_close
        equity += fill.price_pnl - fill.commission - fill.spread - fill.impact - fill.funding
    return equity


@compiled
def _bury(equity: float, n: int, accounts: Accounts, scratch: Scratch) -> None:
    """Terminate a bankrupt account: flat, with equity of at least zero; its broker bears the shortfall."""
    account, remaining = accounts.account[n], max(equity, 0.0)
    scratch.total[n].shortfall = remaining - equity
    account.alive, account.cash, account.equity = False, remaining, remaining
    for a in range(accounts.holdings.shape[1]):
        holding = accounts.holdings[n, a]
        holding.shares, holding.entry_price, holding.bars_held = 0.0, 0.0, 0.0
        cancel(accounts.in_flight[n, a])
        scratch.fills[n, a].shares = 0.0


@compiled
def mark(equity: float, n: int, row: int, market: Market, accounts: Accounts, scratch: Scratch) -> None:
    """Mark the account at the close, and count trades and day trades."""
    account, highs, day_trades = accounts.account[n], accounts.session_highs[n], accounts.day_trades[n]
    cash, round_trips = equity, 0.0
    for a in range(scratch.fills.shape[1]):
        holding, fact, fill = accounts.holdings[n, a], market.facts[row, a], scratch.fills[n, a]
        traded = scratch.limits[n, a].order
        before, after = fill.filled_shares - traded, fill.filled_shares
        exited, opened_before = after != fill.shares, holding.opened_today > 0.0
        if abs(after) > abs(before) or after * before < 0.0:
            holding.opened_today = 1.0
        if opened_before and traded * before < 0.0:
            round_trips += 1.0
        if exited and fact.fillable:
            round_trips += holding.opened_today
            holding.trades_today += 1.0
        if traded != 0.0:
            holding.trades_today += 1.0
        if exited:
            cancel(accounts.in_flight[n, a])
        holding.shares = fill.shares
        holding.bars_held = 0.0 if fill.shares == 0.0 else holding.bars_held + 1.0
        if fill.shares == 0.0:
            holding.entry_price = 0.0
        cash -= fill.shares * fact.next_close
    day_trades[len(day_trades) - 1] += round_trips
    account.cash, account.equity = cash, equity
    account.peak_equity = max(account.peak_equity, equity)
    highs[account.session_slot] = max(highs[account.session_slot], equity)
