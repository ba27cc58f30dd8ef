"""Masked categoricals: illegal actions weigh nothing, teach nothing and break nothing, in any precision."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.agent.network.distributions import (
    divergence,
    entropy,
    gumbel_noise,
    masked_log_probabilities,
)

DOUBLE = torch.float64
MASKS = st.lists(st.booleans(), min_size=2, max_size=6).filter(any)


def random_logits(actions: int, seed: int, rows: int = 3, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn((rows, actions), generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


@given(MASKS, st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_illegal_actions_have_probability_zero_and_legal_ones_add_up_to_one(mask: list[bool], seed: int) -> None:
    legal = torch.tensor(mask)
    logits = torch.where(legal, random_logits(len(mask), seed), 50.0)  # the illegal ones would win
    probabilities = masked_log_probabilities(logits, legal).exp()
    assert (probabilities[:, ~legal] == 0.0).all()
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(3, dtype=DOUBLE))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_illegal_logits_get_no_gradient_and_no_gradient_is_nan(dtype: torch.dtype) -> None:
    logits = torch.tensor([[3.0, -2.0, 40.0, 1.0], [30.0, -30.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    legal = torch.tensor([[True, True, False, True], [True, True, False, False]])
    log_probabilities = masked_log_probabilities(logits, legal)
    assert log_probabilities.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    old = masked_log_probabilities(torch.zeros_like(logits), legal).detach()
    spread = entropy(log_probabilities)
    assert spread.isfinite().all()
    (spread.sum() + divergence(old, log_probabilities).sum() + log_probabilities[:, 0].sum()).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad[~legal] == 0.0).all()
    assert (logits.grad[0, legal[0]] != 0.0).all()


@given(MASKS, st.integers(0, 1000), st.sampled_from([0.0, 0.1, 3.0, 100.0]))
@settings(max_examples=40, deadline=None)
def test_entropy_is_at_most_the_logarithm_of_the_legal_actions(mask: list[bool], seed: int, scale: float) -> None:
    legal = torch.tensor(mask)
    spread = entropy(masked_log_probabilities(random_logits(len(mask), seed, scale=scale), legal))
    most = math.log(sum(mask))
    assert (spread >= -1e-12).all()
    assert (spread <= most + 1e-12).all()
    if scale == 0.0:
        torch.testing.assert_close(spread, torch.full_like(spread, most))


def test_where_all_actions_are_legal_it_is_log_softmax() -> None:
    logits = random_logits(5, seed=1, rows=20, scale=10.0)
    found = masked_log_probabilities(logits, torch.ones(20, 5, dtype=torch.bool))
    torch.testing.assert_close(found, torch.log_softmax(logits, -1), rtol=1e-12, atol=1e-12)


def test_huge_logits_do_not_overflow() -> None:
    found = masked_log_probabilities(torch.tensor([[1000.0, 0.0]]), torch.tensor([[True, True]]))
    assert found.tolist() == [[0.0, -1000.0]]


@given(MASKS, st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_divergence_is_exact_and_never_negative(mask: list[bool], seed: int) -> None:
    legal = torch.tensor(mask)
    old = masked_log_probabilities(random_logits(len(mask), seed), legal)
    new = masked_log_probabilities(random_logits(len(mask), seed + 1), legal)
    found = divergence(old, new)
    assert (found >= -1e-12).all()
    assert (divergence(old, old) == 0.0).all()
    for row in range(3):
        exact = sum(
            math.exp(p) * (p - q) for p, q, able in zip(old[row].tolist(), new[row].tolist(), mask, strict=True) if able
        )
        assert found[row].item() == pytest.approx(exact, abs=1e-10)


def test_gumbel_draws_sample_each_action_as_often_as_its_probability() -> None:
    probabilities = torch.tensor([0.55, 0.3, 0.15], dtype=DOUBLE)
    draws = 40_000
    noise = gumbel_noise((draws, 3), torch.Generator().manual_seed(0), probabilities)
    counts = torch.bincount((probabilities.log() + noise).argmax(-1), minlength=3)
    error = (counts / draws - probabilities) / (probabilities * (1 - probabilities) / draws).sqrt()
    assert error.abs().max() < 4.0


def test_gumbel_draws_have_the_moments_of_the_law_and_its_generator_alone_decides_them() -> None:
    like = torch.zeros((), dtype=torch.float32)
    first = gumbel_noise((50_000,), torch.Generator().manual_seed(3), like)
    torch.manual_seed(9)
    assert torch.equal(first, gumbel_noise((50_000,), torch.Generator().manual_seed(3), like))
    assert first.isfinite().all()
    assert first.dtype == torch.float32
    assert first.mean().item() == pytest.approx(0.5772, abs=0.03)
    assert first.std().item() == pytest.approx(math.pi / math.sqrt(6.0), abs=0.03)
