"""The step a second time, written from `docs/trading.md`: one account, plain numbers, cash booked trade by trade.

It shares no code with the step, only the names of fields: records are ``SimpleNamespace``, an account has ``holdings``
(one for each asset), ``in_flight`` (a list for each asset), ``session_highs`` and ``day_trades``.
"""

from __future__ import annotations

from math import inf, isnan, nan, sqrt
from types import SimpleNamespace as Record

from tests.trading.twin_limits import MILLIONTH, TINY, joint_share, lots, plan, sign, towards_flat

LINES = (
    *("price_pnl", "commission", "spread", "impact", "borrow", "funding", "dividends", "traded"),
    *("filled_shares", "shares", "position"),
)


def step(
    account: Record, facts: list[Record], clock: Record, view: Record, requested: list[float], terms: Record
) -> Record:
    """Move the account to the close of bar t + 1, in place. Returns the ledger."""
    rules, charges, assets = terms.rules, terms.charges, range(len(facts))
    orders = plan(account, facts, clock, view, requested, terms)
    before = account.equity
    lines = [Record(**dict.fromkeys(LINES, 0.0), exit_price=nan) for _ in assets]
    for a in assets:
        lines[a].ordered = orders.order[a] != 0
        lines[a].capped, lines[a].projected = orders.capped[a], orders.projected[a]
    book = Record(
        lines=lines, equity_before=before, equity=before, headroom=view.headroom, financing=0.0, shortfall=0.0,
        called=view.called,
    )  # fmt: skip
    if not account.alive:
        return book
    arriving = queue(account, orders.order, view.called)
    if clock.session_starts:
        begin_session(account)
    for a in assets:
        split = facts[a].split
        arriving[a] *= split
        account.in_flight[a] = [shares * split for shares in account.in_flight[a]]
        account.holdings[a].shares *= split
        account.holdings[a].entry_price /= split
    cash, worth = hold_until_open(account, facts, clock, book, terms)
    if worth <= 1e-3 * account.initial_equity:
        end(account, worth, book)
        return book
    fills = fill(account, arriving, orders.target, facts, clock, view, worth, terms)
    held_before = [h.shares for h in account.holdings]
    for a in assets:
        holding, line = account.holdings[a], lines[a]
        cash -= fills[a] * facts[a].open + pay(line, fills[a], facts[a].open, facts[a], account, rules, charges[a])
        enter(holding, fills[a], facts[a].open)
        line.filled_shares = holding.shares
        line.position = holding.shares * facts[a].open / max(before, TINY)
    sold = leave_inside_bar(account, fills, facts, clock, cash, book, terms)
    for a in assets:
        line, kept = lines[a], lines[a].filled_shares - sold[a]
        line.shares, line.funding = kept, facts[a].funding * kept * facts[a].next_close
        line.price_pnl += kept * (facts[a].next_close - facts[a].open)
        cash += sold[a] * (0.0 if isnan(line.exit_price) else line.exit_price) - line.funding
        cash -= line.exit_costs
    worth = cash + sum(line.shares * fact.next_close for line, fact in zip(lines, facts, strict=True))
    if worth <= 1e-3 * account.initial_equity:
        end(account, worth, book)
        return book
    close(account, cash, worth, fills, held_before, facts, book)
    return book


def queue(account: Record, orders: list[float], called: bool) -> list[float]:
    """Shares that reach the market at the next open."""
    arriving = []
    for a, order in enumerate(orders):
        if called:
            account.in_flight[a] = [0.0 for _ in account.in_flight[a]]
            arriving.append(order)
            continue
        line = [*account.in_flight[a], 0.0]
        due = line.pop(0) if len(line) > 1 else 0.0
        if account.latency == 0:
            due = 0.0 if abs(due + order) <= MILLIONTH * max(abs(due), abs(order)) else due + order
            account.in_flight[a] = line if account.in_flight[a] else []
        else:
            line[account.latency - 1] += order
            account.in_flight[a] = line
        arriving.append(due)
    return arriving


def begin_session(account: Record) -> None:
    account.session_equity = account.equity
    highs = account.session_highs
    account.session_slot = (account.session_slot + 1) % len(highs)
    highs[account.session_slot] = account.equity
    if len(highs) > 1:
        account.peak_equity = max(highs)
    account.day_trades = [*account.day_trades[1:], 0.0]
    for holding in account.holdings:
        holding.trades_today = holding.opened_today = 0.0


