"""Inputs shared by all simulations of a backtest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import TradingParameters
from sentio_kedro.evaluation.backtest.walk import chunk_rows, row_chunks
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.large_arrays import large_array
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.regimes import market_return
from sentio_kedro.market.tensors import MarketTensors, market_tensors
from sentio_kedro.market.timestamps import Floats
from sentio_kedro.trading.accounts import for_symbols, open_accounts
from sentio_kedro.trading.facts import market_facts, market_outline
from sentio_kedro.trading.records import Accounts, Records


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
        trading = for_symbols(trading, bars.symbols)
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

    def open_accounts(self, count: int, guarded: int | None = None) -> Accounts:
        """Open flat accounts with the starting equity.

        Args:
            count: Number of accounts.
            guarded: How many of them, the first ones, obey the layers of the mask; None is all.
        """
        accounts = open_accounts(count, self.market.assets, self.trading)
        accounts.account.guarded = np.arange(count) < (count if guarded is None else guarded)
        return accounts

    def capacity(self, rows: Segment) -> Floats:
        """Largest order of each asset by the participation limit ``[S, A]``, quote currency; infinite without one."""
        return self.read_facts(rows, lambda facts: facts.max_shares * facts.close)

    def read_facts(self, rows: Segment, read: Callable[[Records], Floats]) -> Floats:
        """Read a number ``[S, A]`` from the facts of rows, chunk by chunk: whole they take 18 times as much memory."""
        numbers: Floats = large_array((rows.stop - rows.start, self.market.assets))
        outline = market_outline(self.market)
        for part in row_chunks(rows, chunk_rows(self.market.assets)):
            facts = market_facts(self.market, *part, self.trading, outline=outline).facts
            numbers[part.start - rows.start : part.stop - rows.start] = read(facts)
        return numbers
