"""One update: what it learns from, what it reports, and which windows it visits."""

from collections.abc import Callable

import pytest
import torch

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.rollout import Rollout, RolloutDraws, collect, draw_rollout
from sentio_kedro.agent.ppo.update import (
    Coefficients,
    SampledTargets,
    UpdateReport,
    cut_minibatch,
    estimate_targets,
    minibatch_loss,
    update,
    value_scale,
)
from sentio_kedro.config import TradingParameters, TrainingParameters
from sentio_kedro.market.tensors import MarketTensors

DOUBLE = torch.float64
TRADING = TradingParameters()
Build = Callable[..., PolicyNetwork]
Markets = Callable[..., MarketTensors]


def training(**changes: object) -> TrainingParameters:
    defaults = {"advantages": "sampled", "windows": 3, "minibatches": 1, "epochs": 1}
    return TrainingParameters(**(defaults | changes))  # type: ignore[arg-type]


def accounts(windows: Windows, replicas: int, seed: int) -> RolloutDraws:
    """Draws for ``replicas`` accounts per window and three actions."""
    return draw_rollout(windows, replicas, 3, torch.Generator().manual_seed(seed))


def experience(network: PolicyNetwork, market: MarketTensors) -> tuple[Windows, Rollout]:
    windows = cut_windows(market, torch.tensor([10, 17, 25]), 5, 8, TRADING)
    return windows, collect(network, windows, accounts(windows, 4, 0), value_scale(0.9), TRADING)


def test_the_value_scale_is_the_deviation_of_discounted_unit_rewards() -> None:
    assert value_scale(0.0) == 1.0
    assert value_scale(0.9) ** 2 == pytest.approx(sum(0.9 ** (2 * lag) for lag in range(2000)))


def test_the_baseline_moves_advantages_and_never_the_critics_targets(lively: Build, market: Markets) -> None:
    _, rollout = experience(lively(), market())
    raw = estimate_targets(rollout, training(path_baseline=False, gamma=0.9))
    less = estimate_targets(rollout, training(path_baseline=True, gamma=0.9))
    assert torch.equal(raw.returns, less.returns)
    torch.testing.assert_close(raw.returns * value_scale(0.9), raw.advantages + rollout.values)
    others = (raw.advantages.sum(2, keepdim=True) - raw.advantages) / 3
    torch.testing.assert_close(less.advantages, raw.advantages - others)


