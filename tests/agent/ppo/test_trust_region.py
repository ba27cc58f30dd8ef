"""The trust region: a step that leads beyond it is halved or taken back, moments included, and ends the update."""

import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.ppo.update import UpdateReport, update
from sentio_kedro.config import DivergenceParameters, TrainingParameters

WINDOWS = 8


def one_weight() -> tuple[torch.nn.Linear, torch.optim.Adam]:
    network = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(0.0)
    return network, torch.optim.Adam(network.parameters(), lr=0.1)  # its first steps are 0.1 long


def walk(max_kl: float | None, halvings: int = 0, epochs: int = 2) -> tuple[float, list[float], torch.optim.Adam]:
    """A policy whose divergence is the square of its one weight; every step wants the weight to rise."""
    network, optimiser = one_weight()
    seen: list[float] = []

    def loss_of(index: Tensor) -> tuple[Tensor, UpdateReport]:
        weight = network.weight.sum()
        seen.append(weight.item())
        zero = torch.zeros(())
        return -weight, UpdateReport(zero, zero, zero, weight.detach().square(), zero)

    how = TrainingParameters(
        windows=WINDOWS, minibatches=2, epochs=epochs, divergence=DivergenceParameters(max_kl=max_kl, halvings=halvings)
    )
    generator = torch.Generator().manual_seed(0)
    update(network, optimiser, loss_of, WINDOWS, how, generator)  # type: ignore[arg-type]
    return network.weight.item(), seen, optimiser


def steps_of(optimiser: torch.optim.Adam) -> int:
    return int(next(iter(optimiser.state.values()))["step"])


def test_without_a_region_every_step_is_taken() -> None:
    weight, seen, optimiser = walk(None)
    assert weight == pytest.approx(0.4, abs=1e-4)
    assert len(seen) == steps_of(optimiser) == 4


def test_a_step_beyond_the_region_is_taken_back_with_its_moments_and_ends_the_update() -> None:
    weight, seen, optimiser = walk(0.15**2)
    assert weight == pytest.approx(0.1, abs=1e-4)  # the step from 0.1 to 0.2 was judged at the third minibatch
    assert seen == pytest.approx([0.0, 0.1, 0.2], abs=1e-4)
    assert steps_of(optimiser) == 1


def test_a_step_beyond_the_region_is_halved_until_it_is_inside() -> None:
    weight, _, optimiser = walk(0.13**2, halvings=3)
    assert weight == pytest.approx(0.125, abs=1e-4)  # 0.2, 0.15, 0.125
    assert steps_of(optimiser) == 2  # what Adam has seen stays seen
    assert walk(0.101**2, halvings=3)[0] == pytest.approx(0.1, abs=1e-4)  # 0.2, 0.15, 0.125, 0.1125: taken back


def test_the_last_step_is_judged_on_all_windows() -> None:
    weight, seen, _ = walk(0.35**2)
    assert seen == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.4], abs=1e-4)  # at last in two parts
    assert weight == pytest.approx(0.3, abs=1e-4)


def test_the_divergence_reported_is_the_one_that_the_update_led_to() -> None:
    def report_of(max_kl: float | None, coefficient: float, minibatches: int) -> float:
        network, optimiser = one_weight()

        def loss_of(index: Tensor) -> tuple[Tensor, UpdateReport]:
            weight, zero = network.weight.sum(), torch.zeros(())
            return -weight, UpdateReport(zero, zero, zero, weight.detach().square(), zero)

        divergence = DivergenceParameters(coefficient=coefficient, max_kl=max_kl)
        how = TrainingParameters(windows=WINDOWS, minibatches=minibatches, divergence=divergence)
        generator = torch.Generator().manual_seed(0)
        return update(network, optimiser, loss_of, WINDOWS, how, generator).kl.item()  # type: ignore[arg-type]

    assert report_of(None, 0.5, 1) == pytest.approx(0.1**2, rel=1e-3)  # one step, and its own divergence
    assert report_of(None, 0.5, 4) == pytest.approx(0.4**2, rel=1e-3)
    assert report_of(0.15**2, 0.5, 4) == pytest.approx(0.2**2, rel=1e-3)  # taken back, and still told
    assert report_of(0.35**2, 0.0, 4) == pytest.approx(0.4**2, rel=1e-3)
