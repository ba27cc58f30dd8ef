"""Orders of a decision: targets within all limits, and their way to the market."""

from __future__ import annotations

from math import floor, inf, isnan, sqrt

from sentio_kedro.trading.compilation import compiled
from sentio_kedro.trading.records import Accounts, Floats, Market, Records, Scratch, Terms
from sentio_kedro.trading.step.limits import DUST, MIN_EQUITY, capped_position, within_band, without_dust

MIN_EXPOSURE = 1e-12
BALANCED = 1e-6  # of equity; increases with a smaller sum leave net exposure unchanged
MIN_CUT = 1e-7  # of equity; a smaller reduction by a limit is rounding
ROUNDING = 1e-9  # of a lot, or of an increase


@compiled
def reduced_position(position: float, target: float) -> float:
    """Part of the way to ``target`` that reduces a position: between flat and the position."""
    return min(max(target, min(position, 0.0)), max(position, 0.0))


@compiled
def gross_factor(held: float, increase: float, limit: float) -> float:
    """Largest share of a gross increase that a limit on the gross exposure leaves, in [0, 1]."""
    return min(max((limit - held) / max(increase, MIN_EXPOSURE), 0.0), 1.0)


@compiled
def joint_factor(n: int, row: int, market: Market, accounts: Accounts, terms: Terms, scratch: Scratch) -> float:
    """Largest common share of all increases that keeps gross, net and value at risk within their limits, in [0, 1].

    Reductions pass unscaled. An order through zero is a reduction to flat and an increase from there. Value at risk is
    the root of the quadratic form of the constant-correlation covariance (the target that Ledoit and Wolf, Honey, I
    Shrunk the Sample Covariance Matrix, Journal of Portfolio Management, 2004, shrink to), or the sum over assets.
    """
    facts, limits, rules = market.facts[row], scratch.limits[n], terms.rules[0]
    gross, added, net, net_added, sum_held, sum_added = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    held_square, cross, added_square, signed_held, signed_added = 0.0, 0.0, 0.0, 0.0, 0.0
    for a in range(len(limits)):
        held = reduced_position(limits[a].position, limits[a].target)
        increase = limits[a].target - held
        risk_held, risk_added = held * facts[a].value_at_risk, increase * facts[a].value_at_risk
        gross, added = gross + abs(held), added + abs(increase)
        net, net_added = net + held, net_added + increase
        sum_held, sum_added = sum_held + abs(risk_held), sum_added + abs(risk_added)
        held_square, added_square = held_square + risk_held * risk_held, added_square + risk_added * risk_added
        cross += risk_held * risk_added
        signed_held, signed_added = signed_held + risk_held, signed_added + risk_added
    factor = gross_factor(gross, added, rules.gross_limit * scratch.bounds[n].headroom)
    if not accounts.account[n].guarded:
        return factor
    if rules.net_limit < inf and abs(net_added) > BALANCED:
        side = 1.0 if net_added > 0.0 else -1.0
        factor = min(factor, gross_factor(side * net, abs(net_added), rules.net_limit))
    if rules.var_limit < inf and rules.var_is_sum:
        factor = min(factor, gross_factor(sum_held, sum_added, rules.var_limit))
    elif rules.var_limit < inf:
        shared = market.clock[row].correlation
        own = 1.0 - shared
        constant = own * held_square + shared * (signed_held * signed_held)
        linear = own * cross + shared * signed_held * signed_added
        square = own * added_square + shared * (signed_added * signed_added)
        factor = min(factor, quadratic_factor(square, linear, constant, rules.var_limit))
    return factor


@compiled
def quadratic_factor(square: float, linear: float, constant: float, limit: float) -> float:
    """Largest f in [0, 1] with square f^2 + 2 linear f + constant <= limit^2; 0 if there is none but by luck."""
    excess = limit * limit - constant
    if square + 2.0 * linear <= excess:
        return 1.0
    if excess <= 0.0 or square <= 0.0:
        return 0.0
    return min(max((sqrt(linear * linear + square * excess) - linear) / square, 0.0), 1.0)


@compiled
def whole_lots(shares: float, lot_size: float) -> float:
    """Round shares towards zero to whole lots, with a tolerance for floating-point error."""
    if lot_size == 0.0:
        return shares
    size = floor(abs(shares) / lot_size + ROUNDING) * lot_size
    return size if shares > 0.0 else -size