@pytest.mark.parametrize("changes", [{}, {"critic_target": "distribution"}])
def test_a_constant_reward_is_worth_its_perpetuity_to_the_end_of_every_window(
    lively: Build, market: Markets, changes: dict[str, object]
) -> None:
    _, rollout = experience(lively(), market())
    how = training(gamma=0.9, **changes)
    stops = torch.rand(rollout.rewards.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    rollout = rollout._replace(rewards=torch.full_like(rollout.rewards, 0.7))
    values = rollout.values
    for _ in range(400):
        after = torch.cat([values[1:], values[:1]])  # the state after a window is like its first
        seen = rollout._replace(values=values, bootstrap=values[0], drawn=after)
        values = estimate_targets(seen, how, stops).returns * value_scale(0.9)
    torch.testing.assert_close(values, torch.full_like(values, 0.7 / (1 - 0.9)), rtol=0, atol=1e-6)


def test_nothing_is_bootstrapped_from_the_state_after_a_death(lively: Build, market: Markets) -> None:
    _, rollout = experience(lively(), market())
    survived = rollout.survived.clone()
    survived[2:, 1, 2] = 0.0  # it lived at decision 2 and died after it
    died = rollout._replace(survived=survived)
    learned = estimate_targets(died, training(path_baseline=False, gamma=0.9))
    last = (2, 1, 2)
    torch.testing.assert_close(learned.advantages[last], rollout.rewards[last] - rollout.values[last])


def test_steps_of_dead_accounts_teach_nothing(lively: Build, market: Markets) -> None:
    network = lively()
    windows, rollout = experience(network, market())
    alive = rollout.alive.clone()
    alive[3:, 1, 2] = 0.0
    rollout = rollout._replace(alive=alive)
    learned = estimate_targets(rollout, training())
    dead = alive == 0.0
    wild = SampledTargets(
        learned.advantages.where(~dead, torch.tensor(1e6)), learned.returns.where(~dead, torch.tensor(-1e6))
    )
    calm_loss, calm = minibatch_loss(network, windows, rollout, learned, torch.arange(3), training())
    wild_loss, _ = minibatch_loss(network, windows, rollout, wild, torch.arange(3), training())
    assert calm_loss.item() == wild_loss.item()
    expected = -(learned.advantages[~dead]).mean().item()  # a mean over the living steps
    assert calm.policy_loss.item() == pytest.approx(expected, abs=1e-9)


def test_the_loss_is_the_weighted_sum_of_its_parts(lively: Build, market: Markets) -> None:
    network = lively()
    windows, rollout = experience(network, market())
    how = training(value=0.7, entropy=0.2)
    loss, report = minibatch_loss(network, windows, rollout, estimate_targets(rollout, how), torch.arange(3), how)
    expected = report.policy_loss + 0.7 * report.value_loss - 0.2 * report.entropy
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    assert report.entropy > 0.0


def test_an_update_makes_good_actions_likelier(lively: Build, market: Markets) -> None:
    network = lively()
    windows, rollout = experience(network, market())
    good = rollout.action == 1
    learned = SampledTargets(good.to(DOUBLE) - good.to(DOUBLE).mean(), rollout.values)
    how = training(entropy=0.0, value=0.0, epochs=5, clip=0.5)

    def loss_of(index: torch.Tensor) -> tuple[torch.Tensor, UpdateReport]:
        return minibatch_loss(network, windows, rollout, learned, index, how)

    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    update(network, optimiser, loss_of, 3, how, torch.Generator().manual_seed(0))
    after = collect(network, windows, accounts(windows, 4, 0), 1.0, TRADING)
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


def stepped(network: PolicyNetwork) -> PolicyNetwork:
    """The network after something has moved its weights."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3), dtype=DOUBLE))
    return network


def test_the_divergence_penalty_enters_loss_and_gradient(lively: Build, market: Markets) -> None:
    network = lively()
    windows, rollout = experience(network, market())
    learned = estimate_targets(rollout, training())
    stepped(network)
    how = training(divergence={"coefficient": 1.0})
    losses, gradients = [], []
    for coefficient in (0.0, 2.0):
        weights = Coefficients(torch.tensor(0.3, dtype=DOUBLE), torch.tensor(coefficient, dtype=DOUBLE))
        loss, report = minibatch_loss(network, windows, rollout, learned, torch.arange(3), how, weights)
        network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        gradients.append(network.head.policy.weight.grad.clone())  # type: ignore[union-attr]
    assert losses[1] - losses[0] == pytest.approx(2.0 * report.kl.item())
    assert report.kl > 0.0
    assert not torch.allclose(gradients[0], gradients[1])


def test_shares_of_parts_are_those_of_their_living_accounts() -> None:
    valid_steps = torch.tensor([4.0, 0.0, 3.0, 1.0, 9.0])
    parts = cut_minibatch(torch.tensor([3, 0, 1, 2]), 2, valid_steps)
    assert [(part.windows.tolist(), float(part.share)) for part in parts] == [([3, 0], 5 / 8), ([1, 2], 3 / 8)]
    (whole,) = cut_minibatch(torch.tensor([3, 1]), 1, valid_steps)
    assert float(whole.share) == 1.0
    assert [part.share for part in cut_minibatch(torch.tensor([3, 0, 1, 2]), 4, None)] == [0.25] * 4
    assert [float(part.share) for part in cut_minibatch(torch.tensor([1]), 1, valid_steps)] == [0.0]  # nobody lives


WHOLE = {"value": 0.7, "entropy": 0.2, "windows": 8, "minibatches": 2, "epochs": 2, "path_baseline": False}
PENALTY = {"divergence": {"coefficient": 0.5}}
BOUND = {"divergence": {"coefficient": 0.5, "target": 1e-4, "max_kl": 1e-3, "halvings": 2}}


@pytest.mark.parametrize("changes", [{}, PENALTY, BOUND], ids=["plain", "penalty", "trust region"])
@pytest.mark.parametrize("parts", [2, 4])
def test_a_minibatch_loss_in_parts_takes_the_same_steps_however_many_accounts_live_in_each(
    lively: Build, market: Markets, parts: int, changes: dict[str, object]
) -> None:
    results = []
    for accumulation in (1, parts):
        network, how = lively(), training(**WHOLE, **changes, accumulation=accumulation)
        windows = cut_windows(market(), torch.arange(10, 26, 2), 5, 8, TRADING)
        draws = draw_rollout(windows, 4, 3, torch.Generator().manual_seed(0))
        rollout = collect(network, windows, draws, value_scale(0.9), TRADING)
        alive = rollout.alive.clone()
        for window, lives in enumerate([5, 1, 3, 0, 5, 2, 5, 4]):
            alive[lives:, window, :3] = 0.0
        rollout = rollout._replace(alive=alive)
        learned = estimate_targets(rollout, how)

        def loss_of(
            index: torch.Tensor,
            network: PolicyNetwork = network,
            windows: Windows = windows,
            rollout: Rollout = rollout,
            learned: SampledTargets = learned,
            how: TrainingParameters = how,
        ) -> tuple[torch.Tensor, UpdateReport]:
            return minibatch_loss(network, windows, rollout, learned, index, how)

        optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
        valid_steps = alive.sum((0, 2, 3))
        report = update(network, optimiser, loss_of, 8, how, torch.Generator().manual_seed(0), valid_steps)
        results.append((*network.state_dict().values(), *report))
    for whole, added in zip(*results, strict=True):
        torch.testing.assert_close(whole, added, rtol=0.0, atol=1e-10)


def test_draws_of_the_critic_are_its_quantiles_and_are_collected_only_when_asked(
    lively: Build, market: Markets
) -> None:
    network = lively()
    windows, rollout = experience(network, market())
    assert rollout.drawn is None
    with pytest.raises(ValueError, match=r"`rollout.drawn` must hold draws"):
        estimate_targets(rollout, training(critic_target="distribution"))
    draws = draw_rollout(windows, 4, 3, torch.Generator().manual_seed(0), quantiles=5)
    again = collect(network, windows, draws, 1.0, TRADING)
    assert again.drawn is not None
    assert torch.equal(again.action, rollout.action)  # drawing comes after acting
    embedding = network.encoder(windows.features, 6).transpose(0, 1)[:, :, None]
    projected = network.head.project(embedding, windows.posterior)
    quantiles = network.head.quantiles(network.head.hidden(projected[1:-1], again.account[1:]))
    assert ((again.drawn[:-1, ..., None] - quantiles).abs().min(-1).values < 1e-9).all()
    learned = estimate_targets(again, training(critic_target="distribution"), draws.stop)
    assert torch.equal(learned.advantages, estimate_targets(again, training()).advantages)
    assert not torch.equal(learned.returns, estimate_targets(again, training()).returns)
