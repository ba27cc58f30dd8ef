"""Greedy accounts on the grid: each earns what an account followed bar by bar earns."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.network.distributions import masked_log_probabilities
from sentio_kedro.agent.ppo.grid_walks import outcomes_of_actions, simulate_greedy
from sentio_kedro.agent.ppo.position_grid import PositionGrid, draw_grid, position_grid
from sentio_kedro.config import TradingParameters
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
        self.at, self.path = [at] * self.assets, [0.0]

    def step(self, step: int, actions: dict[int, int]) -> None:
        """Take ``actions`` by asset, the likeliest one in the others."""
        gained, held, reached = 0.0, [], []
        for asset in range(self.assets):
            at = self.at[asset]
            action = actions.get(asset, int(self.likeliest[step, self.window, at, asset]))
            chosen = torch.full(self.grid.rewards.shape[:-1], action)
            reached.append(int(self.grid.after(chosen)[step, self.window, at, asset]))
            unit = self.windows.unit[step, self.window, 0, asset].item()
            gained += self.grid.rewards[step, self.window, at, asset, action].item() * unit
            held.append(self.grid.position[step + 1, self.window, reached[-1], asset].item())
        gross, net = sum(abs(position) for position in held), abs(sum(held))
        max_gross, max_net = self.grid.limits
        factor = min(1.0, max_gross / max(gross, 1e-12), max_net / max(net, 1e-12))
        self.at = reached
        self.path.append(self.path[-1] + math.log1p(factor * gained))


def test_simulated_accounts_earn_what_accounts_followed_bar_by_bar_earn(market: Markets) -> None:
    windows, grid, log_probabilities = setting(market, 2)
    earned = simulate_greedy(log_probabilities, windows, grid).earned
    for window, replica in itertools.product(range(WINDOWS), range(LEVELS)):
        account = Account(windows, grid, log_probabilities, window, replica)
        for step in range(STEPS):
            account.step(step, {})
        assert earned[:, window, replica].tolist() == pytest.approx(account.path, abs=1e-9)


def test_each_action_leads_to_what_an_account_followed_bar_by_bar_earns(market: Markets) -> None:
    """It is taken at any decision; before and after it the account takes the likeliest actions."""
    windows, grid, log_probabilities = setting(market, 1)
    grid = grid._replace(limits=(9.0, 9.0))  # joint limits are taken on average
    outcomes = outcomes_of_actions(simulate_greedy(log_probabilities, windows, grid), windows, grid)
    places = itertools.product(range(STEPS), range(WINDOWS), range(LEVELS), range(LEVELS))
    for when, window, replica, action in places:
        account = Account(windows, grid, log_probabilities, window, replica)
        for step in range(STEPS):
            if step == when:
                account.at[0] = replica
            account.step(step, {0: action} if step == when else {})
        place = (when, window, replica, 0, action)
        assert outcomes[place].item() == pytest.approx(account.path[-1], abs=2e-3), place
