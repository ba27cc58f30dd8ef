"""Compiled training: what the eager one says, with nothing frozen that changes, or the eager one and a word why."""

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import cut_windows
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.compiled import (
    PAYS_FROM,
    CompiledLoss,
    _compiled_loss,
    compiles,
    shared_loss,
)
from sentio_kedro.agent.ppo.learners import SamplingLearner, make_learner
from sentio_kedro.agent.ppo.update import Coefficients, minibatch_loss
from sentio_kedro.agent.training.population import count_workers
from sentio_kedro.config import (
    AgentParameters,
    DivergenceParameters,
    NetworkParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.market.tensors import MarketTensors

TRADING = TradingParameters()
TRAINING = TrainingParameters(
    advantages="sampled", windows=4, replicas=2, episode_bars=5, minibatches=2,
    divergence=DivergenceParameters(coefficient=0.5), compile="always", device="cpu",
)  # fmt: skip
PARAMETERS = AgentParameters(NetworkParameters(), TRAINING, TRADING)
CPU = torch.device("cpu")
Build = Callable[..., PolicyNetwork]
Markets = Callable[..., MarketTensors]


def learn(
    network: PolicyNetwork, market: MarketTensors, learner: SamplingLearner, updates: int, *, frozen: bool = False
) -> list[Tensor]:
    """Weights after updates whose learning rate and coefficients all differ; ``frozen`` keeps the first ones."""
    device = market.close.device
    windows = cut_windows(market, torch.tensor([10, 17, 25, 12], device=device), 5, 8, TRADING)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2, eps=1e-5)
    generator, kind = torch.Generator(device).manual_seed(0), next(network.parameters()).detach()
    for index in range(updates):
        at = 0 if frozen else index
        optimiser.param_groups[0]["lr"] = 1e-2 / (1 + at % 7)
        weights = Coefficients(kind.new_tensor(0.01 * (1 + at % 5)), kind.new_tensor(0.1 * (1 + at % 3)))
        draws = learner.draw(windows, generator)
        seen = learner.collect(network, windows, draws)
        known = learner.estimate(network, windows, seen, draws, None).targets
        for part in torch.randperm(4, generator=generator, device=device).chunk(2):
            optimiser.zero_grad()
            learner.loss(network, windows, seen, known, part, weights)[0].backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return [weight.detach().clone() for weight in network.parameters()]


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Compiled functions of this test alone."""
    _compiled_loss.cache_clear()
    yield
    _compiled_loss.cache_clear()


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None or " " in torch.__path__[0],
    reason="compilation on a CPU needs g++, and torch does not quote a path with a space to its linker",
)
def test_compiled_updates_equal_eager_ones_while_learning_rate_and_coefficients_change(
    lively: Build, market: Markets
) -> None:
    loss = CompiledLoss(minibatch_loss, graphs=False)
    compiled = SamplingLearner(PARAMETERS, loss_function=loss)
    found = learn(lively(layers=1), market(), compiled, 6)
    assert loss.works
    expected = learn(lively(layers=1), market(), SamplingLearner(PARAMETERS), 6)
    frozen = learn(lively(layers=1), market(), SamplingLearner(PARAMETERS), 6, frozen=True)
    for after, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(after, wanted, rtol=1e-7, atol=1e-7)
    assert max(float((a - b).abs().max()) for a, b in zip(expected, frozen, strict=True)) > 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_cuda_graphs_freeze_neither_learning_rate_nor_coefficients(
    lively: Build, market: Markets, forgotten: None
) -> None:
    """Trap 32: a captured graph replays the numbers it was captured with."""
    device = torch.device("cuda")
    compiled = make_learner(PARAMETERS, device)
    assert isinstance(compiled, SamplingLearner)
    assert isinstance(compiled.loss_function, CompiledLoss)
    assert compiled.loss_function.graphs
    learners = compiled, SamplingLearner(PARAMETERS)
    there = market().to(device, torch.float64)
    graph, eager = (learn(lively().to(device), there, learner, 50) for learner in learners)
    assert compiled.loss_function.works
    for after, wanted in zip(graph, eager, strict=True):
        torch.testing.assert_close(after, wanted, rtol=1e-6, atol=1e-6)


def test_where_nothing_compiles_training_is_eager_to_the_bit_and_the_log_says_why_once(
    lively: Build, market: Markets, forgotten: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        def call(*_: Any, **__: Any) -> NoReturn:
            raise RuntimeError("no compiler found\nand a long trace")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    learner = make_learner(PARAMETERS, CPU)
    assert isinstance(learner, SamplingLearner)
    with caplog.at_level(logging.WARNING):
        found = learn(lively(), market(), learner, 2)
    assert [record.getMessage() for record in caplog.records] == [
        "The loss could not be compiled and runs eagerly: no compiler found",
    ]
    for after, wanted in zip(found, learn(lively(), market(), SamplingLearner(PARAMETERS), 2), strict=True):
        assert torch.equal(after, wanted)


class Unlearnable(torch.autograd.Function):
    """A sum whose gradient cannot be computed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> NoReturn:
        raise RuntimeError("no backward")


def test_a_gradient_that_does_not_compile_ends_the_compiled_loss_before_it_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def eager(network: torch.nn.Module) -> Any:
        return sum(weight.square().sum() for weight in network.parameters()), None

    def compiled(network: torch.nn.Module) -> Any:
        return Unlearnable.apply(next(network.parameters())), None

    monkeypatch.setattr(torch, "compile", lambda *_, **__: compiled)
    loss, network = CompiledLoss(eager, graphs=False), torch.nn.Linear(2, 1)
    loss(network)[0].backward()
    assert not loss.works
    assert "runs eagerly: no backward" in caplog.text
    assert torch.equal(network.weight.grad, 2.0 * network.weight.detach())  # type: ignore[arg-type]


def test_compilation_is_off_until_asked_for_and_auto_asks_whether_it_pays() -> None:
    cuda, long = torch.device("cuda"), {"total_steps": PAYS_FROM}
    assert not compiles(TrainingParameters(), CPU)
    assert not compiles(TrainingParameters(compile="auto"), CPU)
    assert compiles(TrainingParameters(compile="auto", **long), CPU)  # type: ignore[arg-type]
    assert compiles(TrainingParameters(compile="always"), CPU)
    assert compiles(TrainingParameters(compile="auto"), cuda)
    assert not compiles(TrainingParameters(**long), cuda)  # type: ignore[arg-type]
    assert not compiles(TrainingParameters(compile="always"), None)


def test_all_members_share_one_compiled_loss_which_is_captured_on_a_gpu_unless_gradients_add_up_in_parts() -> None:
    cuda, always = torch.device("cuda"), TrainingParameters(compile="always")
    plain, captured = (shared_loss(minibatch_loss, always, device) for device in (CPU, cuda))
    assert plain is shared_loss(minibatch_loss, always, CPU)
    assert shared_loss(minibatch_loss, TrainingParameters(), CPU) is minibatch_loss
    assert isinstance(plain, CompiledLoss)
    assert isinstance(captured, CompiledLoss)
    assert (plain.graphs, captured.graphs) == (False, True)
    assert shared_loss(minibatch_loss, replace(always, accumulation=2), cuda) is plain


def test_compiled_functions_train_one_agent_at_a_time() -> None:
    wanted = TrainingParameters(device="cpu", workers=4)
    assert count_workers(wanted, 4) == 4
    assert count_workers(replace(wanted, compile="always"), 4) == 1
    assert count_workers(replace(wanted, compile="auto"), 4) == 4
