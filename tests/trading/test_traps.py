"""The traps of the field, one exact small answer each: costs, carry, leverage, stops, orders, facts and layers."""

import math
from typing import Any

import pytest
import torch

from sentio_kedro.config import (
    CarryParameters,
    CostParameters,
    MarginParameters,
    MaskParameters,
    OrderParameters,
    TradingParameters,
)
from sentio_kedro.trading.accounts import AccountState, Decision, Fill, Variation, open_accounts
from sentio_kedro.trading.action_masks import legal_actions, objections
from sentio_kedro.trading.execution import execute
from sentio_kedro.trading.position_limits import position_limits
from sentio_kedro.trading.step_data import StepData

DOUBLE = torch.float64
FREE = CostParameters(commission_bps=0.0, half_spread_bps=0.0)
FLAGS = ("tradable", "fillable", "delisted", "session_starts", "session_ends", "must_leave", "shortable")
OF_THE_STEP = ("years", "session_starts", "session_ends", "must_leave", "session_cap", "regime_cap")
DAY = 1.0 / 365.0


def trading(**changes: Any) -> TradingParameters:
    return TradingParameters(**({"costs": FREE, "calendar": "XNYS", "max_position": 10.0} | changes))


def bar(close: Any = 100.0, opening: Any = 100.0, next_close: Any = 100.0, **facts: Any) -> StepData:
    """One step of one account; prices and facts of each asset, or the same for all."""
    assets = len(close) if isinstance(close, list) else 1
    given = {"tradable": True, "fillable": True, "half_spread": 0.0} | facts
    given |= {"close": close, "open": opening, "next_close": next_close}
    row = {}
    for name, value in given.items():
        values = value if isinstance(value, list) else [value] * (1 if name in OF_THE_STEP else assets)
        fact = torch.tensor(values, dtype=torch.bool if name in FLAGS else DOUBLE)
        row[name] = fact if name == "shortable" else fact[None]
    return StepData(**row)


def account(equity: float = 1000.0, assets: int = 1, latency: int = 0, **changes: Any) -> AccountState:
    state = open_accounts(torch.tensor([equity], dtype=DOUBLE), assets, latency)
    return state._replace(**{name: torch.tensor([value], dtype=DOUBLE) for name, value in changes.items()})


def holding(shares: list[float], prices: list[float], cash: float = 0.0, **changes: Any) -> AccountState:
    equity = cash + sum(n * p for n, p in zip(shares, prices, strict=True))
    begun = {"initial_equity": equity, "peak_equity": equity, "session_equity": equity, "cash": cash}
    held = [1.0 if n else 0.0 for n in shares]
    return account(equity, len(shares), **({"shares": shares, "bars_held": held} | begun | changes))


def settle(
    state: AccountState, level: Any, row: StepData, parameters: TradingParameters, variation: Variation | None = None
) -> tuple[AccountState, Fill]:
    """One step; a level of None holds."""
    levels = level if isinstance(level, list) else [level] * row.assets
    decision = Decision(
        torch.tensor([[0.0 if x is None else x for x in levels]], dtype=DOUBLE),
        torch.tensor([[x is None for x in levels]]),
    )
    return execute(state, position_limits(state, row, parameters, variation), decision, row, parameters, variation)


def legal(state: AccountState, row: StepData, parameters: TradingParameters) -> list[bool]:
    return legal_actions(state, position_limits(state, row, parameters), row, parameters)[0, 0].tolist()


