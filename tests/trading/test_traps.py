"""The traps of the field, one exact small answer each: costs, carry, leverage and stops."""

import math

import numpy as np
import pytest
from tests.trading.exact import DAY, account, bar, equity, holding, orders, settle, shares, trading

from sentio_kedro.config import CarryParameters, CostParameters, MarginParameters

# Costs


@pytest.mark.parametrize(
    ("line", "costs", "facts", "expected"),
    [
        ("commission", {"commission_bps": 5.0}, {}, 10 * 110 * 5e-4),
        ("commission", {"commission_per_share": 0.02}, {}, 10 * 0.02),
        ("commission", {"min_commission": 3.0}, {}, 3.0),
        ("spread", {}, {"half_spread": 0.001}, 10 * 110 * 0.001),
        ("impact", {"impact": 1.0}, {"impact": 0.002}, 10 * 110 * 0.002 * math.sqrt(10)),
    ],
)
def test_each_cost_follows_its_formula_doubles_alone_and_lowers_equity(
    line: str, costs: dict[str, float], facts: dict[str, float], expected: float
) -> None:
    left = []
    for factor in (1.0, 2.0):
        given = {"commission_bps": 0.0, "half_spread_bps": 0.0} | {name: factor * x for name, x in costs.items()}
        buyer = account()
        row = bar(100.0, 110.0, 110.0, **{name: factor * x for name, x in facts.items()})
        fill, _ = settle(buyer, 1.0, row, trading(costs=CostParameters(**given)))
        paid = {name: float(fill[name]) for name in ("commission", "spread", "impact")}
        assert paid.pop(line) == pytest.approx(factor * expected, rel=1e-12)
        assert set(paid.values()) == {0.0}
        left.append(equity(buyer))
    assert left[0] - left[1] == pytest.approx(expected)


def test_the_minimum_commission_is_a_floor_and_no_trade_pays_nothing() -> None:
    setting = trading(costs=CostParameters(commission_bps=10.0, half_spread_bps=0.0, min_commission=0.5))
    for level, paid in ((1.0, 1.0), (0.1, 0.5), (0.0, 0.0)):
        assert settle(account(), level, bar(), setting)[0].commission == pytest.approx(paid)


def test_twice_the_order_pays_impact_times_two_to_the_power_of_three_halves() -> None:
    half, full = (settle(account(), level, bar(impact=0.002), trading())[0].impact for level in (0.5, 1.0))
    assert full == pytest.approx(2**1.5 * half)


def test_impact_ends_at_its_largest_share_of_notional() -> None:
    row, most = bar(impact=0.1), CostParameters(commission_bps=0.0, half_spread_bps=0.0, max_impact=0.05)
    assert settle(account(), 1.0, row, trading())[0].impact == pytest.approx(1000.0 * 0.1)  # not 0.1 x root of 10
    assert settle(account(), 1.0, row, trading(costs=most))[0].impact == pytest.approx(1000.0 * 0.05)


def test_the_cost_multiplier_scales_commission_spread_and_impact_and_nothing_else() -> None:
    costs = CostParameters(commission_bps=5.0, half_spread_bps=0.0, min_commission=2.0, impact=1.0)
    setting = trading(costs=costs, carry=CarryParameters(borrow_rate=0.1))
    row = bar(half_spread=0.001, impact=0.001, years=1.0)
    fills = [
        settle(holding([-1.0], [100.0], 1100.0, cost_multiplier=times), -1.0, row, setting)[0] for times in (1.0, 3.0)
    ]
    for line in ("commission", "spread", "impact"):
        assert fills[1][line] == pytest.approx(3 * fills[0][line])
        assert fills[0][line] > 0.0
    assert fills[0].borrow == fills[1].borrow == pytest.approx(10.0)


def test_resizing_pays_for_what_it_trades_and_a_position_in_the_band_for_nothing() -> None:
    costs = CostParameters(commission_bps=10.0, half_spread_bps=0.0)
    setting = trading(levels=[0.0, 0.5, 1.0], costs=costs, orders=orders(rebalance_band=0.25))
    for close, traded in ((140.0, 0.0), (200.0, 5.0 - 1500.0 * 0.5 / 200.0)):  # 5 shares and 500 of cash
        long = holding([5.0], [100.0], 500.0)
        row = bar(100.0, close, close)
        settle(long, None, row, trading())
        fill, _ = settle(long, 0.5, bar(close, close, close), setting)
        assert fill.traded == pytest.approx(traded * close)
        assert fill.commission == pytest.approx(traded * close * 1e-3)


