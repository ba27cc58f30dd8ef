"""Market paths to train on: the history of a fold's train rows, or paths resampled from it, new for every update."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Literal

import numpy as np
import torch

from sentio_kedro.agent.hearing import heard_names
from sentio_kedro.agent.rollout import Windows, cut_windows
from sentio_kedro.config import FeatureColumn, TradingParameters, TrainingParameters
from sentio_kedro.market.adjustment import adjusted
from sentio_kedro.market.aligned import AlignedBars
from sentio_kedro.market.indicators import compute_features, longest_lookback
from sentio_kedro.market.regimes import RegimeModel, market_return
from sentio_kedro.market.resampling import (
    PathLevels,
    RelativeBars,
    ResampledPath,
    detrended,
    disturbed_history,
    mirrored_history,
    path_levels,
    relative_bars,
    resample,
)
from sentio_kedro.market.screening import SCALED_LIMIT, Criterion, Mask, Screening, screen, unmoved
from sentio_kedro.market.sessions import market_clock
from sentio_kedro.market.splits import Fold, Segment
from sentio_kedro.market.stamps import Floats
from sentio_kedro.market.tensors import MarketTensors, delisted_rows, market_tensors

logger = logging.getLogger(__name__)
_SCREENING = Lock()

LEAST_CHUNKS = 4  # a member misses one of at least this many parts of the train rows


@dataclass(frozen=True)
class TrainingSet:
    """What the training of one fold may see: its train and validation rows and what they depend on, nothing later.

    Attributes:
        fold: The fold; its test rows are not in the arrays.
        bars: Aligned bars up to the last bar that a train or validation row's reward needs.
        features: ``[T, A, F]`` features of those bars.
        columns: How the features are made.
        regimes: Regime model of the fold's train rows.
        periods_per_year: Bars per year.
        trading: What the market must tell an account: spreads, sessions, who may be sold short.
        missing: ``ingestion.missing`` that the bars were read with.
    """

    fold: Fold
    bars: AlignedBars
    features: Floats
    columns: Sequence[FeatureColumn]
    regimes: RegimeModel
    periods_per_year: float
    trading: TradingParameters = field(default_factory=TradingParameters)
    missing: Literal["drop_bar", "halt"] = "halt"
    _screened: dict[tuple[int, Criterion], Screening] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def market(self) -> MarketTensors:
        """Build the real market of this fold in float64 on the CPU."""
        posterior = self.regimes.filter(market_return(self.bars))
        return market_tensors(self.bars, self.features, posterior, self.trading)

    def scaler(self) -> tuple[Floats, Floats, Floats]:
        """Fit mean, standard deviation and mean size of the scaled value ``[F]`` of the features on the train rows."""
        rows = np.concatenate([self.features[part.start : part.stop] for part in self.fold.train])
        flat = rows.reshape(-1, rows.shape[-1])
        flat = flat[np.isfinite(flat).all(-1)]
        mean, deviation = flat.mean(axis=0), flat.std(axis=0)
        deviation = np.where(deviation > 1e-8, deviation, 1.0)  # noqa: PLR2004 - a constant column
        return mean, deviation, np.minimum(np.abs(flat - mean) / deviation, SCALED_LIMIT).mean(axis=0)

    def screened(self, lags: int, criterion: Criterion) -> Screening:
        """Keep the feature columns and the ``lags`` that foretell the next return on the train rows alone.

        All members ask for the same; the answer is remembered.
        """
        with _SCREENING:  # all members of a fold ask at once
            if (lags, criterion) not in self._screened:
                self._screened[lags, criterion] = self._screen(lags, criterion)
            return self._screened[lags, criterion]

    def _screen(self, lags: int, criterion: Criterion) -> Screening:
        whole = adjusted(self.bars)
        returns = np.full(whole.close.shape, np.nan)
        returns[1:] = np.log(whole.close[1:] / whole.held_close()[:-1])
        posterior = self.regimes.filter(market_return(self.bars))
        found = screen(self.features, returns, posterior, self.fold.train, lags, criterion)
        names = heard_names([column.name for column in self.columns], found.values.tolist(), found.sizes.tolist())
        tell = logger.info if names else logger.warning
        tell(
            "Fold %d: screening keeps %d of %d feature columns (%s) at lags up to %d",
            *(self.fold.number, int(found.columns.sum()), len(self.columns), ", ".join(names) or "none"),
            int(found.lags.sum()) - 1,
        )
        return found

    @cached_property
    def even(self) -> Mask:
        """Columns that are the same on mirrored bars ``[F]``, compared on the train rows."""
        relative = relative_bars(self.bars)
        bars = mirrored_history(relative, path_levels(relative, self.fold.train))
        mirrored = compute_features(bars, self.columns, calendar=self.bars.timestamps)
        return unmoved(self.features, mirrored, self.fold.train)

    def turned(self, kept: Screening) -> Mask:
        """Say what foretells the return and is the same on mirrored bars, so that it must be turned with them.

        Returns:
            ``[2, F]``: values of even columns that do so whatever the regime, and sizes. That a size is the same in the
            mirror holds where a column is even, or odd with a small mean.
        """
        values = kept.direct & self.even if kept.direct.any() else kept.direct
        return np.stack([values, kept.sizes])


def member_segments(train: Sequence[Segment], member: int, members: int, least: int) -> list[Segment]:
    """Take one part of the train rows away, another one for each member.

    The rows are cut into ``max(members, 4)`` parts of equal length; a member misses one. A single member misses none,
    and rests shorter than ``least`` rows are left out.

    Args:
        train: Train segments.
        member: Index of the member.
        members: Number of members.
        least: Shortest segment worth keeping, rows.

    Returns:
        The member's segments, never empty.
    """
    if members == 1:
        return list(train)
    chunks = max(members, LEAST_CHUNKS)
    total = sum(part.stop - part.start for part in train)
    chunk = member * chunks // members
    low, high = total * chunk // chunks, total * (chunk + 1) // chunks
    kept: list[Segment] = []
    passed = 0
    for part in train:
        length = part.stop - part.start
        cuts = (min(max(low - passed, 0), length), min(max(high - passed, 0), length))
        kept += [Segment(part.start, part.start + cuts[0]), Segment(part.start + cuts[1], part.stop)]
        passed += length
    long_enough = [part for part in kept if part.stop - part.start >= least]
    return long_enough or list(train)


class PathSampler:
    """Draws the windows of one member's updates."""

    def __init__(
        self,
        study: TrainingSet,
        segments: Sequence[Segment],
        parameters: TrainingParameters,
        context: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Prepare the member's bars (relative form, with clock and levels) or, for replay, the real market.

        Args:
            study: The fold.
            segments: The member's train rows.
            parameters: Windows, episode length and resampling.
            context: Bars that an embedding needs before its own.
            device: Where the windows go.
            dtype: Their precision.
        """
        self.study, self.segments, self.parameters = study, segments, parameters
        self.context, self.device, self.dtype = context, device, dtype
        self.warm_up = longest_lookback(study.columns)
        self.relative: RelativeBars | None = None
        self.levels: PathLevels | None = None
        self.market: MarketTensors | None = None
        self.clock = market_clock(study.bars.timestamps, study.trading.calendar)
        self.delisted = delisted_rows(study.bars)
        how = parameters.resampling
        if how.block_bars or how.mirrored or how.noise or how.detrended:
            bars = relative_bars(study.bars)
            self.relative = detrended(bars, segments) if how.detrended else bars
            self.levels = path_levels(self.relative, segments)
        else:
            self.market = study.market().to(device, dtype)

    def draw(self, rng: np.random.Generator) -> Windows:
        """Draw W windows of S decisions: consecutive on a resampled path, anywhere in the train rows on the history."""
        windows, steps = self.parameters.windows, self.parameters.episode_bars
        if not self.parameters.resampling.block_bars:
            return self._replay(rng)
        first = self.warm_up + self.context
        market = self._resampled(first + windows * steps + 1, rng)
        starts = first + steps * torch.arange(windows, device=self.device)
        return cut_windows(market, starts, steps, self.context, self.study.trading)

    def _resampled(self, length: int, rng: np.random.Generator) -> MarketTensors:
        if self.relative is None:
            raise RuntimeError("`resampling.block_bars` is 0: there is no path to resample.")
        how = self.parameters.resampling
        path = resample(
            self.relative,
            self.segments,
            length,
            how.block_bars,
            how.random_signs,
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
        features = compute_features(bars, self.study.columns, calendar=self.study.bars.timestamps[source])
        posterior = self.study.regimes.filter(market_return(bars))
        market = market_tensors(bars, features, posterior, self.study.trading, self.clock.along(source))
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
        return cut_windows(self._history(rng), rows, steps, self.context, self.study.trading)
