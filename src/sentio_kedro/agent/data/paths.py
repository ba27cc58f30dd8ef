"""Market paths to train on: the history of a fold's train rows, or paths resampled from it, new for every update."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch

from sentio_kedro.agent.data.resampling import (
    PathLevels,
    RelativeBars,
    ResampledPath,
    detrended,
    disturbed_history,
    path_levels,
    relative_bars,
    resample,
)
from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.config import TrainingParameters
from sentio_kedro.market.fold_shapes import Segment
from sentio_kedro.market.indicators import compute_features, longest_lookback
from sentio_kedro.market.regimes import market_return
from sentio_kedro.market.sessions import market_clock
from sentio_kedro.market.tensors import MarketTensors, delisted_rows, market_tensors

logger = logging.getLogger(__name__)


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
        """Prepare the member's bars (relative form, with clock and levels) or, for replay, the real market.

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
        self.warm_up = longest_lookback(training_set.columns)
        self.relative: RelativeBars | None = None
        self.levels: PathLevels | None = None
        self.market: MarketTensors | None = None
        self.clock = market_clock(training_set.bars.timestamps, training_set.trading.calendar)
        self.delisted = delisted_rows(training_set.bars)
        how = parameters.resampling
        if how.block_bars or how.mirrored or how.noise or how.detrended:
            bars = relative_bars(training_set.bars)
            self.relative = detrended(bars, segments) if how.detrended else bars
            self.levels = path_levels(self.relative, segments)
        else:
            self.market = training_set.market_on(device, dtype)

    def draw(self, rng: np.random.Generator) -> Windows:
        """Draw W windows of S decisions: consecutive on a resampled path, anywhere in the train rows on the history."""
        windows, steps = self.parameters.windows, self.parameters.episode_bars
        if not self.parameters.resampling.block_bars:
            return self._replay(rng)
        first = self.warm_up + self.context
        market = self._resampled(first + windows * steps + 1, rng)
        starts = first + steps * torch.arange(windows, device=self.device)
        return cut_windows(market, starts, steps, self.context, self.training_set.trading)

    def _resampled(self, length: int, rng: np.random.Generator) -> MarketTensors:
        if self.relative is None:
            raise RuntimeError("`resampling.block_bars` is 0: there is no path to resample.")
        how = self.parameters.resampling
        path = resample(
            self.relative,
            self.segments,
            length,
            how.block_bars,
            how.mirror_blocks,
            rng,
            levels=self.levels,
            mirrored=how.mirrored,
            noise=how.noise,
        )
        return self._market_of(path)

    def _history(self, rng: np.random.Generator) -> MarketTensors:
        """Return the real market, or the history mirrored and with noise."""
        if self.market is not None:
            return self.market
        if self.relative is None or self.levels is None:
            raise RuntimeError("The sampler has neither a market nor bars to make one of.")
        how = self.parameters.resampling
        return self._market_of(disturbed_history(self.relative, self.levels, how.mirrored, how.noise, rng))

    def _market_of(self, path: ResampledPath) -> MarketTensors:
        """Compute what a path shows."""
        bars, source = path.bars, path.rows
        features = compute_features(bars, self.training_set.columns, calendar=self.training_set.bars.timestamps[source])
        posterior = self.training_set.regimes.filter(market_return(bars))
        market = market_tensors(bars, features, posterior, self.training_set.trading, self.clock.along(source))
        # An asset that lacks the path's last bars has not ended; one whose end was drawn has.
        ended = None if self.delisted is None else torch.from_numpy(self.delisted[source])
        signs = torch.from_numpy(path.signs) if self.parameters.resampling.mirrors else None
        return market._replace(delisted=ended, signs=signs).to(self.device, self.dtype)

    def _replay(self, rng: np.random.Generator) -> Windows:
        steps = self.parameters.episode_bars
        long_enough = [part for part in self.segments if part.stop - part.start >= steps]
        sizes = np.array([part.stop - part.start - steps + 1 for part in long_enough])
        drawn = rng.choice(len(sizes), size=self.parameters.windows, p=sizes / sizes.sum())
        starts = [long_enough[index].start + int(rng.integers(sizes[index])) for index in drawn]
        rows = torch.tensor(starts, device=self.device)
        return cut_windows(self._history(rng), rows, steps, self.context, self.training_set.trading)
