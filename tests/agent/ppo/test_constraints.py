"""The constraint on the worst episodes: the tail, the risk of a step, and the price of it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentio_kedro.agent.ppo.constraints import (
    MAX_PRICE,
    POOL,
    TailFound,
    TailState,
    bisected_price,
    first_tail,
    log_growth,
    next_tail,
)
from sentio_kedro.agent.ppo.losses import tail_of
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


def test_the_first_shape_is_normal() -> None:
    outcomes = 0.5 + 2.0 * numbers(-1.0, 0.0, 1.0)
    tail = first_tail(outcomes).tail(outcomes, 0.05)
    assert tail.item() == pytest.approx(0.5 - 2.0 * 2.0627, abs=2e-3)  # phi(1.6449) / 0.05 deviations below the mean


def test_the_tail_follows_mean_deviation_and_shape() -> None:
    skewed = numbers(-3.0, 1.0, 1.0, 1.0)  # deviation 2, the worst 1.5 below the mean
    state = TailState(numbers(0.0)[0], torch.empty(0, dtype=DOUBLE)).observed(skewed)
    assert state.shape.tolist() == [-1.5, 0.5, 0.5, 0.5]
    assert state.tail(0.1 * skewed + 0.7, 0.25).item() == pytest.approx(0.7 - 0.3)
    assert torch.equal(state.observed(numbers(0.2, 0.2)).shape, state.shape)  # flat accounts say nothing
    assert len(first_tail(skewed).observed(skewed).shape) == POOL


def test_risk_is_what_a_gain_adds_to_the_shortfall_of_an_episode_at_the_limit() -> None:
    state = TailState(numbers(0.0)[0], numbers(-2.0, -1.0, 0.0, 3.0))
    limit = TailParameters(limit=0.03, alpha=0.5)  # CVaR of the shape is -1.5, so that outcomes are 0.02 of it
    outcomes, gains = 0.02 * state.shape, numbers(-0.05, -0.01, 0.0, 0.01, 0.05)
    assert tail_of(outcomes, 0.5)[1].item() == pytest.approx(-0.03)
    threshold = -0.02
    expected = [
        ((threshold - outcomes - gain).clamp_min(0.0).mean() - (threshold - outcomes).clamp_min(0.0).mean()) / 0.5
        + 0.25 / 0.5 * gain  # a quarter of the outcomes lie below the threshold
        for gain in gains
    ]
    found = state.shortfall_added(gains, limit)
    torch.testing.assert_close(found, torch.stack(expected))
    assert found.tolist() == pytest.approx([0.04, 0.005, 0.0, 0.0, 0.015])
    assert state.shortfall_added(gains, TailParameters()).tolist() == [0.0] * 5


@given(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1), st.floats(0.0, 1.0))
def test_risk_is_convex_so_that_half_a_position_has_less_than_half_of_it(
    one: float, other: float, share: float
) -> None:
    state, limit = first_tail(numbers(0.0)), TailParameters(limit=0.05)
    mixed, first, second = state.shortfall_added(numbers(share * one + (1.0 - share) * other, one, other), limit)
    assert mixed <= share * first + (1.0 - share) * second + 1e-9
    assert mixed >= -1e-9
    half, whole = state.shortfall_added(numbers(-0.01, -0.02), limit)
    assert 0.0 < half < 0.5 * whole


@pytest.mark.parametrize("needed", [0.004, 0.3, 1.0, 7.7, 50.0])
def test_bisection_finds_the_smallest_price_that_meets_the_limit(needed: float) -> None:
    found = bisected_price(lambda price: price >= needed)
    assert needed <= found <= needed + 0.01 * max(1.0, 2.0 * needed)


def test_a_limit_that_holds_has_no_price_and_one_that_cannot_be_met_the_highest() -> None:
    assert bisected_price(lambda _: True) == 0.0
    assert bisected_price(lambda _: False) == MAX_PRICE


def test_the_price_is_a_mean_of_those_found_whose_weights_rise() -> None:
    state = first_tail(numbers(0.0))
    for updates, price in enumerate((3.0, 6.0, 12.0)):
        state = next_tail(TailFound(numbers(price)[0], numbers(0.0)[0], state), updates)
    assert state.price.item() == pytest.approx((1 * 3.0 + 2 * 6.0 + 3 * 12.0) / 6)


def test_a_step_that_takes_everything_has_a_finite_logarithm() -> None:
    assert log_growth(numbers(0.5, -1.5)).tolist() == [pytest.approx(0.4054651), pytest.approx(-6.9077553)]
