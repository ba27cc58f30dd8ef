"""A head in half precision: illegal actions break nothing, and what is learned from is computed in float32."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.network.distributions import divergence, entropy, masked_log_probabilities
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.losses import clipped_surrogate, critic_loss
from sentio_kedro.trading.step.policies import ACCOUNT_FEATURES

HALF = [torch.bfloat16, torch.float16]
SHAPE = (6, 3, 2)  # bars, accounts, assets
Build = Callable[..., PolicyNetwork]


def masks(actions: int) -> Tensor:
    """Random masks, among them rows with one legal action and rows with all."""
    legal = torch.rand((*SHAPE, actions), generator=torch.Generator().manual_seed(0)) < 0.5
    legal[..., 0] |= ~legal.any(-1)
    legal[0] = torch.arange(actions) == 1
    legal[1] = True
    return legal


def outputs(network: PolicyNetwork, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Logits and quantiles of the head in ``dtype``."""
    head, draws = network.head.to(dtype), torch.Generator().manual_seed(1)
    embedding = torch.randn((6, 1, 2, 8), generator=draws).to(dtype)
    posterior = torch.rand((6, 1, 2), generator=draws).softmax(-1).to(dtype)
    account = torch.randn((*SHAPE, ACCOUNT_FEATURES), generator=draws).to(dtype)
    hidden = head.hidden(head.project(embedding, posterior), account)
    logits, quantiles = 4.0 * head.logits(hidden, posterior), head.quantiles(hidden)
    assert logits.dtype == quantiles.dtype == dtype
    return logits, quantiles


@pytest.mark.parametrize("dtype", HALF)
def test_illegal_actions_break_neither_entropy_nor_gradient_of_a_head_in_half_precision(
    lively: Build, dtype: torch.dtype
) -> None:
    network = lively()
    logits, quantiles = outputs(network, dtype)
    logits.retain_grad()
    legal, draws = masks(logits.shape[-1]), torch.Generator().manual_seed(2)
    new = masked_log_probabilities(logits, legal)
    old = masked_log_probabilities(torch.randn(logits.shape, generator=draws), legal)
    spread = entropy(new)
    assert spread.isfinite().all()
    assert (spread <= legal.sum(-1).float().log() + 1e-6).all()
    surrogate = clipped_surrogate(new - old, torch.randn(new.shape, generator=draws), 0.2)
    terms = (old.exp() * surrogate).sum(-1), critic_loss(quantiles, torch.randn(SHAPE, generator=draws)), spread
    terms = (*terms, divergence(old, new))
    assert all(term.dtype == torch.float32 for term in (new, surrogate, *terms))
    sum(term.mean() for term in terms).backward()  # type: ignore[union-attr]
    assert logits.grad is not None
    assert (logits.grad[~legal] == 0.0).all()
    assert logits.grad[legal].abs().sum() > 0.0
    for name, weight in network.head.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


@pytest.mark.parametrize("dtype", HALF)
def test_probabilities_and_losses_are_computed_in_float32(lively: Build, dtype: torch.dtype) -> None:
    logits, quantiles = (x.detach() for x in outputs(lively(), dtype))
    legal = masks(logits.shape[-1])
    exact = torch.log_softmax(logits.double().masked_fill(~legal, -math.inf), -1)
    found = masked_log_probabilities(logits, legal).double()
    torch.testing.assert_close(found[legal], exact[legal], rtol=1e-6, atol=1e-6)
    target = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    losses = critic_loss(quantiles, target).double()
    torch.testing.assert_close(losses, critic_loss(quantiles.double(), target.double()), rtol=1e-5, atol=1e-6)
