"""Baselines: exact schedules."""

import numpy as np
import torch

from sentio_kedro.config import BacktestParameters, TradingParameters
from sentio_kedro.evaluation.backtest.baselines.schedules import (
    RandomPolicy,
    buy_and_hold,
    equal_weight,
    every,
    momentum,
)
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts
from sentio_kedro.trading.position_limits import position_limits
from sentio_kedro.trading.precompute import make_step_data

STAMPS = np.datetime64("2020-01-01T08:00", "ns") + np.arange(40) * np.timedelta64(8, "h")


def market(close: torch.Tensor, tradable: torch.Tensor | None = None) -> MarketTensors:
    everything = torch.ones_like(close, dtype=torch.bool) if tradable is None else tradable
    ones = torch.ones(len(close), 1, dtype=close.dtype)
    return MarketTensors(close[..., None], close, close, everything, torch.full_like(close, 0.01), ones)


def test_every_marks_the_first_row_of_each_period() -> None:
    due = every(STAMPS, 7.0)
    assert due.nonzero().flatten().tolist() == [0, 21]
    assert every(STAMPS, 1.0).nonzero().flatten().tolist() == list(range(0, 40, 3))


def test_a_gap_does_not_shift_later_periods() -> None:
    timestamps = np.delete(STAMPS, [21, 22])
    assert every(timestamps, 7.0).nonzero().flatten().tolist() == [0, 21]  # the first row after the period began


def test_buy_and_hold_buys_once_when_the_asset_first_trades() -> None:
    tradable = torch.ones(40, 2, dtype=torch.bool)
    tradable[:5, 1] = False
    policy = buy_and_hold(market(torch.ones(40, 2, dtype=torch.float64), tradable), 2, 30)
    orders = ~policy.hold
    assert orders[:, 0].nonzero().flatten().tolist() == [0]
    assert orders[:, 1].nonzero().flatten().tolist() == [3]  # row 5


def test_equal_weight_trades_on_its_days_only() -> None:
    policy = equal_weight(market(torch.ones(40, 2, dtype=torch.float64)), STAMPS, 0, 39, BacktestParameters())
    assert (~policy.hold[:, 0]).nonzero().flatten().tolist() == [0, 21]
    assert policy.levels.eq(1.0).all()


def test_momentum_follows_the_trend_at_its_target_volatility() -> None:
    close = torch.stack([torch.linspace(1, 2, 40), torch.linspace(2, 1, 40)], dim=1).double()
    parameters = BacktestParameters(momentum_bars=3, volatility_target=0.05)
    policy = momentum(market(close), STAMPS, 5, 39, parameters, periods_per_year=100.0)
    assert policy.levels[:, 0].eq(0.5).all()  # 5 % over 1 % x 10
    assert policy.levels[:, 1].eq(-0.5).all()


def test_momentum_knows_no_later_price() -> None:
    close = torch.rand(40, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    changed = close.clone()
    changed[20:] *= 3
    first, second = (
        momentum(market(x), STAMPS, 5, 39, BacktestParameters(momentum_bars=3), 100.0).levels for x in (close, changed)
    )
    assert torch.equal(first[:15], second[:15])  # rows 5 to 19


def test_momentum_counts_total_returns() -> None:
    close = torch.cat([torch.full((20, 1), 100.0), torch.full((20, 1), 25.0)]).double()  # a split of four, no loss
    returns = torch.full_like(close, 0.001)
    split = market(close)._replace(returns=returns)
    policy = momentum(split, STAMPS, 5, 39, BacktestParameters(momentum_bars=3, volatility_target=0.05), 100.0)
    assert policy.levels.eq(0.5).all()
    still = market(close)._replace(returns=torch.zeros_like(close))
    assert momentum(still, STAMPS, 5, 39, BacktestParameters(momentum_bars=3), 100.0).levels.eq(0.0).all()


def test_a_schedule_gives_every_account_the_same_orders_and_can_be_cut() -> None:
    policy = equal_weight(market(torch.ones(40, 2, dtype=torch.float64)), STAMPS, 0, 39, BacktestParameters())
    part = policy.part(20, 30)
    assert torch.equal(part.hold, policy.hold[20:30])
    assert torch.equal(part.levels, policy.levels[20:30])
    account = open_accounts(torch.ones(3, dtype=torch.float64), 2)
    row = make_step_data(
        market(torch.ones(40, 2, dtype=torch.float64)), torch.tensor([[21]]), TradingParameters()
    ).step(0)
    view = position_limits(account, row, TradingParameters())
    decision, record = part.decide(tuple(x[1] for x in part.inputs), account, view, torch.ones(3, 2, 4).bool())
    assert decision.level.tolist() == [[1.0, 1.0]] * 3
    assert not decision.hold.any()
    assert record == ()


def test_random_draws_legal_actions_from_its_seed() -> None:
    trading = TradingParameters()
    legal = torch.tensor([[[True, False, True, False]]])
    account = open_accounts(torch.ones(1, dtype=torch.float64), 1)
    like = torch.ones(3, 1, dtype=torch.float64)
    row = make_step_data(market(like), torch.tensor([[0]]), trading).step(0)
    view = position_limits(account, row, trading)
    drawn = []
    for seed in (1, 1, 2):
        policy = RandomPolicy.draw(200, trading, like, seed)
        cut = policy.part(50, 200)
        assert torch.equal(cut.inputs[0], policy.inputs[0][50:])
        decisions = [policy.decide((policy.inputs[0][step],), account, view, legal)[0] for step in range(200)]
        assert all(bool(decision.hold) or float(decision.level) == 0.0 for decision in decisions)
        drawn.append([bool(decision.hold) for decision in decisions])
    assert drawn[0] == drawn[1] != drawn[2]
    assert 60 < sum(drawn[0]) < 140
