"""Limits: caps of size and of growth, legal levels, what each layer forbids, and units of the allocation."""

from math import inf
from typing import Any

import numpy as np
import pytest
from tests.trading.exact import (
    account,
    bar,
    bars,
    holding,
    legal,
    objecting,
    orders,
    settle,
    shares,
    trading,
    walk,
)

from sentio_kedro.config import MarginParameters, MaskParameters, TradingParameters
from sentio_kedro.trading.accounts import allocation, open_accounts
from sentio_kedro.trading.records import LAYERS

FIVE = [-1.0, -0.5, 0.0, 0.5, 1.0]
ALL = [True] * 5
FLAT_ONLY = [False, False, True, False, False]
HELD = [False, False, True, True, False]  # flat, and what is held


def rules(**masks: Any) -> TradingParameters:
    return trading(levels=FIVE, masks=MaskParameters(**masks))


def entering(row: Any, setting: TradingParameters, **changes: Any) -> tuple[list[bool], set[str]]:
    """Legal levels of a flat account, and the layers that object."""
    flat = account(**changes)
    return legal(flat, row, setting)[0], objecting(flat, row, setting)


def drawn_down(position: float, drawdown: float) -> Any:
    """An account of 1000 that has lost a fraction of its peak, with a position as a fraction of equity."""
    made = holding([10.0 * position], [100.0], 1000.0 * (1.0 - position))
    made.account.peak_equity = 1000.0 / (1.0 - drawdown)
    return made


# Caps of size


@pytest.mark.parametrize(
    ("layer", "facts", "changes"),
    [
        ("exposure", {}, {"max_position": 0.4}),
        ("value_at_risk", {"var_cap": 0.4}, {}),
        ("volatility", {"volatility_cap": 0.4}, {}),
        ("regime", {"regime": (0.4, inf)}, {}),
    ],
)
def test_a_cap_of_size_cuts_levels_and_resizes_positions(
    layer: str, facts: dict[str, Any], changes: dict[str, Any]
) -> None:
    row, fine, coarse = bar(**facts), trading(levels=FIVE, **changes), trading(**changes)
    # of the levels beyond a cap the smallest stands for it
    assert entering(row, fine) == ([False, True, True, True, False], {layer})
    assert entering(row, coarse) == ([True, True, True], {layer})
    for setting, level in ((fine, 0.5), (coarse, 1.0)):
        for start in (account(), holding([8.0], [100.0], 200.0)):
            fill, _ = settle(start, level, row, setting)
            assert shares(start) == pytest.approx([4.0])
            assert fill.capped
            assert not fill.projected
    near = holding([4.5], [100.0], 550.0)
    settle(near, 0.5, row, trading(levels=FIVE, orders=orders(rebalance_band=0.25), **changes))
    assert shares(near) == [4.5]  # within the band of its cap


@pytest.mark.parametrize(
    ("layer", "facts", "levels"),
    [
        ("regime", {"regime": (inf, 0.4)}, FIVE),
        ("liquidity", {"liquidity": 400.0}, FIVE),
        ("kelly", {"kelly_cap": 0.4}, FIVE),
    ],
)
def test_a_cap_of_growth_cuts_increases_and_lets_positions_stay(
    layer: str, facts: dict[str, Any], levels: list[float]
) -> None:
    row, setting = bar(**facts), trading(levels=levels)
    assert entering(row, setting) == ([False, True, True, True, False], {layer})
    for start, level, held in (
        (account(), 0.5, 4.0),
        (holding([8.0], [100.0], 200.0), 1.0, 8.0),
        (holding([8.0], [100.0], 200.0), 0.5, 5.0),
        (holding([8.0], [100.0], 200.0), -0.5, -4.0),
    ):
        settle(start, level, row, setting)
        assert shares(start) == pytest.approx([held])


def test_headroom_falls_in_proportion_after_the_soft_limit_and_reaches_zero_at_the_limit() -> None:
    setting = trading(max_drawdown=0.08, drawdown_soft_limit=0.25)
    for drawdown, expected in ((0.0, 1.0), (0.02, 1.0), (0.05, 0.5), (0.08, 0.0), (0.1, 0.0)):
        _, total = settle(drawn_down(0.0, drawdown), None, bar(), setting)
        assert total.headroom == pytest.approx(expected, abs=1e-9)
        assert settle(drawn_down(0.0, drawdown), None, bar(), trading())[1].headroom == 1.0