# Holding costs


@pytest.mark.parametrize(
    ("rates", "held", "cash", "yearly"),
    [
        ({"borrow_rate": 0.1}, -10.0, 2000.0, -100.0),  # a tenth of 10 x 100
        ({"financing_rate": 0.06}, 20.0, -1000.0, -60.0),
        ({"interest_rate": 0.02}, 1.0, 900.0, 18.0),
        ({"borrow_rate": 0.1}, 10.0, 0.0, 0.0),
        ({"financing_rate": 0.06}, 1.0, 900.0, 0.0),
        ({"interest_rate": 0.02}, 20.0, -1000.0, 0.0),
    ],
)
def test_holding_costs_accrue_by_elapsed_time_so_a_weekend_costs_three_nights(
    rates: dict[str, float], held: float, cash: float, yearly: float
) -> None:
    setting = trading(gross_limit=4.0, carry=CarryParameters(**rates))
    for days in (1, 3):
        owner = holding([held], [100.0], cash)
        settle(owner, None, bar(years=days * DAY), setting)
        assert equity(owner) - 1000.0 == pytest.approx(yearly * days * DAY, rel=1e-9)


def test_a_short_pays_the_same_borrow_fee_in_half_hours_as_in_one_day() -> None:
    setting = trading(carry=CarryParameters(borrow_rate=0.1))
    daily, finely = holding([-10.0], [100.0], 2000.0), holding([-10.0], [100.0], 2000.0)
    settle(daily, None, bar(years=DAY), setting)
    for _ in range(48):
        settle(finely, None, bar(years=DAY / 48), setting)
    assert equity(finely) == pytest.approx(equity(daily), rel=1e-12)
    assert equity(daily) == pytest.approx(1000.0 - 100.0 * DAY)


def test_funding_is_paid_by_longs_to_shorts_on_the_position_at_the_close() -> None:
    row = bar(100.0, 100.0, 110.0, funding=0.01)
    for held, cash, level, paid in ((10.0, 0.0, None, 11.0), (-10.0, 2000.0, None, -11.0), (10.0, 0.0, 0.0, 0.0)):
        assert settle(holding([held], [100.0], cash), level, row, trading())[0].funding == pytest.approx(paid)


# Leverage


def test_a_gap_through_equity_ruins_at_the_open_even_if_the_close_recovers() -> None:
    setting, trader = trading(gross_limit=3.0), account()
    settle(trader, 1.0, bar(), setting)
    assert shares(trader) == [30.0]
    fill, total = settle(trader, 1.0, bar(100.0, 60.0, 100.0), setting)
    assert fill.price_pnl == pytest.approx(-1200.0)
    assert (fill.traded, total.shortfall) == (0.0, pytest.approx(200.0))
    assert (equity(trader), trader.account.cash[0], shares(trader)) == (0.0, 0.0, [0.0])
    for level in (1.0, -1.0):
        fill, _ = settle(trader, level, bar(100.0, 100.0, 200.0), setting)
        assert (equity(trader), fill.traded, trader.account.alive[0]) == (0.0, 0.0, False)


def test_a_loss_inside_the_bar_ruins_at_the_close_and_the_broker_bears_the_rest() -> None:
    trader = holding([30.0], [100.0], -2000.0)
    fill, total = settle(trader, None, bar(100.0, 100.0, 60.0), trading(gross_limit=3.0))
    assert (equity(trader), trader.account.alive[0]) == (0.0, False)
    assert total.shortfall == pytest.approx(200.0)
    assert total.equity - total.equity_before == pytest.approx(fill.price_pnl + total.shortfall)


@pytest.mark.parametrize("latency", [0, 2])
def test_below_maintenance_everything_is_sold_at_the_next_open_whatever_is_decided(latency: int) -> None:
    setting = trading(
        gross_limit=2.0,
        margin=MarginParameters(initial=0.5, maintenance=0.4),
        orders=orders(latency_bars=latency, lot_size=7.0),
    )
    trader = holding([20.0, 0.0], [75.0, 50.0], -1000.0, latency=latency)  # equity 500 of 1500: a third
    trader = trader._replace(in_flight=np.ones((1, 2, latency)))
    _, total = settle(trader, [1.0, 1.0], bar([75.0, 50.0], [70.0, 50.0], [90.0, 50.0]), setting)
    assert total.called
    assert shares(trader) == [0.0, 0.0]
    assert equity(trader) == pytest.approx(500.0 - 20 * 5)
    assert not trader.in_flight.any()


