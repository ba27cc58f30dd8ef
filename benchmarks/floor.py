"""Lower bound on the time of an update on this machine: its arithmetic and its memory traffic over ceilings.

FLOPs are those of matrix products, counted by torch. Bytes are what the gradient needs to keep, written once and read
once, and the weights with their gradients and moments at every optimiser step. Both ceilings are measured: the rate of
a large matrix product, and that of a copy. An update cannot be faster than the larger of the two quotients. What a
rollout's chain of small steps costs is in neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sentio_kedro.agent.ppo.learners import make_learner
from sentio_kedro.agent.ppo.update import Coefficients
from workload import LearningRun

SIZE, COPIED = 2048, 64 << 20  # rows of the matrices, floats that are copied
ADAM_PASSES = 7  # over the weights at a step: weight, gradient and two moments are read, three of them written


def _best(function: Callable[[], object], device: torch.device, runs: int = 5) -> float:
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times)


def ceilings(device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[float, float]:
    """FLOPs per second of a matrix product in ``dtype``, and bytes per second of a copy, the best of some runs."""
    a, b = (torch.randn(SIZE, SIZE, device=device, dtype=dtype) for _ in range(2))
    source = torch.zeros(COPIED, device=device)
    target = torch.empty_like(source)
    copied = 2 * source.element_size() * COPIED / _best(lambda: target.copy_(source), device)
    return 2.0 * SIZE**3 / _best(lambda: a @ b, device), copied


def work(run: LearningRun) -> tuple[float, float]:
    """FLOPs and least bytes of one update; counted on a rollout, one minibatch and its gradient, run eagerly."""
    training, network = run.parameters.training, run.member.network
    learner, windows = make_learner(run.parameters), run.windows()
    with FlopCounterMode(display=False) as gathering:
        draws = learner.draw(windows, run.generator)
        experience = learner.collect(network, windows, draws)
        learned = learner.estimate(network, windows, experience, draws, None).targets
    index = torch.arange(training.windows // training.minibatches, device=run.device)
    weights = Coefficients(run.member.penalty, run.member.penalty)
    saved: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return x

    with FlopCounterMode(display=False) as forward, torch.no_grad():
        learner.loss(network, windows, experience, learned, index, weights)
    with FlopCounterMode(display=False) as learning:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            loss, _ = learner.loss(network, windows, experience, learned, index, weights)
        loss.backward()  # type: ignore[no-untyped-call]
    network.zero_grad(set_to_none=True)
    steps = training.epochs * training.minibatches
    flops = gathering.get_total_flops() + steps * learning.get_total_flops()
    flops += training.minibatches * forward.get_total_flops()  # the divergence after the update
    size = sum(weight.nbytes for weight in network.parameters())
    return float(flops), float(steps * (2 * sum(saved.values()) + ADAM_PASSES * size))


def floor(run: LearningRun, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Seconds that one update takes at least, with what they follow from."""
    flops, moved = work(run)
    peak, bandwidth = ceilings(run.device, dtype)
    return {
        "flops": flops,
        "bytes": moved,
        "peak_flops_per_second": peak,
        "peak_bytes_per_second": bandwidth,
        "seconds_per_update_at_least": max(flops / peak, moved / bandwidth),
    }