def test_at_the_drawdown_limit_an_open_position_must_go_and_past_the_soft_one_an_account_can_enter_small() -> None:
    setting = trading(max_drawdown=0.08, levels=FIVE)
    at_limit = drawn_down(0.5, 0.08)
    assert legal(at_limit, bar(), setting) == [FLAT_ONLY]
    settle(at_limit, 0.5, bar(), setting)
    assert shares(at_limit) == [0.0]
    small = drawn_down(0.0, 0.07)
    assert legal(small, bar(), setting) == [[True] * 5]
    settle(small, 0.5, bar(), setting)
    assert shares(small)[0] * 100.0 / 1000.0 == pytest.approx(0.5 * 0.01 / 0.06)  # small positions shrink, too


def test_a_drawdown_is_named_as_what_cuts_small_levels_too() -> None:
    lost = drawn_down(0.0, 0.044)  # headroom 0.6, above the level 0.5
    cut = walk(lost, [None], bar(), trading(max_drawdown=0.08, levels=FIVE), layers=True).layers[0, 0]
    assert cut[LAYERS.index("drawdown")] == pytest.approx(0.8)  # of five levels all but flat


def test_the_peak_forgets_after_drawdown_sessions_so_that_an_account_at_its_limit_comes_back_small() -> None:
    days, held = bars(*[bar(session_starts=True)] * 5), {}
    for sessions in (3, None):
        setting = trading(initial_cash=1000.0, max_drawdown=0.1, drawdown_soft_limit=0.0, drawdown_sessions=sessions)
        trader = open_accounts(1, 1, setting)
        trader.account.cash = trader.account.equity = 880.0  # beyond the limit of 10 %
        if sessions:
            trader.session_highs[0], trader.account.session_slot = [1000.0, 930.0, 900.0], 2
        ledger = walk(trader, [1.0] * 5, days, setting)
        held[sessions] = (ledger.fills.filled_shares[:, 0, 0] * 100.0 / 880.0).tolist()
    assert held[3] == pytest.approx([0.0, 1.0 - 50.0 / 93.0, 1.0 - 20.0 / 90.0, 1.0, 1.0])
    assert held[None] == [0.0] * 5


@pytest.mark.parametrize("assets", [1, 5, 50])
def test_caps_in_units_of_the_allocation_mean_the_same_for_any_number_of_assets(assets: int) -> None:
    many = [100.0] * assets
    for share in (None, 0.5):
        for masks, facts in (
            ({"regime_exposure": [1.0, 0.4]}, {"regime": (0.4, inf)}),
            ({}, {"var_cap": 0.4 * allocation(trading(allocation=share), assets)}),
        ):
            setting = trading(
                allocation=share, gross_limit=1.0 if share is None else 25.0, masks=MaskParameters(**masks)
            )
            if share is None and "var_cap" in facts:
                facts["var_cap"] = 0.4 / assets
            trader = account(assets=assets)
            settle(trader, 1.0, bar(many, many, many, **facts), setting)
            assert np.array(shares(trader)) * 100.0 / 1000.0 == pytest.approx(0.4 * allocation(setting, assets))
    drawn = account(assets=assets)
    drawn.account.peak_equity = 1000.0 / 0.95
    settle(drawn, 1.0, bar(many, many, many), trading(max_drawdown=0.08))
    assert sum(shares(drawn)) * 100.0 / 1000.0 == pytest.approx(0.5)


# Layers that forbid increases


