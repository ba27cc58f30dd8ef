"""The position grid where levels are multiples of a position that changes from bar to bar, and the price of risk."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.ppo.grid.positions import PositionGrid, draw_grid, position_grid
from sentio_kedro.config import TradingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import hold_positions, open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.simulate import asset_rewards, simulate
from sentio_kedro.trading.step.policies import TARGETS, make_policies

DOUBLE = torch.float64
COSTS = {"commission_bps": 20.0, "half_spread_bps": 10.0}
TRADING = TradingParameters(unit="rule", costs=COSTS, orders={"rebalance_band": 0.0})  # type: ignore[arg-type]
UNITS = torch.tensor([0.5, -0.25, 0.0, 0.6, -0.4], dtype=DOUBLE)
STEPS, CONTEXT, START = 6, 8, 10
Markets = Callable[..., MarketTensors]


def with_units(market: MarketTensors) -> MarketTensors:
    return market._replace(units=UNITS.repeat(market.bars)[: market.bars, None].expand(-1, market.assets))


def windows_of(market: MarketTensors, risk_price: float = 0.0) -> Windows:
    return cut_windows(market, torch.tensor([START]), STEPS, CONTEXT, TRADING)._replace(risk_price=risk_price)


def grid_of(windows: Windows) -> PositionGrid:
    return position_grid(windows, TRADING, draw_grid(windows, len(TRADING.levels), torch.Generator().manual_seed(0)))


def test_replicas_hold_the_multiples_of_what_the_rule_held_a_bar_before(market: Markets) -> None:
    whole = with_units(market(assets=1))
    grid, facts = grid_of(windows_of(whole)), market_facts(whole, START, START + STEPS, TRADING)
    for step in range(1, STEPS):
        unit = facts.facts.unit[step - 1, 0]
        held = np.sort(grid.position[step, 0, :, 0].numpy())
        assert held == pytest.approx(np.sort(np.array(TRADING.levels) * unit), rel=0.05, abs=1e-12)  # costs cut equity


def test_each_action_earns_what_an_account_earns_that_holds_its_multiple(market: Markets) -> None:
    whole = with_units(market(assets=1))
    windows = windows_of(whole)
    grid, facts, terms = grid_of(windows), market_facts(whole, START, START + STEPS, TRADING), terms_of(TRADING, 1)
    for step in range(STEPS):
        part = market_facts(whole, START + step, START + step + 1, TRADING)
        for replica in range(len(TRADING.levels)):
            held = grid.position[step, 0, replica].numpy()
            for action, level in enumerate(TRADING.levels):
                accounts = open_accounts(1, 1, TRADING)
                hold_positions(accounts, held[None], part.facts.close[:1])
                targets = np.full((1, 1, 1), level * facts.facts.unit[step, 0])
                policies = make_policies(np.array([TARGETS]), 1, len(TRADING.levels), targets=targets)
                ledger = simulate(part, accounts, policies, terms)
                expected = asset_rewards(ledger, part.facts.reward_unit[:, None])[0, 0, 0]
                assert grid.rewards[step, 0, replica, 0, action].item() == pytest.approx(expected, abs=1e-9)


def test_a_position_lies_where_its_neighbours_say_also_short(market: Markets) -> None:
    whole = with_units(market(assets=1))
    grid = grid_of(windows_of(whole))
    full = TRADING.levels.index(1.0)
    for step in range(STEPS - 1):
        below, above, weight = (part[step, 0, :, 0, full] for part in (grid.below, grid.above, grid.weight))
        held = grid.position[step + 1, 0, :, 0]
        reached = held[below] + weight * (held[above] - held[below])
        unit = market_facts(whole, START + step, START + step + 1, TRADING).facts.unit[0, 0]
        assert reached.numpy() == pytest.approx(np.full(len(held), unit), rel=0.05, abs=1e-12)


def test_risk_costs_half_its_price_times_the_squared_share(market: Markets) -> None:
    whole = with_units(market(assets=1))
    free, priced = grid_of(windows_of(whole)), grid_of(windows_of(whole, risk_price=0.5))
    paid = (free.rewards - priced.rewards)[1, 0, :, 0]  # the unit is -0.25 or another: by action
    facts = market_facts(whole, START + 1, START + 2, TRADING).facts
    shares = np.array(TRADING.levels) * facts.unit[0, 0] / facts.full[0, 0]
    assert facts.unit[0, 0] != 0.0
    assert paid.numpy() == pytest.approx(np.broadcast_to(0.25 * shares**2, paid.shape), rel=0.1, abs=1e-12)