def objecting(state: AccountState, row: StepData, parameters: TradingParameters) -> set[str]:
    """Layers that forbid a level of the first asset."""
    cuts = objections(state.alive, state.equity, position_limits(state, row, parameters), row, parameters)
    return {layer for layer, levels in cuts.items() if levels is not None and levels[0, 0].any()}


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
    equity = []
    for factor in (1.0, 2.0):
        given = CostParameters(
            **({"commission_bps": 0.0, "half_spread_bps": 0.0} | {name: factor * x for name, x in costs.items()})
        )
        row = bar(100.0, 110.0, 110.0, **{name: factor * x for name, x in facts.items()})
        state, fill = settle(account(), 1.0, row, trading(costs=given))
        lines = {name: getattr(fill, name) for name in ("commission", "spread", "impact")}
        paid = {name: 0.0 if value is None else value.item() for name, value in lines.items()}
        assert paid.pop(line) == pytest.approx(factor * expected, rel=1e-12)
        assert set(paid.values()) == {0.0}
        equity.append(state.equity.item())
    assert equity[0] - equity[1] == pytest.approx(expected)


def test_the_minimum_commission_is_a_floor_and_no_trade_pays_nothing() -> None:
    costs = CostParameters(commission_bps=10.0, half_spread_bps=0.0, min_commission=0.5)
    assert settle(account(), 1.0, bar(), trading(costs=costs))[1].commission.item() == pytest.approx(1.0)
    assert settle(account(), 0.1, bar(), trading(costs=costs))[1].commission.item() == pytest.approx(0.5)
    assert settle(account(), 0.0, bar(), trading(costs=costs))[1].commission.item() == 0.0


def test_twice_the_order_pays_impact_times_two_to_the_power_of_three_halves() -> None:
    row, setting = bar(impact=0.002), trading(costs=CostParameters(commission_bps=0, half_spread_bps=0, impact=1.0))
    half, full = (settle(account(), level, row, setting)[1].impact.item() for level in (0.5, 1.0))
    assert full == pytest.approx(2**1.5 * half)


def test_the_cost_multiplier_scales_commission_spread_and_impact_and_nothing_else() -> None:
    costs = CostParameters(commission_bps=5.0, half_spread_bps=0.0, min_commission=2.0, impact=1.0)
    setting = trading(costs=costs, carry=CarryParameters(borrow_rate=0.1))
    row, state = bar(half_spread=0.001, impact=0.001, years=1.0), holding([-1.0], [100.0], cash=1100.0)
    triple = Variation(cost_multiplier=torch.tensor([[3.0]], dtype=DOUBLE))
    fills = [settle(state, -1.0, row, setting, variation)[1] for variation in (None, triple)]
    for line in ("commission", "spread", "impact"):
        once, thrice = (getattr(fill, line).item() for fill in fills)
        assert thrice == pytest.approx(3 * once)
        assert once > 0.0
    assert fills[0].borrow.item() == fills[1].borrow.item() == pytest.approx(10.0)


# Holding costs


@pytest.mark.parametrize(
    ("rates", "shares", "cash", "yearly"),
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
    rates: dict[str, float], shares: float, cash: float, yearly: float
) -> None:
    setting = trading(gross_limit=4.0, carry=CarryParameters(**rates))
    for days in (1, 3):
        state, _ = settle(holding([shares], [100.0], cash), None, bar(years=days * DAY), setting)
        assert state.equity.item() - 1000.0 == pytest.approx(yearly * days * DAY, rel=1e-9)


def test_a_short_pays_the_same_borrow_fee_in_half_hours_as_in_one_day() -> None:
    setting = trading(carry=CarryParameters(borrow_rate=0.1))
    daily, _ = settle(holding([-10.0], [100.0], 2000.0), None, bar(years=DAY), setting)
    state = holding([-10.0], [100.0], 2000.0)
    for _ in range(48):
        state, _ = settle(state, None, bar(years=DAY / 48), setting)
    assert state.equity.item() == pytest.approx(daily.equity.item(), rel=1e-12)
    assert daily.equity.item() == pytest.approx(1000.0 - 100.0 * DAY)


