"""All-action advantages: the grid stands where it says, and its values are those of a plain recursion."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.all_action import draw_grid, grid_loss, position_grid
from sentio_kedro.agent.ppo.grid_values import GridTargets, evaluate_grid
from sentio_kedro.agent.ppo.grid_walks import PositionGrid
from sentio_kedro.agent.ppo.update import update, value_scale
from sentio_kedro.config import CostParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import Decision, open_accounts
from sentio_kedro.trading.action_masks import HOLD
from sentio_kedro.trading.execution import execute
from sentio_kedro.trading.observations import hold_positions
from sentio_kedro.trading.position_limits import position_limits
from sentio_kedro.trading.step_data import FIXED, StepData

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


def level_of(grid: PositionGrid, window: int, replica: int, asset: int) -> int:
    return (replica + int(grid.shift[window, 0, asset])) % grid.legal.shape[2]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_asset_meets_each_level_once_per_bar(market: Markets, seed: int) -> None:
    grid = grid_of(windows_of(market(assets=3)), seed=seed)
    position, left = grid.account[..., 0], grid.account[..., 3]  # position in units of what is left: [S + 1, W, P, A]
    for window in range(3):
        for asset in range(3):
            assert sorted(level_of(grid, window, replica, asset) for replica in range(4)) == [0, 1, 2, 3]
            for replica in range(4):
                level = TRADING.levels[level_of(grid, window, replica, asset)]
                room = left[0, window, replica, asset].item()
                held = max(-room, min(level, room)) / max(room, 0.05)  # a level beyond the cap stands for the cap
                assert position[:, window, replica, asset].tolist() == pytest.approx([held] * (STEPS + 1))


def test_the_grid_depends_on_its_generator_alone_and_combines_assets_anew(market: Markets) -> None:
    windows = windows_of(market(assets=3))
    torch.manual_seed(0)
    first = grid_of(windows, seed=3)
    torch.manual_seed(1)
    again = grid_of(windows, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first[:-1], again[:-1], strict=True))  # the last are its limits
    shifts = {tuple(grid_of(windows, seed=seed).shift.flatten().tolist()) for seed in range(5)}
    assert len(shifts) > 1


def test_grid_accounts_differ_in_what_they_lost_and_how_long_they_held(market: Markets) -> None:
    grid = grid_of(windows_of(market()))
    left, held, position = grid.account[..., 3], grid.account[..., 2], grid.account[..., 0]
    assert left.min() > 0.0
    assert left.unique().numel() > 6
    assert (held[position == 0.0] == 0.0).all()
    assert (held[position != 0.0] > 0.0).all()
    unlimited = grid_of(windows_of(market()), TradingParameters())
    assert (unlimited.account[..., 3] == 1.0).all()


def test_rewards_equal_executing_one_action_at_a_time(market: Markets) -> None:
    """Each asset's action by itself, the others held, from an account built again from its description."""
    windows = windows_of(closed_market(market))
    grid = grid_of(windows)
    share = TRADING.gross_limit / 2
    for step in range(STEPS):
        for window in range(3):
            step_data = windows.step_data._asdict().items()
            row = StepData(*(x if x is None or name in FIXED else x[step, window] for name, x in step_data))
            for replica in range(4):
                left = grid.account[step, window, replica, 0, 3].item()
                drawdown = 0.3 - left * 0.3 * (1.0 - TRADING.drawdown_soft_limit) if left < 1.0 else 0.0
                wanted = [TRADING.levels[level_of(grid, window, replica, asset)] * share for asset in range(2)]
                position = torch.tensor([wanted], dtype=DOUBLE).clamp(-share * left, share * left)
                account = open_accounts(torch.ones(1, dtype=DOUBLE), 2)
                account = account._replace(peak_equity=account.equity / (1.0 - drawdown))
                account = hold_positions(account, position, row.close)
                view = position_limits(account, row, TRADING)
                for asset in range(2):
                    for action in range(5):
                        hold = torch.ones(1, 2, dtype=torch.bool)
                        hold[0, asset] = action == HOLD
                        level = torch.zeros(1, 2, dtype=DOUBLE)
                        level[0, asset] = [0.0, *TRADING.levels][action]
                        _, fill = execute(account, view, Decision(level, hold), row, TRADING)
                        net = (fill.price_pnl - fill.commission - fill.spread)[0, asset].item()
                        reward = net / windows.unit[step, window, 0, asset].item()
                        assert grid.rewards[step, window, replica, asset, action].item() == pytest.approx(
                            reward, abs=1e-9
                        )


@torch.no_grad()
def slow_values(
    network: PolicyNetwork, windows: Windows, grid: PositionGrid, learned: GridTargets, greedy_exponent: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Go back along one window and one asset at a time, in plain numbers, by level instead of by replica.

    Values follow the policy's probabilities raised to ``greedy_exponent``; advantages are over the policy's own mean.
    """
    steps, windows_, replicas, assets, actions = grid.rewards.shape
    embedding = network.encoder(windows.features, steps + 1)[:, -1]
    values, advantages = torch.zeros(grid.rewards.shape[:-1]), torch.zeros(grid.rewards.shape)
    for window in range(windows_):
        projected = network.head.project(embedding[window], windows.posterior[-1, window, 0])
        for asset in range(assets):
            worth = {}
            for replica in range(replicas):
                hidden = network.head.hidden(projected, grid.account[-1, window, replica])
                worth[level_of(grid, window, replica, asset)] = network.head.value(hidden)[asset].item() * value_scale(
                    GAMMA
                )
            for step in reversed(range(steps)):
                before = {}
                for replica in range(replicas):
                    place = (step, window, replica, asset)
                    level = level_of(grid, window, replica, asset)
                    fills = bool(windows.step_data.fillable[step, window, 0, asset])
                    chances = learned.log_probabilities[place].exp().tolist()
                    quality = []
                    for action in range(actions):
                        following = action - 1 if action != HOLD and fills else level
                        quality.append(grid.rewards[place][action].item() + GAMMA * worth[following])
                    powers = [(p / max(chances)) ** greedy_exponent for p in chances]
                    before[level] = sum(p * q for p, q in zip(powers, quality, strict=True)) / sum(powers)
                    values[place] = before[level]
                    mean = sum(p * q for p, q in zip(chances, quality, strict=True))
                    advantages[place] = torch.tensor(quality) - mean
                worth = before
    return values, advantages


@pytest.mark.parametrize("greedy_exponent", [1.0, 3.0, 20.0])
@pytest.mark.parametrize("unfilled", [False, True])
def test_values_equal_a_slow_backward_recursion(
    lively: Build, market: Markets, unfilled: bool, greedy_exponent: float
) -> None:
    network = lively(actions=5)
    windows = windows_of(closed_market(market) if unfilled else market())
    grid = grid_of(windows)
    assert grid.filled.all() != unfilled
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
    learned = evaluate_grid(lively(actions=5), windows, grid, replace(DISCOUNTED, greedy_exponent=greedy_exponent))
    chances = learned.log_probabilities.exp()
    assert (chances[~grid.legal] == 0.0).all()
    assert not grid.legal.all()
    assert (chances * learned.advantages).sum(-1).abs().max() < 1e-9
    assert learned.advantages[grid.legal].std() > 0.1


def test_the_first_minibatch_has_no_divergence_and_no_policy_loss(lively: Build, market: Markets) -> None:
    network, windows = lively(actions=5), windows_of(closed_market(market))
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
    network, windows = lively(actions=5), windows_of(market())
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
