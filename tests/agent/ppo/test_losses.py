"""Losses: exact small answers, quantiles that are quantiles, and the right tail."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.agent.ppo.losses import (
    KAPPA,
    adapted_coefficient,
    clipped_surrogate,
    critic_loss,
    lower_tail_mean,
    quantile_huber,
    quantile_levels,
)
from sentio_kedro.config import DivergenceParameters

DOUBLE = torch.float64
SIZES = st.lists(st.floats(-10, 10), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [
        (1.0, 3.0, -3.0),
        (1.1, 2.0, -2.2),
        (1.5, 2.0, -2.4),  # clipped: no more to gain
        (0.5, 2.0, -1.0),  # a good action made rarer is charged whole
        (0.5, -2.0, 1.6),  # clipped
        (1.5, -2.0, 3.0),  # a bad action made likelier is charged whole
    ],
)
def test_the_clipped_surrogate_is_exact(ratio: float, advantage: float, loss: float) -> None:
    log_ratio = torch.tensor(math.log(ratio), dtype=DOUBLE)
    found = clipped_surrogate(log_ratio, torch.tensor(advantage, dtype=DOUBLE), 0.2)
    assert found.item() == pytest.approx(loss, abs=1e-12)


def test_beyond_the_clip_the_gradient_is_zero() -> None:
    log_ratio = torch.tensor([math.log(1.5), math.log(1.1)], dtype=DOUBLE, requires_grad=True)
    clipped_surrogate(log_ratio, torch.ones(2, dtype=DOUBLE), 0.2).sum().backward()
    assert log_ratio.grad is not None
    assert log_ratio.grad.tolist() == pytest.approx([0.0, -1.1])


def test_levels_are_the_midpoints_of_equal_bins() -> None:
    assert quantile_levels(4, torch.zeros((), dtype=DOUBLE)).tolist() == [0.125, 0.375, 0.625, 0.875]


def test_the_quantile_loss_is_exact_inside_and_outside_its_quadratic_part() -> None:
    found = quantile_huber(torch.tensor([[0.0, 1.5]], dtype=DOUBLE), torch.tensor([2.0], dtype=DOUBLE), 1.0)
    assert found.item() == pytest.approx((0.25 * (2.0 - 0.5) + 0.75 * 0.5 * 0.25) / 2)
    found = quantile_huber(torch.tensor([[3.0, 2.5]], dtype=DOUBLE), torch.tensor([2.0], dtype=DOUBLE), 1.0)
    assert found.item() == pytest.approx((0.75 * (1.0 - 0.5) + 0.25 * 0.5 * 0.25) / 2)


def fitted_probabilities(sample: torch.Tensor, sign: float) -> list[float]:
    """Fit nine quantiles by gradient descent and return the share of the sample below each."""
    quantiles = torch.zeros(9, dtype=DOUBLE, requires_grad=True)
    optimiser = torch.optim.Adam([quantiles], lr=0.3)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.985)
    for _ in range(350):
        optimiser.zero_grad()
        quantile_huber(sign * quantiles.expand(len(sample), -1), sign * sample, 0.02).mean().backward()
        optimiser.step()
        schedule.step()
    return [(sample < level).double().mean().item() for level in quantiles.detach()]


def samples() -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    normal = torch.randn(600, generator=draws, dtype=DOUBLE)
    side = torch.where(torch.rand(600, generator=draws) < 0.3, -3.0, 3.0)
    return {"skewed": normal.exp(), "bimodal": side + 0.5 * normal}


@pytest.mark.parametrize("name", ["skewed", "bimodal"])
def test_gradient_descent_recovers_the_quantiles_and_a_swapped_sign_does_not(name: str) -> None:
    sample = samples()[name]
    levels = quantile_levels(9, sample).tolist()
    assert fitted_probabilities(sample, 1.0) == pytest.approx(levels, abs=0.02)
    swapped = fitted_probabilities(sample, -1.0)
    assert abs(swapped[0] - levels[0]) > 0.5
    assert abs(swapped[-1] - levels[-1]) > 0.5


def test_each_target_meets_its_own_quantiles_only() -> None:
    predicted = torch.randn((4, 3, 5), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    target = torch.randn((4, 3), generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    found = quantile_huber(predicted, target, 0.1)
    assert found.shape == (4, 3)
    torch.testing.assert_close(found[2, 1], quantile_huber(predicted[2, 1], target[2, 1], 0.1))


def test_a_bin_that_straddles_the_tail_counts_in_part() -> None:
    quantiles = torch.tensor([-4.0, -2.0, 1.0, 3.0], dtype=DOUBLE)
    assert lower_tail_mean(quantiles, 0.25).item() == -4.0
    assert lower_tail_mean(quantiles, 0.375).item() == pytest.approx((-4.0 + 0.5 * -2.0) / 1.5)
    assert lower_tail_mean(quantiles, 0.5).item() == -3.0


@given(SIZES, st.floats(0.001, 1.0))
@settings(max_examples=60, deadline=None)
def test_the_tail_mean_lies_between_the_lowest_quantile_and_the_mean(sizes: list[float], alpha: float) -> None:
    quantiles = torch.tensor(sorted(sizes), dtype=DOUBLE)
    found = lower_tail_mean(quantiles, alpha).item()
    assert quantiles[0].item() - 1e-9 <= found <= quantiles.mean().item() + 1e-9
    assert lower_tail_mean(quantiles, 1.0).item() == pytest.approx(quantiles.mean().item(), abs=1e-9)


def test_a_tail_thinner_than_one_quantile_is_not_empty() -> None:
    quantiles = torch.tensor([-4.0, -2.0, 1.0], dtype=DOUBLE)
    assert lower_tail_mean(quantiles, 0.01).item() == pytest.approx(-4.0)


def test_worsening_the_lowest_tail_lowers_it_and_improving_the_top_leaves_it() -> None:
    quantiles = torch.linspace(-1.0, 1.0, 10, dtype=DOUBLE)
    before = lower_tail_mean(quantiles, 0.2)
    worse, better = quantiles.clone(), quantiles.clone()
    worse[:2] -= 1.0
    better[2:] += 1.0
    assert lower_tail_mean(worse, 0.2).item() == pytest.approx(before.item() - 1.0)
    assert lower_tail_mean(better, 0.2).item() == before.item()


def test_a_critic_of_one_output_is_judged_by_its_squared_error() -> None:
    predicted, target = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 5.0])
    assert critic_loss(predicted, target).tolist() == [1.0, 4.0]
    quantiles = torch.tensor([[0.0, 1.0, 2.0]])
    assert critic_loss(quantiles, target[:1]).item() == quantile_huber(quantiles, target[:1], KAPPA).item()


@pytest.mark.parametrize(
    ("coefficient", "divergence", "adapted"),
    [
        (1.0, 0.031, 2.0),  # beyond 1.5 x target
        (1.0, 0.029, 1.0),
        (1.0, 0.014, 1.0),
        (1.0, 0.013, 0.5),  # below target / 1.5
        (80.0, 9.0, 100.0),  # clamped
        (1e-4, 0.0, 1e-4),
        (0.0, 9.0, 0.0),  # off
        (100.0, 1e30, 100.0),  # stuck high stays finite
    ],
)
def test_the_penalty_follows_the_divergence(coefficient: float, divergence: float, adapted: float) -> None:
    found = adapted_coefficient(torch.tensor(coefficient), torch.tensor(divergence), DivergenceParameters(target=0.02))
    assert found.item() == pytest.approx(adapted)