def test_funding_is_paid_by_longs_to_shorts_on_the_position_at_the_close() -> None:
    setting = trading(carry=CarryParameters(funding=True))
    for shares, cash, paid in ((10.0, 0.0, 11.0), (-10.0, 2000.0, -11.0)):
        _, fill = settle(holding([shares], [100.0], cash), None, bar(100.0, 100.0, 110.0, funding=0.01), setting)
        assert fill.funding.item() == pytest.approx(paid)
    _, sold = settle(holding([10.0], [100.0]), 0.0, bar(funding=0.01), setting)
    assert sold.funding.item() == 0.0


# Leverage


def test_a_gap_through_equity_ruins_at_the_open_even_if_the_close_recovers() -> None:
    setting = trading(gross_limit=3.0)
    state, _ = settle(account(), 1.0, bar(), setting)
    assert state.shares.item() == 30.0
    state, fill = settle(state, 1.0, bar(100.0, 60.0, 100.0), setting)
    assert fill.price_pnl.item() == pytest.approx(-1200.0)
    assert fill.traded.item() == 0.0
    assert fill.shortfall.item() == pytest.approx(200.0)
    assert state.equity.item() == state.cash.item() == state.shares.item() == 0.0
    for level in (1.0, -1.0):
        state, fill = settle(state, level, bar(100.0, 100.0, 200.0), setting)
        assert (state.equity.item(), state.shares.item(), fill.traded.item()) == (0.0, 0.0, 0.0)
        assert not state.alive.item()


def test_a_loss_inside_the_bar_ruins_at_the_close_and_the_broker_bears_the_rest() -> None:
    state, fill = settle(holding([30.0], [100.0], -2000.0), None, bar(100.0, 100.0, 60.0), trading(gross_limit=3.0))
    assert (state.equity.item(), state.alive.item()) == (0.0, False)
    assert fill.shortfall.item() == pytest.approx(200.0)
    assert fill.equity.item() - fill.equity_before.item() == pytest.approx(
        fill.price_pnl.item() + fill.shortfall.item()
    )


@pytest.mark.parametrize("latency", [0, 2])
def test_below_maintenance_everything_is_sold_at_the_next_open_whatever_is_decided(latency: int) -> None:
    setting = trading(
        gross_limit=2.0,
        margin=MarginParameters(initial=0.5, maintenance=0.4),
        orders=OrderParameters(latency_bars=latency, participation=0.1, unfilled="carry", lot_size=7.0),
    )
    state = holding([20.0, 0.0], [75.0, 50.0], -1000.0)  # equity 500 of 1500: a third
    state = state._replace(in_flight=torch.ones(1, 2, latency, dtype=DOUBLE), working=torch.ones(1, 2, dtype=DOUBLE))
    row = bar([75.0, 50.0], [70.0, 50.0], [90.0, 50.0], max_shares=3.0)
    state, fill = settle(state, [1.0, 1.0], row, setting)
    assert fill.called.item()
    assert state.shares.tolist() == [[0.0, 0.0]]
    assert state.equity.item() == pytest.approx(500.0 - 20 * 5)
    assert not state.working.any()
    assert not state.in_flight.any()


def test_a_margin_call_on_a_halted_bar_leaves_nothing_working_and_is_made_again() -> None:
    setting = trading(
        gross_limit=2.0, margin=MarginParameters(maintenance=0.4), orders=OrderParameters(unfilled="carry")
    )
    state = holding([20.0], [75.0], -1000.0)
    state, _ = settle(state, None, bar(75.0, 75.0, 75.0, fillable=False), setting)
    assert (state.shares.item(), state.working.item()) == (20.0, 0.0)
    state, fill = settle(state, None, bar(75.0, 75.0, 75.0), setting)
    assert (fill.called.item(), state.shares.item()) == (True, 0.0)


def test_at_maintenance_no_call_is_made() -> None:
    setting = trading(gross_limit=2.0, margin=MarginParameters(initial=0.5, maintenance=0.25))
    _, fill = settle(holding([20.0], [100.0], -1500.0), None, bar(), setting)  # equity 500 of 2000: exactly a quarter
    assert not fill.called.item()


