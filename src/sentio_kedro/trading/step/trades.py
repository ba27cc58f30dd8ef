"""Trades: costs, entry prices, and exits inside a bar."""

from __future__ import annotations

from math import inf, isnan, nan, sqrt

from sentio_kedro.trading.compilation import compiled
from sentio_kedro.trading.records import Records


@compiled
def trade_costs(
    shares: float, price: float, fact: Records, multiplier: float, charge: Records, max_impact: float, fill: Records
) -> None:
    """Add the costs of trading so many shares to the ledger: commission, half spread, and impact by the root law.

    Impact is coefficient x daily volatility x sqrt(order / daily volume), a fraction of notional (Toth et al.,
    Anomalous Price Impact and the Critical Nature of Liquidity in Financial Markets, Physical Review X, 2011), at most
    ``costs.max_impact``.
    """
    size = abs(shares)
    if size == 0.0:
        return
    notional = size * price
    commission = max(notional * charge.commission + size * charge.commission_per_share, charge.min_commission)
    fill.commission += multiplier * commission
    fill.spread += multiplier * notional * fact.half_spread
    fill.impact += multiplier * notional * min(fact.impact * sqrt(size), max_impact)
    fill.traded += notional


@compiled
def update_entry(holding: Records, traded: float, price: float) -> None:
    """Fill at the open: shares, average entry price and age of the position."""
    before, after = holding.shares, holding.shares + traded
    if before * after <= 0.0:
        holding.entry_price, holding.bars_held = price, 0.0
    elif abs(after) > abs(before):
        holding.entry_price = (before * holding.entry_price + traded * price) / after
    holding.shares = after
    if after == 0.0:
        holding.entry_price = 0.0


@compiled
def exit_of(holding: Records, fact: Records, clock: Records, traded: float, rules: Records) -> tuple[float, float]:
    """Price of an exit inside the bar, and the shares sold (signed as the position); 0 shares without one.

    A bar that opens beyond a stop or a target fills at its open. If both lie inside the bar, the stop fills. What the
    participation limit leaves beside the ``traded`` shares is sold; a delisting closes all.
    """
    held = holding.shares
    if held == 0.0:
        return nan, 0.0
    side = 1.0 if held > 0.0 else -1.0
    if not fact.fillable:
        move = fact.delisting_return if fact.paid else min(side * rules.delisting_return, 0.0) * side
        return fact.next_close * (1.0 + move), held if fact.delisted else 0.0
    stop = holding.entry_price * (1.0 - side * rules.stop_loss)
    goal = holding.entry_price * (1.0 + side * rules.take_profit)
    worst, best = (fact.low, fact.high) if side > 0.0 else (fact.high, fact.low)
    price = nan
    if side * (fact.open - stop) <= 0.0 or side * (fact.open - goal) >= 0.0:
        price = fact.open
    elif side * (worst - stop) <= 0.0:
        price = stop
    elif side * (best - goal) >= 0.0:
        price = goal
    elif rules.flat_at_close and clock.bars_to_session_end == 0:
        price = fact.next_close
    return price, 0.0 if isnan(price) else side * min(abs(held), max(fact.max_shares - traded, 0.0))


@compiled
def worst_price(holding: Records, fact: Records, traded: float, rules: Records) -> float:
    """Worst price of the bar for a position: low of a long, high of a short, or the stop at which all of it leaves."""
    if holding.shares == 0.0:
        return float(fact.open)
    side = 1.0 if holding.shares > 0.0 else -1.0
    worst = float(fact.low if side > 0.0 else fact.high)
    stop = holding.entry_price * (1.0 - side * rules.stop_loss)
    if side * (worst - stop) < 0.0 and abs(holding.shares) <= fact.max_shares - traded:
        worst = float(stop if side * (fact.open - stop) > 0.0 else fact.open)
    return worst


@compiled
def liquidation_point(
    holdings: Records, facts: Records, carried: float, rules: Records, limits: Records, fills: Records
) -> float:
    """Share of the way from open to the worst prices of the bar at which the maintenance margin is reached.

    All assets move together, from their opens to their worst prices: the worst that the bar allows. Infinity if the
    margin is never reached; 0 if it is at the open.
    """
    equity, lost, gross, grown = carried, 0.0, 0.0, 0.0
    for a in range(len(holdings)):
        held, fact, fill = holdings[a].shares, facts[a], fills[a]
        worst = worst_price(holdings[a], fact, abs(limits[a].order), rules)
        equity += fill.price_pnl - fill.commission - fill.spread - fill.impact
        lost += held * (worst - fact.open)
        gross += abs(held) * fact.open
        grown += abs(held) * (worst - fact.open)
    room = equity - rules.maintenance_margin * gross
    slope = lost - rules.maintenance_margin * grown
    if room < 0.0:
        return 0.0
    return inf if room + slope >= 0.0 else room / -slope
