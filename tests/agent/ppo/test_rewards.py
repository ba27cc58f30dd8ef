"""Shapes of the reward: exact on small cases, and never a bonus for trading."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentio_kedro.agent.ppo.rewards import differential_sharpe, loss_averse, shaped_rewards
from sentio_kedro.config import RewardParameters

DOUBLE = torch.float64
REWARDS = torch.tensor([[1.0], [-2.0], [0.5]], dtype=DOUBLE)


def test_losses_count_more_and_gains_as_they_are() -> None:
    assert loss_averse(REWARDS, 0.5)[:, 0].tolist() == [1.0, -3.0, 0.5]


def test_the_differential_sharpe_ratio_is_the_derivative_of_the_ratio_by_the_decay() -> None:
    start, reward, memory, decay = 2.0, -0.8, 10.0, 1e-6
    path = torch.tensor([[start], [reward]], dtype=DOUBLE)
    first, second = start / memory, 1.0 + (start**2 - 1.0) / memory  # the moments after the first reward

    def ratio(rate: float) -> float:
        a, b = first + rate * (reward - first), second + rate * (reward**2 - second)
        return float(a / (b - a * a) ** 0.5)

    slope = (ratio(decay) - ratio(-decay)) / (2 * decay)
    assert differential_sharpe(path, memory)[1, 0].item() == pytest.approx(slope, rel=1e-6)


def test_the_first_differential_sharpe_ratio_is_the_reward() -> None:
    assert differential_sharpe(REWARDS, 64.0)[0, 0].item() == pytest.approx(1.0)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.sampled_from(["profit", "downside"]))
def test_what_earns_nothing_is_paid_nothing_and_more_profit_is_never_paid_less(values: list[float], shape: str) -> None:
    how = RewardParameters(shape=shape)  # type: ignore[arg-type]
    rewards = torch.tensor(values, dtype=DOUBLE)[:, None]
    assert shaped_rewards(torch.zeros_like(rewards), how).abs().max() == 0.0
    assert (shaped_rewards(rewards + 0.1, how) > shaped_rewards(rewards, how)).all()
