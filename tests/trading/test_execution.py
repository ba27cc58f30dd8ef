"""The execution step: exact small answers, a slow readable twin, and the traps of the field."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.config import CostParameters, TradingParameters
from sentio_kedro.trading.execution import (
    AccountState,
    BarPair,
    Decision,
    execute,
    headroom,
    level_exposure,
    open_accounts,
    order_shares,
    project,
)
from sentio_kedro.trading.simulate import net_returns

DOUBLE = torch.float64


def bars(close: float, next_open: float, next_close: float, tradable: bool = True) -> BarPair:
    one = torch.ones(1, 1, dtype=DOUBLE)
    return BarPair(close * one, next_open * one, next_close * one, torch.full((1, 1), tradable))


def decide(level: float, hold: bool = False) -> Decision:
    return Decision(torch.full((1, 1), level, dtype=DOUBLE), torch.full((1, 1), hold))


def parameters(**changes: object) -> TradingParameters:
    free = CostParameters(commission_bps=0, half_spread_bps=0)
    return TradingParameters(**({"costs": free} | changes))


def account(cash: float = 1000.0, assets: int = 1) -> AccountState:
    return open_accounts(torch.tensor([cash], dtype=DOUBLE), assets)


def test_an_order_is_fixed_at_the_close_and_filled_at_the_next_open() -> None:
    state, fill = execute(account(), decide(1.0), bars(100.0, 110.0, 121.0), parameters())
    assert state.shares.item() == 10.0  # 1000 / 100, whatever the open is
    assert state.cash.item() == -100.0  # 10 x 110 paid from 1000
    assert state.equity.item() == 1110.0  # 10 x (121 - 110) on top of 1000
    assert fill.price_pnl.item() == 110.0


def test_the_old_position_carries_the_gap_and_the_new_one_the_bar() -> None:
    state, _ = execute(account(), decide(1.0), bars(100.0, 100.0, 100.0), parameters())
    state, fill = execute(state, decide(-1.0), bars(100.0, 90.0, 80.0), parameters())
    assert fill.price_pnl.item() == 10 * -10 + -10 * -10  # long through the gap, short through the bar
    assert state.equity.item() == 1000.0


def test_costs_follow_their_formula_and_doubling_one_doubles_its_line() -> None:
    charged = {}
    for rate in (5.0, 10.0):
        costs = CostParameters(commission_bps=rate, half_spread_bps=3.0)
        _, fill = execute(account(), decide(1.0), bars(100.0, 110.0, 110.0), parameters(costs=costs))
        charged[rate] = fill
        assert fill.commission.item() == pytest.approx(10 * 110 * rate * 1e-4)
        assert fill.spread.item() == pytest.approx(10 * 110 * 3e-4)
    assert charged[10.0].commission.item() == pytest.approx(2 * charged[5.0].commission.item())
    assert charged[10.0].equity.item() < charged[5.0].equity.item()


def test_an_order_for_a_missing_bar_is_dropped() -> None:
    state, fill = execute(account(), decide(1.0), bars(100.0, 100.0, 100.0, tradable=False), parameters())
    assert state.shares.item() == 0.0
    assert fill.traded.item() == 0.0


def test_hold_keeps_shares_through_drift() -> None:
    state, _ = execute(account(), decide(1.0), bars(100.0, 100.0, 150.0), parameters())
    state, fill = execute(state, decide(0.0, hold=True), bars(150.0, 150.0, 150.0), parameters())
    assert state.shares.item() == 10.0
    assert fill.traded.item() == 0.0


def test_a_dead_account_is_never_resurrected() -> None:
    state, _ = execute(account(), decide(-1.0), bars(100.0, 100.0, 250.0), parameters())
    assert state.equity.item() == -500.0
    assert not state.alive.item()
    assert state.shares.item() == 0.0
    for level in (1.0, -1.0):
        state, fill = execute(state, decide(level), bars(250.0, 250.0, 10.0), parameters())
        assert fill.traded.item() == 0.0
        assert not state.alive.item()
    assert state.equity.item() == -500.0


def test_allocation_shares_the_gross_limit_between_assets() -> None:
    close = torch.tensor([[10.0, 20.0, 40.0, 50.0]], dtype=DOUBLE)
    decision = Decision(torch.tensor([[1.0, -1.0, 1.0, 0.0]], dtype=DOUBLE), torch.zeros(1, 4, dtype=torch.bool))
    orders, cut = order_shares(account(assets=4), decision, close, parameters())
    assert torch.equal(orders * close / 1000.0, torch.tensor([[0.25, -0.25, 0.25, 0.0]], dtype=DOUBLE))
    assert not cut.any()


def test_headroom_falls_in_proportion_after_the_rung_and_reaches_zero_at_the_limit() -> None:
    limited = parameters(max_drawdown=0.08, drawdown_rung=0.25)
    state = account()._replace(peak_equity=torch.tensor([1000.0], dtype=DOUBLE))
    for equity, expected in ((1000.0, 1.0), (980.0, 1.0), (950.0, 0.5), (920.0, 0.0), (900.0, 0.0)):
        now = state._replace(equity=torch.tensor([equity], dtype=DOUBLE))
        assert headroom(now, limited).item() == pytest.approx(expected)
    assert headroom(now, parameters(max_drawdown=1.0)).item() == 1.0


def test_an_account_in_drawdown_can_always_enter_small_again() -> None:
    limited = parameters(max_drawdown=0.08)
    state = account(950.0)._replace(peak_equity=torch.tensor([1000.0], dtype=DOUBLE))
    orders, cut = order_shares(state, decide(1.0), torch.full((1, 1), 100.0, dtype=DOUBLE), limited)
    assert orders.item() * 100.0 / 950.0 == pytest.approx(0.5)
    assert cut.all()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_projection_meets_the_limit_and_lets_reductions_pass(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 5))
    numbers = st.lists(st.floats(-1, 1), min_size=size, max_size=size)
    current, target = (torch.tensor([data.draw(numbers)], dtype=DOUBLE) for _ in range(2))
    limit = torch.tensor([data.draw(st.floats(0, 2))], dtype=DOUBLE)
    got = project(current, target, limit)
    reduces = (target.abs() <= current.abs()) & (current * target >= 0)
    assert torch.allclose(got[reduces], target[reduces])
    floor = torch.where(current * target > 0, torch.minimum(current.abs(), target.abs()), 0.0).sum()
    assert got.abs().sum() <= torch.maximum(limit, floor) + 1e-9
    assert bool(((got - current) * (target - current) >= -1e-12).all())  # never past or away from the wish


def twin(cash: float, shares: float, level: float | None, prices: tuple[float, float, float], rate: float) -> tuple:
    """One account, one asset, in plain words."""
    close, next_open, next_close = prices
    equity = cash + shares * close
    order = 0.0 if level is None else level * equity / close - shares
    paid = abs(order) * next_open * rate
    cash = cash - order * next_open - paid
    shares = shares + order
    return cash, shares, cash + shares * next_close


def test_random_walks_agree_with_a_slow_readable_twin_and_keep_the_ledger() -> None:
    rng = np.random.default_rng(0)
    rate = 7e-4
    roomy = 16.0  # the gross limit never binds, so that the twin needs no projection
    setting = parameters(gross_limit=roomy, costs=CostParameters(commission_bps=5, half_spread_bps=2))
    states = open_accounts(torch.full((64,), 1000.0, dtype=DOUBLE), 1)
    slow = [(1000.0, 0.0)] * 64
    close = np.full(64, 100.0)
    for _ in range(160):
        next_open, next_close = (close * np.exp(rng.normal(0, 0.01, 64)) for _ in range(2))
        level, hold = rng.choice([-1.0, 0.0, 0.5, 1.0], 64), rng.random(64) < 0.3
        stack = [torch.from_numpy(value)[:, None] for value in (close, next_open, next_close)]
        pair = BarPair(*stack, torch.ones(64, 1, dtype=torch.bool))
        before = states.equity
        states, fill = execute(
            states, Decision(torch.from_numpy(level / roomy)[:, None], torch.from_numpy(hold)[:, None]), pair, setting
        )
        ledger = (fill.price_pnl - fill.commission - fill.spread).sum(-1)
        assert torch.allclose(states.equity - before, ledger, rtol=0, atol=1e-9)
        for i in range(64):
            wish = None if hold[i] else float(level[i])
            cash, shares, equity = twin(*slow[i], wish, (close[i], next_open[i], next_close[i]), rate)
            slow[i] = (cash, shares)
            assert states.equity[i].item() == pytest.approx(equity, rel=1e-9)
        close = next_close


def test_a_random_policy_earns_nothing_on_independent_returns_but_pays_its_costs() -> None:
    rng = np.random.default_rng(1)
    steps, count = 400, 256
    returns = rng.normal(0, 0.01, (steps + 1, count))
    close = 100.0 * np.exp(np.cumsum(returns, axis=0))
    opening = np.vstack([close[:1], close[:-1]])
    setting = parameters(costs=CostParameters(commission_bps=5, half_spread_bps=2))
    peeking = np.sign(returns)  # decides on the bar that has just closed
    for levels in (rng.choice([-1.0, 0.0, 1.0], (steps + 1, count)), peeking):
        state = open_accounts(torch.ones(count, dtype=DOUBLE), 1)
        gross = torch.zeros(count, dtype=DOUBLE)
        costs = torch.zeros(count, dtype=DOUBLE)
        for t in range(steps):
            stack = [torch.from_numpy(x)[:, None] for x in (close[t], opening[t + 1], close[t + 1])]
            pair = BarPair(*stack, torch.ones(count, 1, dtype=torch.bool))
            wish = Decision(torch.from_numpy(levels[t])[:, None], torch.zeros(count, 1, dtype=torch.bool))
            state, fill = execute(state, wish, pair, setting)
            gross += fill.price_pnl[:, 0] / fill.equity_before
            costs += (fill.commission + fill.spread)[:, 0] / fill.equity_before
        mean, error = gross.mean().item(), gross.std().item() / count**0.5
        assert abs(mean) < 2.58 * error  # a fill on the decision bar would earn about 0.8 % a bar
        assert costs.min().item() > 0.0


def test_a_dead_account_returns_minus_one_and_then_nothing() -> None:
    state, fills = account(), []
    for prices in (bars(100.0, 100.0, 101.0), bars(101.0, 101.0, 350.0), bars(350.0, 350.0, 300.0)):
        state, fill = execute(state, decide(-1.0), prices, parameters())
        fills.append(fill)
    walk = type(fills[0])(*(torch.stack(column) for column in zip(*fills, strict=True)))
    assert net_returns(walk)[:, 0].tolist() == pytest.approx([-0.01, -1.0, 0.0])


def test_a_level_stands_for_the_same_position_in_orders_and_in_training() -> None:
    capped = parameters(levels=[-1, -0.5, 0, 0.5, 1], max_position=0.4)
    levels = torch.tensor([[0.5]], dtype=DOUBLE)
    orders, _ = order_shares(account(), Decision(levels, torch.zeros(1, 1, dtype=torch.bool)), 100 * levels, capped)
    assert orders.item() * 50.0 / 1000.0 == pytest.approx(0.4)
    assert level_exposure(levels, capped).item() == pytest.approx(0.4)
