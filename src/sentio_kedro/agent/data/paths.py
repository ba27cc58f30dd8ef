"""Market paths to train on: the history of a fold's train rows, or paths resampled from it, new for every update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch

from sentio_kedro.agent.data.resampling import (
    PathLevels,
    RelativeBars,
    path_levels,
    relative_bars,
    resample,
)
from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.data.windows import Windows, cut_windows, path_facts
from sentio_kedro.config import TrainingParameters
from sentio_kedro.market.indicators import column_times, compute_features, longest_lookback, own_columns
from sentio_kedro.market.ingestion.panels import panel_clock
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.regimes import market_return
from sentio_kedro.market.tensors import MarketTensors, closed_on_leaving, delisted_rows, market_tensors
from sentio_kedro.trading.records import Market


class PathSampler:
    """Draws the windows of one member's updates."""

    def __init__(
        self,
        training_set: TrainingSet,
        segments: Sequence[Segment],
        parameters: TrainingParameters,
        context: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Prepare the clock of the member's bars.

        Args:
            training_set: The fold.
            segments: The member's train rows.
            parameters: Windows, episode length and resampling.
            context: Bars that an embedding needs before its own.
            device: Where the windows go.
            dtype: Their precision.
        """
        self.training_set, self.segments, self.parameters = training_set, segments, parameters
        self.context, self.device, self.dtype = context, device, dtype
        self.warm_up = longest_lookback(training_set.columns) if training_set.columns else 0
        self.clock = panel_clock(training_set.bars, training_set.trading)
        self.times = column_times(training_set.bars.timestamps, training_set.columns, training_set.trading.calendar)
        self.delisted = delisted_rows(training_set.bars, self.clock.session, self.clock.own)
        self.outside, self.leavers = training_set.bars.outside, training_set.bars.leavers

    @cached_property
    def relative(self) -> RelativeBars:
        """The fold's bars in relative form."""
        return relative_bars(self.training_set.bars)

    @cached_property
    def levels(self) -> PathLevels:
        """Prices and volumes that paths start from."""
        return path_levels(self.relative, self.segments)

    def draw(self, rng: np.random.Generator) -> Windows:
        """Draw W windows of S decisions: consecutive on a resampled path, anywhere in the train rows on the history."""
        windows, steps = self.parameters.windows, self.parameters.episode_bars
        block_bars = self.parameters.block_bars
        if block_bars is None:
            return self._replay(rng)
        first = self.warm_up + self.context
        market, facts = self._resampled(first + windows * steps + 1, block_bars, rng)
        return self._cut(market, first + steps * torch.arange(windows, device=self.device), facts)

    def _cut(self, market: MarketTensors, starts: torch.Tensor, facts: Market) -> Windows:
        """Cut windows that begin at rows ``starts`` ``[W]``."""
        steps, trading = self.parameters.episode_bars, self.training_set.trading
        price = self.parameters.price_of_risk / math.sqrt(self.training_set.periods_per_year)
        return cut_windows(market, starts, steps, self.context, trading, facts)._replace(risk_price=price)

    def _resampled(self, length: int, block_bars: int, rng: np.random.Generator) -> tuple[MarketTensors, Market]:
        """Draw a path: its market on the device, and its facts in double precision."""
        mirror = self.parameters.mirror_blocks
        bars, source = resample(self.relative, self.segments, length, block_bars, rng, self.levels, mirror)
        columns = self.training_set.columns
        known = self.training_set.features[source] if own_columns(columns) else None  # they do not depend on prices
        features = compute_features(bars, columns, self.times.along(source), known)
        posterior = self.training_set.regimes.filter(market_return(bars))
        market = market_tensors(bars, features, posterior, self.training_set.trading, self.clock.along(source))
        # An asset that lacks the path's last bars has not ended; one whose end was drawn has.
        ended = None if self.delisted is None else torch.from_numpy(self.delisted[source])
        market = market._replace(delisted=ended)
        if self.leavers is not None:
            market = closed_on_leaving(market, self.outside[source], self.leavers.paid[source])
        return market.to(self.device, self.dtype), path_facts(market, self.training_set.trading)

    def _replay(self, rng: np.random.Generator) -> Windows:
        steps = self.parameters.episode_bars
        long_enough = [part for part in self.segments if part.stop - part.start >= steps]
        sizes = np.array([part.stop - part.start - steps + 1 for part in long_enough])
        drawn = rng.choice(len(sizes), size=self.parameters.windows, p=sizes / sizes.sum())
        starts = [long_enough[index].start + int(rng.integers(sizes[index])) for index in drawn]
        market = self.training_set.market_on(self.device, self.dtype)
        return self._cut(market, torch.tensor(starts, device=self.device), self.training_set.facts)
