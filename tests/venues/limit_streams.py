"""Random streams of orders through the limits, with independent arithmetic of what they must never let through."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite, nan

from sentio_kedro.config.live.trader import TraderLimits
from sentio_kedro.trader.limits import Exposure, check_all
from sentio_kedro.trader.orders import Order

SYMBOLS = ("AAA", "BBB", "CCC", "DDD")
Batch = Sequence[tuple[str, float, float, bool]]
"""Orders of one bar: symbol, shares, price and whether it claims to close."""


def run_stream(batches: Sequence[Batch], prices: Sequence[dict[str, float]], limits: TraderLimits) -> dict[str, int]:
    """Fill what passes, bar after bar, and assert that no limit is exceeded and no reduction denied; counts."""
    exposure = Exposure(10_000.0, 10_000.0, 10_000.0, {}, {})
    counts = {"passed": 0, "denied": 0, "reductions": 0}
    for number, (batch, market) in enumerate(zip(batches, prices, strict=True)):
        exposure = replace(exposure, prices=market, recent=0, turnover=exposure.turnover if number % 5 else 0.0)
        orders = [
            Order(f"{number}.{j}", "", symbol, shares, price, 0, closing)
            for j, (symbol, shares, price, closing) in enumerate(batch)
        ]
        for order, denied in check_all(orders, exposure, limits):
            held = exposure.shares.get(order.symbol, 0.0)
            number_ = isfinite(order.shares) and isfinite(order.price) and order.price != 0.0
            reduces = number_ and order.shares * held < 0.0 and abs(order.shares) <= abs(held)
            if denied is None:
                exposure = _filled(exposure, order)
                counts["passed"] += 1
                if not reduces:
                    _within(order, exposure, limits)
            else:
                counts["denied"] += 1
                assert not reduces, f"{order} shrinks {held} and was denied by {denied}"
            counts["reductions"] += reduces
            assert not (order.closing and denied is None and not reduces), f"{order} turned {held}"
    return counts


def _filled(exposure: Exposure, order: Order) -> Exposure:
    shares = {**exposure.shares, order.symbol: exposure.shares.get(order.symbol, 0.0) + order.shares}
    spent = abs(order.shares) * max(order.price, exposure.prices[order.symbol])
    return replace(exposure, shares=shares, turnover=exposure.turnover + spent, recent=exposure.recent + 1)


def _within(order: Order, after: Exposure, limits: TraderLimits) -> None:
    """What must hold once an order that adds risk is filled."""
    market, slack = after.prices, 1.0 + 1e-6
    assert isfinite(order.shares) and isfinite(order.price)
    assert limits.symbols is None or order.symbol in limits.symbols
    assert limits.shorts or after.shares[order.symbol] >= 0.0
    assert abs(order.price / market[order.symbol] - 1.0) <= limits.price_deviation * slack
    assert abs(order.shares) * market[order.symbol] <= limits.order_notional * after.equity * slack
    assert abs(after.shares[order.symbol]) * market[order.symbol] <= limits.symbol_exposure * after.equity * slack
    gross = sum(abs(held) * market[symbol] for symbol, held in after.shares.items())
    assert gross <= limits.gross * after.equity * slack
    assert after.turnover <= limits.turnover_per_day * after.equity * slack
    assert after.recent <= limits.orders_per_minute


def random_stream(seed: int) -> dict[str, int]:
    """Draw limits, prices and orders by a seed and run them."""
    chance = random.Random(seed)  # noqa: S311
    limits = TraderLimits(
        order_notional=chance.choice((0.05, 0.2, 1.0)),
        symbol_exposure=chance.choice((0.1, 0.35)),
        gross=chance.choice((0.3, 1.0)),
        turnover_per_day=chance.choice((0.5, 3.0)),
        orders_per_minute=chance.choice((2, 20)),
        symbols=chance.choice((None, ["AAA", "BBB"])),
        shorts=chance.random() < 0.7,
    )
    batches, prices = [], []
    market = dict.fromkeys(SYMBOLS, 100.0)
    for _ in range(10):
        market = {symbol: price * (1.0 + 0.05 * (chance.random() - 0.5)) for symbol, price in market.items()}
        batch = []
        for symbol in chance.choices(SYMBOLS, k=chance.randrange(5)):
            shares = chance.choice((nan, chance.uniform(-60.0, 60.0), float(chance.randrange(-40, 40)), -5.0, 5.0))
            price = market[symbol] * chance.choice((1.0, 1.0, 1.0, 1.04, 0.9, nan))
            batch.append((symbol, shares, price, chance.random() < 0.1))
        batches.append(batch)
        prices.append(market)
    return run_stream(batches, prices, limits)
