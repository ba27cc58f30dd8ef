"""What agents read of a market whose bars arrive one after the other: the newest row is computed, the rest is kept."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.market.adjustment import adjusted
from sentio_kedro.market.aligned_bars import AlignedBars, hold
from sentio_kedro.market.indicators import compute_features, longest_lookback, newest_features
from sentio_kedro.market.regimes import RegimeModel, market_return
from sentio_kedro.market.sessions import Schedule, expected_timestamps, market_clock, session_schedule
from sentio_kedro.market.tensors import MarketTensors, market_tensors
from sentio_kedro.market.timestamps import bars_per_session
from sentio_kedro.market.trailing import estimated_spread
from sentio_kedro.serving.rolling_bars import RollingBars, appended, missing_rows, newest_rows
from sentio_kedro.trading.precompute import trading_lookback

HORIZON = np.timedelta64(400, "D")  # sessions of an exchange that are looked up ahead of the newest bar
MIN_AHEAD = np.timedelta64(20, "D")  # those that must be known, or else they are looked up again


class LiveMarket:
    """Bars of a feed with the features and regimes of the agents of one fold.

    At the start everything is computed at once, as in the backtest. A new bar then costs one row: features from the
    bars that each of them looks back on, regimes from the last ``regimes.memory`` returns. Both are finite functions
    of those bars, so that it does not matter where the history began.

    Attributes:
        bars: The newest bars.
        features: ``[T, A, F]`` features of the grid's rows, NaN in warm-up.
        posteriors: ``[T, K]`` filtered regime probabilities by agent; agents of the same model share one.
    """

    def __init__(self, agents: Sequence[AgentBundle], bars: AlignedBars) -> None:
        """Compute everything for a history.

        Args:
            agents: Agents of one fold.
            bars: Aligned bars of their symbols.
        """
        spec = agents[0].spec
        self.columns, self.trading = spec.features, spec.trading
        self._models, self._model_of = _distinct_models(agents)
        memory = max(model.memory for model in self._models)
        needed = (
            max(trading_lookback(self.trading), receptive_field(spec.network), memory) + 2
        )  # two rows are looked at
        own = longest_lookback(self.columns)
        if self.trading.costs.half_spread == "estimated":
            own = max(own, self.trading.costs.spread_bars + 2)
        self.features = compute_features(bars, self.columns)
        self._market_returns = market_return(bars)  # [T]
        self._filtered = [model.filter(self._market_returns) for model in self._models]
        self.bars = RollingBars(bars, RollingBars.of(bars, needed, own).own, needed)
        self._schedule: Schedule | None = None
        known = spec.bars_per_session
        self._bars_per_session = bars_per_session(bars.timestamps) if known is None else known

    @property
    def newest(self) -> int:
        """Row of the newest bar."""
        return len(self.bars.grid.timestamps) - 1

    @property
    def posteriors(self) -> list[Tensor]:
        """Filtered regime probabilities ``[T, K]`` of each agent."""
        return [torch.from_numpy(self._filtered[model]) for model in self._model_of]

    def close_after(self, rows: Sequence[AlignedBars]) -> Tensor:
        """Return the last known closes ``[A]`` once ``rows`` were added; NaN for an asset that has had no bar."""
        return torch.from_numpy(hold(np.concatenate([self.bars.own.close[-1:], *(row.close for row in rows)]))[-1])

    def with_bar(self, bar: AlignedBars) -> LiveMarket:
        """Return the market one row later, without the oldest rows that nothing reads any more; this one stays.

        Args:
            bar: One row of the grid, later than all others.

        Raises:
            ValueError: If a dividend is not below the previous close.
        """
        after = copy(self)
        after.bars = self.bars.with_bar(bar)
        rows = len(after.bars.grid.timestamps)
        newest = newest_features(after.bars.own, self.columns, bar.present[0], bar.timestamps, self.features[-1])
        after.features = np.concatenate([self.features, newest[None]])[-rows:]
        move = market_return(newest_rows(after.bars.grid, 2))[-1:]
        after._market_returns = np.concatenate([self._market_returns, move])[-rows:]
        after._filtered = [
            np.concatenate([known, model.newest(after._market_returns)[None]])[-rows:]
            for model, known in zip(self._models, self._filtered, strict=True)
        ]
        return after

    def tensors(self) -> MarketTensors:
        """Return what accounts trade on: the rows of the grid, and rows without bars where the next ones are expected.

        The expected rows tell whether a session is about to end. Nothing is known to be delisted.
        """
        grid, ahead = self.bars.grid, self.trading.orders.latency_bars + 2
        schedule = self._sessions()
        bars = appended(grid, missing_rows(grid, expected_timestamps(grid.timestamps, ahead, schedule)))
        features = np.concatenate([self.features, np.repeat(self.features[-1:], ahead, axis=0)])
        clock = market_clock(bars.timestamps, self.trading.calendar, schedule)
        clock = clock._replace(bars_per_session=self._bars_per_session)
        market = market_tensors(bars, features, np.ones((len(features), 1)), self.trading, clock)
        if self.trading.costs.half_spread == "estimated":
            market = market._replace(spread=self._estimated_spread().expand(market.bars, -1))
        return market._replace(delisted=None)

    def _estimated_spread(self) -> Tensor:
        """Return the estimate at the newest bar ``[A]``, from each asset's own bars."""
        own = adjusted(self.bars.own)
        spread = estimated_spread(own.high, own.low, own.close, self.trading.costs.spread_bars)
        return torch.from_numpy(spread[-1])

    def _sessions(self) -> Schedule | None:
        """Look up the exchange's sessions once a year; null for a market that never closes."""
        calendar, timestamps = self.trading.calendar, self.bars.grid.timestamps
        if calendar is None:
            return None
        if self._schedule is None or timestamps[-1] + MIN_AHEAD > self._schedule.closes[-1]:
            self._schedule = session_schedule(timestamps[[0, -1]], calendar, HORIZON)
        return self._schedule


def _distinct_models(agents: Sequence[AgentBundle]) -> tuple[list[RegimeModel], list[int]]:
    """Return the regime models that differ, and which of them each agent has."""
    described = [agent.spec.regimes for agent in agents]
    distinct = [model for place, model in enumerate(described) if model not in described[:place]]
    return [RegimeModel.from_dict(model) for model in distinct], [distinct.index(model) for model in described]