@pytest.mark.parametrize(
    ("layer", "masks", "facts", "harmless", "changes"),
    [
        ("daily_loss", {"daily_loss": 0.02}, {}, {"session_equity": 1020.0}, {"session_equity": 1021.0}),
        ("compliance", {"trades_per_day": 2}, {}, {"trades_today": 1.0}, {"trades_today": 2.0}),
        ("regime", {"crisis_probability": 0.9}, {"regime": (inf, 0.0)}, None, {}),
        ("session", {"first_minutes": 30.0}, {"quiet": True}, None, {}),
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
    long = holding([5.0], [100.0], 500.0, **changes)
    assert legal(long, row, setting) == [HELD]
    assert objecting(long, row, setting) == {layer}


@pytest.mark.parametrize(
    ("masks", "changes"),
    [({"daily_loss": 0.02}, {"session_equity": 2000.0}), ({"trades_per_day": 2}, {"trades_today": 9.0})],
)
def test_rules_of_a_session_do_not_bind_at_its_last_decision_which_fills_in_the_next(
    masks: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert entering(bar(), rules(**masks), **changes)[0] == FLAT_ONLY
    assert entering(bar(session_starts=True), rules(**masks), **changes) == (ALL, set())


def test_pattern_day_traders_below_twenty_five_thousand_can_only_reduce() -> None:
    setting = rules(pattern_day_trader=True)
    for cash, trades, starts, expected in (
        (24_999.0, [0.0, 2.0, 0.0, 0.0, 1.0], False, FLAT_ONLY),
        (24_999.0, [0.0, 1.0, 0.0, 0.0, 1.0], False, ALL),
        (25_000.0, [0.0, 2.0, 0.0, 0.0, 1.0], False, ALL),
        (24_999.0, [2.0, 0.0, 0.0, 0.0, 1.0], False, FLAT_ONLY),
        (24_999.0, [2.0, 0.0, 0.0, 0.0, 1.0], True, ALL),  # in the next session the oldest two no longer count
        (24_999.0, [0.0, 2.0, 0.0, 0.0, 1.0], True, FLAT_ONLY),
    ):
        trader = account(cash)
        trader.day_trades[0] = trades
        assert legal(trader, bar(session_starts=starts), setting) == [expected]


def test_a_new_position_must_be_held_before_it_is_enlarged_or_turned() -> None:
    setting = rules(min_holding_bars=2)
    for age, expected in ((1.0, HELD), (2.0, ALL)):
        assert legal(holding([5.0], [100.0], 500.0, bars_held=age), bar(), setting) == [expected]
    assert entering(bar(), setting) == (ALL, set())


def test_what_must_not_be_sold_short_can_be_bought_and_a_short_can_be_closed() -> None:
    setting, pair = rules(no_short=["A"]), [100.0] * 2
    row = bar(pair, pair, pair, shortable=[False, True])
    flat = account(assets=2)
    assert legal(flat, row, setting) == [[False, False, True, True, True], ALL]
    assert objecting(flat, row, setting) == {"compliance"}
    short = holding([-2.5, 0.0], pair, 1250.0)
    assert legal(short, row, setting)[0] == [False, True, True, True, True]  # -0.5 of an allocation of 0.5 is held
    settle(short, [-1.0, -1.0], row, setting)
    assert shares(short) == [-2.5, -5.0]


def test_without_overnight_positions_the_last_order_of_a_session_can_only_be_flat() -> None:
    for latency, left, leaves in ((0, 1, False), (0, 0, True), (2, 3, False), (2, 2, True)):
        setting = trading(levels=FIVE, masks=MaskParameters(overnight=False), orders=orders(latency_bars=latency))
        row = bar(bars_to_session_end=left)
        assert entering(row, setting, latency=latency) == ((FLAT_ONLY, {"session"}) if leaves else (ALL, set()))
        long = holding([5.0], [100.0], 500.0, latency=latency)
        assert legal(long, row, setting) == [FLAT_ONLY if leaves else ALL]
        ledger = walk(long, [0.5, None, None], bars(row, bar(), bar()), setting)
        assert (ledger.fills.shares[-1, 0, 0] == 0.0) == leaves


def test_a_margin_call_leaves_only_flat() -> None:
    setting = trading(gross_limit=2.0, margin=MarginParameters(maintenance=0.4), levels=FIVE)
    assert legal(holding([20.0], [75.0], -1000.0), bar(75.0, 75.0, 75.0), setting) == [FLAT_ONLY]


def test_accounts_that_are_not_guarded_obey_the_largest_position_alone() -> None:
    setting = trading(levels=FIVE, max_position=0.6, max_drawdown=0.1, masks=MaskParameters(daily_loss=0.01))
    row = bar(var_cap=0.1, volatility_cap=0.1, kelly_cap=0.0, regime=(0.1, 0.0), quiet=True)
    reckless = account(guarded=False, session_equity=2000.0, peak_equity=2000.0)
    assert legal(reckless, row, setting) == [ALL]
    settle(reckless, 1.0, row, setting)
    assert shares(reckless) == pytest.approx([6.0])


def test_an_account_without_money_has_no_headroom_and_finite_features() -> None:
    setting = trading(max_drawdown=0.1)
    empty = account(cash=0.0)
    for name in ("equity", "peak_equity", "session_equity"):
        empty.account[name] = 0.0
    empty.account.alive = False
    _, total = settle(empty, None, bar(), setting)[:2]
    assert total.headroom == 0.0


def test_a_drawdown_scales_every_position() -> None:
    """A quarter of the exposure is left: small positions shrink as large ones do."""
    setting = trading(max_drawdown=0.08, drawdown_soft_limit=0.0, levels=FIVE)
    for wanted in (1.0, 0.5, -0.5):
        trader = drawn_down(0.0, 0.06)
        settle(trader, wanted, bar(), setting)
        assert shares(trader)[0] * 100.0 / 1000.0 == pytest.approx(wanted / 4.0)
