"""All-action advantages: the grid stands where it says, and its values are those of a plain recursion."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.all_action import grid_loss
from sentio_kedro.agent.ppo.grid.positions import PositionGrid, draw_grid, position_grid
from sentio_kedro.agent.ppo.grid.values import GridTargets, evaluate_grid
from sentio_kedro.agent.ppo.update import update, value_scale
from sentio_kedro.config import CostParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.tensors import MarketTensors

DOUBLE = torch.float64
TRADING = TradingParameters(
    levels=[-1.0, 0.0, 0.5, 1.0],
    gross_limit=1.5,
    max_drawdown=0.3,
    costs=CostParameters(commission_bps=20.0, half_spread_bps=10.0),
)
STEPS, CONTEXT, GAMMA = 4, 8, 0.9
DISCOUNTED = TrainingParameters(gamma=GAMMA)
Build = Callable[..., PolicyNetwork]
Markets = Callable[..., MarketTensors]


def windows_of(market: MarketTensors, steps: int = STEPS) -> Windows:
    return cut_windows(market, torch.tensor([10, 20, 25]), steps, CONTEXT, TRADING)


def grid_of(windows: Windows, trading: TradingParameters = TRADING, seed: int = 0) -> PositionGrid:
    return position_grid(windows, trading, draw_grid(windows, len(trading.levels), torch.Generator().manual_seed(seed)))


def closed_market(market: Markets, assets: int = 2) -> MarketTensors:
    whole = market(assets=assets)
    whole.tradable[12, 0] = False
    whole.tradable[22:24, 1] = False
    whole.tradable[29, :] = False  # the bar after the last decision of the last window
    return whole


@torch.no_grad()
def slow_values(
    network: PolicyNetwork, windows: Windows, grid: PositionGrid, learned: GridTargets, greedy_exponent: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Go back along one window and one asset at a time, in plain numbers.

    Values follow the policy's probabilities raised to ``greedy_exponent``; advantages are over the policy's own mean.
    """
    steps, windows_, replicas, assets, actions = grid.rewards.shape
    embedding = network.encoder(windows.features, steps + 1)[:, -1]
    values, advantages = torch.zeros(grid.rewards.shape[:-1]), torch.zeros(grid.rewards.shape)
    for window in range(windows_):
        projected = network.head.project(embedding[window], windows.posterior[-1, window, 0])
        for asset in range(assets):
            hidden = [network.head.hidden(projected, grid.account[-1, window, replica]) for replica in range(replicas)]
            worth = [network.head.value(each)[asset].item() * value_scale(GAMMA) for each in hidden]
            for step in reversed(range(steps)):
                before = []
                for replica in range(replicas):
                    place = (step, window, replica, asset)
                    chances, quality = learned.log_probabilities[place].exp().tolist(), []
                    for action in range(actions):
                        share = grid.weight[place][action].item()
                        below, above = (int(part[place][action]) for part in (grid.below, grid.above))
                        following = (1.0 - share) * worth[below] + share * worth[above]
                        quality.append(grid.rewards[place][action].item() + GAMMA * following)
                    powers = [(p / max(chances)) ** greedy_exponent for p in chances]
                    before.append(sum(p * q for p, q in zip(powers, quality, strict=True)) / sum(powers))
                    values[place] = before[-1]
                    mean = sum(p * q for p, q in zip(chances, quality, strict=True))
                    advantages[place] = torch.tensor(quality) - mean
                worth = before
    return values, advantages