def hold_until_open(
    account: Record, facts: list[Record], clock: Record, book: Record, terms: Record
) -> tuple[float, float]:
    """Cash after carry and dividends, and the equity at the open."""
    rules = terms.rules
    rate = rules.financing_rate if account.cash < 0 else rules.interest_rate
    book.financing = -clock.years * rate * account.cash
    cash, worth = account.cash - book.financing, 0.0
    for holding, fact, line, charge in zip(account.holdings, facts, book.lines, terms.charges, strict=True):
        reference = fact.close / fact.split
        line.borrow = clock.years * charge.borrow_rate * max(-holding.shares, 0.0) * reference
        line.dividends = holding.shares * fact.dividend
        line.price_pnl = holding.shares * (fact.open - reference)
        line.filled_shares = line.shares = holding.shares
        line.position = holding.shares * fact.open / max(account.equity, TINY)
        cash += line.dividends - line.borrow
        worth += holding.shares * fact.open
    return cash, cash + worth


def fill(
    account: Record,
    arriving: list[float],
    target: list[float],
    facts: list[Record],
    clock: Record,
    view: Record,
    worth: float,
    terms: Record,
) -> list[float]:
    rules = terms.rules
    assets, held = range(len(facts)), [h.shares for h in account.holdings]
    trades = [n if f.fillable else 0.0 for n, f in zip(arriving, facts, strict=True)]
    trades = [sign(n) * min(abs(n), f.max_shares) for n, f in zip(trades, facts, strict=True)]
    f = 1.0
    if not view.called:
        prices = [fact.close / fact.split / max(account.equity, TINY) for fact in facts]
        now = [held[a] * prices[a] for a in assets]
        then = [(held[a] + trades[a]) * prices[a] for a in assets]
        if account.latency > 0 or any(abs(x - w) > 1e-7 for x, w in zip(then, target, strict=True)):
            f = joint_share(now, then, facts, clock.correlation, view.headroom, account.guarded, rules)
        if rules.initial_margin > 0:
            kept = [towards_flat(n, n + t) for n, t in zip(held, trades, strict=True)]
            used = sum(abs(k) * fact.open for k, fact in zip(kept, facts, strict=True))
            more = sum(abs(held[a] + trades[a] - kept[a]) * facts[a].open for a in assets)
            f = min(f, max(0.0, (max(worth, TINY) / rules.initial_margin - used) / max(more, TINY)))
    done = []
    for a in assets:
        kept = towards_flat(held[a], held[a] + trades[a])
        shares = trades[a] if f >= 1 - 1e-9 else kept + f * (held[a] + trades[a] - kept) - held[a]
        shares = lots(shares, terms.charges[a].lot_size) if shares != arriving[a] and not view.called else shares
        done.append(-held[a] if abs(held[a] + shares) <= MILLIONTH * abs(held[a]) else shares)
        lapsed = arriving[a] - done[a]
        lapsed = 0.0 if abs(lapsed) <= MILLIONTH * abs(arriving[a]) else lapsed
        for slot, order in enumerate(account.in_flight[a]):
            undone = min(abs(lapsed), abs(order)) if lapsed * order < 0 else 0.0
            account.in_flight[a][slot] = order - sign(order) * undone
            lapsed -= sign(lapsed) * undone
    return done


def pay(
    line: Record,
    shares: float,
    price: float,
    fact: Record,
    account: Record,
    rules: Record,
    charge: Record,
    **but: float,
) -> float:
    """Book the costs of a trade. Returns their sum."""
    n = abs(shares)
    if n == 0:
        return 0.0
    notional, times = n * price, account.cost_multiplier
    commission = times * max(notional * charge.commission + n * charge.commission_per_share, charge.min_commission)
    commission += but.get("fee", 0.0) * notional
    spread = times * notional * fact.half_spread
    impact = times * notional * min(fact.impact * sqrt(n), rules.max_impact) * but.get("impact", 1.0)
    line.commission, line.spread = line.commission + commission, line.spread + spread
    line.impact, line.traded = line.impact + impact, line.traded + notional
    return commission + spread + impact


def enter(holding: Record, shares: float, price: float) -> None:
    before, after = holding.shares, holding.shares + shares
    if sign(before) != sign(after) or before == 0:
        holding.entry_price, holding.bars_held = price, 0.0
    elif abs(after) > abs(before):
        holding.entry_price = (before * holding.entry_price + shares * price) / after
    holding.shares = after
    holding.entry_price = 0.0 if after == 0 else holding.entry_price


def levels_of(holding: Record, rules: Record) -> tuple[float, float]:
    """Prices of stop and target; infinitely far where they are off."""
    side, entry = sign(holding.shares), holding.entry_price
    stop = -side * inf if rules.stop_loss == inf else entry * (1 - side * rules.stop_loss)
    return stop, side * inf if rules.take_profit == inf else entry * (1 + side * rules.take_profit)


