"""The same targets through somebody else's engine give the same equity.

The engine is backtesting.py 0.6.6. Compared is the equity at the close of every bar, to 1e-6 of itself, on 3,000 of the
shipped half-hour bars of one coin, for targets that change at random, with a turn through zero every few bars.

- Targets: -0.8, -0.4, 0, 0.4, 0.8 of equity, or no order. Both engines fix an order in whole coins at a close, at the
  equity of their own account: (level x equity / close - coins held), rounded towards zero.
- Fills: market orders at the next open, ``trade_on_close=False``.
- Costs: commission proportional to notional, the same for opening and closing; no spread, because backtesting.py
  charges it on opening alone.
- Set for it: ``exclusive_orders=False`` and ``hedging=False``, so that orders net against what is held; ``margin=0.1``,
  so that it never cancels an order for lack of margin, which our account would not; ``finalize_trades=False``, so that
  the last bar is marked and not sold. It decides from its second bar on, and so do we.
- Left out, because it knows none of it: latency, limits, halts, short fees.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from sentio_kedro.config import CostParameters, OrderParameters, TradingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.policies import TARGETS, make_policies

backtesting = pytest.importorskip("backtesting")

BARS = Path(__file__).parents[2] / "data" / "01_raw" / "crypto_30min.parquet"
LEVELS, COUNT, CASH = [-0.8, -0.4, 0.0, 0.4, 0.8], 3000, 1e8


def shipped_bars(symbol: str) -> pd.DataFrame:
    frame = pd.read_parquet(BARS)
    frame = frame[frame["symbol"] == symbol].set_index("timestamp").sort_index().iloc[:COUNT]
    assert len(frame) == COUNT
    return frame[["open", "high", "low", "close", "volume"]].rename(columns=str.capitalize)


def random_actions() -> np.ndarray:
    """Index 0 sends no order, most of the time; 1 + i asks for level i."""
    rng = np.random.default_rng(5)
    return np.where(rng.random(COUNT) < 0.7, 0, rng.integers(1, len(LEVELS) + 1, COUNT))


def theirs(bars: pd.DataFrame, actions: np.ndarray, commission: float) -> tuple[np.ndarray, int]:
    """Equity ``[COUNT]`` and number of closed trades."""

    class Follow(backtesting.Strategy):  # type: ignore[misc, name-defined]
        def init(self) -> None:
            self.held = 0

        def next(self) -> None:
            bar = len(self.data.Close) - 1
            if actions[bar] == 0:
                return
            target = LEVELS[actions[bar] - 1] * self.equity / self.data.Close[-1]
            order = int(target - self.held) if target else -self.held
            self.held += order
            if order > 0:
                self.buy(size=order)
            elif order < 0:
                self.sell(size=-order)

    engine = backtesting.Backtest(
        bars,
        Follow,
        cash=CASH,
        commission=commission,
        margin=0.1,
        trade_on_close=False,
        hedging=False,
        exclusive_orders=False,
        finalize_trades=False,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*[Cc]anceled the.*")  # an order that was not filled
        warnings.filterwarnings("ignore", message=".*trades remain open.*")
        stats = engine.run()
    return stats["_equity_curve"]["Equity"].to_numpy(), len(stats["_trades"])


def ours(bars: pd.DataFrame, actions: np.ndarray, commission: float) -> np.ndarray:
    def column(name: str) -> Tensor:
        return torch.from_numpy(np.array(bars[name], dtype=np.float64))[:, None]

    parameters = TradingParameters(
        initial_cash=CASH,
        levels=LEVELS,
        costs=CostParameters(commission_bps=1e4 * commission, half_spread_bps=0.0),
        orders=OrderParameters(lot_size=1.0, rebalance_band=0.0),
    )
    market = MarketTensors(
        features=torch.zeros(COUNT, 1, 1),
        open=column("Open"),
        close=column("Close"),
        tradable=torch.ones(COUNT, 1, dtype=torch.bool),
        volatility=torch.ones(COUNT, 1),
        posterior=torch.ones(COUNT, 1),
    )
    facts, account = market_facts(market, 1, COUNT - 1, parameters), open_accounts(1, 1, parameters)
    targets = np.array([np.nan, *LEVELS])[actions[1:-1], None, None]
    policies = make_policies(np.array([TARGETS]), 1, len(LEVELS), targets=targets)
    ledger = simulate(facts, account, policies, terms_of(parameters, 1))
    return np.concatenate([[CASH, CASH], ledger.total.equity[:, 0]])


@pytest.mark.parametrize("commission", [0.0, 0.0005])
def test_backtesting_py_agrees_on_the_equity_of_every_bar(commission: float) -> None:
    bars, actions = shipped_bars("BTC"), random_actions()
    expected, trades = theirs(bars, actions, commission)
    equity = ours(bars, actions, commission)
    assert trades > 500
    assert expected[1] == CASH
    assert np.ptp(expected) > 0.05 * CASH
    np.testing.assert_allclose(equity, expected, rtol=1e-6, atol=0.0)