def test_initial_margin_cuts_what_a_gap_made_too_large() -> None:
    setting = trading(gross_limit=2.0, margin=MarginParameters(initial=0.5))
    state, _ = settle(holding([10.0], [100.0]), 1.0, bar(100.0, 50.0, 50.0), setting)
    # 10 more were ordered; at the open equity is 500, which carries 1000 / 50 = 20 shares
    assert state.shares.item() == pytest.approx(20.0)
    state, _ = settle(holding([10.0], [100.0], 1000.0), 1.0, bar(100.0, 200.0, 200.0), setting)
    assert state.shares.item() == pytest.approx(30.0)  # 30 more were ordered; equity of 3000 carries 6000 / 200


# Stops

STOPS = OrderParameters(stop_loss=0.1, take_profit=0.2)


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
    state = holding([10.0], [100.0], entry_price=[100.0])
    state, fill = settle(state, None, bar(100.0, opening, next_close, high=high, low=low), trading(orders=STOPS))
    assert state.equity.item() == pytest.approx(10.0 * (next_close if exit_at is None else exit_at))
    assert state.shares.item() == (10.0 if exit_at is None else 0.0)
    assert math.isnan(fill.exit_price.item()) if exit_at is None else fill.exit_price.item() == pytest.approx(exit_at)


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
    state = holding([-10.0], [100.0], 2000.0, entry_price=[100.0])
    state, _ = settle(state, None, bar(100.0, opening, next_close, high=high, low=low), trading(orders=STOPS))
    assert state.equity.item() == pytest.approx(2000.0 - 10.0 * (next_close if exit_at is None else exit_at))
    assert state.shares.item() == (-10.0 if exit_at is None else 0.0)


def test_a_position_can_be_stopped_on_its_entry_bar_and_pays_both_trades() -> None:
    setting = trading(orders=STOPS, costs=CostParameters(commission_bps=10.0, half_spread_bps=0.0))
    state, fill = settle(account(), 1.0, bar(100.0, 110.0, 112.0, high=113.0, low=98.0), setting)
    assert fill.exit_price.item() == pytest.approx(99.0)  # a tenth below the entry at 110
    assert fill.traded.item() == pytest.approx(10 * 110 + 10 * 99)
    assert state.equity.item() == pytest.approx(1000 - 10 * 11 - 2.09)
    assert (state.shares.item(), state.bars_held.item(), state.entry_price.item()) == (0.0, 0.0, 0.0)


def test_a_stop_cancels_the_orders_of_its_asset_and_of_no_other() -> None:
    setting = trading(orders=OrderParameters(stop_loss=0.1, latency_bars=2, participation=0.1, unfilled="carry"))
    state = holding([10.0, 10.0], [100.0, 100.0], entry_price=[100.0, 100.0], working=[5.0, 5.0])
    state = state._replace(in_flight=torch.full((1, 2, 2), 2.0, dtype=DOUBLE))
    row = bar([100.0] * 2, [100.0] * 2, [85.0, 100.0], high=100.0, low=[84.0, 99.0], max_shares=1.0)
    state, _ = settle(state, None, row, setting)
    assert state.shares.tolist() == [[0.0, 11.0]]
    assert state.working.tolist() == [[0.0, 6.0]]
    assert state.in_flight.tolist() == [[[0.0, 0.0], [2.0, 0.0]]]


def test_the_entry_price_is_averaged_when_adding_kept_when_reducing_and_new_when_turning() -> None:
    setting = trading(orders=OrderParameters(stop_loss=0.9), gross_limit=4.0)
    state = holding([10.0], [100.0], 1000.0, entry_price=[80.0])
    for level, price, shares, entry in (
        (0.5, 90.0, 40.0, 87.5),  # 10 at 80 and 30 more at 90
        (0.0625, 90.0, 5.0, 80.0),
        (-0.0625, 90.0, -5.0, 90.0),
        (0.0, 90.0, 0.0, 0.0),
    ):
        moved, _ = settle(state, level, bar(100.0, price, price, high=price, low=price), setting)
        assert (moved.shares.item(), moved.entry_price.item()) == pytest.approx((shares, entry))


