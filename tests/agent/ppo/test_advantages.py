"""Advantages: deaths end, windows only cut, and a baseline never contains its own replica."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.agent.ppo.advantages import (
    generalised_advantages,
    leave_one_out,
    sampled_returns,
)

DOUBLE = torch.float64


def quadratic_reference(
    rewards: list[float], values: list[float], bootstrap: float, alive: list[float], gamma: float, mixing: float
) -> list[float]:
    """Sum of the discounted temporal differences that follow each step, until the account dies."""
    after = [*values[1:], bootstrap]
    advantages = []
    for step in range(len(rewards)):
        total = 0.0
        for later in range(step, len(rewards)):
            following = after[later] if alive[later] else 0.0
            total += (gamma * mixing) ** (later - step) * (rewards[later] + gamma * following - values[later])
            if not alive[later]:
                break
        advantages.append(total)
    return advantages


@given(
    st.lists(st.tuples(st.floats(-2, 2), st.floats(-5, 5), st.booleans()), min_size=1, max_size=12),
    st.floats(-5, 5),
    st.floats(0, 0.99),
    st.floats(0, 1),
)
@settings(max_examples=80, deadline=None)
def test_advantages_equal_a_quadratic_reference_for_random_deaths(
    path: list[tuple[float, float, bool]], bootstrap: float, gamma: float, mixing: float
) -> None:
    rewards, values, lives = (list(column) for column in zip(*path, strict=True))
    alive = [float(life) for life in lives]
    columns = (torch.tensor(x, dtype=DOUBLE)[:, None] for x in (rewards, values))
    found = generalised_advantages(
        *columns, torch.tensor([bootstrap], dtype=DOUBLE), torch.tensor(alive, dtype=DOUBLE)[:, None], gamma, mixing
    )
    expected = quadratic_reference(rewards, values, bootstrap, alive, gamma, mixing)
    assert found[:, 0].tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("mixing", [0.0, 0.9, 1.0])
def test_a_constant_reward_that_is_only_cut_has_its_perpetuity_as_fixed_point(mixing: float) -> None:
    gamma, rewards = 0.9, torch.full((6, 2), 0.7, dtype=DOUBLE)
    value = rewards / (1 - gamma)
    found = generalised_advantages(rewards, value, value[0], torch.ones_like(value), gamma, mixing)
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)


def learnt_by(estimator: str, rewards: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """What values ``[S, 1]`` a critic with these learns next, on windows that are cut out of a life without end."""
    alive, following = torch.ones_like(values), torch.cat([values[1:], values[:1]])
    if estimator.startswith("GAE"):
        mixing = float(estimator.split()[1])
        return values + generalised_advantages(rewards, values, values[0], alive, 0.9, mixing)
    stops = torch.rand(rewards.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    return sampled_returns(rewards, following, stops, alive, 0.9)


@pytest.mark.parametrize("estimator", ["GAE 0", "GAE 0.9", "GAE 1", "distribution"])
def test_a_critic_that_learns_from_a_constant_reward_learns_its_perpetuity_everywhere(estimator: str) -> None:
    rewards = torch.full((6, 1), 0.7, dtype=DOUBLE)
    values = torch.linspace(-5.0, 5.0, 6, dtype=DOUBLE)[:, None]
    for _ in range(400):
        values = learnt_by(estimator, rewards, values)
    torch.testing.assert_close(values, rewards / (1 - 0.9), rtol=0, atol=1e-9)  # the last step of a window included


def test_death_stops_the_bootstrap_and_all_that_follows() -> None:
    rewards = torch.ones(4, 1, dtype=DOUBLE)
    values = torch.zeros(4, 1, dtype=DOUBLE)
    alive = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=DOUBLE)[:, None]
    quiet = generalised_advantages(rewards, values, torch.zeros(1, dtype=DOUBLE), alive, 0.5, 1.0)
    values[2:] = 7.0
    rewards[2:] = -9.0
    loud = generalised_advantages(rewards, values, torch.full((1,), 1e6, dtype=DOUBLE), alive, 0.5, 1.0)
    assert quiet[:2, 0].tolist() == [1.5, 1.0]
    assert torch.equal(quiet[:2], loud[:2])


def test_the_end_of_a_window_bootstraps_from_the_state_after_it() -> None:
    one = torch.ones(1, 1, dtype=DOUBLE)
    found = generalised_advantages(one, 3.0 * one, torch.tensor([10.0], dtype=DOUBLE), one, 0.5, 0.9)
    assert found.item() == 1.0 + 0.5 * 10.0 - 3.0


def test_the_baseline_is_the_mean_of_the_other_replicas() -> None:
    advantages = torch.tensor([[3.0, 5.0, 10.0]])
    found = leave_one_out(advantages, torch.ones(1, 3), 1)
    assert found.tolist() == [[3.0 - 7.5, 5.0 - 6.5, 10.0 - 4.0]]


def test_replicas_are_compared_with_each_other_and_not_with_other_windows_or_assets() -> None:
    advantages = torch.randn((4, 3, 2, 5), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    found = leave_one_out(advantages, torch.ones_like(advantages), 2)
    torch.testing.assert_close(found, advantages - advantages.flip(2))  # of two replicas, the other one


def test_including_itself_halves_what_two_replicas_learn_and_leaving_one_out_does_not() -> None:
    """Every pair of actions of two replicas on one shared path, weighted by its probability: exact expectations."""
    logits = torch.tensor([0.3, -0.5, 0.1], dtype=DOUBLE, requires_grad=True)
    paid, shared_luck = torch.tensor([1.0, -2.0, 4.0], dtype=DOUBLE), 25.0
    log_probabilities = logits.log_softmax(-1)
    chances = log_probabilities.detach().exp()
    (true,) = torch.autograd.grad((log_probabilities.exp() * paid).sum(), logits, retain_graph=True)
    gradients = {}
    for name in ("leave_one_out", "itself_included"):
        objective = torch.zeros((), dtype=DOUBLE)
        for pair in itertools.product(range(3), repeat=2):
            chosen = torch.tensor(pair)
            raw = paid[chosen] + shared_luck
            left = leave_one_out(raw, torch.ones_like(raw), 0) if name == "leave_one_out" else raw - raw.mean()
            objective = objective + chances[chosen].prod() * (log_probabilities[chosen] * left).mean()
        (gradients[name],) = torch.autograd.grad(objective, logits, retain_graph=True)
    torch.testing.assert_close(gradients["leave_one_out"], true)
    torch.testing.assert_close(gradients["itself_included"], true / 2)


def test_dead_replicas_do_not_count_in_the_baseline() -> None:
    advantages = torch.tensor([2.0, 6.0, 1e6])
    found = leave_one_out(advantages, torch.tensor([1.0, 1.0, 0.0]), 0)
    assert found[:2].tolist() == [2.0 - 6.0, 6.0 - 2.0]


def test_without_another_living_replica_nothing_is_subtracted() -> None:
    found = leave_one_out(torch.tensor([2.0, 6.0]), torch.tensor([1.0, 0.0]), 0)
    assert found[0].item() == 2.0


def test_a_sampled_return_sums_rewards_until_it_stops_and_then_draws_the_rest() -> None:
    rewards = torch.tensor([[1.0], [2.0], [4.0]], dtype=DOUBLE)
    drawn = torch.tensor([[10.0], [20.0], [40.0]], dtype=DOUBLE)
    alive = torch.ones_like(rewards)
    never, always = torch.zeros(3, 1, dtype=torch.bool), torch.ones(3, 1, dtype=torch.bool)
    assert sampled_returns(rewards, drawn, never, alive, 0.5)[:, 0].tolist() == [1 + 1 + 1 + 5, 2 + 2 + 10, 4 + 20]
    assert sampled_returns(rewards, drawn, always, alive, 0.5)[:, 0].tolist() == [6.0, 12.0, 24.0]
    died = torch.tensor([[1.0], [0.0], [0.0]], dtype=DOUBLE)
    assert sampled_returns(rewards, drawn, never, died, 0.5)[:, 0].tolist() == [2.0, 2.0, 4.0]


def test_sampled_returns_have_the_lambda_return_as_their_mean() -> None:
    draws = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 6, 1, generator=draws, dtype=DOUBLE)
    bootstrap, alive = torch.randn(1, generator=draws, dtype=DOUBLE), torch.ones(6, 1, dtype=DOUBLE)
    exact = generalised_advantages(rewards, values, bootstrap, alive, 0.9, 0.7) + values
    after = torch.cat([values[1:], bootstrap[None]])
    many = 20_000
    stops = torch.rand(6, many, generator=draws) >= 0.7
    found = sampled_returns(rewards.expand(6, many), after.expand(6, many), stops, alive.expand(6, many), 0.9)
    error = found.std(1) / many**0.5
    assert ((found.mean(1) - exact[:, 0]).abs() <= 4.5 * error + 1e-9).all()