def leave_inside_bar(
    account: Record, fills: list[float], facts: list[Record], clock: Record, cash: float, book: Record, terms: Record
) -> list[float]:
    """Shares sold inside the bar; their prices and costs go to the ledger."""
    assets, worst, sold, rules = range(len(facts)), [], [], terms.rules
    for a in assets:
        holding, fact = account.holdings[a], facts[a]
        side, (stop, _) = sign(holding.shares), levels_of(holding, rules)
        far = fact.low if side > 0 else fact.high
        at_stop = side * far < side * stop and abs(holding.shares) <= fact.max_shares - abs(fills[a])
        worst.append((min if side > 0 else max)(stop, fact.open) if at_stop else far)
    u = inf
    if rules.intrabar:
        maintenance = rules.maintenance_margin
        ways = [(h.shares, f.open, w) for h, f, w in zip(account.holdings, facts, worst, strict=True)]
        room = cash + sum(n * start for n, start, _ in ways) - maintenance * sum(abs(n) * start for n, start, _ in ways)
        change = sum((n - maintenance * abs(n)) * (stop - start) for n, start, stop in ways)
        u = 0.0 if room < 0 else room / -change if room + change < 0 else inf
    book.called = book.called or u < inf
    for a in assets:
        holding, fact, line = account.holdings[a], facts[a], book.lines[a]
        line.exit_costs = 0.0
        price, shares, but = exit_at(holding, fact, clock, abs(fills[a]), rules)
        if u < inf and holding.shares != 0 and fact.fillable:
            price, shares = fact.open + u * (worst[a] - fact.open), holding.shares
            but = {"fee": rules.liquidation_fee}
        if shares != 0:
            line.exit_price = price
            line.exit_costs = pay(line, shares, price, fact, account, rules, terms.charges[a], **but)
            line.price_pnl += shares * (price - fact.open)
        sold.append(shares)
    return sold


def exit_at(
    holding: Record, fact: Record, clock: Record, traded: float, rules: Record
) -> tuple[float, float, dict[str, float]]:
    """Price and shares of an exit that is no liquidation."""
    side = sign(holding.shares)
    if side == 0:
        return nan, 0.0, {}
    if not fact.fillable:
        move = min(rules.delisting_return, 0.0) if side > 0 else max(rules.delisting_return, 0.0)
        return fact.next_close * (1 + move), holding.shares if fact.delisted else 0.0, {"impact": 0.0}
    stop, target = levels_of(holding, rules)
    far, best = (fact.low, fact.high) if side > 0 else (fact.high, fact.low)
    reasons = (
        (side * fact.open <= side * stop or side * fact.open >= side * target, fact.open),
        (side * far <= side * stop, stop),
        (side * best >= side * target, target),
        (rules.flat_at_close and clock.bars_to_session_end == 0, fact.next_close),
    )
    for holds, price in reasons:
        if holds:
            return price, side * min(abs(holding.shares), max(fact.max_shares - traded, 0.0)), {}
    return nan, 0.0, {}


def end(account: Record, worth: float, book: Record) -> None:
    """A bankrupt account: flat, with equity of at least zero; its broker bears the shortfall."""
    left = max(worth, 0.0)
    book.shortfall, book.equity = left - worth, left
    account.cash = account.equity = left
    account.alive = False
    account.in_flight = [[0.0 for _ in orders] for orders in account.in_flight]
    for holding, line in zip(account.holdings, book.lines, strict=True):
        holding.shares = holding.entry_price = holding.bars_held = line.shares = 0.0


def close(
    account: Record,
    cash: float,
    worth: float,
    fills: list[float],
    held_before: list[float],
    facts: list[Record],
    book: Record,
) -> None:
    day_trades = 0
    for a, line in enumerate(book.lines):
        holding, before, after = account.holdings[a], held_before[a], held_before[a] + fills[a]
        left = line.shares != line.filled_shares
        day_trades += bool(holding.opened_today) and fills[a] * before < 0
        if abs(after) > abs(before) or after * before < 0:
            holding.opened_today = 1.0
        day_trades += left and facts[a].fillable and bool(holding.opened_today)
        holding.trades_today += (fills[a] != 0) + (left and facts[a].fillable)
        if left:
            account.in_flight[a] = [0.0 for _ in account.in_flight[a]]
        holding.shares = line.shares
        holding.bars_held = holding.bars_held + 1 if line.shares else 0.0
        holding.entry_price = holding.entry_price if line.shares else 0.0
    account.day_trades[-1] += day_trades
    account.cash, account.equity = cash, worth
    book.equity = worth
    account.peak_equity = max(account.peak_equity, worth)
    account.session_highs[account.session_slot] = max(account.session_highs[account.session_slot], worth)
