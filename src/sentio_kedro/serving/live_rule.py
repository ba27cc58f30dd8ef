"""A forecast rule on a market whose bars arrive one by one: only the newest row is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sentio_kedro.agent.forecasting.inputs.newest import NewestInputs
from sentio_kedro.agent.forecasting.market import unit_costs
from sentio_kedro.agent.forecasting.rule import ForecastRule, RulePath
from sentio_kedro.config import TradingParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Floats


@dataclass(frozen=True, eq=False)
class LiveRule:
    """A rule and its positions up to the newest bar.

    Attributes:
        rule: The rule.
        trading: Costs.
        inputs: The last bars of each asset.
        held: ``[sleeves, A]`` positions of the open sleeves after the newest bar.
        path: The rule's path: over all rows of a history, and later over the newest row alone.
    """

    rule: ForecastRule
    trading: TradingParameters
    inputs: NewestInputs
    held: Floats
    path: RulePath

    @classmethod
    def of(cls, rule: ForecastRule, bars: AlignedBars, posterior: Floats, trading: TradingParameters) -> LiveRule:
        """Follow the rule over a history T x A of bars as traded, with its filtered regimes ``[T, K]``."""
        path, held = rule.followed(bars, posterior, trading)
        return cls(rule, trading, NewestInputs.of(bars, rule.minutes), held, path)

    def with_bar(self, own: AlignedBars, bar: AlignedBars, posterior: Floats) -> LiveRule:
        """Return the rule one row later; this one stays.

        Args:
            own: The last bars of each asset as traded, ``asset_rows`` of them, the newest in the last row whatever its
                timestamp; NaN in those that an asset does not have.
            bar: The newest row, 1 x A, whose bars are in ``own``.
            posterior: ``[K]`` filtered regimes of the newest row.
        """
        inputs, newest = self.inputs.with_bar(own, bar)
        newest = newest.with_regimes(posterior[None])
        costs = unit_costs(own.rows(slice(-asset_rows(self.trading), None)), newest, self.trading)[-1:]
        if self.rule.first_row(bar.timestamps) > 0:
            path, held = self.rule.unfollowed(costs, newest.volatility), self.held
        else:
            forecasts = self.rule.forecasts(newest, np.zeros(1, np.int64))
            path, held = self.rule.positions(forecasts, costs, newest.volatility, self.held)
        return replace(self, inputs=inputs, held=held, path=path)


def asset_rows(trading: TradingParameters) -> int:
    """Bars of each asset that ``LiveRule.with_bar`` reads."""
    return trading.costs.spread_bars + 2 if trading.costs.half_spread == "estimated" else 2
