"""Round trips of exits that the volume cuts into pieces."""

import numpy as np
import pytest
import torch

from sentio_kedro.config import TradingParameters
from sentio_kedro.evaluation.backtest.round_trips import RoundTripCutter, RoundTripTable
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.records import Accounts, Market
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.policies import TARGETS, make_policies
from sentio_kedro.trading.step.walk import Ledger

STOPPED = TradingParameters(
    preset="none",
    initial_cash=1_000.0,
    costs={"commission_bps": 100.0, "half_spread_bps": 0.0},
    orders={"stop_loss": 0.1, "participation": 1.0, "participation_volume": "bar"},
)


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def walked(split: torch.Tensor | None = None) -> tuple[Market, Ledger, Accounts]:
    """An account that buys 50 shares at 10 and is stopped at 9, where bars of 20 shares sell them in three pieces."""
    market = MarketTensors(
        features=torch.zeros(7, 1, 1), open=column(10, 10, 10, 8, 7, 6, 6), close=column(10, 10, 8.5, 7.5, 6, 6, 6),
        high=column(10, 10, 10, 8, 7, 6, 6), low=column(10, 10, 8, 7, 6, 6, 6),
        tradable=torch.ones(7, 1, dtype=torch.bool), volatility=column(*[0.01] * 7), posterior=column(*[1.0] * 7),
        volume=column(1e6, 1e6, 20, 20, 20, 20, 20), split=split,
    )  # fmt: skip
    facts = market_facts(market, 0, 6, STOPPED)
    accounts = open_accounts(1, 1, STOPPED)
    accounts.account.guarded = False
    targets = np.full((6, 1, 1), np.nan)
    targets[0] = 0.5
    ledger = simulate(facts, accounts, make_policies(np.array([TARGETS]), 1, 3, targets=targets), terms_of(STOPPED, 1))
    return facts, ledger, accounts


def cut(facts: Market, ledger: Ledger, steps: int) -> RoundTripTable:
    """Round trips of a ledger given in chunks of so many steps."""
    cutter = RoundTripCutter(1, 1)
    for start in range(0, 6, steps):
        rows = slice(start, start + steps)
        part = ledger._replace(fills=ledger.fills[rows], total=ledger.total[rows])
        cutter.add(100 + start, facts.facts[rows], part)
    return cutter.finish()


@pytest.mark.parametrize("steps", [1, 2, 4, 6])
def test_a_stop_that_is_filled_in_pieces_is_one_round_trip(steps: int) -> None:
    facts, ledger, accounts = walked()
    assert ledger.fills.shares[:, 0, 0].tolist() == [50.0, 30.0, 10.0, 0.0, 0.0, 0.0]
    assert ledger.fills.exit_price[1:4, 0, 0].tolist() == [9.0, 8.0, 7.0]
    table = cut(facts, ledger, steps)
    assert (table.entry_row.tolist(), table.exit_row.tolist(), table.side.tolist()) == ([100], [103], [1])
    paid = 0.01 * (500.0 + 20 * 9.0 + 20 * 8.0 + 10 * 7.0)
    assert table.cost.tolist() == pytest.approx([paid])
    assert table.pnl.tolist() == pytest.approx([-20.0 * 1.0 - 20.0 * 2.0 - 10.0 * 3.0 - paid])
    assert table.pnl.sum() == pytest.approx(accounts.account.equity[0] - 1_000.0)
    assert table.entry_equity.tolist() == [1_000.0]


def test_prices_of_pieces_are_those_before_a_split() -> None:
    facts, ledger, accounts = walked(column(1, 1, 0.5, 1, 1, 1, 1))  # two old shares are one new one
    assert ledger.fills.shares[:3, 0, 0].tolist() == [50.0, 5.0, 0.0]
    table = cut(facts, ledger, 2)
    assert len(table.pnl) == 1
    assert table.pnl.sum() == pytest.approx(accounts.account.equity[0] - 1_000.0)
