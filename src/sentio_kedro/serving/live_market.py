"""Features and regimes of a market whose bars arrive one by one: only the newest row is computed."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.forecasting.rule_inputs import input_names, rule_inputs
from sentio_kedro.config.network import receptive_field
from sentio_kedro.config.trading import own_calendars
from sentio_kedro.market.indicators import (
    column_times,
    compute_features,
    longest_lookback,
    newest_features,
    of_sessions,
    with_sessions,
)
from sentio_kedro.market.ingestion.adjustment import adjusted, adjustment_factors
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars, hold
from sentio_kedro.market.ingestion.panels import symbol_clocks
from sentio_kedro.market.ingestion.sessions import (
    Clock,
    Schedule,
    SymbolClock,
    bar_times,
    expected_timestamps,
    market_clock,
    session_schedule,
)
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps, bars_per_session
from sentio_kedro.market.regimes import RegimeModel, market_return
from sentio_kedro.market.risk import RiskFacts, risk_facts, trading_lookback
from sentio_kedro.market.tensors import MarketTensors, market_tensors
from sentio_kedro.market.trailing import estimated_spread
from sentio_kedro.serving.live_rule import LiveRule, asset_rows
from sentio_kedro.serving.rolling_bars import RollingBars, appended, missing_rows, newest_rows

HORIZON = np.timedelta64(400, "D")  # sessions of an exchange that are computed ahead of the newest bar
MIN_AHEAD = np.timedelta64(20, "D")  # with fewer ahead they are computed again


class LiveRows(NamedTuple):
    """The last rows of a live market, and empty ones at the next expected timestamps, for the ends of sessions.

    Attributes:
        market: Their tensors; of the ends of assets those of a dated universe.
        posteriors: ``[T, K]`` filtered regime probabilities of each agent, without the empty rows.
        newest: Row of the newest bar.
    """

    market: MarketTensors
    posteriors: list[Tensor]
    newest: int


class RuleState(NamedTuple):
    """What the positions of a forecast rule depend on besides bars.

    Attributes:
        held: ``[sleeves, A]`` positions of the open sleeves after the newest bar.
        units: ``[rows, A]`` the rule's positions on the rows that a network reads.
    """

    held: Floats
    units: Floats


class LiveMarket:
    """Bars of a feed with the features and regimes of the agents of one fold.

    A history is computed at once, as in the backtest. A new bar then costs one row: features from the bars of their
    look-backs, regimes from the last ``regimes.memory`` returns. Both are finite functions of these bars, so that the
    start of the history does not matter.

    Attributes:
        bars: The newest bars.
        features: ``[T, A, F]`` features of the last rows, or inputs of the agents' forecast rule, NaN in warm-up: all
            rows of a history, and later those that a decision reads.
        units: ``[T, A]`` positions of that rule on the same rows; null without one.
        posteriors: ``[T, K]`` filtered regime probabilities by agent; agents of the same model share one.
    """

    def __init__(self, agents: Sequence[AgentBundle], bars: AlignedBars) -> None:
        """Compute the features and regimes of a history.

        Args:
            agents: Agents of one fold.
            bars: Aligned bars of their symbols.
        """
        spec = agents[0].spec
        self.columns, self.trading = spec.features, spec.trading
        self._models, self._model_of = _distinct_models(agents)
        memory = max(model.memory for model in self._models)
        self._schedules: dict[str, Schedule] = {}
        self._calendars, self._own_counts = own_calendars(self.trading, bars.symbols), spec.own_bars_per_session
        per_session = spec.bars_per_session
        self._bars_per_session = bars_per_session(bars.timestamps) if per_session is None else per_session
        clock = market_clock(bars.timestamps, self.trading.calendar)._replace(bars_per_session=self._bars_per_session)
        lookback = trading_lookback(self.trading, clock)
        rows = max(lookback, receptive_field(spec.network), memory) + 2  # two rows are decided at
        kelly = 0 if self.trading.masks.kelly_fraction is None else self.trading.masks.kelly_bars
        self._context = receptive_field(spec.network)  # rows that a network reads
        self._reads = max(self._context, kelly + 1) + 1  # rows that decisions at the last two read
        own_rows = asset_rows(self.trading)
        self._market_returns = market_return(bars)  # [T]
        self._filtered = [model.filter(self._market_returns) for model in self._models]
        self._rule: LiveRule | None = None
        self.units: Floats | None = None
        if agents[0].rule is None:
            own_rows = max(own_rows, longest_lookback(self.columns))
            times = column_times(bars.timestamps, self.columns, self.trading.calendar)
            self.features = compute_features(bars, self.columns, times)
            self._refuse_unknown(bars)
            bars, self._times = with_sessions(bars, times) if of_sessions(self.columns) else bars, times.at(-1)
        else:
            self._rule = LiveRule.of(agents[0].rule, bars, self._filtered[0], self.trading)
            self.features = rule_inputs(self._rule.path, self._rule.rule.segments, clock)
            self.units = self._rule.path.units
        self.bars = RollingBars(bars, RollingBars.of(bars, rows, own_rows).by_asset, rows)

    @property
    def posteriors(self) -> list[Tensor]:
        """Filtered regime probabilities ``[T, K]`` of each agent."""
        return [torch.from_numpy(self._filtered[model]) for model in self._model_of]

    def close_after(self, rows: Sequence[AlignedBars]) -> Floats:
        """Return the latest closes ``[A]`` after ``rows`` are added; NaN for an asset without any bar."""
        return np.asarray(hold(np.concatenate([self.bars.by_asset.close[-1:], *(row.close for row in rows)]))[-1])

    def with_bar(self, bar: AlignedBars) -> LiveMarket:
        """Return the market one row later, without the oldest rows that are no longer read; this one stays.

        Args:
            bar: One row of the grid, later than all others.

        Raises:
            ValueError: If a dividend is not below the previous close, or the history was of a dated universe.
        """
        if self.bars.grid.leavers is not None:
            raise ValueError(
                "A session whose history is of a dated universe knows the members of that history alone and takes no "
                "new bars; start it again with a history of the newest table `universe`."
            )
        after = copy(self)
        bar = bar if self._rule is not None else after._completed(bar)
        after.bars = self.bars.with_bar(bar)
        rows = len(after.bars.grid.timestamps)
        market = market_return(newest_rows(after.bars.grid, 2))[-1:]
        after._market_returns = np.concatenate([self._market_returns, market])[-rows:]
        after._filtered = [
            np.concatenate([filtered, model.newest(after._market_returns)[None]])[-rows:]
            for model, filtered in zip(self._models, self._filtered, strict=True)
        ]
        after.features = np.concatenate([self.features[1 - self._reads :], after._newest_inputs(bar)])
        return after

    def rule_state(self) -> RuleState | None:
        """Return the positions of the rule at the newest bar; null without one."""
        if self._rule is None or self.units is None:
            return None
        return RuleState(self._rule.held.copy(), self.units[-self._context :].copy())

    def with_rule(self, state: RuleState) -> LiveMarket:
        """Return the market whose rule held at the newest bar what a ``state`` says, whenever it was begun.

        Raises:
            ValueError: If the state is of another rule.
        """
        shape = None if self._rule is None else self._rule.held.shape
        if self._rule is None or self.units is None or state.held.shape != shape:
            raise ValueError(
                f"The rule's positions that were kept have the shape {list(state.held.shape)}, the agents' rule has "
                f"{shape}; they are of other agents: start with their account alone."
            )
        after, rows = copy(self), len(state.units)
        after._rule = replace(self._rule, held=state.held)
        after.units = np.concatenate([self.units[:-rows], state.units])
        after.features, column = self.features.copy(), input_names(self._rule.rule.segments).index("units")
        newest = after.features[-rows:, :, column]
        newest[:] = np.where(np.isfinite(newest), state.units, np.nan)
        return after

    def _completed(self, bar: AlignedBars) -> AlignedBars:
        """Return a row with the last known values of own columns where it brings none, and the facts of its session."""
        if bar.extra:
            last = self.bars.by_asset.extra
            told = {n: np.where(bar.present & np.isnan(new), last[n][-1:], new) for n, new in bar.extra.items()}
            bar = bar.with_columns(told)
        if not of_sessions(self.columns):
            self._times = bar_times(bar.timestamps)
            return bar
        ends = np.concatenate([self.bars.grid.timestamps, bar.timestamps])
        times = column_times(ends, self.columns, self.trading.calendar, self._account_schedule(ends))
        session = self._times.session + times.session[-1] - times.session[-2]
        self._times = times.at(-1)._replace(session=session)
        return with_sessions(bar, self._times)

    def _refuse_unknown(self, bars: AlignedBars) -> None:
        """Refuse a history whose newest bar lacks a feature of an own column."""
        for number, column in enumerate(self.columns):
            unknown = bars.present[-1] & np.isnan(self.features[-1, :, number])
            if column.column is not None and unknown.any():
                names = [symbol for symbol, lacks in zip(bars.symbols, unknown.tolist(), strict=True) if lacks]
                raise ValueError(
                    f"The own column `{column.column}` of {names} has too few known values for the feature "
                    f"`{column.name}` at the newest bar; give a history with earlier values."
                )

    def _newest_inputs(self, bar: AlignedBars) -> Floats:
        """Compute the features ``[1, A, F]`` of the newest ``bar``, of which all else is known."""
        by_asset = self.bars.by_asset
        if self._rule is None or self.units is None:
            return newest_features(by_asset, self.columns, bar.present[0], self._times, self.features[-1])[None]
        self._rule = self._rule.with_bar(by_asset, bar, self._filtered[0][-1])
        self.units = np.concatenate([self.units[1 - self._reads :], self._rule.path.units])
        clock = market_clock(self.bars.grid.timestamps[-2:], self.trading.calendar, self._account_schedule())
        return rule_inputs(self._rule.path, self._rule.rule.segments, clock.rows(slice(1, None)))

    def decision_rows(self) -> LiveRows:
        """Return the rows that decisions at the last two bars read."""
        return self.rows(self._reads)

    def rows(self, count: int | None = None) -> LiveRows:
        """Return the last ``count`` rows, for decisions at the last two; None is all rows with features."""
        grid, ahead, schedule = self.bars.grid, self.trading.orders.latency_bars + 2, self._account_schedule()
        total = len(grid.timestamps)
        known = len(self.features) if count is None else min(count, len(self.features))
        ends = np.concatenate([grid.timestamps, expected_timestamps(grid.timestamps, ahead, schedule)])
        clock = market_clock(ends, self.trading.calendar, schedule)
        clock = clock._replace(bars_per_session=self._bars_per_session, own=self._own_clocks())
        risk = self._risk(clock.rows(slice(0, total)), 0 if count is None else total - 2)
        last = newest_rows(grid, known)
        longer = appended(last, missing_rows(last, ends[total:]))
        market = market_tensors(
            longer,
            _lengthened(self.features[-known:], ahead),
            np.ones((known + ahead, 1)),
            self.trading,
            clock.rows(slice(total - known, None)),
            RiskFacts._make(_lengthened(values[-known:], ahead) for values in risk),
        )
        if self.units is not None:
            market = market._replace(units=torch.from_numpy(_lengthened(self.units[-known:], ahead)))
        if self.trading.costs.half_spread == "estimated" and count is not None:  # too few rows to estimate it from
            market = market._replace(spread=self._estimated_spread().expand(market.bars, -1))
        settled = None if longer.leavers is None else torch.from_numpy(longer.leavers.settled)
        return LiveRows(market._replace(delisted=settled), [x[-known:] for x in self.posteriors], known - 1)

    def _risk(self, clock: Clock, first: int) -> RiskFacts:
        """Return the trailing facts of the grid's rows from ``first`` on."""
        grid, factors = self.bars.grid, adjustment_factors(self.bars.grid)
        total = (grid if factors is None else factors.applied(grid)).held_close()
        return risk_facts(grid, total, factors, clock, self.trading, first)

    def _estimated_spread(self) -> Tensor:
        """Return the estimate at the newest bar ``[A]``, from each asset's own bars."""
        adjusted_bars = adjusted(self.bars.by_asset)
        spread = estimated_spread(
            adjusted_bars.high, adjusted_bars.low, adjusted_bars.close, self.trading.costs.spread_bars
        )
        return torch.from_numpy(spread[-1])

    def schedule(self, calendar: str) -> Schedule:
        """Return the sessions of an exchange up to a year ahead of the newest bar."""
        return self._schedule(calendar, self.bars.grid.timestamps)

    def _account_schedule(self, timestamps: Timestamps | None = None) -> Schedule | None:
        """Return the account's sessions around ``timestamps``, null: those of the grid; None if it never closes."""
        calendar = self.trading.calendar
        timestamps = self.bars.grid.timestamps if timestamps is None else timestamps
        return None if calendar is None else self._schedule(calendar, timestamps)

    def _own_clocks(self) -> tuple[SymbolClock, ...]:
        """Return the sessions of the symbols, if they have calendars of their own, with the bars of those trained."""
        if not self._calendars:
            return ()
        schedules = {name: self.schedule(name) for name in self._calendars.values() if name is not None}
        close = self.bars.grid.close.copy()
        close[0] = np.nan  # a bar there may be an earlier one, which its symbol has at another time
        parts = symbol_clocks(replace(self.bars.grid, close=close), self._calendars, schedules)
        counts = [self._own_counts.get(part.calendar, part.clock.bars_per_session) for part in parts]
        return tuple(
            part._replace(clock=part.clock._replace(bars_per_session=count))
            for part, count in zip(parts, counts, strict=True)
        )

    def _schedule(self, calendar: str, timestamps: Timestamps) -> Schedule:
        """Return the sessions of an exchange around ``timestamps``, computed once a year."""
        if calendar not in self._schedules or timestamps[-1] + MIN_AHEAD > self._schedules[calendar].closes[-1]:
            self._schedules[calendar] = session_schedule(timestamps[[0, -1]], calendar, HORIZON)
        return self._schedules[calendar]


def _lengthened(values: Floats, count: int) -> Floats:
    """Repeat the last row ``count`` times more."""
    return np.concatenate([values, np.repeat(values[-1:], count, axis=0)])


def _distinct_models(agents: Sequence[AgentBundle]) -> tuple[list[RegimeModel], list[int]]:
    """Return the regime models that differ, and which of them each agent has."""
    models = [agent.spec.regimes for agent in agents]
    distinct = [model for place, model in enumerate(models) if model not in models[:place]]
    return [RegimeModel.from_dict(model) for model in distinct], [distinct.index(model) for model in models]
