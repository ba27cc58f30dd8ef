"""The constraint on the worst episodes: the tail, its dual variable, and the penalty of an episode."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentio_kedro.agent.ppo.constraints import TailMonitor, TailState, log_growth
from sentio_kedro.agent.ppo.losses import dual_step, tail_of
from sentio_kedro.config import TailParameters

DOUBLE = torch.float64


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def test_the_tail_is_the_mean_of_the_worst_with_the_straddling_outcome_in_part() -> None:
    outcomes = numbers(3.0, -4.0, 1.0, -2.0, 0.0)
    assert [x.item() for x in tail_of(outcomes, 0.4)] == [-2.0, pytest.approx(-3.0)]
    assert tail_of(outcomes, 0.5)[1].item() == pytest.approx((-4.0 - 2.0 + 0.5 * 0.0) / 2.5)
    assert tail_of(outcomes, 1.0)[1].item() == pytest.approx(-0.4)
    assert tail_of(outcomes, 0.01)[1].item() == -4.0  # thinner than one outcome, never empty


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.floats(0.01, 1.0), st.floats(-2, 2))
def test_no_other_threshold_gives_a_larger_value(values: list[float], alpha: float, other: float) -> None:
    outcomes = numbers(*values)
    _, tail = tail_of(outcomes, alpha)
    assert tail <= outcomes.mean() + 1e-9
    assert tail >= other - (other - outcomes).clamp_min(0.0).mean() / alpha - 1e-5  # Rockafellar and Uryasev


def test_worsening_the_tail_lowers_it_and_improving_the_top_leaves_it() -> None:
    outcomes = torch.arange(100, dtype=DOUBLE)
    worse, better = outcomes.clone(), outcomes.clone()
    worse[0] -= 50.0
    better[99] += 50.0
    assert tail_of(worse, 0.05)[1] < tail_of(outcomes, 0.05)[1]
    assert tail_of(better, 0.05)[1] == tail_of(outcomes, 0.05)[1]


def test_the_dual_variable_stays_between_zero_and_its_bound() -> None:
    assert dual_step(numbers(0.1)[0], numbers(-1.0)[0], 0.5, 2.0).item() == 0.0
    assert dual_step(numbers(1.9)[0], numbers(1.0)[0], 0.5, 2.0).item() == 2.0
    assert dual_step(numbers(1.0)[0], numbers(0.5)[0], 0.5, 2.0).item() == 1.25


def test_the_tail_needs_a_full_pool_and_a_slack_limit_costs_nothing() -> None:
    monitor = TailMonitor(TailParameters(limit=0.1, alpha=0.5, pool=400, step=1.0), numbers(0.0))
    monitor.observe(torch.full((399,), -0.2, dtype=DOUBLE))
    assert monitor.state() is None
    monitor.observe(numbers(-0.2))
    state = monitor.state()
    assert state is not None
    assert state.threshold.item() == state.tail.item() == -0.2
    assert state.dual.item() == pytest.approx(1.0)  # broken by as much as the limit
    for _ in range(3):
        monitor.observe(torch.zeros(400, dtype=DOUBLE))
    assert monitor.dual.item() == 0.0
    assert len(monitor.pool) == 400


def test_without_a_limit_nothing_is_pooled() -> None:
    monitor = TailMonitor(TailParameters(), numbers(0.0))
    assert monitor.observe(torch.zeros(600, dtype=DOUBLE)) == {}
    assert len(monitor.pool) == 0
    assert monitor.state() is None


def test_a_step_that_takes_everything_has_a_finite_logarithm() -> None:
    assert log_growth(numbers(0.5, -1.5)).tolist() == [pytest.approx(0.4054651), pytest.approx(-6.9077553)]


def test_worst_episodes_below_the_limit_raise_the_dual_variable_and_others_lower_it() -> None:
    monitor = TailMonitor(TailParameters(limit=0.1, alpha=0.5, pool=400, step=1.0), numbers(0.0))
    returns = torch.cat([torch.full((200,), 0.0, dtype=DOUBLE), torch.full((200,), -0.15, dtype=DOUBLE)])
    assert monitor.observe(returns) == {"episode_tail": pytest.approx(-0.15), "tail_dual": pytest.approx(0.5)}
    assert monitor.observe(returns / 3.0) == {"episode_tail": pytest.approx(-0.05), "tail_dual": 0.0}


def test_the_tail_is_unknown_until_the_pool_is_full() -> None:
    row = TailMonitor(TailParameters(limit=0.1), numbers(0.0)).observe(numbers(0.1))
    assert row.keys() == {"episode_tail", "tail_dual"}
    assert math.isnan(row["episode_tail"])


def test_only_log_returns_below_the_threshold_have_a_penalty() -> None:
    tail = TailState(numbers(-0.1)[0], numbers(2.0)[0], numbers(-0.2)[0])
    assert tail.penalty(numbers(-0.3, 0.1, 0.9), 0.1).tolist() == pytest.approx([2.0 / 0.1 * 0.2, 0.0, 0.0])
