from dataclasses import replace
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from limit_streams import SYMBOLS, random_stream, run_stream

from sentio_kedro.config.live.trader import TraderLimits
from sentio_kedro.trader.limits import Denial, Exposure, breach, check_all, denial
from sentio_kedro.trader.orders import Order

LIMITS = TraderLimits()
ACCOUNT = Exposure(10_000.0, 10_000.0, 10_000.0, {"AAA": 20.0, "BBB": -10.0}, dict.fromkeys(SYMBOLS, 100.0))


def _order(shares: float, symbol: str = "AAA", price: float = 100.0, *, closing: bool = False) -> Order:
    return Order("id", "2026-01-02T15:30:00Z", symbol, shares, price, 0, closing)


def _denied(order: Order, limits: TraderLimits = LIMITS, **account: object) -> Denial | None:
    return denial(order, replace(ACCOUNT, **account), limits)  # type: ignore[arg-type]


def test_each_limit_has_its_value_and_bound() -> None:
    assert _denied(_order(15.0)) is None
    assert _denied(_order(21.0)) == Denial("order_notional", 0.21, 0.2)
    assert _denied(_order(16.0)) == Denial("symbol_exposure", 0.36, 0.35)
    assert _denied(_order(5.0), TraderLimits(gross=0.3)) == Denial("gross", 0.35, 0.3)
    assert _denied(_order(10.0), turnover=29_500.0) == Denial("turnover_per_day", 3.05, 3.0)
    assert _denied(_order(1.0), recent=20) == Denial("orders_per_minute", 21.0, 20.0)
    assert _denied(_order(1.0, price=110.0)).limit == "price_deviation"  # type: ignore[union-attr]
    assert _denied(_order(1.0), session_equity=10_400.0).limit == "daily_loss"  # type: ignore[union-attr]
    assert _denied(_order(1.0), peak_equity=12_000.0).limit == "drawdown"  # type: ignore[union-attr]
    assert _denied(_order(1.0), TraderLimits(symbols=["BBB"])) == Denial("symbols", 1.0, 0.0)
    assert _denied(_order(-1.0, "CCC"), TraderLimits(shorts=False)) == Denial("shorts", 1.0, 0.0)
    assert _denied(_order(1.0), reducing=True) == Denial("reducing", 1.0, 0.0)
    assert _denied(_order(1.0), equity=-5.0).limit == "number"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("shares", "price"), [(nan, 100.0), (inf, 100.0), (1.0, nan), (1.0, inf), (0.0, 1.0), (-5.0, nan)]
)
def test_what_is_no_number_is_denied_even_if_it_would_reduce(shares: float, price: float) -> None:
    assert _denied(_order(shares, price=price)).limit == "number"  # type: ignore[union-attr]


def test_reductions_pass_whatever_the_limits_but_may_not_turn_a_position() -> None:
    worst = {"turnover": 1e9, "recent": 999, "reducing": True, "equity": -1.0, "peak_equity": 1e9}
    tiny = TraderLimits(order_notional=0.001, symbols=["ZZZ"], shorts=False)
    assert _denied(_order(-20.0), tiny, **worst) is None
    assert _denied(_order(10.0, "BBB"), tiny, **worst) is None
    assert _denied(_order(-20.1), tiny, **worst).limit == "reducing"  # type: ignore[union-attr]
    assert _denied(_order(-20.1, closing=True)) == Denial("position", 20.1, 20.0)
    assert _denied(_order(5.0, "CCC", closing=True)) == Denial("position", 5.0, 0.0)


def test_a_held_symbol_without_a_price_cannot_be_valued() -> None:
    assert _denied(_order(1.0), prices={"AAA": 100.0}) == Denial("gross", inf, 1.0)


def test_a_rotation_sells_first() -> None:
    full = replace(
        ACCOUNT, shares={"AAA": 20.0, "BBB": 20.0}, equity=4_000.0, peak_equity=4_000.0, session_equity=4_000.0
    )
    wide = TraderLimits(order_notional=1.0, symbol_exposure=1.0)
    checked = check_all([_order(20.0, "CCC"), _order(-20.0)], full, wide)
    assert [(order.symbol, denied) for order, denied in checked] == [("AAA", None), ("CCC", None)]
    alone = check_all([_order(20.0, "CCC")], full, wide)
    assert alone[0][1] == Denial("gross", 1.5, 1.0)


def test_losses_are_measured_from_session_and_peak() -> None:
    assert breach(98.0, 100.0, 100.0, LIMITS) is None
    assert breach(97.0, 100.0, 100.0, LIMITS) == Denial("daily_loss", 1.0 - 97.0 / 100.0, 0.02)
    assert breach(89.0, 100.0, 89.0, LIMITS) == Denial("drawdown", 1.0 - 89.0 / 100.0, 0.10)


SIZES = some.one_of(some.floats(-80.0, 80.0), some.sampled_from([nan, inf, 0.0, -10.0, 10.0]))
ORDERS = some.tuples(some.sampled_from(SYMBOLS), SIZES, some.floats(60.0, 140.0), some.booleans())
MARKETS = some.lists(some.floats(80.0, 120.0), min_size=4, max_size=4)
BARS = some.lists(some.tuples(some.lists(ORDERS, max_size=4), MARKETS), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(bars=BARS, shorts=some.booleans(), gross=some.sampled_from([0.2, 1.0]))
def test_no_stream_exceeds_a_limit_and_no_reduction_is_denied(bars: list, shorts: bool, gross: float) -> None:  # type: ignore[type-arg]
    prices = [dict(zip(SYMBOLS, market, strict=True)) for _, market in bars]
    run_stream([batch for batch, _ in bars], prices, TraderLimits(shorts=shorts, gross=gross, orders_per_minute=3))


def test_seeded_streams_deny_and_pass() -> None:
    counts = [random_stream(seed) for seed in range(100)]
    assert sum(one["passed"] for one in counts) > 300
    assert sum(one["denied"] for one in counts) > 300
    assert sum(one["reductions"] for one in counts) > 50