# Orders


def test_participation_fills_partly_and_the_rest_is_dropped_or_carried() -> None:
    for unfilled, working, then in (("drop", 0.0, 4.0), ("carry", 6.0, 8.0)):
        setting = trading(orders=OrderParameters(participation=0.1, unfilled=unfilled))
        state, _ = settle(account(), 1.0, bar(max_shares=4.0), setting)
        assert (state.shares.item(), state.working.item()) == (4.0, working)
        state, _ = settle(state, None, bar(max_shares=4.0), setting)
        assert state.shares.item() == then


def test_a_new_order_replaces_what_is_carried_and_hold_keeps_it() -> None:
    setting = trading(orders=OrderParameters(participation=0.1, unfilled="carry"))
    state = holding([4.0], [100.0], 600.0, working=[6.0])
    replaced, _ = settle(state, 0.5, bar(max_shares=9.0), setting)
    assert (replaced.shares.item(), replaced.working.item()) == (5.0, 0.0)
    held, _ = settle(state, None, bar(max_shares=5.0), setting)
    assert (held.shares.item(), held.working.item()) == (9.0, 1.0)


def test_a_halted_bar_fills_nothing_and_the_order_waits_if_it_is_carried() -> None:
    for unfilled, shares in (("drop", 0.0), ("carry", 10.0)):
        setting = trading(orders=OrderParameters(unfilled=unfilled))
        state, fill = settle(account(), 1.0, bar(fillable=False), setting)
        assert (state.shares.item(), fill.traded.item()) == (0.0, 0.0)
        state, _ = settle(state, None, bar(), setting)
        assert state.shares.item() == shares


@pytest.mark.parametrize("latency", [0, 1, 3])
def test_an_order_fills_latency_bars_later_and_is_not_sent_twice(latency: int) -> None:
    setting = trading(orders=OrderParameters(latency_bars=latency))
    state, held = account(latency=latency), []
    for _ in range(latency + 2):
        state, _ = settle(state, 1.0, bar(), setting)
        held.append(state.shares.item())
    assert held == [0.0] * latency + [10.0, 10.0]


def test_flat_also_sells_what_is_still_under_way() -> None:
    setting = trading(orders=OrderParameters(latency_bars=1))
    state, held = account(latency=1), []
    for level in (1.0, 0.0, None, None):
        state, _ = settle(state, level, bar(), setting)
        held.append(state.shares.item())
    assert held == [0.0, 10.0, 0.0, 0.0]


def test_an_account_with_a_latency_of_its_own_is_filled_by_it() -> None:
    setting = trading(orders=OrderParameters(latency_bars=3))
    for delay in range(4):
        state, held = account(latency=3), []
        variation = Variation(latency=torch.tensor([[delay]]))
        for level in (1.0, None, None, None):
            state, _ = settle(state, level, bar(), setting, variation)
            held.append(state.shares.item())
        assert held == [0.0] * delay + [10.0] * (4 - delay)


def test_lots_round_towards_zero_and_whole_lots_survive_rounding_noise() -> None:
    setting = trading(orders=OrderParameters(lot_size=3.0))
    for cash, level, shares in ((1000.0, 1.0, 9.0), (1000.0, -1.0, -9.0), (900.0 - 1e-8, 1.0, 9.0), (299.0, 1.0, 0.0)):
        state, _ = settle(account(cash), level, bar(), setting)
        assert state.shares.item() == shares
    state, _ = settle(holding([10.0], [100.0]), 0.0, bar(), setting)
    assert state.shares.item() == 0.0  # closing is exact