def test_a_margin_call_sells_what_the_market_trades_and_is_made_again() -> None:
    setting = trading(gross_limit=2.0, margin=MarginParameters(maintenance=0.4), orders=orders(lot_size=7.0))
    trader, left = holding([20.0], [75.0], -1000.0), []
    for facts in ({"fillable": False}, {"max_shares": 8.0}, {"max_shares": 8.0}):
        _, total = settle(trader, 1.0, bar(75.0, 75.0, 75.0, **facts), setting)
        left.append((bool(total.called), *shares(trader)))
    assert left == [(True, 20.0), (True, 12.0), (False, pytest.approx(12.0))]  # 500 are more than 0.4 x 900


def test_at_maintenance_no_call_is_made() -> None:
    setting = trading(gross_limit=2.0, margin=MarginParameters(initial=0.5, maintenance=0.25))
    _, total = settle(holding([20.0], [100.0], -1500.0), None, bar(), setting)  # equity 500 of 2000: exactly a quarter
    assert not total.called


def test_a_fourfold_long_is_liquidated_in_a_bar_that_falls_by_a_quarter_and_recovers() -> None:
    for intrabar, alive, left in ((True, True, 1000.0 - 4000.0 * 0.2), (False, True, 1000.0)):
        margin = MarginParameters(maintenance=0.0625, intrabar=intrabar)
        trader = holding([40.0], [100.0], -3000.0)
        fill, total = settle(trader, None, bar(low=75.0), trading(gross_limit=4.0, margin=margin))
        assert (total.called, trader.account.alive[0]) == (intrabar, alive)
        assert equity(trader) == pytest.approx(left)
        assert math.isnan(fill.exit_price) != intrabar


def test_a_liquidation_counts_the_losses_of_all_positions_at_once() -> None:
    margin = MarginParameters(maintenance=0.1, intrabar=True)
    trader = holding([20.0, -20.0], [100.0, 100.0], 1000.0)
    row = bar([100.0] * 2, [100.0] * 2, [100.0] * 2, low=[80.0, 95.0], high=[110.0, 120.0])
    fills, total = settle(trader, None, row, trading(gross_limit=4.0, margin=margin))
    # 1000 - 40 x 20 u = 0.1 x 4000 (longs shrink as shorts grow) at u = 0.75
    assert total.called
    assert fills.exit_price.tolist() == pytest.approx([85.0, 115.0])
    assert equity(trader) == pytest.approx(400.0)


def test_a_stop_that_is_reached_first_spares_the_liquidation() -> None:
    margin = MarginParameters(maintenance=0.0625, intrabar=True, liquidation_fee=0.01)
    setting = trading(gross_limit=4.0, margin=margin, orders=orders(stop_loss=0.05, participation=0.1))
    for volume, exit_at, called in ((40.0, 95.0, False), (39.0, 80.0, True)):  # all of it must fit into the bar
        trader = holding([40.0], [100.0], -3000.0)
        fill, total = settle(trader, None, bar(low=75.0, max_shares=volume), setting)
        assert (fill.exit_price, total.called) == (pytest.approx(exit_at), called)


def test_initial_margin_cuts_what_a_gap_made_too_large() -> None:
    setting = trading(gross_limit=2.0, margin=MarginParameters(initial=0.5))
    for cash, opening, held in ((0.0, 50.0, 20.0), (1000.0, 200.0, 30.0)):
        # 10 and 30 more were ordered; at the open equity is 500 (carries 1000 / 50), and 3000 (carries 6000 / 200)
        trader = holding([10.0], [100.0], cash)
        settle(trader, 1.0, bar(100.0, opening, opening), setting)
        assert shares(trader) == pytest.approx([held])


# Stops

STOPS = orders(stop_loss=0.1, take_profit=0.2)


