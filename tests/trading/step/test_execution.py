"""The step: fills, entry prices, corporate actions, sessions and what a walk is worth; exact small answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trading.cases import uniform_heads
from tests.trading.exact import account, bar, bars, equity, holding, orders, settle, shares, trading, walk

from sentio_kedro.config import CarryParameters, CostParameters, TradingParameters
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.simulate import asset_profit, asset_rewards, net_returns, simulate
from sentio_kedro.trading.step.policies import SAMPLED, TARGETS, Policies, make_policies, with_heads

TEN_BPS = CostParameters(commission_bps=10.0, half_spread_bps=0.0)


def test_an_order_is_fixed_at_the_close_and_filled_at_the_next_open() -> None:
    buyer = account()
    fill, _ = settle(buyer, 1.0, bar(100.0, 110.0, 121.0), trading())
    assert shares(buyer) == [10.0]  # 1000 / 100, whatever the open is
    assert buyer.account.cash[0] == -100.0  # 10 x 110 paid from 1000
    assert equity(buyer) == 1110.0  # 10 x (121 - 110) on top of 1000
    assert fill.price_pnl == 110.0


def test_the_old_position_carries_the_gap_and_the_new_one_the_bar() -> None:
    trader = holding([10.0], [100.0])
    fill, _ = settle(trader, -1.0, bar(100.0, 90.0, 80.0), trading())
    assert fill.price_pnl == 10 * -10 + -10 * -10  # long through the gap, short through the bar
    assert equity(trader) == 1000.0


def test_the_entry_price_is_averaged_when_adding_kept_when_reducing_and_new_when_turning() -> None:
    setting = trading(orders=orders(stop_loss=0.9), gross_limit=4.0)
    for level, held, entry, age in (
        (0.5, 40.0, 87.5, 6.0),  # 10 at 80 and 30 more at 90
        (0.0625, 5.0, 80.0, 6.0),
        (-0.0625, -5.0, 90.0, 1.0),
        (0.0, 0.0, 0.0, 0.0),
    ):
        trader = holding([10.0], [100.0], 1000.0, entry_price=80.0, bars_held=5.0)
        settle(trader, level, bar(100.0, 90.0, 90.0), setting)
        assert trader.holdings[0, 0].item()[:3] == pytest.approx((held, entry, age))


def test_a_dead_account_returns_minus_one_and_then_nothing() -> None:
    market = bars(bar(100.0, 100.0, 101.0), bar(101.0, 101.0, 350.0), bar(350.0, 350.0, 300.0))
    ledger = walk(account(), [-1.0, -1.0, -1.0], market, trading())
    assert net_returns(ledger)[:, 0].tolist() == pytest.approx([-0.01, -1.0, 0.0])


# Corporate actions


def test_a_delisting_pays_the_last_price_less_its_loss_and_costs_and_cancels_orders() -> None:
    row = bar(80.0, 80.0, 80.0, fillable=False, delisted=True, half_spread=0.001)
    for loss, held, cash, price in (
        (0.0, 10.0, 200.0, 80.0),
        (0.0, -5.0, 1400.0, 80.0),
        (-0.5, 10.0, 200.0, 40.0),
        (-0.5, -5.0, 1400.0, 80.0),  # a short is paid no gain
        (0.25, -5.0, 1400.0, 100.0),
        (0.25, 10.0, 200.0, 80.0),
    ):
        trader = holding([held], [80.0], cash, latency=1)
        trader = trader._replace(in_flight=np.ones((1, 1, 1)))
        fill, _ = settle(trader, -1.0, row, trading(delisting_return=loss, costs=TEN_BPS))
        assert (fill.exit_price, shares(trader)) == (price, [0.0])
        assert not trader.in_flight.any()
        assert (fill.commission, fill.spread) == pytest.approx((abs(held) * price * 1e-3,) * 2)
        assert equity(trader) == pytest.approx(1000.0 + held * (price - 80.0) - 2e-3 * abs(held) * price)


def test_a_delisted_position_is_gone_when_the_next_session_begins() -> None:
    trader = holding([10.0], [80.0], 200.0)
    gone = bar(80.0, 80.0, 80.0, fillable=False, delisted=True, session_starts=True)
    later = bar(80.0, 80.0, 80.0, fillable=False, tradable=False)
    ledger = walk(trader, [1.0, 1.0], bars(gone, later), trading())
    assert ledger.fills.shares[:, 0, 0].tolist() == [0.0, 0.0]
    assert ledger.fills.traded[:, 0, 0].tolist() == [800.0, 0.0]
    assert (trader.holdings.trades_today[0, 0], trader.day_trades.sum()) == (0.0, 0.0)  # nobody traded


def test_a_split_changes_shares_orders_and_entry_and_leaves_equity_alone() -> None:
    trader = holding([4.0], [100.0], 600.0, entry_price=90.0, bars_held=3.0, latency=2)
    trader = trader._replace(in_flight=np.array([[[0.0, 3.0]]]))
    fill, _ = settle(trader, None, bar(100.0, 50.0, 50.0, split=2.0), trading(orders=orders(latency_bars=2)))
    assert trader.holdings[0, 0].item()[:3] == (8.0, 45.0, 4.0)
    assert trader.in_flight.tolist() == [[[6.0, 0.0]]]
    assert (equity(trader), fill.price_pnl) == (1000.0, 0.0)


def test_an_order_sent_before_a_split_buys_the_same_value_after_it() -> None:
    buyer = account()
    fill, _ = settle(buyer, 1.0, bar(100.0, 50.0, 50.0, split=2.0), trading())
    assert (shares(buyer), fill.traded) == ([20.0], 1000.0)


def test_dividends_are_paid_to_longs_charged_to_shorts_and_not_to_who_buys_that_day() -> None:
    for held, cash, received in ((10.0, 0.0, 20.0), (-10.0, 2000.0, -20.0), (0.0, 1000.0, 0.0)):
        trader = holding([held], [100.0], cash)
        fill, _ = settle(trader, 1.0, bar(100.0, 98.0, 98.0, dividend=2.0), trading())
        assert fill.dividends == received
        assert equity(trader) == pytest.approx(1000.0)  # the price falls by the dividend


# Sessions


def test_flat_at_close_sells_at_the_close_of_the_sessions_last_bar_only() -> None:
    setting = trading(orders=orders(flat_at_close=True), costs=TEN_BPS)
    for left, held, paid in ((1, 10.0, 1.0), (0, 0.0, 1.0 + 1.2)):
        buyer = account()
        fill, _ = settle(buyer, 1.0, bar(100.0, 100.0, 120.0, bars_to_session_end=left), setting)
        assert shares(buyer) == [held]
        assert fill.commission == pytest.approx(paid)
        assert equity(buyer) == pytest.approx(1200.0 - paid)


def test_fills_of_a_session_are_counted_and_a_new_session_forgets_them() -> None:
    trader, counts = account(), []
    for level, starts in ((1.0, True), (None, False), (0.0, False), (1.0, True)):
        settle(trader, level, bar(session_starts=starts), trading())
        counts.append(trader.holdings.trades_today[0, 0])
    assert counts == [1.0, 1.0, 2.0, 1.0]


def test_a_day_trade_closes_what_the_same_session_opened() -> None:
    trader, counts = account(), []
    steps = ((1.0, True), (0.0, False), (1.0, False), (0.0, True), (-1.0, False), (1.0, False))
    for level, starts in steps:
        settle(trader, level, bar(session_starts=starts), trading())
        counts.append(trader.day_trades[0, -2:].tolist())
    # bought and sold; bought and held overnight; sold next day: no day trade; sold short and flipped: one
    assert counts == [[0, 0], [0, 1], [0, 1], [1, 0], [1, 0], [1, 1]]


def test_the_daily_loss_is_measured_from_the_last_close_of_the_session_before() -> None:
    trader = account()
    for level, row, marks in (
        (0.5, bar(100.0, 100.0, 120.0, session_starts=True), (1000.0, 1100.0)),
        (None, bar(120.0, 120.0, 110.0, session_starts=True), (1100.0, 1050.0)),
        (None, bar(110.0, 110.0, 108.0, session_starts=False), (1100.0, 1040.0)),
    ):
        settle(trader, level, row, trading())
        assert (trader.account.session_equity[0], equity(trader)) == pytest.approx(marks)


# What a walk is worth


def test_a_random_policy_earns_nothing_on_independent_returns_but_pays_its_costs() -> None:
    rng = np.random.default_rng(1)
    steps, count = 400, 256
    returns = rng.normal(0, 0.01, (count, steps + 1))
    close = 100.0 * np.exp(np.cumsum(returns, axis=1))
    market = bars(*[bar(half_spread=2e-4)] * (steps * count))
    facts = market.facts
    facts.close[:, 0] = facts.open[:, 0] = close[:, :-1].ravel()
    facts.next_close[:, 0] = close[:, 1:].ravel()
    setting = trading(costs=CostParameters(commission_bps=5, half_spread_bps=0))
    noise, peeks = rng.gumbel(size=(steps, count, 1, 3)), np.sign(returns[:, :-1]).reshape(-1, 1, 1)
    at_random = make_policies(np.full(count, SAMPLED), 1, 3, draws=np.arange(count), noise=noise)
    at_random = with_heads(at_random, uniform_heads(steps * count, 1, 1, 3))
    peeking = make_policies(np.full(count, TARGETS), 1, 3, targets=peeks)  # decides on the bar that has just closed
    rows = np.arange(steps * count).reshape(count, steps)

    def mean_return(policies: Policies) -> tuple[float, float]:
        """Mean price profit of a bar, and its error."""
        accounts = open_accounts(count, 1, setting)
        ledger = simulate(market, accounts, policies, terms_of(setting, 1), rows, np.arange(count))
        profit = asset_profit(ledger).sum(-1)
        assert np.allclose(ledger.total.equity - ledger.total.equity_before, profit, rtol=0, atol=1e-6)
        paid = (ledger.fills.commission + ledger.fills.spread).sum(axis=(0, 2))
        assert (paid > 0.0).all()
        gross = (ledger.fills.price_pnl[..., 0] / ledger.total.equity_before).mean(axis=0)
        return float(gross.mean()), float(gross.std() / count**0.5)

    for policies in (at_random, peeking):
        mean, error = mean_return(policies)
        assert abs(mean) < 2.58 * error  # a fill on the decision bar would earn about 0.8 % a bar


def test_rewards_are_net_profits_in_units_of_a_bar_of_a_full_position() -> None:
    ledger = walk(account(), [1.0], bar(100.0, 100.0, 101.0), trading(costs=TEN_BPS))
    assert asset_rewards(ledger, np.full((1, 1, 1), 0.005)).item() == pytest.approx((0.01 - 0.001) / 0.005, rel=1e-12)


def test_rewards_of_all_steps_add_up_to_the_change_of_equity() -> None:
    trader = account()
    market = bars(bar(100.0, 100.0, 101.0), bar(101.0, 101.0, 99.0), bar(99.0, 99.0, 102.0))
    ledger = walk(trader, [1.0, 0.5, 1.0], market, trading(costs=TEN_BPS))
    rewards = asset_rewards(ledger, np.full((3, 1, 1), 0.005))
    total = (rewards[..., 0] * 0.005 * ledger.total.equity_before).sum()
    assert equity(trader) != pytest.approx(1000.0)
    assert total == pytest.approx(equity(trader) - 1000.0, abs=1e-9)


def test_rewards_count_every_line_of_the_ledger_that_belongs_to_an_asset() -> None:
    setting = trading(costs=TEN_BPS, carry=CarryParameters(borrow_rate=0.1, funding=True))
    trader = holding([4.0, -3.0], [100.0, 100.0], 900.0)
    row = bar(
        [100.0] * 2, [101.0] * 2, [102.0] * 2, years=1.0, dividend=[3.0, 2.0], funding=[0.001, 0.002],
        impact=1e-4, half_spread=5e-4,
    )  # fmt: skip
    ledger = walk(trader, [[0.8, -0.8]], row, setting)
    for line in ("dividends", "borrow", "funding", "impact", "commission", "spread"):
        assert ledger.fills[line].any(), line
    rewards = asset_rewards(ledger, np.full((1, 1, 2), 0.01))
    assert rewards.sum() * 0.01 * 1000.0 == pytest.approx(equity(trader) - 1000.0, rel=1e-12)


def test_interest_is_shared_equally_among_the_rewards() -> None:
    owner = account(assets=2)
    ledger = walk(
        owner, [0.0], bar([100.0] * 2, [100.0] * 2, [100.0] * 2, years=0.5),
        trading(carry=CarryParameters(interest_rate=0.1)),
    )  # fmt: skip
    assert equity(owner) == pytest.approx(1050.0)
    assert asset_rewards(ledger, np.full((1, 1, 2), 0.01))[0, 0] == pytest.approx([0.025 / 0.01] * 2)


def test_a_dead_account_is_paid_nothing() -> None:
    dead = account(alive=False, cash=0.0)
    dead.account.equity = 0.0
    ledger = walk(dead, [1.0], bar(100.0, 100.0, 120.0), trading())
    assert asset_rewards(ledger, np.full((1, 1, 1), 0.01)).tolist() == [[[0.0]]]


COSTS = {
    "costs": ("commission_bps", "commission_per_share", "min_commission"),
    "carry": ("borrow_rate", "financing_rate"),
    "facts": ("half_spread", "impact"),
}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    line=st.sampled_from([(section, name) for section, names in COSTS.items() for name in names]),
    held=st.lists(st.floats(-12, 12), min_size=2, max_size=2), level=st.lists(st.floats(-1, 1), min_size=2, max_size=2),
    moves=st.lists(st.floats(0.8, 1.2), min_size=4, max_size=4),
)  # fmt: skip
def test_raising_any_single_cost_never_raises_equity(
    line: tuple[str, str], held: list[float], level: list[float], moves: list[float]
) -> None:
    section, name = line
    left = []
    for raised in (False, True):
        costs = {"commission_bps": 1.0, "commission_per_share": 0.0, "min_commission": 0.0, "half_spread_bps": 0.0}
        values = {"costs": costs, "carry": {"borrow_rate": 0.01, "financing_rate": 0.01}}
        facts = {"half_spread": 1e-4, "impact": 1e-4, "years": 0.01}
        changed = facts if section == "facts" else values[section]
        changed[name] = 2.0 * changed[name] + 0.01 if raised else changed[name]
        setting = TradingParameters(gross_limit=4.0, max_position=4.0, **values)
        trader = holding(held, [100.0, 100.0], 1000.0 - 100.0 * sum(held))
        opening = [100.0 * move for move in moves[:2]]
        closing = [price * move for price, move in zip(opening, moves[2:], strict=True)]
        fills, _ = settle(trader, level, bar([100.0] * 2, opening, closing, **facts), setting)
        left.append((equity(trader), float(np.sum(fills.traded)), float(fills.borrow.sum())))
    (cheap, traded, borrowed), (dear, _, _) = left
    assert dear <= cheap + 1e-9
    if section == "carry":
        pays = name == "borrow_rate" and borrowed > 1e-3
    else:
        pays = traded > 1e-3 and name != "min_commission"  # a minimum may not bind
    assert dear < cheap or not pays or cheap == 0.0
