"""Values on the grid: they are those of accounts followed step by step."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.constraints import TailState, first_tail
from sentio_kedro.agent.ppo.grid.positions import PositionGrid, draw_grid, position_grid
from sentio_kedro.agent.ppo.grid.values import evaluate_grid
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


def state_of(price: float) -> TailState:
    like = torch.tensor(price, dtype=DOUBLE)
    return first_tail(like)._replace(price=like)


def risk_behind(network: PolicyNetwork, windows: Windows, grid: PositionGrid, state: TailState) -> torch.Tensor:
    """Risk ``[W, P, A]`` of the profit that the critic's quantiles expect after the windows' ends."""
    end = network.encoder(windows.features, windows.steps + 1)[:, -1:]  # [W, 1, A, D]
    hidden = network.head.hidden(network.head.project(end, windows.posterior[-1]), grid.account[-1])
    unit = windows.unit[-1]
    profit = network.head.quantiles(hidden) * value_scale(GAMMA) * unit[..., None]
    return state.shortfall_added(profit, LIMITED.tail).mean(-1) / unit


@torch.no_grad()
def test_the_price_times_the_risk_that_an_action_adds_is_taken_from_its_advantage(
    lively: Build, market: Markets
) -> None:
    windows, grid = setting(market, steps=1)  # one decision: what it earns, and what the critic expects behind it
    network, state = lively(), state_of(3.0)
    free, bound = evaluate_grid(network, windows, grid, LIMITED), evaluate_grid(network, windows, grid, LIMITED, state)
    unit = windows.unit[..., None]
    risk = state.shortfall_added(grid.rewards * unit, LIMITED.tail) / unit
    risk = risk + GAMMA * grid.following(risk_behind(network, windows, grid, state), 0)
    risk = risk - (free.log_probabilities.exp() * risk).sum(-1, keepdim=True)
    assert risk.abs().max() > 0.01
    torch.testing.assert_close(bound.advantages, free.advantages - 3.0 * risk)
    assert torch.equal(bound.returns, free.returns)  # the critic learns profit, not risk


@torch.no_grad()
def test_the_spread_of_the_quantiles_changes_the_choice_to_positions_with_a_thinner_tail(
    lively: Build, market: Markets
) -> None:
    """Two critics expect the same profit; to one of them it is certain."""
    windows, grid = setting(market, steps=1)
    network, state = lively(), state_of(3.0)
    risk = grid.following(risk_behind(network, windows, grid, state), 0)
    choices, advantages = [], []
    for certain in (False, True):
        if certain:
            network.head.critic.weight[1:] = 0.0
            network.head.critic.bias[1:] = -60.0
        advantages.append(evaluate_grid(network, windows, grid, LIMITED).advantages)
        bound = evaluate_grid(network, windows, grid, LIMITED, state).advantages[0]
        choices.append(bound.masked_fill(~grid.legal[0], -torch.inf).argmax(-1))
    torch.testing.assert_close(*advantages)  # without a limit the spread changes nothing
    wide, sure = (risk.gather(-1, choice[..., None]) for choice in choices)
    changed = choices[0] != choices[1]
    assert changed.any()
    assert (wide <= sure)[changed].all()
    assert wide.mean() < sure.mean()


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
