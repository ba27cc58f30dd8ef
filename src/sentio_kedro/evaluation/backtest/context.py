"""Inputs shared by all simulations of a backtest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import TradingParameters
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.regimes import market_return
from sentio_kedro.market.tensors import MarketTensors, market_tensors
from sentio_kedro.market.timestamps import Floats
from sentio_kedro.trading.accounts import AccountState, open_accounts


@dataclass(frozen=True)
class BacktestContext:
    """A market and the agents to test on it.

    Attributes:
        bars: Aligned bars, all of them.
        market: Their tensors with the agents' features; agents bring their own regimes.
        market_returns: ``[T]`` log returns of the market, from which regimes are filtered.
        by_fold: Agents of each fold, in order of their seeds.
        trading: Limits, costs and starting equity.
    """

    bars: AlignedBars
    market: MarketTensors
    market_returns: Floats
    by_fold: Mapping[int, Sequence[AgentBundle]]
    trading: TradingParameters

    @classmethod
    def of(
        cls,
        bars: AlignedBars,
        features: Floats,
        by_fold: Mapping[int, Sequence[AgentBundle]],
        trading: TradingParameters,
    ) -> BacktestContext:
        """Assemble the market from bars and features ``[T, A, F]``."""
        market = market_tensors(bars, features, np.ones((len(bars.timestamps), 1)), trading)
        return cls(bars, market, market_return(bars), by_fold, trading)

    def posteriors(self, fold: int) -> list[Tensor]:
        """Filter each agent's regimes ``[T, K]``; agents with the same model share one tensor."""
        filtered: list[tuple[object, Tensor]] = []
        posteriors = []
        for agent in self.by_fold[fold]:
            regimes = agent.spec.regimes
            posterior = next((tensor for model, tensor in filtered if model == regimes), None)
            if posterior is None:
                posterior = torch.from_numpy(agent.regime_model().filter(self.market_returns))
                filtered.append((regimes, posterior))
            posteriors.append(posterior)
        return posteriors

    def open_accounts(self, shape: tuple[int, ...]) -> AccountState:
        """Open flat accounts of ``shape`` with the starting equity."""
        cash = torch.full(shape, self.trading.initial_cash, dtype=torch.float64)
        return open_accounts(cash, self.market.assets, self.trading.orders.latency_bars)


def liquidation(rows: Segment, ends: Sequence[int], latency: int) -> tuple[Tensor, Tensor]:
    """Rows at which accounts close all positions, so that the order is filled before their end, and rows after those.

    Args:
        rows: Decision rows S.
        ends: Row after the last decision of each of N accounts.
        latency: Bars that an order is under way beyond the next open.

    Returns:
        ``[S, N]`` bool each: positions are closed, no order is sent.
    """
    row, last = torch.arange(*rows)[:, None], torch.tensor(ends) - 1 - latency
    return row == last, row > last
