"""The benchmarks of speed measure what they say: steps over the median update, slopes."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

import scaling
import throughput
from sentio_kedro.config import AgentParameters
from workload import LearningRun, Workload, seed_workload, standard_workload

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def small(windows: int = 4, learner: str = "enhanced", layers: int = 1) -> Workload:
    """The standard workload in sizes that take no time."""
    start = standard_workload(learner, replicas=2)
    network = replace(start.parameters.network, width=8, layers=layers, heads=2, window=4, hidden=8, quantiles=4)
    training = replace(start.parameters.training, windows=windows, episode_bars=8, epochs=2, minibatches=2)
    return start._replace(parameters=AgentParameters(network, training, start.parameters.trading))


def test_the_seed_workload_is_the_one_that_the_target_names() -> None:
    network, training = seed_workload().parameters.network, seed_workload().parameters.training
    assert (network.layers, network.width, network.heads, network.window) == (6, 512, 8, 120)
    assert (training.windows, training.replicas, training.episode_bars) == (8, 16, 1000)
    assert (training.epochs, training.minibatches) == (4, 4)
    assert throughput.ROLLOUTS * training.windows * training.replicas == 1024


def test_an_update_of_a_run_learns_in_as_many_steps_as_are_counted() -> None:
    run = LearningRun(small(), CPU)
    before = [weight.detach().clone() for weight in run.member.network.head.parameters()]
    assert {"seconds_paths", "seconds_rollout", "seconds_advantages", "seconds_update"} <= run.update().keys()
    assert run.optimiser_steps() == 2 * 2
    after = run.member.network.head.parameters()
    assert any(not torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_the_rate_is_steps_over_the_median_update(monkeypatch: pytest.MonkeyPatch) -> None:
    lasts = iter([50.0, 50.0, 50.0, 1.0, 4.0, 2.0])  # three before timing
    now = {"wall": 0.0}

    class Run(LearningRun):
        def update(self) -> dict[str, float]:
            super().update()
            now["wall"] += next(lasts)
            return {"seconds_rollout": 0.25}

    monkeypatch.setattr(throughput, "LearningRun", Run)
    monkeypatch.setattr(time, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(time, "process_time", lambda: 0.5 * now["wall"])
    told = throughput.measure(small(learner="plain"), 3, CPU)
    steps = 4 * 2 * 8  # windows x replicas x decisions
    assert told["env_steps_per_second"] == pytest.approx(steps / 2.0)
    assert told["fastest_env_steps_per_second"] == pytest.approx(steps / 1.0)
    assert told["env_steps_per_cpu_second"] == pytest.approx(steps / 1.0)
    assert told["unique_bars_per_second"] == pytest.approx(4 * 8 / 2.0)
    assert (told["optimizer_steps_per_update"], told["seconds_before_timing"]) == (4.0, 150.0)


def test_a_slope_is_an_exponent() -> None:
    assert scaling.slope([1, 2, 4, 8], [3.0, 6.0, 12.0, 24.0]) == pytest.approx(1.0)
    assert scaling.slope([16, 64], [2.0, 32.0]) == pytest.approx(2.0)
    assert scaling.slope([1, 2, 4], [5.0, 5.0, 5.0]) == pytest.approx(0.0)


def test_each_size_alone_is_scaled() -> None:
    for name, sizes in scaling.SIZES.items():
        for size in sizes:
            parameters = scaling.workload(**(scaling.BASE | {name: size})).parameters
            found = {
                "bars": parameters.training.episode_bars,
                "replicas": parameters.training.replicas,
                "window": parameters.network.window,
                "layers": parameters.network.layers,
            }
            assert found == scaling.BASE | {name: size}
