"""Weights of many members in one tensor, moved as torch's optimiser moves each."""

from collections.abc import Callable
from itertools import starmap

import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.constraints import TailMonitor
from sentio_kedro.agent.training.batched.stack import Stack, State, adam_step
from sentio_kedro.agent.training.member import Member
from sentio_kedro.config import TailParameters

DOUBLE = torch.float64
Build = Callable[..., PolicyNetwork]


def make_member(network: PolicyNetwork, steps: int) -> Member:
    """A member that has taken steps of random gradients."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01, eps=1e-5, weight_decay=0.1)
    draws = torch.Generator().manual_seed(steps)
    for _ in range(steps):
        for weight in network.parameters():
            weight.grad = torch.randn(weight.shape, generator=draws, dtype=DOUBLE)
        optimiser.step()
    zero = torch.zeros((), dtype=DOUBLE)
    return Member(network, optimiser, zero, TailMonitor(TailParameters(), zero))


def weights_of(member: Member) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in member.network.state_dict().items()}


def total(network: PolicyNetwork, scale: Tensor, features: Tensor) -> Tensor:
    """Something that depends on all parts of a network: embeddings, logits and values."""
    embedded = network.encoder(features, 4)
    hidden = network.head.hidden(network.head.project(embedded, features.new_ones(2)), features.new_ones(4))
    return scale * (embedded.sum() + network.head.logits(hidden, features.new_ones(2)).sum())


def test_a_step_is_that_of_adamw_for_each_member() -> None:
    draws = torch.Generator().manual_seed(0)
    gradients = [torch.randn(3, 5, generator=draws, dtype=DOUBLE) for _ in range(6)]
    weights, rates = torch.randn(3, 5, generator=draws, dtype=DOUBLE), torch.tensor([0.1, 0.01, 0.003], dtype=DOUBLE)
    group = {"betas": (0.9, 0.999), "eps": 1e-5, "weight_decay": 0.1}
    state = State(weights, torch.zeros_like(weights), torch.zeros_like(weights), torch.zeros(3))
    for gradient in gradients:
        state = adam_step(state, gradient, rates, group)
    assert state.steps.tolist() == [6.0] * 3
    for row, rate in enumerate(rates.tolist()):
        own = weights[row].clone().requires_grad_()
        optimiser = torch.optim.AdamW([own], lr=rate, eps=1e-5, weight_decay=0.1)
        for gradient in gradients:
            own.grad = gradient[row]
            optimiser.step()
        torch.testing.assert_close(state.weights[row], own.detach(), rtol=1e-12, atol=1e-12)


def test_members_show_what_the_stack_does_to_them_until_they_leave(lively: Build) -> None:
    members = list(starmap(make_member, [(lively(seed=0), 2), (lively(seed=1), 3)]))
    before = [weights_of(member) for member in members]
    stack = Stack(members)
    assert stack.state.steps.tolist() == [2.0, 3.0]
    for member, weights in zip(members, before, strict=True):
        assert all(torch.equal(value, weights[name]) for name, value in weights_of(member).items())
    stack.release(0)
    stack.put(State(*(part + 1.0 for part in stack.state)))
    assert all(torch.equal(value, before[0][name]) for name, value in weights_of(members[0]).items())
    names = dict(members[1].network.named_parameters())
    assert all(torch.equal(weights_of(members[1])[name], before[1][name] + 1.0) for name in names)
    steps = [{float(moments["step"]) for moments in member.optimiser.state.values()} for member in members]
    assert steps == [{2.0}, {4.0}]


def test_a_call_runs_each_member_with_its_own_weights(lively: Build) -> None:
    networks = [lively(seed=seed) for seed in range(3)]
    networks[2].encoder.set_scaler(torch.full((3,), 0.5), torch.full((3,), 2.0), torch.zeros(3))  # scalers differ, too
    features = torch.randn(3, 1, 12, 2, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    scale = torch.tensor([1.0, 2.0, 3.0], dtype=DOUBLE)
    alone = [total(network, scale[row], features[row]).item() for row, network in enumerate(networks)]
    stack = Stack([make_member(network, 0) for network in networks])
    assert stack.call(total, stack.state.weights, scale, features).tolist() == pytest.approx(alone, rel=1e-10)
    some = stack.call(total, stack.state.weights[[2, 0]], scale[[2, 0]], features[[2, 0]], rows=[2, 0])
    assert some.tolist() == pytest.approx([alone[2], alone[0]], rel=1e-10)
