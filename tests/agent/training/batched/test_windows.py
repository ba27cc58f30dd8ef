"""Stacked windows of different markets."""

from collections.abc import Callable

import pytest
import torch

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.training.batched.batching import leaves, member_of
from sentio_kedro.agent.training.batched.windows import stack_windows
from sentio_kedro.config import TradingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import Decision, open_accounts
from sentio_kedro.trading.execution import execute
from sentio_kedro.trading.observations import hold_positions
from sentio_kedro.trading.position_limits import position_limits
from sentio_kedro.trading.step_data import StepData

TRADING = TradingParameters()
Markets = Callable[..., MarketTensors]


def windows_of(market: MarketTensors) -> Windows:
    return cut_windows(market, torch.tensor([10, 20]), 5, 4, TRADING)


def profit(step_data: StepData) -> torch.Tensor:
    """Equity after one bar of accounts that hold and sell."""
    row = step_data.step(0)
    account = open_accounts(torch.full((2, 1), 1000.0, dtype=torch.float64), 2)
    account = hold_positions(account, torch.full((2, 1, 2), 0.3, dtype=torch.float64), row.close)
    view = position_limits(account, row, TRADING)
    level = torch.tensor([[[0.0, 1.0]]], dtype=torch.float64).expand(2, 1, 2)
    after, _ = execute(account, view, Decision(level, torch.zeros(2, 1, 2, dtype=torch.bool)), row, TRADING)
    return after.equity


def test_facts_that_a_market_leaves_out_are_neutral_beside_one_that_has_them(market: Markets) -> None:
    plain = market(seed=1)
    eventful = market(seed=2)
    ones = torch.ones_like(eventful.close)
    eventful = eventful._replace(dividend=0.5 * ones, split=2.0 * ones, delisted=torch.zeros_like(eventful.tradable))
    windows = [windows_of(plain), windows_of(eventful)]
    both = stack_windows(windows)
    for place, own in enumerate(windows):
        assert torch.equal(profit(member_of(both, place).step_data), profit(own.step_data))
    assert both.step_data.funding is None
    found = member_of(both, 1)
    assert all(torch.equal(a, b) for a, b in zip(leaves(found), leaves(windows[1]), strict=True))


def test_windows_of_other_sizes_are_refused(market: Markets) -> None:
    with pytest.raises(ValueError, match="same shapes"):
        stack_windows([windows_of(market()), windows_of(market(assets=3))])
