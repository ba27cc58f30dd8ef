"""Inputs shared by all simulations of a backtest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.ensemble import as_one, with_rule, without_abstention
from sentio_kedro.agent.forecasting.fold import rule_begins
from sentio_kedro.agent.forecasting.rule_inputs import input_names, rule_inputs
from sentio_kedro.config import TradingParameters
from sentio_kedro.evaluation.backtest.walk import chunk_rows, row_chunks
from sentio_kedro.evaluation.run_frames import ENSEMBLE, NETWORKS, SEED_PREFIX
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.sessions import market_clock
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.large_arrays import large_array
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.regimes import market_return
from sentio_kedro.market.tensors import MarketTensors, market_tensors
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
        by_fold: Agents of each fold that trade: the ensemble, or all of them in order of their seeds.
        trading: Limits, costs and starting equity.
        account: Name of the account of those who decide as one; null if each agent has its own.
    """

    bars: AlignedBars
    market: MarketTensors
    market_returns: Floats
    by_fold: Mapping[int, Sequence[AgentBundle]]
    trading: TradingParameters
    account: str | None = None

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

    def with_rules(self, folds: Sequence[Fold], begin: int | None = None) -> BacktestContext:
        """Put the inputs and positions of each fold's forecast rule on its test rows, if the agents have one.

        A rule is followed from flat: from the row ``begin`` on, or the end of the train rows before a test segment, or
        its own first bar.
        """
        rules = {fold.number: self.by_fold[fold.number][0].rule for fold in folds}
        first = rules[folds[0].number]
        if first is None:
            return self
        shape = self.market.close.shape
        inputs = np.full((*shape, len(input_names(first.segments))), np.nan)
        units, clock = np.zeros(shape), market_clock(self.bars.timestamps, self.trading.calendar)
        for fold in folds:
            rule, posterior = rules[fold.number], self.posteriors(fold.number)[0].numpy()
            if rule is None:
                raise ValueError(f"The agents of fold {fold.number} lack the forecast rule of the others; train again.")
            begins = [begin] if begin is not None else rule_begins(fold) if fold.train else None
            path = rule.follow(self.bars, posterior, self.trading, begins)
            known = rule_inputs(path, rule.segments, clock)
            for segment in fold.test:
                rows = slice(*segment)
                inputs[rows], units[rows] = known[rows], path.units[rows]
        return replace(self, market=with_rule(self.market, inputs, units))

    def ensembles(self, without: int | None = None) -> BacktestContext:
        """Let the agents of each fold decide as one, see ``ensemble.as_one``.

        Args:
            without: Place of the agent that is left out; None is none.
        """
        kept = {
            fold: [agent for place, agent in enumerate(agents) if place != without]
            for fold, agents in self.by_fold.items()
        }
        return replace(self, by_fold={fold: [as_one(agents)] for fold, agents in kept.items()}, account=ENSEMBLE)

    def networks(self) -> BacktestContext:
        """Let the networks of all agents of each fold decide as one, also those of agents that abstain."""
        deciding = {
            fold: [as_one([without_abstention(agent) for agent in agents])] for fold, agents in self.by_fold.items()
        }
        return replace(self, by_fold=deciding, account=NETWORKS)

    def accounts(self, fold: int) -> list[str]:
        """Names of the accounts that a fold's agents trade."""
        return [self.account or f"{SEED_PREFIX}{agent.spec.seed}" for agent in self.by_fold[fold]]

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
