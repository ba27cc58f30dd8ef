"""What training accounts see, how they start and what they are paid."""

import pytest
import torch
from torch import Tensor

from sentio_kedro.config import CarryParameters, CostParameters, TradingParameters
from sentio_kedro.trading.accounts import AccountState, Decision, Fill, open_accounts
from sentio_kedro.trading.action_masks import level_tensor
from sentio_kedro.trading.execution import execute
from sentio_kedro.trading.observations import (
    ACCOUNT_FEATURES,
    account_features,
    asset_rewards,
    hold_positions,
    start_accounts,
)
from sentio_kedro.trading.position_limits import position_limits
from sentio_kedro.trading.step_data import StepData

TRADING = TradingParameters(initial_cash=1000.0, costs=CostParameters(commission_bps=10, half_spread_bps=0))
DOUBLE = torch.float64


def row(close: float, open_: float, next_close: float, assets: int = 1, years: float | None = None) -> StepData:
    def same(value: float) -> Tensor:
        return torch.full((assets,), value, dtype=DOUBLE)

    yes = torch.ones(assets, dtype=torch.bool)
    elapsed = None if years is None else torch.tensor([years], dtype=DOUBLE)
    return StepData(same(close), yes, same(open_), same(next_close), yes, half_spread=same(0.0), years=elapsed)


def cash(*amounts: float) -> Tensor:
    return torch.tensor(amounts, dtype=DOUBLE)


def take(
    account: AccountState, level: list[float], step_data: StepData, parameters: TradingParameters
) -> tuple[AccountState, Fill]:
    decision = Decision(cash(*level)[None], torch.zeros(1, len(level), dtype=torch.bool))
    return execute(account, position_limits(account, step_data, parameters), decision, step_data, parameters)