@pytest.mark.parametrize("greedy_exponent", [1.0, 3.0, 20.0])
@pytest.mark.parametrize("closed", [False, True])
def test_values_equal_a_slow_backward_recursion(
    lively: Build, market: Markets, closed: bool, greedy_exponent: float
) -> None:
    network = lively(actions=4)
    windows = windows_of(closed_market(market) if closed else market())
    grid = grid_of(windows)
    learned = evaluate_grid(network, windows, grid, replace(DISCOUNTED, greedy_exponent=greedy_exponent))
    values, advantages = slow_values(network, windows, grid, learned, greedy_exponent)
    torch.testing.assert_close(learned.returns.float() * value_scale(GAMMA), values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(learned.advantages.float(), advantages, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("greedy_exponent", [1.0, 20.0, 1e6])
def test_advantages_have_mean_zero_under_the_policy_and_illegal_actions_no_weight(
    lively: Build, market: Markets, greedy_exponent: float
) -> None:
    windows = windows_of(closed_market(market))
    grid = grid_of(windows)
    learned = evaluate_grid(lively(actions=4), windows, grid, replace(DISCOUNTED, greedy_exponent=greedy_exponent))
    chances = learned.log_probabilities.exp()
    assert (chances[~grid.legal] == 0.0).all()
    assert not grid.legal.all()
    assert (chances * learned.advantages).sum(-1).abs().max() < 1e-9
    assert learned.advantages[grid.legal].std() > 0.1


def test_the_first_minibatch_has_no_divergence_and_no_policy_loss(lively: Build, market: Markets) -> None:
    network, windows = lively(actions=4), windows_of(closed_market(market))
    grid = grid_of(windows)
    learned = evaluate_grid(network, windows, grid, DISCOUNTED)
    for index in ([0, 1, 2], [2, 0], [1]):
        training = TrainingParameters(windows=3, minibatches=1, value=0.7, entropy=0.2)
        loss, report = grid_loss(network, windows, grid, learned, torch.tensor(index), training)
        assert report.kl.abs().item() < 1e-12
        assert report.policy_loss.abs().item() < 1e-9  # all ratios 1 and advantages of mean zero
        expected = 0.7 * report.value_loss - 0.2 * report.entropy
        assert loss.item() == pytest.approx(expected.item(), abs=1e-9)


def test_the_policy_gradient_is_that_of_the_expected_advantage(lively: Build, market: Markets) -> None:
    network, windows = lively(actions=4), windows_of(market())
    grid = grid_of(windows)
    learned = evaluate_grid(network, windows, grid, DISCOUNTED)
    training = TrainingParameters(windows=3, minibatches=1, value=0.0, entropy=0.0)
    loss, _ = grid_loss(network, windows, grid, learned, torch.arange(3), training)
    (found,) = torch.autograd.grad(loss, network.head.policy.bias)
    hidden = network.head.hidden(
        network.head.project(
            network.encoder(windows.features[:, :-1], STEPS).transpose(0, 1)[:, :, None], windows.posterior[:-1]
        ),
        grid.account[:-1],
    )
    logits = network.head.logits(hidden, windows.posterior[:-1]).masked_fill(~grid.legal, float("-inf"))
    expected = -(logits.softmax(-1) * learned.advantages).sum(-1).mean()
    (direct,) = torch.autograd.grad(expected, network.head.policy.bias)
    torch.testing.assert_close(found, direct)
    assert direct.abs().max() > 1e-4


def test_a_few_updates_find_a_planted_pattern(lively: Build, market: Markets) -> None:
    whole = market(bars=60, assets=1, features=1, seed=3)
    ahead = torch.where(torch.rand(60, generator=torch.Generator().manual_seed(1)) < 0.5, -1.0, 1.0).to(DOUBLE)
    returns = torch.cat([torch.zeros(1), 0.01 * ahead[:-1]])  # the feature of a bar tells the next move
    close = 100.0 * returns.to(DOUBLE).cumsum(0).exp()[:, None]
    planted = whole._replace(
        features=ahead[:, None, None],
        close=close,
        open=torch.cat([close[:1], close[:-1]]),
        volatility=torch.full_like(close, 0.01),
    )
    trading = TradingParameters(costs=CostParameters(commission_bps=0, half_spread_bps=0))
    windows = cut_windows(planted, torch.arange(10, 50, 4), 4, CONTEXT, trading)
    training = TrainingParameters(windows=10, minibatches=2, epochs=2, entropy=0.01, gamma=0.5)
    network = lively(assets=1, features=1, layers=1)
    with torch.no_grad():
        network.head.policy.weight.mul_(0.003)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    draws = torch.Generator().manual_seed(0)
    mean_rewards = []
    for _ in range(12):
        grid = position_grid(windows, trading, draw_grid(windows, len(trading.levels), draws))
        learned = evaluate_grid(network, windows, grid, training)
        mean_rewards.append((learned.log_probabilities.exp() * grid.rewards).sum(-1).mean().item())
        update(
            network,
            optimiser,
            lambda index, grid=grid, learned=learned: grid_loss(network, windows, grid, learned, index, training),  # type: ignore[misc]
            10,
            training,
            draws,
        )
    assert abs(mean_rewards[0]) < 0.2
    assert mean_rewards[-1] > 0.7  # of at most 1 per bar
