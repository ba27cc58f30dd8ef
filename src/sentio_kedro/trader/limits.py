"""Limits before an order is sent. They know orders, positions, prices and money, and nothing of the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite

from sentio_kedro.config.live.trader import TraderLimits
from sentio_kedro.trader.orders import Order

SLACK = 1e-9  # of rounding, relative


@dataclass(frozen=True)
class Exposure:
    """What limits compare an order with.

    Attributes:
        equity: Worth of the account.
        peak_equity: Highest so far.
        session_equity: At the end of the session before.
        shares: Position by symbol once all open orders are filled.
        prices: Newest price by symbol.
        turnover: Notional of the orders of the last 24 hours.
        recent: Orders of the last 60 seconds.
        reducing: Whether only what shrinks a position may be sent.
    """

    equity: float
    peak_equity: float
    session_equity: float
    shares: Mapping[str, float]
    prices: Mapping[str, float]
    turnover: float = 0.0
    recent: int = 0
    reducing: bool = False


@dataclass(frozen=True)
class Denial:
    """Why an order is not sent.

    Attributes:
        limit: Key of ``trader.limits``, or ``reducing``, ``number`` (not finite) or ``position`` (a closing order would
            turn its position).
        value: What it would be.
        bound: What it may be.
    """

    limit: str
    value: float
    bound: float


def shrinks(shares: float, position: float) -> bool:
    """Whether an order makes a position smaller without turning it; rounding of 1e-9 is forgiven."""
    return shares * position < 0.0 and abs(shares) <= abs(position) * (1.0 + SLACK)


def denial(order: Order, exposure: Exposure, limits: TraderLimits) -> Denial | None:
    """Return the first limit that forbids an order, or None.

    What shrinks a position is denied only if its own numbers are not finite. The worst price known, of decision and
    market, values an order.

    Args:
        order: The order.
        exposure: Account and market.
        limits: The limits.
    """
    for value in (order.shares, order.price):
        if not isfinite(value) or value == 0.0:
            return Denial("number", value, inf)
    held = exposure.shares.get(order.symbol, 0.0)
    if shrinks(order.shares, held):
        return None
    if order.closing:
        return Denial("position", abs(order.shares), abs(held))
    for limit, value, bound in _uses(order, exposure, limits):
        if not value <= bound * (1.0 + SLACK):
            return Denial(limit, value, bound)
    return None


def _uses(order: Order, exposure: Exposure, limits: TraderLimits) -> Iterator[tuple[str, float, float]]:
    """Yield each limit's name, value and bound, of an order that enlarges or turns a position."""
    equity = exposure.equity
    yield "reducing", float(exposure.reducing), 0.0
    yield "symbols", float(limits.symbols is not None and order.symbol not in limits.symbols), 0.0
    if not isfinite(equity) or equity <= 0.0:
        yield "number", inf, 0.0
    after = {**exposure.shares, order.symbol: exposure.shares.get(order.symbol, 0.0) + order.shares}
    market = exposure.prices.get(order.symbol, order.price)
    prices = {**exposure.prices, order.symbol: max(order.price, market)}
    notional = abs(order.shares) * prices[order.symbol]
    yield "shorts", float(after[order.symbol] < 0.0 and not limits.shorts), 0.0
    yield from _losses(equity, exposure.peak_equity, exposure.session_equity, limits)
    yield "price_deviation", abs(order.price / market - 1.0) if market else inf, limits.price_deviation
    yield "order_notional", notional / equity, limits.order_notional
    yield "symbol_exposure", abs(after[order.symbol]) * prices[order.symbol] / equity, limits.symbol_exposure
    gross = sum(abs(shares) * prices.get(symbol, inf) for symbol, shares in after.items() if shares)  # unpriced: no
    yield "gross", gross / equity, limits.gross
    yield "turnover_per_day", (exposure.turnover + notional) / equity, limits.turnover_per_day
    yield "orders_per_minute", float(exposure.recent + 1), float(limits.orders_per_minute)


def check_all(orders: Sequence[Order], exposure: Exposure, limits: TraderLimits) -> list[tuple[Order, Denial | None]]:
    """Check orders one after the other, reductions first, each with those before it counted as filled.

    A rotation therefore passes: what is sold makes room for what is bought.
    """
    checked = []
    for order in sorted(orders, key=lambda order: not shrinks(order.shares, exposure.shares.get(order.symbol, 0.0))):
        denied = denial(order, exposure, limits)
        checked.append((order, denied))
        if denied is None:
            exposure = _with(order, exposure)
    return checked


def _with(order: Order, exposure: Exposure) -> Exposure:
    shares = {**exposure.shares, order.symbol: exposure.shares.get(order.symbol, 0.0) + order.shares}
    notional = abs(order.shares) * max(order.price, exposure.prices.get(order.symbol, 0.0))
    return replace(exposure, shares=shares, turnover=exposure.turnover + notional, recent=exposure.recent + 1)


def breach(equity: float, peak: float, session: float, limits: TraderLimits) -> Denial | None:
    """Return the loss limit that an account is beyond, or None.

    Args:
        equity: Worth of the account.
        peak: Highest so far.
        session: At the end of the session before.
        limits: The limits.
    """
    for limit, loss, bound in _losses(equity, peak, session, limits):
        if not loss <= bound * (1.0 + SLACK):
            return Denial(limit, loss, bound)
    return None


def _losses(equity: float, peak: float, session: float, limits: TraderLimits) -> Iterator[tuple[str, float, float]]:
    yield "daily_loss", 1.0 - equity / session if session > 0.0 else 0.0, limits.daily_loss
    yield "drawdown", 1.0 - equity / peak if peak > 0.0 else 0.0, limits.drawdown