def test_orders_below_the_minimum_notional_are_not_sent_unless_they_close() -> None:
    setting = trading(levels=[0.0, 0.04, 0.05, 1.0], orders=OrderParameters(min_notional=50.0))
    assert legal(account(), bar(), setting) == [True, True, False, True, True]
    for level, shares in ((0.04, 0.0), (0.05, 0.5)):
        assert settle(account(), level, bar(), setting)[0].shares.item() == shares
    assert settle(holding([0.2], [100.0], 980.0), 0.0, bar(), setting)[0].shares.item() == 0.0
    for opening in (50.0, 200.0):  # the order is worth 50 at the close, when nobody knows the open yet
        assert settle(account(), 0.05, bar(100.0, opening), setting)[0].shares.item() == 0.5
        assert settle(account(), 0.04, bar(100.0, opening), setting)[0].shares.item() == 0.0


def test_flat_at_close_sells_at_the_close_of_the_sessions_last_bar_only() -> None:
    costs = CostParameters(commission_bps=10.0, half_spread_bps=0.0)
    setting = trading(orders=OrderParameters(flat_at_close=True), costs=costs)
    for ends, shares, paid in ((False, 10.0, 1.0), (True, 0.0, 1.0 + 1.2)):
        state, fill = settle(account(), 1.0, bar(100.0, 100.0, 120.0, session_ends=ends), setting)
        assert state.shares.item() == shares
        assert fill.commission.item() == pytest.approx(paid)
        assert state.equity.item() == pytest.approx(1200.0 - paid)


# Facts of the market


def test_a_delisting_pays_the_last_price_without_costs_and_cancels_orders() -> None:
    setting = trading(costs=CostParameters(commission_bps=10.0, half_spread_bps=0.0, min_commission=5.0))
    row = bar(80.0, 80.0, 80.0, fillable=False, delisted=True)
    for shares, cash in ((10.0, 200.0), (-5.0, 1400.0)):
        state, fill = settle(holding([shares], [80.0], cash), -1.0, row, setting)
        assert (state.shares.item(), fill.commission.item(), fill.traded.item()) == (0.0, 0.0, 0.0)
        assert state.equity.item() == state.cash.item() == 1000.0
        assert fill.exit_price.item() == 80.0


def test_a_split_changes_shares_orders_and_entry_and_leaves_equity_alone() -> None:
    setting = trading(orders=OrderParameters(latency_bars=2, stop_loss=0.2, unfilled="carry"))
    state = holding([4.0], [100.0], 600.0, entry_price=[90.0], bars_held=[3.0])
    state = state._replace(in_flight=torch.tensor([[[0.0, 3.0]]], dtype=DOUBLE))
    row = bar(100.0, 50.0, 50.0, split=2.0, high=50.0, low=50.0)
    state, fill = settle(state, None, row, setting)
    assert (state.shares.item(), state.entry_price.item(), state.equity.item()) == (8.0, 45.0, 1000.0)
    assert state.in_flight.tolist() == [[[6.0, 0.0]]]
    assert fill.price_pnl.item() == 0.0
    assert state.bars_held.item() == 4.0


def test_an_order_sent_before_a_split_buys_the_same_value_after_it() -> None:
    state, fill = settle(account(), 1.0, bar(100.0, 50.0, 50.0, split=2.0), trading())
    assert state.shares.item() == 20.0
    assert fill.traded.item() == 1000.0


def test_dividends_are_paid_to_longs_charged_to_shorts_and_not_to_who_buys_that_day() -> None:
    for shares, cash, received in ((10.0, 0.0, 20.0), (-10.0, 2000.0, -20.0), (0.0, 1000.0, 0.0)):
        state, fill = settle(holding([shares], [100.0], cash), 1.0, bar(100.0, 98.0, 98.0, dividend=2.0), trading())
        assert fill.dividends.item() == received
        assert state.equity.item() == pytest.approx(1000.0)  # the price falls by the dividend


