"""Execution of one account's orders from the close of bar t to the close of bar t + 1.

An order is fixed in shares at ``close[t]``, filled at ``open[t+1]`` (later with latency) and marked at ``close[t+1]``.
The old position earns the gap from close to open, the new one the rest of the bar.
"""

from __future__ import annotations

from math import inf, nan

from sentio_kedro.trading.compilation import compiled
from sentio_kedro.trading.limits import DUST, MIN_EQUITY, within_band
from sentio_kedro.trading.orders import (
    MIN_CUT,
    ROUNDING,
    band_of,
    gross_factor,
    joint_factor,
    lapse,
    queue_orders,
    reduced_position,
    whole_lots,
)
from sentio_kedro.trading.records import Floats, Records
from sentio_kedro.trading.trades import exit_of, liquidation_point, trade_costs, update_entry, worst_price

DEAD_FRACTION = 1e-3  # of initial equity; an account below it is terminated


@compiled
def execute(
    account: Records,
    holdings: Records,
    in_flight: Floats,
    session_highs: Floats,
    day_trades: Floats,
    facts: Records,
    clock: Records,
    called: bool,
    factor: float,
    rules: Records,
    limits: Records,
    fills: Records,
    total: Records,
) -> None:
    """Fill the planned orders at the next open and mark the account at the next close, in place.

    ``factor`` is what joint limits left of the increases. The ledger goes to ``fills`` ``[A]`` and ``total``.
    """
    _begin_ledger(account, holdings, called, factor, rules, limits, fills, total)
    if not account.alive:
        return
    if clock.session_starts:
        _begin_session(account, holdings, session_highs, day_trades)
    queue_orders(account, in_flight, facts, called, limits)
    carried, equity_open = _open_bar(account, holdings, facts, clock, rules, fills, total)
    floor = DEAD_FRACTION * account.initial_equity
    if equity_open <= floor:
        _bury(account, holdings, in_flight, equity_open, fills, total)
        return
    _fill(account, holdings, in_flight, facts, clock, equity_open, called, rules, limits, total)
    equity = _trade_inside_bar(account, holdings, facts, clock, carried, rules, limits, fills, total)
    if equity <= floor:
        _bury(account, holdings, in_flight, equity, fills, total)
        return
    _mark(account, holdings, in_flight, session_highs, day_trades, facts, equity, limits, fills)
    total.equity = equity


@compiled
def _begin_ledger(
    account: Records,
    holdings: Records,
    called: bool,
    factor: float,
    rules: Records,
    limits: Records,
    fills: Records,
    total: Records,
) -> None:
    band = band_of(account, rules)
    total.equity_before, total.equity = account.equity, account.equity
    total.financing, total.shortfall, total.called = 0.0, 0.0, called
    for a in range(len(holdings)):
        fill, limit = fills[a], limits[a]
        fill.price_pnl, fill.commission, fill.spread, fill.impact = 0.0, 0.0, 0.0, 0.0
        fill.borrow, fill.funding, fill.dividends, fill.traded = 0.0, 0.0, 0.0, 0.0
        fill.filled_shares, fill.shares, fill.exit_price, fill.position = 0.0, 0.0, nan, 0.0
        fill.ordered = limit.order != 0.0
        wanted = not within_band(limit.capped, limit.position, band)
        fill.projected = factor < 1.0 and wanted and abs(limit.capped - limit.target) > MIN_CUT
        fill.capped = fill.projected or abs(limit.capped - limit.requested) > MIN_CUT


@compiled
def _begin_session(account: Records, holdings: Records, session_highs: Floats, day_trades: Floats) -> None:
    """Reset what is counted by session; bar t was the last of one. The peak forgets the oldest session."""
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
    for a in range(len(holdings)):
        holdings[a].trades_today, holdings[a].opened_today = 0.0, 0.0


@compiled
def _open_bar(
    account: Records,
    holdings: Records,
    facts: Records,
    clock: Records,
    rules: Records,
    fills: Records,
    total: Records,
) -> tuple[float, float]:
    """Corporate actions, carry from close to close, and the gap.

    Returns:
        Equity after carry and dividends, and the equity at the open.
    """
    owed, owned = max(-account.cash, 0.0), max(account.cash, 0.0)
    total.financing = clock.years * (rules.financing_rate * owed - rules.interest_rate * owned)
    carried, gap = account.equity - total.financing, 0.0
    for a in range(len(holdings)):
        holding, fact, fill = holdings[a], facts[a], fills[a]
        holding.shares *= fact.split
        holding.entry_price /= fact.split
        reference = fact.close / fact.split
        fill.borrow = max(-holding.shares, 0.0) * reference * (clock.years * rules.borrow_rate)
        fill.dividends = holding.shares * fact.dividend
        fill.price_pnl = holding.shares * (fact.open - reference)
        fill.filled_shares, fill.shares = holding.shares, holding.shares
        fill.position = holding.shares * fact.open / max(account.equity, MIN_EQUITY)
        carried += fill.dividends - fill.borrow
        gap += fill.price_pnl
    return carried, carried + gap


