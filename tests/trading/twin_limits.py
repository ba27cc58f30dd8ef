"""Limits, legal levels and orders a second time, written from `docs/trading.md`; see `twin.py`."""

from __future__ import annotations

from collections.abc import Callable
from math import floor, inf, isnan, log1p, sqrt
from types import SimpleNamespace as Record

TINY = 1e-12
MILLIONTH = 1e-6


def sign(x: float) -> float:
    return (x > 0) - (x < 0)


def towards_flat(position: float, target: float) -> float:
    """What the way from a position to a target leaves of the position before anything is added."""
    if position * target <= 0:
        return 0.0
    return sign(position) * min(abs(position), abs(target))


def near(target: float, position: float, band: float) -> bool:
    return target * position > 0 and abs(target - position) <= band * abs(target)


def total_of(terms: list[float], size: list[float]) -> float:
    return 0.0 if abs(sum(terms)) <= MILLIONTH * sum(map(abs, size)) else sum(terms)


def lots(shares: float, lot: float) -> float:
    return shares if lot == 0 else sign(shares) * floor(abs(shares) / lot + 1e-9) * lot


# Limits


def see(account: Record, facts: list[Record], clock: Record, regime: list[float], terms: Record) -> Record:
    """Limits of an account at the close of bar t: headroom, margin call, position and both caps of every asset."""
    rules, equity, assets = terms.rules, max(account.equity, TINY), range(len(facts))
    drawdown = 1 - account.equity / account.peak_equity
    headroom = 1.0
    if account.guarded and rules.max_drawdown < inf:
        span = rules.max_drawdown * (1 - rules.drawdown_soft_limit)
        headroom = min(1.0, max(0.0, (rules.max_drawdown - drawdown) / span))
    gross = sum(abs(h.shares) * f.close for h, f in zip(account.holdings, facts, strict=True))
    called = account.alive and account.equity < rules.maintenance_margin * gross
    last = not rules.overnight and clock.bars_to_session_end <= account.latency
    committed, positions, sizes, growths = [], [], [], []
    for a in assets:
        fact, holding, share = facts[a], account.holdings[a], terms.allocation[a]
        orders = [holding.shares, *account.in_flight[a]]
        committed.append(total_of(orders, orders))
        positions.append(committed[a] * fact.close / equity)
        size, growth = [rules.max_position], [inf]
        if account.guarded:
            size += [headroom * share] if rules.max_drawdown < inf else []
            size += [fact.var_cap, fact.volatility_cap, regime[0] * share]
            growth += [regime[1] * share, fact.liquidity / equity, fact.kelly_cap]
            lost = account.equity < account.session_equity * (1 - rules.daily_loss)
            often = holding.trades_today >= rules.trades_per_day
            counted = account.day_trades[1:] if clock.session_starts else account.day_trades
            stopped = rules.pattern_day_trader and account.equity < 25_000 and sum(counted) >= 3
            young = 0 < holding.bars_held < rules.min_holding_bars
            in_session = (lost or often) and not clock.session_starts
            if in_session or stopped or young or clock.quiet:
                growth.append(0.0)
        leaves = called or (account.guarded and last)
        sizes.append(0.0 if leaves else min(size))
        growths.append(0.0 if leaves else min(growth))
    return Record(headroom=headroom, called=called, committed=committed, position=positions, size=sizes, growth=growths)


def capped(request: float, a: int, view: Record, fact: Record) -> float:
    growth = 0.0 if request < 0 and not fact.shortable else view.growth[a]
    held = abs(view.position[a]) if request * view.position[a] > 0 else 0.0
    return sign(request) * min(abs(request) * view.headroom, view.size[a], max(growth, held))


def legal_levels(account: Record, facts: list[Record], view: Record, terms: Record) -> list[list[bool]]:
    table = []
    for a, fact in enumerate(facts):
        row = []
        for level in terms.levels:
            below = max([0.0, *(abs(x) for x in terms.levels if x * level > 0 and abs(x) < abs(level))])
            this = capped(level * fact.unit, a, view, fact)
            smaller = capped(sign(level) * below * fact.unit, a, view, fact)
            opens = this * view.position[a] <= 0
            least = max(terms.charges[a].min_notional, terms.charges[a].lot_size * fact.close)
            enough = not opens or abs(this) * account.equity * (1 + MILLIONTH) >= least
            more = abs(this) > abs(smaller) + MILLIONTH
            row.append(level == 0 or bool(account.alive and fact.tradable and enough and more))
        table.append(row)
    return table


