"""One update: what it learns from, what it reports, and which windows it visits."""

from collections.abc import Callable

import pytest
import torch

from sentio_kedro.agent.networks import PolicyNetwork
from sentio_kedro.agent.rollout import Rollout, Windows, collect, cut_windows
from sentio_kedro.agent.update import Targets, UpdateReport, minibatch_loss, targets, update, value_scale
from sentio_kedro.config import TradingParameters, TrainingParameters
from sentio_kedro.market.tensors import MarketTensors

DOUBLE = torch.float64
TRADING = TradingParameters()
Build = Callable[..., PolicyNetwork]
Markets = Callable[..., MarketTensors]


def training(**changes: object) -> TrainingParameters:
    return TrainingParameters(**({"windows": 3, "minibatches": 1, "epochs": 1} | changes))  # type: ignore[arg-type]


def experience(network: PolicyNetwork, market: MarketTensors) -> tuple[Windows, Rollout]:
    windows = cut_windows(market, torch.tensor([10, 17, 25]), 5, 8, TRADING)
    return windows, collect(network, windows, 4, value_scale(0.9), TRADING, torch.Generator().manual_seed(0))


def test_the_value_scale_is_the_deviation_of_discounted_unit_rewards() -> None:
    assert value_scale(0.0) == 1.0
    assert value_scale(0.9) ** 2 == pytest.approx(sum(0.9 ** (2 * lag) for lag in range(2000)))


def test_the_baseline_moves_advantages_and_never_the_critics_targets(lively: Build, market: Markets) -> None:
    _, rollout = experience(lively(), market())
    raw = targets(rollout, training(path_baseline=False, gamma=0.9))
    less = targets(rollout, training(path_baseline=True, gamma=0.9))
    assert torch.equal(raw.returns, less.returns)
    torch.testing.assert_close(raw.returns * value_scale(0.9), raw.advantages + rollout.values)
    others = (raw.advantages.sum(2, keepdim=True) - raw.advantages) / 3
    torch.testing.assert_close(less.advantages, raw.advantages - others)


def test_nothing_is_bootstrapped_from_the_state_after_a_death(lively: Build, market: Markets) -> None:
    _, rollout = experience(lively(), market())
    survived = rollout.survived.clone()
    survived[2:, 1, 2] = 0.0  # it lived at decision 2 and died after it
    died = rollout._replace(survived=survived)
    learned = targets(died, training(path_baseline=False, gamma=0.9))
    last = (2, 1, 2)
    torch.testing.assert_close(learned.advantages[last], rollout.rewards[last] - rollout.values[last])


def test_steps_of_dead_accounts_teach_nothing(lively: Build, market: Markets) -> None:
    network = lively()
    windows, rollout = experience(network, market())
    alive = rollout.alive.clone()
    alive[3:, 1, 2] = 0.0
    rollout = rollout._replace(alive=alive)
    learned = targets(rollout, training())
    dead = alive == 0.0
    wild = Targets(learned.advantages.where(~dead, torch.tensor(1e6)), learned.returns.where(~dead, torch.tensor(-1e6)))
    calm_loss, calm = minibatch_loss(network, windows, rollout, learned, torch.arange(3), training())
    wild_loss, _ = minibatch_loss(network, windows, rollout, wild, torch.arange(3), training())
    assert calm_loss.item() == wild_loss.item()
    expected = -(learned.advantages[~dead]).mean().item()  # a mean over the living steps
    assert calm.policy_loss.item() == pytest.approx(expected, abs=1e-9)


def test_the_loss_is_the_weighted_sum_of_its_parts(lively: Build, market: Markets) -> None:
    network = lively()
    windows, rollout = experience(network, market())
    how = training(value=0.7, entropy=0.2)
    loss, report = minibatch_loss(network, windows, rollout, targets(rollout, how), torch.arange(3), how)
    expected = report.policy_loss + 0.7 * report.value_loss - 0.2 * report.entropy
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    assert report.entropy > 0.0


def test_an_update_makes_good_actions_likelier(lively: Build, market: Markets) -> None:
    network = lively()
    windows, rollout = experience(network, market())
    good = rollout.action == 1
    learned = Targets(good.to(DOUBLE) - good.to(DOUBLE).mean(), rollout.values)
    how = training(entropy=0.0, value=0.0, epochs=5, clip=0.5)

    def loss_of(index: torch.Tensor) -> tuple[torch.Tensor, UpdateReport]:
        return minibatch_loss(network, windows, rollout, learned, index, how)

    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    update(network, optimiser, loss_of, 3, how, torch.Generator().manual_seed(0))
    after = collect(network, windows, 4, 1.0, TRADING, torch.Generator().manual_seed(0))
    first = (..., slice(None), 1)
    assert after.log_probabilities[0][first].exp().mean() > rollout.log_probabilities[0][first].exp().mean() + 0.01
    _, report = loss_of(torch.arange(3))
    assert report.kl > 0.0


def fake_report(value: float) -> UpdateReport:
    return UpdateReport(*(torch.tensor(value) for _ in range(5)))


def test_each_pass_visits_every_window_once_in_an_order_of_the_generator_alone() -> None:
    network = torch.nn.Linear(1, 1)
    visits: list[list[list[int]]] = []
    for seed in (0, 0, 1):
        seen: list[list[int]] = []

        def loss_of(index: torch.Tensor, seen: list[list[int]] = seen) -> tuple[torch.Tensor, UpdateReport]:
            seen.append(index.tolist())
            return network.weight.sum(), fake_report(0.0)

        torch.manual_seed(len(visits))
        how = training(windows=12, minibatches=3, epochs=2)
        optimiser = torch.optim.SGD(network.parameters(), lr=0.0)
        update(network, optimiser, loss_of, 12, how, torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
        assert [len(index) for index in seen] == [4] * 6
        assert all(sorted(index for part in once for index in part) == list(range(12)) for once in (seen[:3], seen[3:]))
        assert seen[:3] != seen[3:]
        visits.append(seen)
    assert visits[0] == visits[1]
    assert visits[0] != visits[2]


def test_the_gradient_is_clipped_and_only_the_last_pass_is_reported() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    calls: list[float] = []

    def loss_of(_: torch.Tensor) -> tuple[torch.Tensor, UpdateReport]:
        calls.append(float(len(calls)))
        return 100.0 * network.weight.sum(), fake_report(calls[-1])

    before = network.weight.item()
    how = training(windows=4, minibatches=2, epochs=2, gradient_norm=0.25)
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
    report = update(network, optimiser, loss_of, 4, how, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert before - network.weight.item() == pytest.approx(4 * 0.25, abs=1e-4)
    assert report.policy_loss.item() == 2.5  # calls 2 and 3
    assert report.gradient_norm.item() == pytest.approx(100.0)  # before clipping
