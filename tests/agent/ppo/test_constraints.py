"""The constraint on the worst episodes: the tail, its price, and whom it is charged to."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentio_kedro.agent.ppo.constraints import (
    EpisodeOutcomes,
    Prices,
    TailMonitor,
    TailState,
    episodes,
    log_growth,
    observe_episodes,
)
from sentio_kedro.agent.ppo.losses import dual_step, tail_of
from sentio_kedro.config import DrawdownParameters, EpisodeLimit, TailParameters, TrainingParameters

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


def test_a_price_needs_a_full_pool_and_a_slack_limit_costs_nothing() -> None:
    monitor = TailMonitor(TailParameters(limit=0.1, alpha=0.5, pool=400, step=1.0), numbers(0.0))
    monitor.observe(torch.full((399,), -0.2, dtype=DOUBLE))
    assert monitor.price() is None
    monitor.observe(numbers(-0.2))
    price = monitor.price()
    assert price is not None
    assert price.threshold.item() == price.tail.item() == -0.2
    assert price.dual.item() == pytest.approx(1.0)  # broken by as much as the limit
    for _ in range(3):
        monitor.observe(torch.zeros(400, dtype=DOUBLE))
    assert monitor.dual.item() == 0.0
    assert len(monitor.pool) == 400


@pytest.mark.parametrize("parameters", [TailParameters(), DrawdownParameters()])
def test_without_a_limit_nothing_is_pooled(parameters: EpisodeLimit) -> None:
    monitor = TailMonitor(parameters, numbers(0.0))
    monitor.observe(torch.zeros(600, dtype=DOUBLE))
    assert len(monitor.pool) == 0
    assert monitor.price() is None


def test_a_step_that_takes_everything_has_a_finite_logarithm() -> None:
    assert log_growth(numbers(0.5, -1.5)).tolist() == [pytest.approx(0.4054651), pytest.approx(-6.9077553)]


def test_the_equity_that_an_episode_starts_with_is_a_peak() -> None:
    found = episodes(numbers(-0.1, 0.3, -0.1, -0.15, 0.2)[:, None].expand(5, 2))
    assert found.growth.tolist() == pytest.approx([0.15, 0.15])
    assert found.drawdown.tolist() == pytest.approx([0.25, 0.25])
    assert episodes(numbers(-0.1, 0.05, 0.01)).drawdown.item() == pytest.approx(0.1)  # from the start
    assert episodes(numbers(0.1, 0.0, 0.2)).drawdown.item() == 0.0


@given(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=12))
def test_the_maximum_drawdown_is_the_largest_fall_between_any_two_bars(steps: list[float]) -> None:
    path = [sum(steps[:count]) for count in range(len(steps) + 1)]
    deepest = max(path[first] - path[last] for first in range(len(path)) for last in range(first, len(path)))
    assert episodes(numbers(*steps)).drawdown.item() == pytest.approx(deepest, abs=1e-12)


def test_the_deepest_drawdowns_are_the_tail_and_a_limit_that_they_exceed_has_a_price() -> None:
    tail = TailMonitor(TailParameters(), numbers(0.0))
    drawdown = TailMonitor(DrawdownParameters(limit=0.1, alpha=0.5, pool=400, step=1.0), numbers(0.0))
    depths = torch.cat([torch.full((200,), 0.0, dtype=DOUBLE), torch.full((200,), 0.15, dtype=DOUBLE)])
    row = observe_episodes(tail, drawdown, EpisodeOutcomes(torch.zeros_like(depths), depths))
    assert row == {"episode_drawdown": pytest.approx(0.15), "drawdown_price": pytest.approx(0.5)}
    row = observe_episodes(tail, drawdown, EpisodeOutcomes(torch.zeros_like(depths), depths / 3.0))
    assert row == {"episode_drawdown": pytest.approx(0.05), "drawdown_price": 0.0}


def test_figures_of_the_tail_are_unknown_until_enough_episodes_are_pooled() -> None:
    monitors = [TailMonitor(kind(limit=0.1), numbers(0.0)) for kind in (TailParameters, DrawdownParameters)]
    row = observe_episodes(*monitors, EpisodeOutcomes(numbers(0.1), numbers(0.2)))
    assert row.keys() == {"episode_tail", "tail_price", "episode_drawdown", "drawdown_price"}
    assert [name for name, value in row.items() if math.isnan(value)] == ["episode_tail", "episode_drawdown"]


def test_only_outcomes_below_the_threshold_are_charged_and_both_constraints_add_up() -> None:
    training = TrainingParameters(tail=TailParameters(alpha=0.1), drawdown=DrawdownParameters(alpha=0.2))
    outcomes = EpisodeOutcomes(numbers(-0.3, 0.1, 0.9), numbers(0.5, 0.0, 0.1))
    tail = TailState(numbers(-0.1)[0], numbers(2.0)[0], numbers(-0.2)[0])
    drawdown = TailState(numbers(-0.2)[0], numbers(3.0)[0], numbers(-0.3)[0])
    alone = Prices(tail=tail).charge(outcomes, training)
    other = Prices(drawdown=drawdown).charge(outcomes, training)
    both = Prices(tail, drawdown).charge(outcomes, training)
    assert alone is not None
    assert other is not None
    assert both is not None
    assert alone.tolist() == pytest.approx([2.0 / 0.1 * 0.2, 0.0, 0.0])
    assert other.tolist() == pytest.approx([3.0 / 0.2 * 0.3, 0.0, 0.0])
    assert torch.equal(both, alone + other)
    assert Prices().charge(outcomes, training) is None