def features_of(account: Record, view: Record, terms: Record) -> list[list[float]]:
    gross = sum(map(abs, view.position))
    table = []
    for a, share in enumerate(terms.allocation):
        unit = min(max(view.size[a], 0.05 * share), share)
        own = min(2.0, max(-2.0, view.position[a] / unit))
        full = min(2.0, gross / (max(view.headroom, 0.05) * terms.rules.gross_limit))
        left = min(view.size[a], view.growth[a], share) / share
        table.append([own, full, 0.2 * log1p(account.holdings[a].bars_held), left])
    return table


# Orders


def largest_share(fits: Callable[[float], bool]) -> float:
    """Largest f in [0, 1] that fits, by bisection; 0 if f = 0 does not fit."""
    if fits(1.0):
        return 1.0
    if not fits(0.0):
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def joint_share(
    position: list[float],
    target: list[float],
    facts: list[Record],
    correlation: float,
    headroom: float,
    guarded: bool,
    rules: Record,
) -> float:
    kept = [towards_flat(p, w) for p, w in zip(position, target, strict=True)]
    more = [w - k for w, k in zip(target, kept, strict=True)]
    assets = range(len(kept))
    added, net = sum(map(abs, more)), sum(more)

    def var(f: float) -> float:
        risk = [facts[a].value_at_risk * (kept[a] + f * more[a]) for a in assets]
        if rules.var_is_sum:
            return sum(map(abs, risk))
        pairs = (risk[a] * risk[b] * (1.0 if a == b else correlation) for a in assets for b in assets)
        return sqrt(max(sum(pairs), 0.0))

    room = rules.gross_limit * headroom - sum(map(abs, kept))
    f = min(1.0, max(0.0, room / max(added, TINY)))
    if guarded and rules.net_limit < inf and abs(net) > MILLIONTH:
        f = min(f, max(0.0, (rules.net_limit - sign(net) * sum(kept)) / abs(net)))
    if guarded and rules.var_limit < inf:
        f = min(f, largest_share(lambda share: var(share) <= rules.var_limit))
    return f


def plan(
    account: Record, facts: list[Record], clock: Record, view: Record, requested: list[float], terms: Record
) -> Record:
    """Orders in shares, and whether a limit or a joint limit cut them."""
    assets, equity, rules, charges = range(len(facts)), max(account.equity, TINY), terms.rules, terms.charges
    band = rules.rebalance_band if account.guarded else 0.0
    wish, wanted, target = [], [], []
    for a in assets:
        position, idle = view.position[a], isnan(requested[a]) or not facts[a].tradable or not account.alive
        wish.append(position if idle else requested[a])
        wanted.append(position if idle else capped(requested[a], a, view, facts[a]))
        target.append(position if near(wanted[a], position, band) else wanted[a])
    again = True
    while again:
        f = joint_share(view.position, target, facts, clock.correlation, view.headroom, account.guarded, rules)
        kept = [towards_flat(p, w) for p, w in zip(view.position, target, strict=True)]
        final = [k + f * (w - k) for k, w in zip(kept, target, strict=True)]
        stay = [final[a] != target[a] and near(final[a], view.position[a], band) for a in assets]
        target = [view.position[a] if stay[a] else target[a] for a in assets]
        again = any(stay)
    orders, projected, cut = [], [], []
    for a in assets:
        order = lots((final[a] - view.position[a]) * equity / facts[a].close, charges[a].lot_size)
        order = 0.0 if abs(order) * facts[a].close < charges[a].min_notional or final[a] == view.position[a] else order
        order = -view.committed[a] if final[a] == 0 else order
        orders.append(-account.holdings[a].shares if view.called else order)
        joint = f < 1 and not near(wanted[a], view.position[a], band) and abs(wanted[a] - final[a]) > 1e-7
        projected.append(joint)
        cut.append(joint or abs(wanted[a] - wish[a]) > 1e-7)
    return Record(order=orders, target=final, projected=projected, capped=cut)