@compiled
def _fill(
    account: Records,
    holdings: Records,
    in_flight: Floats,
    facts: Records,
    clock: Records,
    equity_open: float,
    called: bool,
    rules: Records,
    limits: Records,
    total: Records,
) -> None:
    """Cut arriving orders to tradable shares, in place of ``limits.order``; no order is enlarged.

    Where positions will not be what was decided, joint limits count again, at the prices of the decision: what one
    order was to make room for is not filled without it.
    """
    held, added, factor, apart = 0.0, 0.0, 1.0, account.latency > 0
    for a in range(len(holdings)):
        before, fact, limit = holdings[a].shares, facts[a], limits[a]
        shares = limit.order if fact.fillable else 0.0
        shares = min(max(shares, -fact.max_shares), fact.max_shares)
        exposure = fact.close / fact.split / max(account.equity, MIN_EQUITY)  # of a share
        target = (before + shares) * exposure
        apart = apart or abs(target - limit.target) > MIN_CUT
        limit.filled, limit.position, limit.target = shares, before * exposure, target
        kept = reduced_position(before, before + shares)
        held += abs(kept) * fact.open
        added += abs(before + shares - kept) * fact.open
    if apart and not called:
        factor = joint_factor(limits, facts, clock.correlation, total.headroom, account.guarded, rules)
    if rules.initial_margin > 0.0 and not called:
        factor = min(factor, gross_factor(held, added, max(equity_open, MIN_EQUITY) / rules.initial_margin))
    for a in range(len(holdings)):
        before, limit = holdings[a].shares, limits[a]
        shares = limit.filled
        if factor < 1.0 - ROUNDING:
            kept = reduced_position(before, before + shares)
            shares = kept + factor * (before + shares - kept) - before
        if shares != limit.order and not called:
            shares = whole_lots(shares, rules.lot_size)
        if abs(before + shares) <= DUST * abs(before):
            shares = -before
        lapse(limit.order, shares, a, in_flight)
        limit.order = shares


@compiled
def _trade_inside_bar(
    account: Records,
    holdings: Records,
    facts: Records,
    clock: Records,
    carried: float,
    rules: Records,
    limits: Records,
    fills: Records,
    total: Records,
) -> float:
    """Trade at the open and on exits inside the bar. Returns the equity at the close, not floored."""
    for a in range(len(holdings)):
        holding, fact, fill = holdings[a], facts[a], fills[a]
        traded = limits[a].order
        trade_costs(traded, fact.open, fact, account.cost_multiplier, rules, fill)
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
            trade_costs(sold, price, fact, account.cost_multiplier, rules, fill)
            fill.impact = fill.impact if impact else before
        kept = held - sold
        fill.price_pnl += kept * (fact.next_close - fact.open)
        fill.shares = kept
        fill.funding = fact.funding * kept * fact.next_close
        equity += fill.price_pnl - fill.commission - fill.spread - fill.impact - fill.funding
    return equity


@compiled
def _bury(
    account: Records, holdings: Records, in_flight: Floats, equity: float, fills: Records, total: Records
) -> None:
    """Terminate a bankrupt account: flat, with equity of at least zero; its broker bears the shortfall."""
    remaining = max(equity, 0.0)
    total.shortfall, total.equity = remaining - equity, remaining
    account.alive, account.cash, account.equity = False, remaining, remaining
    for a in range(len(holdings)):
        holding = holdings[a]
        holding.shares, holding.entry_price, holding.bars_held = 0.0, 0.0, 0.0
        for slot in range(in_flight.shape[1]):
            in_flight[a, slot] = 0.0
        fills[a].shares = 0.0


@compiled
def _mark(
    account: Records,
    holdings: Records,
    in_flight: Floats,
    session_highs: Floats,
    day_trades: Floats,
    facts: Records,
    equity: float,
    limits: Records,
    fills: Records,
) -> None:
    """Mark the account at the close, and count trades and day trades."""
    cash, round_trips = equity, 0.0
    for a in range(len(holdings)):
        holding, fill, traded = holdings[a], fills[a], limits[a].order
        before, after = fill.filled_shares - traded, fill.filled_shares
        exited, opened_before = after != fill.shares, holding.opened_today > 0.0
        if abs(after) > abs(before) or after * before < 0.0:
            holding.opened_today = 1.0
        if opened_before and traded * before < 0.0:
            round_trips += 1.0
        if exited and facts[a].fillable:
            round_trips += holding.opened_today
            holding.trades_today += 1.0
        if traded != 0.0:
            holding.trades_today += 1.0
        if exited:
            for slot in range(in_flight.shape[1]):
                in_flight[a, slot] = 0.0
        holding.shares = fill.shares
        holding.bars_held = 0.0 if fill.shares == 0.0 else holding.bars_held + 1.0
        if fill.shares == 0.0:
            holding.entry_price = 0.0
        cash -= fill.shares * facts[a].next_close
    day_trades[len(day_trades) - 1] += round_trips
    account.cash, account.equity = cash, equity
    account.peak_equity = max(account.peak_equity, equity)
    newest = account.session_slot
    session_highs[newest] = max(session_highs[newest], equity)
