"""What the training of one fold may see, cut so that nothing of its test rows is in it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Literal

import numpy as np

from sentio_kedro.agent.data.resampling import (
    path_levels,
    relative_bars,
    replayed_history,
)
from sentio_kedro.agent.data.screening import SCALED_LIMIT, Criterion, Mask, Screening, screen, unmoved
from sentio_kedro.agent.network.feature_mask import selected_names
from sentio_kedro.config import FeatureColumn, TradingParameters
from sentio_kedro.market.adjustment import adjusted
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.fold_shapes import Fold, Segment, Spans
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.regimes import RegimeModel, market_return
from sentio_kedro.market.tensors import MarketTensors, market_tensors
from sentio_kedro.market.timestamps import Floats

logger = logging.getLogger(__name__)

_SCREENING = Lock()


MIN_CHUNKS = 4  # a member misses one of at least this many parts of the train rows


def visible_bars(bars: AlignedBars, features: Floats, fold: Fold, spans: Spans) -> tuple[AlignedBars, Floats]:
    """Cut away every bar that training must not see.

    Kept are the raw spans [t - I + 1, t + H] of train and validation rows. What lies after them is cut off; what lies
    between them (test blocks of k-fold and combinatorial folds) becomes missing bars without features.

    Args:
        bars: Aligned bars, T x A.
        features: ``[T, A, F]``.
        fold: The fold.
        spans: What a decision touches.

    Returns:
        Bars and features up to the last visible bar.
    """
    parts = [*fold.train, *fold.validation]
    end = max(part.stop for part in parts) + spans.reward
    seen = np.zeros(len(bars.timestamps), dtype=bool)
    for part in parts:
        seen[max(0, part.start - spans.input + 1) : part.stop + spans.reward] = True
    hidden = ~seen[:end, None]
    return bars.rows(slice(0, end)).without(hidden), np.where(hidden[..., None], np.nan, features[:end])


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
        names = selected_names([column.name for column in self.columns], found.values.tolist(), found.sizes.tolist())
        tell = logger.info if names else logger.warning
        tell(
            "Fold %d: screening keeps %d of %d feature columns (%s) at lags up to %d",
            *(self.fold.number, int(found.columns.sum()), len(self.columns), ", ".join(names) or "none"),
            int(found.lags.sum()) - 1,
        )
        return found

    @cached_property
    def mirror_invariant(self) -> Mask:
        """Columns that are the same on mirrored bars ``[F]``, compared on the train rows."""
        relative = relative_bars(self.bars)
        bars = replayed_history(relative, path_levels(relative, self.fold.train), sign=-1.0).bars
        mirrored = compute_features(bars, self.columns, calendar=self.bars.timestamps)
        return unmoved(self.features, mirrored, self.fold.train)

    def flipped(self, kept: Screening) -> Mask:
        """Say what foretells the return and is the same on mirrored bars, so that it must be turned with them.

        Returns:
            ``[2, F]``: values of even columns that do so whatever the regime, and sizes. That a size is the same in the
            mirror holds where a column is even, or odd with a small mean.
        """
        values = kept.direct & self.mirror_invariant if kept.direct.any() else kept.direct
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
    chunks = max(members, MIN_CHUNKS)
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