@pytest.mark.parametrize(
    ("opening", "high", "low", "next_close", "exit_at"),
    [
        (85.0, 95.0, 80.0, 90.0, 85.0),  # gap through the stop: the open
        (125.0, 130.0, 120.0, 122.0, 125.0),  # gap through the target: the open
        (100.0, 105.0, 89.0, 102.0, 90.0),  # the stop
        (100.0, 121.0, 95.0, 110.0, 120.0),  # the target
        (100.0, 125.0, 85.0, 110.0, 90.0),  # both: the worse
        (100.0, 119.0, 91.0, 110.0, None),
    ],
)
def test_a_long_leaves_at_the_stop_or_the_target_and_ambiguous_bars_take_the_worse(
    opening: float, high: float, low: float, next_close: float, exit_at: float | None
) -> None:
    long = holding([10.0], [100.0])
    fill, _ = settle(long, None, bar(100.0, opening, next_close, high=high, low=low), trading(orders=STOPS))
    assert equity(long) == pytest.approx(10.0 * (next_close if exit_at is None else exit_at))
    assert shares(long) == [10.0 if exit_at is None else 0.0]
    assert math.isnan(fill.exit_price) if exit_at is None else fill.exit_price == pytest.approx(exit_at)


@pytest.mark.parametrize(
    ("opening", "high", "low", "next_close", "exit_at"),
    [
        (115.0, 120.0, 105.0, 110.0, 115.0),
        (75.0, 80.0, 70.0, 78.0, 75.0),
        (100.0, 111.0, 95.0, 98.0, 110.0),
        (100.0, 105.0, 79.0, 90.0, 80.0),
        (100.0, 115.0, 75.0, 90.0, 110.0),
        (100.0, 109.0, 81.0, 90.0, None),
    ],
)
def test_a_short_is_the_mirror_of_a_long(
    opening: float, high: float, low: float, next_close: float, exit_at: float | None
) -> None:
    short = holding([-10.0], [100.0], 2000.0)
    settle(short, None, bar(100.0, opening, next_close, high=high, low=low), trading(orders=STOPS))
    assert equity(short) == pytest.approx(2000.0 - 10.0 * (next_close if exit_at is None else exit_at))
    assert shares(short) == [-10.0 if exit_at is None else 0.0]


def test_a_position_can_be_stopped_on_its_entry_bar_and_pays_both_trades() -> None:
    setting = trading(orders=STOPS, costs=CostParameters(commission_bps=10.0, half_spread_bps=0.0))
    buyer = account()
    fill, _ = settle(buyer, 1.0, bar(100.0, 110.0, 112.0, high=113.0, low=98.0), setting)
    assert fill.exit_price == pytest.approx(99.0)  # a tenth below the entry at 110
    assert fill.traded == pytest.approx(10 * 110 + 10 * 99)
    assert equity(buyer) == pytest.approx(1000 - 10 * 11 - 2.09)
    assert buyer.holdings[0, 0].item()[:3] == (0.0, 0.0, 0.0)  # shares, entry price, bars held


def test_a_stop_sells_what_the_bar_trades_and_the_rest_later() -> None:
    setting = trading(orders=orders(stop_loss=0.1, participation=0.1))
    long = holding([10.0], [100.0])
    first, _ = settle(long, None, bar(100.0, 85.0, 84.0, low=83.0, max_shares=6.0), setting)
    assert (first.exit_price, first.traded, shares(long)) == (85.0, 6 * 85.0, [4.0])
    assert (long.holdings.entry_price[0, 0], long.holdings.bars_held[0, 0]) == (100.0, 2.0)
    second, _ = settle(long, -1.0, bar(84.0, 84.0, 84.0, max_shares=3.0), setting)  # the decision takes all of it
    assert (math.isnan(second.exit_price), shares(long)) == (True, [1.0])
    third, _ = settle(long, None, bar(84.0, 84.0, 84.0, max_shares=3.0), setting)
    assert (third.exit_price, shares(long)) == (84.0, [0.0])


def test_a_stop_cancels_the_orders_of_its_asset_and_of_no_other() -> None:
    long = holding([10.0, 10.0], [100.0, 100.0], latency=2)
    long = long._replace(in_flight=np.full((1, 2, 2), 2.0))
    row = bar([100.0] * 2, [100.0] * 2, [85.0, 100.0], low=[84.0, 99.0])
    settle(long, None, row, trading(gross_limit=2.0, orders=orders(stop_loss=0.1, latency_bars=2)))
    assert shares(long) == [0.0, 12.0]
    assert long.in_flight.tolist() == [[[0.0, 0.0], [2.0, 0.0]]]