def test_a_start_depends_on_what_was_drawn_alone() -> None:
    close = torch.full((8, 1, 2), 50.0)
    levels = level_tensor(TRADING, close)
    drawn = torch.randint(len(levels), (8, 4, 2), generator=torch.Generator().manual_seed(3))
    first, second = (start_accounts(drawn, close, levels, TRADING) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(first.equity, torch.full((8, 4), 1000.0))
    positions = (first.shares * close).flatten() / 1000.0
    assert set(positions.tolist()) == {-0.5, 0.0, 0.5}  # two assets share the gross limit
    assert torch.allclose(first.cash + (first.shares * close).sum(-1), first.equity)
    assert torch.equal(first.bars_held, (first.shares != 0.0).float())
    assert torch.equal(first.entry_price, torch.where(first.shares == 0.0, 0.0, 50.0))
    for name in ("working", "in_flight", "trades_today", "opened_today", "day_trades"):
        assert not getattr(first, name).any(), name


def test_features_of_an_account_are_in_units_of_the_limits() -> None:
    state = open_accounts(cash(1000.0), 2)
    state = state._replace(shares=cash(5.0, -2.5)[None], bars_held=cash(1.0, 0.0)[None])
    features = account_features(state, position_limits(state, row(50.0, 50.0, 50.0, 2), TRADING), TRADING)
    assert features.shape == (1, 2, ACCOUNT_FEATURES)
    assert features[0, :, 0].tolist() == pytest.approx([0.5, -0.25])  # position over the allocation of one half
    assert features[0, :, 1].tolist() == pytest.approx([0.375, 0.375])  # gross exposure over the gross limit
    assert features[0, :, 2].tolist() == pytest.approx([0.2 * 0.6931471805599453, 0.0])  # log(1 + 1 bar) / 5
    assert features[0, :, 3].tolist() == [1.0, 1.0]  # no layer caps the allocation


def test_features_tell_what_the_drawdown_leaves() -> None:
    trading = TradingParameters(initial_cash=1000.0, max_drawdown=0.2, drawdown_soft_limit=0.5)
    state = open_accounts(cash(1000.0), 1)
    state = state._replace(equity=cash(850.0), cash=cash(425.0), shares=cash(8.5)[None])  # 15 % down
    features = account_features(state, position_limits(state, row(50.0, 50.0, 50.0), trading), trading)[0, 0]
    assert features[0].item() == pytest.approx(1.0)  # half of equity where half is allowed
    assert features[1].item() == pytest.approx(1.0)
    assert features[3].item() == pytest.approx(0.5)


def test_positions_that_accounts_start_with_are_bought_without_costs() -> None:
    close = cash(40.0, 10.0)[None]
    state = hold_positions(open_accounts(cash(1000.0), 2), cash(0.4, -0.2)[None], close)
    assert state.shares.tolist() == [[10.0, -20.0]]
    assert state.cash.tolist() == [800.0]
    assert state.equity.tolist() == [1000.0]
    assert state.entry_price.tolist() == [[40.0, 10.0]]


def test_rewards_are_net_profits_in_units_of_a_bar_of_a_full_position() -> None:
    _, fill = take(open_accounts(cash(1000.0), 1), [1.0], row(100.0, 100.0, 101.0), TRADING)
    reward = asset_rewards(fill, torch.full((1, 1), 0.005, dtype=DOUBLE))
    assert reward.item() == pytest.approx((0.01 - 0.001) / 0.005, rel=1e-12)


def test_rewards_of_all_steps_add_up_to_the_change_of_equity() -> None:
    state, price, total = open_accounts(cash(1000.0), 1), 100.0, 0.0
    unit = torch.full((1, 1), 0.005, dtype=DOUBLE)
    for factor in (1.01, 0.98, 1.03):
        before = state.equity
        state, fill = take(state, [1.0], row(price, price, price * factor), TRADING)
        total += (asset_rewards(fill, unit).sum() * 0.005 * before).item()
        price *= factor
    assert state.equity.item() != pytest.approx(1000.0)
    assert total == pytest.approx(state.equity.item() - 1000.0, abs=1e-9)


def test_rewards_count_every_line_of_the_ledger_that_belongs_to_an_asset() -> None:
    trading = TradingParameters(
        initial_cash=1000.0, preset="none", carry=CarryParameters(borrow_rate=0.1, funding=True),
        costs=CostParameters(commission_bps=10, half_spread_bps=5, impact=1.0),
    )  # fmt: skip
    paid, years = cash(3.0, 2.0), 1.0
    facts = row(100.0, 101.0, 102.0, 2, years=years)._replace(
        dividend=paid, funding=cash(0.001, 0.002), impact=cash(1e-4, 1e-4), half_spread=cash(5e-4, 5e-4)
    )
    state = hold_positions(open_accounts(cash(1000.0), 2), cash(0.4, -0.3)[None], facts.close)
    after, fill = take(state, [0.5, 0.5], facts, trading)
    lines = (fill.dividends, fill.borrow, fill.funding, fill.impact, fill.commission, fill.spread)
    assert all(line is not None and bool((line != 0.0).any()) for line in lines)
    rewards = asset_rewards(fill, torch.full((1, 2), 0.01, dtype=DOUBLE))
    assert (rewards.sum() * 0.01 * 1000.0).item() == pytest.approx(after.equity.item() - 1000.0, rel=1e-12)


def test_interest_is_shared_equally_among_the_rewards() -> None:
    trading = TradingParameters(
        initial_cash=1000.0, preset="none", carry=CarryParameters(interest_rate=0.1), gross_limit=1.0
    )
    state = open_accounts(cash(1000.0), 2)
    after, fill = take(state, [0.0, 0.0], row(100.0, 100.0, 100.0, 2, years=0.5), trading)
    assert after.equity.item() == pytest.approx(1050.0)
    rewards = asset_rewards(fill, torch.full((1, 2), 0.01, dtype=DOUBLE))
    assert rewards.tolist() == [pytest.approx([0.025 / 0.01] * 2)]


def test_a_dead_account_is_paid_nothing() -> None:
    state = open_accounts(cash(1000.0), 1)._replace(alive=torch.tensor([False]), equity=cash(0.0), cash=cash(0.0))
    _, fill = take(state, [1.0], row(100.0, 100.0, 120.0), TRADING)
    assert asset_rewards(fill, torch.full((1, 1), 0.01, dtype=DOUBLE)).tolist() == [[0.0]]
