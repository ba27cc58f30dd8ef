"""The execution step: exact small answers, a slow readable twin, and the traps of the field."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.config import CostParameters, TradingParameters
from sentio_kedro.trading.accounts import (
    AccountState,
    Decision,
    Fill,
    asset_profit,
    headroom,
    level_exposure,
    open_accounts,
)
from sentio_kedro.trading.execution import execute
from sentio_kedro.trading.orders import Orders, order_shares, project
from sentio_kedro.trading.position_limits import position_limits
from sentio_kedro.trading.simulate import net_returns
from sentio_kedro.trading.step_data import StepData

DOUBLE = torch.float64


def bars(close: float, next_open: float, next_close: float, tradable: bool = True, spread: float = 0.0) -> StepData:
    one = torch.ones(1, 1, dtype=DOUBLE)
    yes = torch.full((1, 1), tradable)
    return StepData(close * one, yes, next_open * one, next_close * one, yes, spread * one)


def decide(level: float, hold: bool = False) -> Decision:
    return Decision(torch.full((1, 1), level, dtype=DOUBLE), torch.full((1, 1), hold))


def parameters(**changes: object) -> TradingParameters:
    return TradingParameters(**({"preset": "none"} | changes))  # type: ignore[arg-type]


def account(cash: float = 1000.0, assets: int = 1) -> AccountState:
    return open_accounts(torch.tensor([cash], dtype=DOUBLE), assets)


def step(
    state: AccountState, decision: Decision, row: StepData, trading: TradingParameters
) -> tuple[AccountState, Fill]:
    return execute(state, position_limits(state, row, trading), decision, row, trading)


def orders_of(state: AccountState, decision: Decision, close: torch.Tensor, trading: TradingParameters) -> Orders:
    yes = torch.ones_like(close, dtype=torch.bool)
    row = StepData(close, yes, close, close, yes, torch.zeros_like(close))
    return order_shares(state, position_limits(state, row, trading), decision, row, trading)


def test_an_order_is_fixed_at_the_close_and_filled_at_the_next_open() -> None:
    state, fill = step(account(), decide(1.0), bars(100.0, 110.0, 121.0), parameters())
    assert state.shares.item() == 10.0  # 1000 / 100, whatever the open is
    assert state.cash.item() == -100.0  # 10 x 110 paid from 1000
    assert state.equity.item() == 1110.0  # 10 x (121 - 110) on top of 1000
    assert fill.price_pnl.item() == 110.0


def test_the_old_position_carries_the_gap_and_the_new_one_the_bar() -> None:
    state, _ = step(account(), decide(1.0), bars(100.0, 100.0, 100.0), parameters())
    state, fill = step(state, decide(-1.0), bars(100.0, 90.0, 80.0), parameters())
    assert fill.price_pnl.item() == 10 * -10 + -10 * -10  # long through the gap, short through the bar
    assert state.equity.item() == 1000.0


def test_costs_follow_their_formula_and_doubling_one_doubles_its_line() -> None:
    charged = {}
    for rate in (5.0, 10.0):
        trading = parameters(costs=CostParameters(commission_bps=rate))
        _, fill = step(account(), decide(1.0), bars(100.0, 110.0, 110.0, spread=3e-4), trading)
        charged[rate] = fill
        assert fill.commission.item() == pytest.approx(10 * 110 * rate * 1e-4)
        assert fill.spread.item() == pytest.approx(10 * 110 * 3e-4)
    assert charged[10.0].commission.item() == pytest.approx(2 * charged[5.0].commission.item())
    assert charged[10.0].equity.item() < charged[5.0].equity.item()


def test_an_order_for_a_missing_bar_is_dropped() -> None:
    state, fill = step(account(), decide(1.0), bars(100.0, 100.0, 100.0, tradable=False), parameters())
    assert state.shares.item() == 0.0
    assert fill.traded.item() == 0.0


def test_hold_keeps_shares_through_drift() -> None:
    state, _ = step(account(), decide(1.0), bars(100.0, 100.0, 150.0), parameters())
    state, fill = step(state, decide(0.0, hold=True), bars(150.0, 150.0, 150.0), parameters())
    assert state.shares.item() == 10.0
    assert fill.traded.item() == 0.0


def test_a_dead_account_is_never_resurrected() -> None:
    state, fill = step(account(), decide(-1.0), bars(100.0, 100.0, 250.0), parameters())
    assert state.equity.item() == 0.0
    assert fill.shortfall is not None
    assert fill.shortfall.item() == 500.0  # the broker's loss
    assert not state.alive.item()
    assert state.shares.item() == 0.0
    for level in (1.0, -1.0):
        state, fill = step(state, decide(level), bars(250.0, 250.0, 10.0), parameters())
        assert fill.traded.item() == 0.0
        assert not state.alive.item()
    assert state.equity.item() == 0.0


def test_allocation_shares_the_gross_limit_between_assets() -> None:
    close = torch.tensor([[10.0, 20.0, 40.0, 50.0]], dtype=DOUBLE)
    decision = Decision(torch.tensor([[1.0, -1.0, 1.0, 0.0]], dtype=DOUBLE), torch.zeros(1, 4, dtype=torch.bool))
    orders = orders_of(account(assets=4), decision, close, parameters())
    assert torch.equal(orders.shares * close / 1000.0, torch.tensor([[0.25, -0.25, 0.25, 0.0]], dtype=DOUBLE))
    assert not orders.capped(decision.hold).any()


def test_headroom_falls_in_proportion_after_the_rung_and_reaches_zero_at_the_limit() -> None:
    limited = parameters(max_drawdown=0.08, drawdown_soft_limit=0.25)
    state = account()._replace(peak_equity=torch.tensor([1000.0], dtype=DOUBLE))
    for equity, expected in ((1000.0, 1.0), (980.0, 1.0), (950.0, 0.5), (920.0, 0.0), (900.0, 0.0)):
        now = state._replace(equity=torch.tensor([equity], dtype=DOUBLE))
        assert headroom(now, limited).item() == pytest.approx(expected)
    assert headroom(now, parameters(max_drawdown=None)).item() == 1.0


def test_an_account_in_drawdown_can_always_enter_small_again() -> None:
    limited = parameters(max_drawdown=0.08)
    state = account(950.0)._replace(peak_equity=torch.tensor([1000.0], dtype=DOUBLE))
    orders = orders_of(state, decide(1.0), torch.full((1, 1), 100.0, dtype=DOUBLE), limited)
    assert orders.shares.item() * 100.0 / 950.0 == pytest.approx(0.5)
    assert orders.capped(torch.tensor([[False]])).all()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_projection_meets_the_limit_and_lets_reductions_pass(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 5))
    numbers = st.lists(st.floats(-1, 1), min_size=size, max_size=size)
    current, target = (torch.tensor([data.draw(numbers)], dtype=DOUBLE) for _ in range(2))
    limit = torch.tensor([data.draw(st.floats(0, 2))], dtype=DOUBLE)
    got = project(current, target, limit).position
    reduces = (target.abs() <= current.abs()) & (current * target >= 0)
    assert torch.allclose(got[reduces], target[reduces])
    floor = torch.where(current * target > 0, torch.minimum(current.abs(), target.abs()), 0.0).sum()
    assert got.abs().sum() <= torch.maximum(limit, floor) + 1e-9
    assert bool(((got - current) * (target - current) >= -1e-12).all())  # never past or away from the wish


def test_a_random_policy_earns_nothing_on_independent_returns_but_pays_its_costs() -> None:
    rng = np.random.default_rng(1)
    steps, count = 400, 256
    returns = rng.normal(0, 0.01, (steps + 1, count))
    close = 100.0 * np.exp(np.cumsum(returns, axis=0))
    opening = np.vstack([close[:1], close[:-1]])
    setting = parameters(costs=CostParameters(commission_bps=5, half_spread_bps=2))
    half_spread = torch.full((1, 1), 2e-4, dtype=DOUBLE)
    peeking = np.sign(returns)  # decides on the bar that has just closed
    for levels in (rng.choice([-1.0, 0.0, 1.0], (steps + 1, count)), peeking):
        state = open_accounts(torch.ones(count, dtype=DOUBLE), 1)
        gross = torch.zeros(count, dtype=DOUBLE)
        costs = torch.zeros(count, dtype=DOUBLE)
        for t in range(steps):
            stack = [torch.from_numpy(x)[:, None] for x in (close[t], opening[t + 1], close[t + 1])]
            yes = torch.ones(count, 1, dtype=torch.bool)
            pair = StepData(stack[0], yes, stack[1], stack[2], yes, half_spread)
            before = state.equity
            wish = Decision(torch.from_numpy(levels[t])[:, None], torch.zeros(count, 1, dtype=torch.bool))
            state, fill = step(state, wish, pair, setting)
            assert torch.allclose(state.equity - before, asset_profit(fill)[:, 0], rtol=0, atol=1e-9)
            gross += fill.price_pnl[:, 0] / fill.equity_before
            costs += (fill.commission + fill.spread)[:, 0] / fill.equity_before
        mean, error = gross.mean().item(), gross.std().item() / count**0.5
        assert abs(mean) < 2.58 * error  # a fill on the decision bar would earn about 0.8 % a bar
        assert costs.min().item() > 0.0


def test_a_dead_account_returns_minus_one_and_then_nothing() -> None:
    state, fills = account(), []
    for prices in (bars(100.0, 100.0, 101.0), bars(101.0, 101.0, 350.0), bars(350.0, 350.0, 300.0)):
        state, fill = step(state, decide(-1.0), prices, parameters())
        fills.append(fill)
    walk = Fill._make(None if column[0] is None else torch.stack(column) for column in zip(*fills, strict=True))
    assert net_returns(walk)[:, 0].tolist() == pytest.approx([-0.01, -1.0, 0.0])


def test_a_level_stands_for_the_same_position_in_orders_and_in_training() -> None:
    capped = parameters(levels=[-1, -0.5, 0, 0.5, 1], max_position=0.4)
    levels = torch.tensor([[0.5]], dtype=DOUBLE)
    orders = orders_of(account(), Decision(levels, torch.zeros(1, 1, dtype=torch.bool)), 100 * levels, capped)
    assert orders.shares.item() * 50.0 / 1000.0 == pytest.approx(0.4)
    assert level_exposure(levels, capped).item() == pytest.approx(0.4)
