"""Greedy accounts on the grid: each earns what an account followed bar by bar earns, and the price they need."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.network.distributions import masked_log_probabilities
from sentio_kedro.agent.ppo.constraints import first_tail
from sentio_kedro.agent.ppo.grid.positions import PositionGrid, draw_grid, position_grid
from sentio_kedro.agent.ppo.grid.walks import find_price, greedy_outcomes
from sentio_kedro.config import TailParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.tensors import MarketTensors

DOUBLE = torch.float64
TRADING = TradingParameters(levels=[-1.0, 0.0, 1.0], gross_limit=1.0, net_limit=0.6)
STEPS, WINDOWS, LEVELS = 5, 2, 3
Markets = Callable[..., MarketTensors]


def setting(market: Markets, assets: int) -> tuple[Windows, PositionGrid, torch.Tensor]:
    """Windows with a bar on which an asset cannot be traded, and log probabilities of no pattern."""
    whole = market(assets=assets)
    whole.tradable[12, 0] = False
    windows = cut_windows(whole, torch.tensor([10, 22]), STEPS, 8, TRADING)
    draws = torch.Generator().manual_seed(1)
    grid = position_grid(windows, TRADING, draw_grid(windows, LEVELS, draws))
    logits = 3.0 * torch.randn(grid.rewards.shape, generator=draws, dtype=DOUBLE)
    return windows, grid, masked_log_probabilities(logits, grid.legal)


class Account:
    """One account on the grid, moved by hand."""

    def __init__(self, windows: Windows, grid: PositionGrid, log_probabilities: torch.Tensor, window: int, at: int):
        self.windows, self.grid, self.window = windows, grid, window
        self.likeliest = log_probabilities.argmax(-1)
        self.assets = grid.rewards.shape[3]
        self.at, self.earned = [at] * self.assets, 0.0

    def step(self, step: int) -> None:
        """Take the likeliest actions."""
        gained, held, reached = 0.0, [], []
        for asset in range(self.assets):
            at = self.at[asset]
            action = int(self.likeliest[step, self.window, at, asset])
            chosen = torch.full(self.grid.rewards.shape[:-1], action)
            reached.append(int(self.grid.after(chosen)[step, self.window, at, asset]))
            unit = self.windows.unit[step, self.window, 0, asset].item()
            gained += self.grid.rewards[step, self.window, at, asset, action].item() * unit
            held.append(self.grid.position[step + 1, self.window, reached[-1], asset].item())
        gross, net = sum(abs(position) for position in held), abs(sum(held))
        max_gross, max_net = self.grid.limits
        factor = min(1.0, max_gross / max(gross, 1e-12), max_net / max(net, 1e-12))
        self.at = reached
        self.earned += math.log1p(factor * gained)


def test_greedy_accounts_earn_what_accounts_followed_bar_by_bar_earn(market: Markets) -> None:
    windows, grid, log_probabilities = setting(market, 2)
    outcomes = greedy_outcomes(log_probabilities, windows, grid)
    for window, replica in itertools.product(range(WINDOWS), range(LEVELS)):
        account = Account(windows, grid, log_probabilities, window, replica)
        for step in range(STEPS):
            account.step(step)
        assert outcomes[window, replica].item() == pytest.approx(account.earned, abs=1e-9)


def test_the_price_found_is_the_smallest_whose_greedy_accounts_meet_the_limit(market: Markets) -> None:
    windows, grid, log_probabilities = setting(market, 1)
    risk = torch.tensor(TRADING.levels, dtype=DOUBLE).square().expand_as(grid.rewards)
    state = first_tail(torch.zeros((), dtype=DOUBLE))
    worst = state.observed(greedy_outcomes(log_probabilities, windows, grid)).tail(
        greedy_outcomes(log_probabilities, windows, grid), 0.05
    )
    training = TrainingParameters(entropy=0.5, tail=TailParameters(limit=-0.6 * worst.item()))
    found = find_price(log_probabilities, risk, windows, grid, training, state)
    assert found.tail == worst
    price = found.price.item()
    assert price > 0.0

    def met(share: float) -> bool:
        cheaper = log_probabilities - share * price / 0.5 * risk  # logits are values over the entropy coefficient
        walked = greedy_outcomes(cheaper, windows, grid)
        return found.state.tail(walked, 0.05).item() >= 0.6 * worst.item()

    assert met(1.0)
    assert not met(0.97)
    slack = replace(training, tail=TailParameters(limit=-1.1 * worst.item()))
    assert find_price(log_probabilities, risk, windows, grid, slack, state).price == 0.0


def test_a_price_that_the_policy_has_learnt_is_not_charged_twice(market: Markets) -> None:
    """A policy that has learnt with half of the price still needs the whole of it, no more and no less."""
    windows, grid, log_probabilities = setting(market, 1)
    risk = torch.tensor(TRADING.levels, dtype=DOUBLE).square().expand_as(grid.rewards)
    state = first_tail(torch.zeros((), dtype=DOUBLE))
    outcomes = greedy_outcomes(log_probabilities, windows, grid)
    limit = -0.6 * state.observed(outcomes).tail(outcomes, 0.05).item()
    training = TrainingParameters(entropy=0.3, tail=TailParameters(limit=limit))
    needed = find_price(log_probabilities, risk, windows, grid, training, state).price
    assert 0.1 < needed < 10.0
    learnt = state._replace(price=0.5 * needed)
    again = find_price(log_probabilities - 0.5 * needed / 0.3 * risk, risk, windows, grid, training, learnt).price
    assert again.item() == pytest.approx(needed.item(), rel=0.05)