# Layers: each forbids its own levels and no others

FIVE = [-1.0, -0.5, 0.0, 0.5, 1.0]
ALL = [True] * 6
FLAT_ONLY = [True, False, False, True, False, False]  # hold, then the levels


def entering(row: StepData, parameters: TradingParameters, **changes: Any) -> tuple[list[bool], set[str]]:
    """Legal actions of a flat account, and the layers that object."""
    state = account(assets=row.assets)._replace(
        **{name: torch.tensor([value], dtype=DOUBLE) for name, value in changes.items()}
    )
    return legal(state, row, parameters), objecting(state, row, parameters)


def rules(**masks: Any) -> TradingParameters:
    return trading(levels=FIVE, masks=MaskParameters(**masks))


@pytest.mark.parametrize(
    ("layer", "masks", "facts", "harmless", "changes"),
    [
        ("daily_loss", {"daily_loss": 0.02}, {}, {"session_equity": 1020.0}, {"session_equity": 1021.0}),
        ("compliance", {"trades_per_day": 2}, {}, {"trades_today": [1.0]}, {"trades_today": [2.0]}),
        (
            "compliance",
            {"pattern_day_trader": True},
            {},
            {"day_trades": [0.0, 1.0, 0.0, 0.0, 1.0]},
            {"day_trades": [0.0, 2.0, 0.0, 0.0, 1.0]},
        ),
        ("regime", {"crisis_probability": 0.9}, {"regime_cap": 0.0}, None, {}),
        ("session", {"first_minutes": 30.0}, {"session_cap": 0.0}, None, {}),
        ("kelly", {"kelly_fraction": 0.5}, {"kelly_cap": 0.0}, None, {}),
    ],
)
def test_a_layer_that_is_broken_lets_positions_only_shrink(
    layer: str, masks: dict[str, Any], facts: dict[str, Any], harmless: dict[str, Any] | None, changes: dict[str, Any]
) -> None:
    setting, row = rules(**masks), bar(**facts)
    if harmless is not None:
        assert entering(row, setting, **harmless) == (ALL, set())
    assert entering(row, setting, **changes) == (FLAT_ONLY, {layer})
    state = holding([5.0], [100.0], 500.0)._replace(
        **{name: torch.tensor([value], dtype=DOUBLE) for name, value in changes.items()}
    )
    assert legal(state, row, setting) == [True, False, False, True, True, False]  # hold, flat and what is held
    assert objecting(state, row, setting) == {layer}


@pytest.mark.parametrize(
    ("layer", "masks", "facts"),
    [
        ("exposure", {"concentration": 0.4}, {}),
        ("value_at_risk", {"position_var": 0.04}, {"var_cap": 0.4}),
        ("volatility", {"target_volatility": 0.01}, {"volatility_cap": 0.4}),
        ("regime", {"regime_exposure": [1.0, 0.4]}, {"regime_cap": 0.4}),
        ("liquidity", {"liquidity": 0.1}, {"liquidity": 400.0}),
        ("kelly", {"kelly_fraction": 0.5}, {"kelly_cap": 0.4}),
    ],
)
def test_of_the_levels_beyond_a_cap_the_smallest_stands_for_it_and_larger_ones_are_forbidden(
    layer: str, masks: dict[str, Any], facts: dict[str, Any]
) -> None:
    row = bar(**facts)
    assert entering(row, rules(**masks)) == ([True, False, True, True, True, False], {layer})
    coarse = trading(masks=MaskParameters(**masks))  # levels -1, 0 and 1
    assert entering(row, coarse) == ([True] * 4, {layer})
    for level, setting in ((0.5, rules(**masks)), (1.0, coarse)):
        state, fill = settle(account(), level, row, setting)
        assert state.shares.item() == pytest.approx(4.0)
        assert fill.capped.item()


