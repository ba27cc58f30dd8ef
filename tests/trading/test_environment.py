"""What training accounts see, how they start and what they are paid."""

import pytest
import torch

from sentio_kedro.config import CostParameters, TradingParameters
from sentio_kedro.trading.action_masks import level_tensor
from sentio_kedro.trading.environment import ACCOUNT_FEATURES, account_features, asset_rewards, start_accounts
from sentio_kedro.trading.execution import BarPair, Decision, execute, open_accounts

TRADING = TradingParameters(costs=CostParameters(commission_bps=10, half_spread_bps=0))


def test_a_start_depends_on_its_generator_alone() -> None:
    close = torch.full((8, 1, 2), 50.0)
    levels = level_tensor(TRADING, close)
    first, second = (start_accounts((8, 4), close, levels, TRADING, torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(first.equity, torch.ones(8, 4))
    positions = (first.shares * close).flatten()
    assert set(positions.tolist()) == {-0.5, 0.0, 0.5}  # two assets share the gross limit
    assert torch.allclose(first.cash + (first.shares * close).sum(-1), first.equity)


def test_features_are_in_units_of_the_limits() -> None:
    close = torch.full((1, 2), 10.0)
    state = open_accounts(torch.tensor([1.0]), 2)
    state = state._replace(shares=torch.tensor([[0.05, -0.025]]), bars_held=torch.tensor([[1.0, 0.0]]))
    seen = account_features(state, close, TRADING)
    assert seen.shape == (1, 2, ACCOUNT_FEATURES)
    assert seen[0, :, 0].tolist() == pytest.approx([1.0, -0.5])  # position over allocation of one half
    assert seen[0, :, 1].tolist() == pytest.approx([0.75, 0.75])  # gross exposure
    assert seen[0, :, 3].tolist() == [1.0, 1.0]  # full headroom


def test_rewards_are_net_profits_in_units_of_a_bar_of_a_full_position() -> None:
    state = open_accounts(torch.tensor([1.0]), 1)
    one = torch.ones(1, 1)
    decision = Decision(one, torch.zeros(1, 1, dtype=torch.bool))
    pair = BarPair(100 * one, 100 * one, 101 * one, torch.ones(1, 1, dtype=torch.bool))
    _, fill = execute(state, decision, pair, TRADING)
    reward = asset_rewards(fill, torch.full((1, 1), 0.005), TRADING)
    assert reward.item() == pytest.approx((0.01 - 0.001) / 0.005, rel=1e-5)


def test_rewards_of_all_steps_add_up_to_the_change_of_equity() -> None:
    state = open_accounts(torch.tensor([1.0], dtype=torch.float64), 1)
    total = 0.0
    price = torch.full((1, 1), 100.0, dtype=torch.float64)
    for factor in (1.01, 0.98, 1.03):
        pair = BarPair(price, price, price * factor, torch.ones(1, 1, dtype=torch.bool))
        before = state.equity
        state, fill = execute(
            state, Decision(torch.ones_like(price), torch.zeros(1, 1, dtype=torch.bool)), pair, TRADING
        )
        unit = torch.full((1, 1), 0.005, dtype=torch.float64)
        total += (asset_rewards(fill, unit, TRADING).sum() * 0.005 * before).item()
        price = price * factor
    assert total == pytest.approx(state.equity.item() - 1.0, abs=1e-12)
