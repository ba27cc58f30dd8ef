"""Values on the grid: they are those of accounts followed step by step."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.constraints import TailState
from sentio_kedro.agent.ppo.grid_values import evaluate_grid
from sentio_kedro.agent.ppo.grid_walks import outcomes_of_actions, simulate_greedy
from sentio_kedro.agent.ppo.position_grid import PositionGrid, draw_grid, position_grid
from sentio_kedro.agent.ppo.update import value_scale
from sentio_kedro.config import TailParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.tensors import MarketTensors

DOUBLE = torch.float64
TRADING = TradingParameters(levels=[-1.0, 0.0, 1.0], gross_limit=1.0, net_limit=0.6)
GAMMA = 0.9
LIMITED = TrainingParameters(gamma=GAMMA, tail=TailParameters(limit=0.01, alpha=0.1))
Build = Callable[..., PolicyNetwork]
Markets = Callable[..., MarketTensors]


def setting(market: Markets, assets: int = 2, steps: int = 4) -> tuple[Windows, PositionGrid]:
    whole = market(assets=assets)
    whole.tradable[12, 0] = False
    windows = cut_windows(whole, torch.tensor([10, 20, 25]), steps, 8, TRADING)
    draws = draw_grid(windows, len(TRADING.levels), torch.Generator().manual_seed(0))
    return windows, position_grid(windows, TRADING, draws)


def test_an_action_leads_to_the_replica_that_holds_the_nearest_position(market: Markets) -> None:
    _, grid = setting(market)
    shares = torch.tensor([0.0, 0.49, 0.51], dtype=DOUBLE)
    nearest = grid._replace(weight=shares.expand_as(grid.weight))
    for action, expected in enumerate((grid.below, grid.below, grid.above)):
        after = nearest.after(torch.full(grid.rewards.shape[:-1], action))
        assert torch.equal(after, expected[..., action])


def test_following_values_are_interpolated_between_the_replicas_that_bracket_a_position(market: Markets) -> None:
    _, grid = setting(market)
    value = torch.randn(grid.rewards.shape[1:4], generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    for step in range(4):
        found = grid.following(value, step)
        for window, replica, asset, action in torch.cartesian_prod(*map(torch.arange, found.shape)).tolist():
            place = (step, window, replica, asset, action)
            low, high = (value[window, int(part[place]), asset] for part in (grid.below, grid.above))
            expected = (1.0 - grid.weight[place]) * low + grid.weight[place] * high
            torch.testing.assert_close(found[window, replica, asset, action], expected)


@torch.no_grad()
def test_a_large_continuation_is_worth_what_the_likeliest_actions_earn(lively: Build, market: Markets) -> None:
    """Walk forward from every position, one account and one asset at a time, always by the likeliest action."""
    windows, grid = setting(market)
    grid = grid._replace(weight=grid.weight.round())  # every position is one of the grid
    network, training = lively(), TrainingParameters(gamma=GAMMA, greedy_exponent=1e6)
    learned = evaluate_grid(network, windows, grid, training)
    end = network.encoder(windows.features, 5)[:, -1]  # [W, A, D]
    likeliest = learned.log_probabilities.argmax(-1)
    after = grid.after(likeliest)
    assert likeliest.unique().numel() > 2
    for begun, window, replica, asset in torch.cartesian_prod(*map(torch.arange, learned.returns.shape)).tolist():
        at, earned = replica, 0.0
        for step in range(begun, 4):
            here = (step, window, at, asset)
            earned += GAMMA ** (step - begun) * grid.rewards[here][likeliest[here]].item()
            at = int(after[here])
        projected = network.head.project(end[window], windows.posterior[-1, window, 0])
        behind = network.head.value(network.head.hidden(projected, grid.account[-1, window, at]))[asset].item()
        found = learned.returns[begun, window, replica, asset].item() * value_scale(GAMMA)
        assert found == pytest.approx(earned + GAMMA ** (4 - begun) * behind * value_scale(GAMMA), abs=1e-9)
    plain = evaluate_grid(network, windows, grid, replace(training, greedy_exponent=1.0))
    assert (learned.returns - plain.returns).abs().mean() > 0.05


def test_outcomes_are_those_of_the_likeliest_actions_within_the_joint_limits(lively: Build, market: Markets) -> None:
    windows, grid = setting(market)
    learned = evaluate_grid(lively(), windows, grid, LIMITED)
    assert learned.outcomes is not None
    likeliest = learned.log_probabilities.argmax(-1)
    after = grid.after(likeliest)
    for window in range(3):
        for replica in range(3):
            at, grown = [replica, replica], 1.0
            for step in range(4):
                places = [(step, window, at[asset], asset) for asset in (0, 1)]
                units = [windows.unit[step, window, 0, asset].item() for asset in (0, 1)]
                gained = sum(
                    grid.rewards[here][likeliest[here]].item() * unit for here, unit in zip(places, units, strict=True)
                )
                at = [int(after[here]) for here in places]
                held = [grid.position[step + 1, window, at[asset], asset].item() for asset in (0, 1)]
                gross, net = abs(held[0]) + abs(held[1]), abs(held[0] + held[1])
                grown *= 1.0 + gained * min(1.0, 1.0 / max(gross, 1e-9), 0.6 / max(net, 1e-9))
            assert learned.outcomes[window, replica].exp().item() == pytest.approx(grown, rel=1e-6)


def test_the_likeliest_action_leads_to_the_outcome_of_the_walk(lively: Build, market: Markets) -> None:
    windows, grid = setting(market, assets=1)
    grid = grid._replace(limits=(9.0, 9.0))  # joint limits are taken on average
    learned = evaluate_grid(lively(assets=1), windows, grid, LIMITED)
    simulation = simulate_greedy(learned.log_probabilities, windows, grid)
    outcomes = outcomes_of_actions(simulation, windows, grid)[0]  # after the first decision [W, P, A, B]
    chosen = outcomes.gather(-1, learned.log_probabilities[0].argmax(-1)[..., None])[..., 0, 0]
    assert learned.outcomes is not None
    torch.testing.assert_close(chosen, learned.outcomes, atol=2e-3, rtol=0.0)  # but for sums in place of logarithms


def test_the_penalty_of_an_action_is_the_shortfall_that_it_leads_to(lively: Build, market: Markets) -> None:
    windows, grid = setting(market, assets=1, steps=1)  # one decision: what it earns is all the episode earns
    network = lively(assets=1)
    free = evaluate_grid(network, windows, grid, LIMITED)
    threshold, dual = torch.tensor(0.0, dtype=DOUBLE), torch.tensor(3.0, dtype=DOUBLE)
    penalised = evaluate_grid(network, windows, grid, LIMITED, tail=TailState(threshold, dual, threshold))
    after = grid.after(free.log_probabilities.argmax(-1))
    factor = grid.joint_factor(grid.position[1:].gather(2, after)).mean(-1, keepdim=True)
    cost = (-grid.rewards * (windows.unit * factor[..., None])[..., None]).clamp_min(0.0)  # shortfall beyond 0
    cost = cost - (free.log_probabilities.exp() * cost).sum(-1, keepdim=True)
    expected = free.advantages - 3.0 / 0.1 * cost / windows.unit[..., None]
    torch.testing.assert_close(penalised.advantages, expected)
    mean = (free.log_probabilities.exp() * penalised.advantages).sum(-1)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0.0)


def test_a_constant_reward_is_worth_its_perpetuity_on_every_position_of_every_bar(
    lively: Build, market: Markets
) -> None:
    training = TrainingParameters(gamma=GAMMA)
    windows, grid = setting(market)
    grid, network = grid._replace(rewards=torch.full_like(grid.rewards, 0.7)), lively()
    with torch.no_grad():
        network.head.critic.weight.zero_()
        network.head.critic.bias[1:].fill_(-60.0)  # all quantiles are the centre
        for _ in range(100):  # the critic learns what it is shown
            returns = evaluate_grid(network, windows, grid, training).returns
            network.head.critic.bias[0] = returns.mean()
    expected = torch.full_like(returns, 0.7 / (1 - GAMMA) / value_scale(GAMMA))
    torch.testing.assert_close(returns, expected, rtol=0, atol=1e-9)