def test_pattern_day_trader_rule_ends_at_twenty_five_thousand() -> None:
    counts = torch.tensor([[3.0, 0.0, 0.0, 0.0, 0.0]], dtype=DOUBLE)
    for cash, expected in ((24_999.0, FLAT_ONLY), (25_000.0, ALL)):
        assert legal(account(cash)._replace(day_trades=counts), bar(), rules(pattern_day_trader=True)) == expected


def test_a_new_position_must_be_held_before_it_is_enlarged_or_turned() -> None:
    setting = rules(min_holding_bars=2)
    for bars, expected in ((1.0, [True, False, False, True, True, False]), (2.0, ALL)):
        assert legal(holding([5.0], [100.0], 500.0, bars_held=[bars]), bar(), setting) == expected
    assert entering(bar(), setting) == (ALL, set())


def test_what_must_not_be_sold_short_can_be_bought_and_a_short_can_be_closed() -> None:
    setting = rules(no_short=["A"])
    row = bar([100.0] * 2, [100.0] * 2, [100.0] * 2, shortable=[False, True])
    state = account(assets=2)
    table = legal_actions(state, position_limits(state, row, setting), row, setting)[0].tolist()
    assert table == [[True, False, False, True, True, True], ALL]
    assert objecting(state, row, setting) == {"compliance"}
    short = legal(holding([-2.5, 0.0], [100.0, 100.0], 1250.0), row, setting)
    assert short == [True, False, True, True, True, True]  # -0.5 of an allocation of 0.5 is what is held


def test_without_overnight_positions_the_last_decision_of_a_session_can_only_be_flat() -> None:
    setting = rules(overnight=False)
    assert entering(bar(must_leave=False), setting) == (ALL, set())
    assert entering(bar(must_leave=True), setting) == (FLAT_ONLY, {"session"})
    assert legal(holding([5.0], [100.0], 500.0), bar(must_leave=True), setting) == [False, *FLAT_ONLY[1:]]


# What a session counts


def counting(**masks: Any) -> TradingParameters:
    return trading(gross_limit=2.0, masks=MaskParameters(**masks))


def test_fills_of_a_session_are_counted_and_a_new_session_forgets_them() -> None:
    setting, state, counts = counting(trades_per_day=9), account(), []
    for level, starts in ((1.0, True), (None, False), (0.0, False), (1.0, True)):
        state, _ = settle(state, level, bar(session_starts=starts), setting)
        counts.append(state.trades_today.item())
    assert counts == [1.0, 1.0, 2.0, 1.0]


def test_a_day_trade_closes_what_the_same_session_opened() -> None:
    setting, state, counts = counting(pattern_day_trader=True), account(), []
    steps = ((1.0, True), (0.0, False), (1.0, False), (0.0, True), (-1.0, False), (1.0, False))
    for level, starts in steps:
        state, _ = settle(state, level, bar(session_starts=starts), setting)
        counts.append(state.day_trades[0, -2:].tolist())
    # bought and sold; bought and held overnight; sold next day: no day trade; sold short and flipped: one
    assert counts == [[0, 0], [0, 1], [0, 1], [1, 0], [1, 0], [1, 1]]


def test_the_daily_loss_is_measured_from_the_last_close_of_the_session_before() -> None:
    setting, state = counting(daily_loss=0.1), account()
    state, _ = settle(state, 0.5, bar(100.0, 100.0, 110.0, session_starts=True), setting)
    assert (state.session_equity.item(), state.equity.item()) == (1000.0, 1100.0)
    state, _ = settle(state, None, bar(110.0, 110.0, 105.0, session_starts=True), setting)
    assert (state.session_equity.item(), state.equity.item()) == (1100.0, 1050.0)
    state, _ = settle(state, None, bar(105.0, 105.0, 104.0, session_starts=False), setting)
    assert state.session_equity.item() == 1100.0
