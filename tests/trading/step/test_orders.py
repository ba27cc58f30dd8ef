"""Orders: targets, band, joint limits, latency, what lapses, lots and minimum sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trading.exact import account, bar, bars, equity, holding, legal, orders, settle, shares, trading, walk

from sentio_kedro.trading.step.limits import within_band
from sentio_kedro.trading.step.orders import gross_factor, quadratic_factor, reduced_position

# Target and band


def test_the_same_level_trades_nothing_within_the_band_and_resizes_beyond_it() -> None:
    setting = trading(levels=[0.0, 0.5, 1.0], orders=orders(rebalance_band=0.25))
    for close, traded in ((150.0, False), (180.0, True), (90.0, False), (55.0, True)):  # 5 shares and 500 of cash
        long = holding([5.0], [close], 500.0)
        fill, _ = settle(long, 0.5, bar(close, close, close), setting)
        position = 5.0 * close / (500.0 + 5.0 * close)
        assert (abs(position - 0.5) > 0.25 * 0.5) == traded
        assert fill.ordered == traded
        assert shares(long)[0] * close / equity(long) == pytest.approx(0.5 if traded else position)


def test_closing_and_turning_are_never_within_the_band() -> None:
    setting = trading(orders=orders(rebalance_band=0.9))
    for level in (0.0, -1.0):
        tiny = holding([0.1], [100.0], 990.0)
        settle(tiny, level, bar(), setting)
        assert shares(tiny) == pytest.approx([level * 10.0])


def test_accounts_that_are_not_guarded_have_no_band() -> None:
    setting = trading(orders=orders(rebalance_band=0.9))
    for guarded, held in ((True, 9.0), (False, 10.0)):
        long = holding([9.0], [100.0], 100.0, guarded=guarded)
        settle(long, 1.0, bar(), setting)
        assert shares(long) == pytest.approx([held])


def test_a_decision_of_nothing_sends_nothing_and_nothing_is_sent_where_an_asset_does_not_trade() -> None:
    for level, row in ((None, bar()), (0.0, bar(tradable=False))):
        long = holding([15.0], [100.0], -500.0)
        fill, _ = settle(long, level, row, trading(max_position=1.0))
        assert (shares(long), fill.ordered) == ([15.0], False)


# Joint limits


def test_allocation_shares_the_gross_limit_between_assets() -> None:
    close = [10.0, 20.0, 40.0, 50.0]
    trader = account(assets=4)
    settle(trader, [1.0, -1.0, 1.0, 0.0], bar(close, close, close), trading())
    assert (np.array(shares(trader)) * close / 1000.0).tolist() == [0.25, -0.25, 0.25, 0.0]


def test_an_allocation_of_its_own_lets_a_few_of_many_assets_be_held() -> None:
    close = [100.0] * 4
    trader = account(assets=4)
    settle(trader, [1.0, 0.0, 0.0, 0.0], bar(close, close, close), trading(allocation=0.5))
    assert shares(trader) == [5.0, 0.0, 0.0, 0.0]
    fills, _ = settle(trader, [1.0] * 4, bar(close, close, close), trading(allocation=0.5))
    assert shares(trader) == pytest.approx([5.0] + [5.0 / 3.0] * 3)  # 1.5 more in a room of 0.5
    assert fills.projected.tolist() == [False, True, True, True]


def test_an_increase_that_finds_no_room_counts_as_cut_by_a_joint_limit() -> None:
    trader = holding([10.0, 0.0], [100.0, 100.0])
    fills, _ = settle(trader, [2.0, 1.0], bar([100.0] * 2, [100.0] * 2, [100.0] * 2), trading())
    assert shares(trader) == [10.0, 0.0]
    assert fills.projected.tolist() == [False, True]


def test_the_net_limit_scales_increases_on_its_side_and_lets_balanced_ones_pass() -> None:
    setting = trading(gross_limit=2.0, net_limit=0.5)
    close = [100.0] * 2
    for levels, held in (([1.0, 1.0], [2.5, 2.5]), ([1.0, -1.0], [10.0, -10.0]), ([-1.0, -0.5], [-10 / 3, -5 / 3])):
        trader = account(assets=2)
        settle(trader, levels, bar(close, close, close), setting)
        assert shares(trader) == pytest.approx(held)


def test_an_increase_within_the_band_is_not_traded_and_cannot_balance_another() -> None:
    close = [100.0] * 3
    setting = trading(
        allocation=1.0, gross_limit=3.0, net_limit=0.2, orders=orders(rebalance_band=0.25, latency_bars=1)
    )
    trader = holding([4.0, -3.0, 0.0], close, 900.0, latency=1)
    settle(trader, [0.6, None, -0.9], bar(close, close, close), setting)
    # all together 0.43 of the way: 0.4 -> 0.49 is within the band; without it the net limit leaves 0.3 / 0.9
    assert trader.in_flight[0, :, 0].tolist() == pytest.approx([0.0, 0.0, -3.0])


def test_the_gross_limit_shrinks_with_the_headroom() -> None:
    close = [100.0] * 2
    trader = account(assets=2)
    trader.account.peak_equity = 1000.0 / 0.95  # 5 % of 8 % lost: half of the exposure
    settle(trader, [1.0, 1.0], bar(close, close, close), trading(max_drawdown=0.08, allocation=1.0))
    assert shares(trader) == pytest.approx([2.5, 2.5])


def test_a_hedged_pair_counts_less_under_correlation_than_under_the_sum() -> None:
    close, held = [100.0] * 2, {}
    row = bar(close, close, close, value_at_risk=0.1, correlation=0.8)
    for model in ("correlation", "sum"):
        for levels in ([1.0, -1.0], [1.0, 1.0]):
            trader = account(assets=2)
            settle(trader, levels, row, trading(allocation=1.0, gross_limit=2.0, var_limit=0.08, var_model=model))
            held[model, levels[1]] = shares(trader)[0]
    assert held["sum", 1.0] == held["sum", -1.0] == pytest.approx(4.0)  # 0.1 x 0.8
    assert held["correlation", -1.0] == pytest.approx(10.0)  # 0.1 x root of 0.4 = 0.063 is within the limit
    assert held["correlation", 1.0] == pytest.approx(8.0 / 3.6**0.5)  # 0.1 x root of 3.6 x share = 0.08


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    square=st.floats(1e-4, 4.0), held=st.floats(0.0, 2.0), cosine=st.floats(-1.0, 1.0), limit=st.floats(0.01, 2.0)
)  # fmt: skip
def test_the_quadratic_factor_is_the_largest_within_the_limit(
    square: float, held: float, cosine: float, limit: float
) -> None:
    linear = cosine * held * square**0.5

    def measure(f: float) -> float:
        return square * f * f + 2.0 * linear * f + held * held

    factor = quadratic_factor(square, linear, held * held, limit)
    if held < limit:
        assert measure(factor) <= limit * limit * (1.0 + 1e-9)
        assert factor == 1.0 or measure(min(1.0, factor + 1e-6)) > limit * limit
    else:
        assert factor == 0.0 or (factor == 1.0 and measure(1.0) <= limit * limit)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    position=st.lists(st.floats(-1, 1), min_size=1, max_size=5), limit=st.floats(0, 2),
    wish=st.lists(st.floats(-1, 1), min_size=5, max_size=5),
)  # fmt: skip
def test_reductions_pass_whole_and_increases_fit_the_limit(
    position: list[float], wish: list[float], limit: float
) -> None:
    wish = wish[: len(position)]
    reduced = [reduced_position(p, w) for p, w in zip(position, wish, strict=True)]
    added = sum(abs(w - r) for w, r in zip(wish, reduced, strict=True))
    factor = gross_factor(sum(map(abs, reduced)), added, limit)
    got = [r + factor * (w - r) for r, w in zip(reduced, wish, strict=True)]
    assert sum(map(abs, got)) <= max(limit, sum(map(abs, reduced))) + 1e-9
    for p, w, g in zip(position, wish, got, strict=True):
        assert (g - p) * (w - p) >= -1e-12  # never past or away from the wish
        assert g == pytest.approx(w) or abs(w) > abs(p) or w * p <= 0.0


@settings(max_examples=200, deadline=None, derandomize=True)
@given(target=st.floats(-2, 2), position=st.floats(-2, 2), band=st.floats(0, 0.9))
def test_what_is_within_the_band_is_on_its_side_and_near(target: float, position: float, band: float) -> None:
    inside = within_band(target, position, band)
    assert inside == within_band(-target, -position, band)
    assert not inside or (target * position > 0.0 and (1 - band) * abs(target) <= abs(position) + 1e-12)


# Ways to the market


@pytest.mark.parametrize("latency", [0, 1, 3])
def test_an_order_fills_latency_bars_later_and_is_not_sent_twice(latency: int) -> None:
    buyer, setting = account(latency=latency), trading(orders=orders(latency_bars=latency))
    ledger = walk(buyer, [1.0] * (latency + 2), bars(*[bar()] * (latency + 2)), setting)
    assert ledger.fills.filled_shares[:, 0, 0].tolist() == [0.0] * latency + [10.0, 10.0]


def test_flat_also_sells_what_is_still_under_way() -> None:
    trader, setting = account(latency=1), trading(orders=orders(latency_bars=1))
    ledger = walk(trader, [1.0, 0.0, None, None], bars(*[bar()] * 4), setting)
    assert ledger.fills.filled_shares[:, 0, 0].tolist() == [0.0, 10.0, 0.0, 0.0]


def test_an_account_with_a_latency_of_its_own_is_filled_by_it() -> None:
    setting = trading(orders=orders(latency_bars=3))
    for delay in range(4):
        buyer = account(latency=3)
        buyer.account.latency = delay
        ledger = walk(buyer, [1.0, None, None, None], bars(*[bar()] * 4), setting)
        assert ledger.fills.filled_shares[:, 0, 0].tolist() == [0.0] * delay + [10.0] * (4 - delay)


def test_an_order_that_is_not_filled_is_not_undone_by_one_behind_it() -> None:
    setting = trading(orders=orders(latency_bars=1, participation=0.1))
    for facts, held in (({"fillable": False}, [0.0, 0.0, 0.0]), ({"max_shares": 4.0}, [0.0, 4.0, 0.0])):
        trader = account(latency=1)
        ledger = walk(trader, [1.0, 0.0, None], bars(bar(), bar(**facts), bar()), setting)
        assert ledger.fills.filled_shares[:, 0, 0].tolist() == held  # never short
        assert not trader.in_flight.any()


def test_what_one_order_was_to_make_room_for_is_not_filled_without_it() -> None:
    close = [100.0] * 2
    setting = trading(allocation=1.0, orders=orders(participation=0.1))
    for most, held in (([10.0, 10.0], [0.0, 10.0]), ([3.0, 10.0], [7.0, 3.0])):
        trader = holding([10.0, 0.0], close)
        settle(trader, [0.0, 1.0], bar(close, close, close, max_shares=most), setting)
        assert shares(trader) == pytest.approx(held)


def test_participation_fills_a_part_and_the_rest_lapses() -> None:
    setting = trading(orders=orders(participation=0.1))
    buyer = account()
    ledger = walk(buyer, [1.0, None, 1.0], bars(*[bar(max_shares=4.0)] * 3), setting)
    assert ledger.fills.filled_shares[:, 0, 0].tolist() == [4.0, 4.0, 8.0]


def test_a_halted_bar_fills_nothing_and_the_order_lapses() -> None:
    buyer = account()
    ledger = walk(buyer, [1.0, None, 1.0], bars(bar(fillable=False), bar(), bar()), trading())
    assert ledger.fills.filled_shares[:, 0, 0].tolist() == [0.0, 0.0, 10.0]


def test_lots_round_towards_zero_and_whole_lots_survive_rounding_noise() -> None:
    setting = trading(orders=orders(lot_size=3.0))
    for cash, level, held in ((1000.0, 1.0, 9.0), (1000.0, -1.0, -9.0), (900.0 - 1e-8, 1.0, 9.0), (299.0, 1.0, 0.0)):
        trader = account(cash)
        settle(trader, level, bar(), setting)
        assert shares(trader) == [held]
    odd = holding([10.0], [100.0])
    settle(odd, 0.0, bar(), setting)
    assert shares(odd) == [0.0]  # closing is exact


def test_orders_below_the_minimum_notional_are_not_sent_unless_they_close() -> None:
    setting = trading(levels=[0.0, 0.04, 0.05, 1.0], orders=orders(min_notional=50.0))
    assert legal(account(), bar(), setting) == [[True, False, True, True]]
    for opening in (50.0, 100.0, 200.0):  # the order is worth 50 at the close, when nobody knows the open yet
        for level, held in ((0.04, 0.0), (0.05, 0.5)):
            buyer = account()
            settle(buyer, level, bar(100.0, opening), setting)
            assert shares(buyer) == [held]
    small = holding([0.2], [100.0], 980.0)
    settle(small, 0.0, bar(), setting)
    assert shares(small) == [0.0]