@compiled
def band_of(account: Records, rules: Records) -> float:
    """Band around targets in which a position is not traded, ``orders.rebalance_band`` of guarded accounts, else 0."""
    return float(rules.rebalance_band) if account.guarded else 0.0


@compiled
def scaled_target(limit: Records, factor: float) -> float:
    """Target with its increase scaled by a factor."""
    reduced = reduced_position(limit.position, limit.target)
    return float(reduced + factor * (limit.target - reduced))


@compiled
def drop_increases(limits: Records, factor: float, band: float) -> bool:
    """Let positions stay that a factor leaves within the band of their targets. Returns whether there were any."""
    dropped = False
    for a in range(len(limits)):
        limit = limits[a]
        scaled = scaled_target(limit, factor)
        if scaled != limit.target and within_band(scaled, limit.position, band):
            limit.target, dropped = limit.position, True
    return dropped


@compiled
def plan_orders(n: int, row: int, market: Market, accounts: Accounts, terms: Terms, scratch: Scratch) -> None:
    """Write targets and orders (shares) of the positions requested in ``scratch.limits`` there; NaN requests no order.

    A position within the band of its target stays. Limits make an order smaller, never larger. Closing orders are
    exact; others are whole lots of at least the minimum notional, or are not sent. A margin call sells what is held.
    """
    account, facts, limits, bounds = accounts.account[n], market.facts[row], scratch.limits[n], scratch.bounds[n]
    rules = terms.rules[0]
    equity, band = max(account.equity, MIN_EQUITY), band_of(account, rules)
    for a in range(len(limits)):
        limit, fact = limits[a], facts[a]
        if fact.leaving:
            limit.requested = 0.0
        idle = isnan(limit.requested) or not (fact.tradable or fact.leaving) or not account.alive
        if idle:
            limit.requested = limit.position
        limit.capped = limit.position if idle else capped_position(limit.requested, limit, fact.shortable)
        stays = idle or within_band(limit.capped, limit.position, band)
        limit.target = limit.position if stays else limit.capped
    bounds.factor = joint_factor(n, row, market, accounts, terms, scratch)
    while drop_increases(limits, bounds.factor, band):  # one that is not traded may have balanced another
        bounds.factor = joint_factor(n, row, market, accounts, terms, scratch)
    for a in range(len(limits)):
        limit, price = limits[a], facts[a].close
        scaled = scaled_target(limit, bounds.factor)
        order = 0.0 if scaled == limit.position else (scaled - limit.position) * equity / price
        if scaled == 0.0:
            order = -limit.committed
        else:
            order = whole_lots(order, terms.charges[a].lot_size)
            order = 0.0 if abs(order) * price < terms.charges[a].min_notional else order
        limit.target, limit.order = scaled, order
        if bounds.called:
            limit.order = -accounts.holdings[n, a].shares


@compiled
def queue_orders(n: int, row: int, market: Market, accounts: Accounts, scratch: Scratch) -> None:
    """Replace orders in ``scratch.limits`` by the shares that reach the market at the next open; advance the queue.

    A margin call cancels all older orders; the broker sells at the next open. Splits change what is in flight.
    """
    in_flight, called = accounts.in_flight[n], scratch.bounds[n].called
    latency, slots = 0 if called else accounts.account[n].latency, in_flight.shape[1]
    for a in range(len(in_flight)):
        limit, split = scratch.limits[n, a], market.facts[row, a].split
        arriving = 0.0 if called or slots == 0 else in_flight[a, 0]
        for slot in range(slots):
            in_flight[a, slot] = 0.0 if called or slot + 1 == slots else in_flight[a, slot + 1]
        if latency == 0:
            arriving = without_dust(arriving + limit.order, max(abs(arriving), abs(limit.order)))
        else:
            in_flight[a, latency - 1] += limit.order
        for slot in range(slots):
            in_flight[a, slot] *= split
        limit.order = arriving * split


@compiled
def lapse(arrived: float, filled: float, queue: Floats) -> None:
    """Take what is not filled of an order off later ones of the ``queue`` ``[L]`` that would have undone it."""
    rest = arrived - filled
    if abs(rest) <= DUST * abs(arrived):
        return
    for slot in range(len(queue)):
        later = queue[slot]
        if rest * later < 0.0:
            undone = rest if abs(rest) < abs(later) else -later
            queue[slot] = later + undone
            rest -= undone


@compiled
def cancel(queue: Floats) -> None:
    """Cancel the orders of a ``queue`` ``[L]``."""
    for slot in range(len(queue)):
        queue[slot] = 0.0
