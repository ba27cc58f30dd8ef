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


def walk(
    max_kl: float | None, halvings: int = 0, epochs: int = 2, best: float = 9.0
) -> tuple[float, list[float], torch.optim.Adam, float]:
    """A policy whose divergence is the square of its one weight, and whose surrogate falls up to a ``best`` weight.

    The critic's part of the loss falls twice as fast, without an end.
    """
    network, optimiser = one_weight()
    seen: list[float] = []

    def loss_of(index: Tensor) -> tuple[Tensor, UpdateReport]:
        weight = network.weight.sum()
        seen.append(weight.item())
        surrogate, critic, zero = (weight - best).abs(), -2.0 * weight, torch.zeros(())
        parts = UpdateReport(surrogate.detach(), critic.detach(), zero, weight.detach().square(), zero)
        return surrogate + 0.7 * critic, parts

    how = TrainingParameters(
        windows=WINDOWS,
        minibatches=2,
        epochs=epochs,
        value=0.7,
        divergence=DivergenceParameters(max_kl=max_kl, halvings=halvings),
    )
    generator = torch.Generator().manual_seed(0)
    report = update(network, optimiser, loss_of, WINDOWS, how, generator)  # type: ignore[arg-type]
    return network.weight.item(), seen, optimiser, report.kl.item()


def steps_of(optimiser: torch.optim.Adam) -> int:
    return int(next(iter(optimiser.state.values()))["step"])


def test_without_a_region_every_step_is_taken_and_nothing_is_judged() -> None:
    weight, seen, optimiser, _ = walk(None, best=0.14)
    assert weight > 0.3
    assert len(seen) == steps_of(optimiser) == 4


def test_an_update_inside_the_region_is_taken_whole() -> None:
    weight, seen, optimiser, divergence = walk(0.41**2)
    assert weight == pytest.approx(0.4, abs=1e-4)
    assert seen == pytest.approx([0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.4], abs=1e-4)  # before and after in two parts
    assert steps_of(optimiser) == 4
    assert divergence == pytest.approx(0.4**2, rel=1e-3)


def test_an_update_beyond_the_region_is_taken_back_with_its_moments() -> None:
    weight, _, optimiser, divergence = walk(0.39**2)
    assert weight == 0.0
    assert all(not state for state in optimiser.state.values())
    assert divergence == pytest.approx(0.4**2, rel=1e-3)  # taken back, and still told


def test_an_update_beyond_the_region_is_halved_until_it_is_inside() -> None:
    weight, _, optimiser, _ = walk(0.15**2, halvings=3)
    assert weight == pytest.approx(0.1, abs=1e-4)  # 0.4, 0.2, 0.1
    assert steps_of(optimiser) == 4  # what Adam has seen stays seen
    assert walk(0.04**2, halvings=3)[0] == 0.0  # 0.2, 0.1, 0.05: taken back


def test_an_update_that_worsens_the_surrogate_is_taken_back_although_the_whole_loss_falls() -> None:
    weight, _, optimiser, _ = walk(1.0, best=0.04, epochs=1)  # the surrogate is 0.04 before and 0.13 or more after
    assert weight == 0.0
    assert all(not state for state in optimiser.state.values())


def test_an_update_that_worsens_the_surrogate_is_halved_until_it_does_not() -> None:
    whole = walk(None, best=0.04, epochs=1)[0]
    halved = walk(1.0, halvings=3, best=0.04, epochs=1)[0]
    assert halved == pytest.approx(whole / 4.0)
    assert whole / 2.0 > 2 * 0.04 > halved  # no further from the best one than the start


@pytest.mark.parametrize(("coefficient", "minibatches"), [(0.5, 1), (0.5, 4), (0.0, 2)])
def test_the_divergence_told_is_the_one_after_the_last_step(coefficient: float, minibatches: int) -> None:
    network, optimiser = one_weight()

    def loss_of(index: Tensor) -> tuple[Tensor, UpdateReport]:
        weight, zero = network.weight.sum(), torch.zeros(())
        return -weight, UpdateReport(zero, zero, zero, weight.detach().square(), zero)

    divergence = DivergenceParameters(coefficient=coefficient)
    how = TrainingParameters(windows=WINDOWS, minibatches=minibatches, divergence=divergence)
    report = update(network, optimiser, loss_of, WINDOWS, how, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    expected = (0.1 * minibatches) ** 2 if coefficient else 0.1**2 / 2.0  # without a penalty the mean before the steps
    assert report.kl.item() == pytest.approx(expected, rel=1e-3)
