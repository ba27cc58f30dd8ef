"""Data of one fold's training, without its test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import RLock
from typing import Literal

import numpy as np
import torch

from sentio_kedro.agent.data.windows import path_facts
from sentio_kedro.agent.forecasting.rule import ForecastRule
from sentio_kedro.config import FeatureColumn, TradingParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Fold, Segment, Spans
from sentio_kedro.market.regimes import RegimeModel, market_return
from sentio_kedro.market.tensors import MarketTensors, closed_on_leaving, market_tensors
from sentio_kedro.trading.records import Integers, Market

MIN_CHUNKS = 4  # a member misses one of at least this many parts of the train rows


def visible_bars(bars: AlignedBars, features: Floats, fold: Fold, spans: Spans) -> tuple[AlignedBars, Floats]:
    """Cut away every bar that training must not see.

    Visible are the raw spans [t - I + 1, t + H] of train and validation rows. Bars after them are cut off; bars between
    them (test blocks of k-fold and combinatorial folds) become missing bars without features.

    Args:
        bars: Aligned bars, T x A.
        features: ``[T, A, F]``.
        fold: The fold.
        spans: Input and reward spans of a decision.

    Returns:
        Bars and features up to the last visible bar.
    """
    parts = [*fold.train, *fold.validation]
    end = max(part.stop for part in parts) + spans.reward
    visible = np.zeros(len(bars.timestamps), dtype=bool)
    for part in parts:
        visible[max(0, part.start - spans.input + 1) : part.stop + spans.reward] = True
    hidden = ~visible[:end, None]
    return bars.rows(slice(0, end)).without(hidden), np.where(hidden[..., None], np.nan, features[:end])


@dataclass(frozen=True)
class TrainingSet:
    """Data of one fold's training: its train and validation rows and the bars that they depend on, nothing later.

    Attributes:
        fold: The fold; its test rows are not in the arrays.
        bars: Aligned bars up to the last bar that a train or validation row's reward needs.
        features: ``[T, A, F]`` features of those bars.
        columns: Definitions of the features; empty for inputs of a forecast rule.
        regimes: Regime model of the fold's train rows.
        periods_per_year: Bars per year.
        trading: Market facts that accounts need: spreads, sessions, assets that may be sold short.
        missing: ``ingestion.missing`` that the bars were read with.
        rule: The forecast rule whose inputs ``features`` are; null without one.
        units: ``[T, A]`` its positions on these bars, units of risk; null without a rule.
        forecast_rows: ``[n]`` train rows that are forecast out of fold, which alone are learned from; null is all.
        outside_session: ``ingestion.outside_session`` that the bars were read with.
    """

    fold: Fold
    bars: AlignedBars
    features: Floats
    columns: Sequence[FeatureColumn]
    regimes: RegimeModel
    periods_per_year: float
    trading: TradingParameters = field(default_factory=TradingParameters)
    missing: Literal["drop_bar", "halt"] = "halt"
    rule: ForecastRule | None = None
    units: Floats | None = None
    forecast_rows: Integers | None = None
    outside_session: Literal["refuse", "drop", "keep"] = "refuse"
    _lock: RLock = field(default_factory=RLock, init=False, repr=False, compare=False)
    _markets: dict[tuple[torch.device, torch.dtype], MarketTensors] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def learned(self) -> Sequence[Segment]:
        """Train rows that are learned from."""
        if self.forecast_rows is None or not len(self.forecast_rows):
            return self.fold.train
        runs = np.split(self.forecast_rows, np.flatnonzero(np.diff(self.forecast_rows) > 1) + 1)
        return [Segment(int(run[0]), int(run[-1]) + 1) for run in runs]

    @property
    def flat(self) -> bool:
        """Whether the fold's rule has no open sleeve, so that it holds nothing."""
        return self.rule is not None and not self.rule.opened

    @property
    def market(self) -> MarketTensors:
        """The real market of this fold in float64 on the CPU, built once."""
        return self.market_on(torch.device("cpu"), torch.float64)

    def market_on(self, device: torch.device, dtype: torch.dtype) -> MarketTensors:
        """Return the real market of this fold on ``device`` in ``dtype``.

        All agents of the fold share the copy, which lives as long as the training set.
        """
        device = torch.empty(0, device=device).device  # "cuda" and "cuda:0" are one key
        with self._lock:  # members of a fold call it at the same time
            if (device, dtype) not in self._markets:
                self._markets[device, dtype] = self._market.to(device, dtype)
            return self._markets[device, dtype]

    @property
    def facts(self) -> Market:
        """Facts of all rows of the fold's market, built once."""
        with self._lock:
            return self._facts

    @cached_property
    def _facts(self) -> Market:
        return path_facts(self._market, self.trading)

    @cached_property
    def _market(self) -> MarketTensors:
        posterior = self.regimes.filter(market_return(self.bars))
        market = market_tensors(self.bars, self.features, posterior, self.trading)
        if self.bars.leavers is not None:
            market = closed_on_leaving(market, self.bars.outside, self.bars.leavers.paid)
        return market if self.units is None else market._replace(units=torch.from_numpy(self.units))

    def scaler(self) -> tuple[Floats, Floats]:
        """Fit mean and standard deviation ``[F]`` of the features on the train rows."""
        rows = np.concatenate([self.features[part.start : part.stop] for part in self.learned])
        flat = rows.reshape(-1, rows.shape[-1])
        flat = flat[np.isfinite(flat).all(-1)]
        deviation = flat.std(axis=0)
        return flat.mean(axis=0), np.where(deviation > 1e-8, deviation, 1.0)  # noqa: PLR2004 - a constant column


def member_segments(train: Sequence[Segment], member: int, members: int, min_rows: int) -> list[Segment]:
    """Leave out one part of the train rows, another one for each member.

    The rows are cut into ``max(members, 4)`` parts of equal length; a member misses one. A single member misses none,
    and remainders shorter than ``min_rows`` are left out.

    Args:
        train: Train segments.
        member: Index of the member.
        members: Number of members.
        min_rows: Shortest segment, rows.

    Returns:
        The member's segments, never empty.
    """
    if members == 1:
        return list(train)
    chunks = max(members, MIN_CHUNKS)
    total = sum(part.stop - part.start for part in train)
    chunk = member * chunks // members
    low, high = total * chunk // chunks, total * (chunk + 1) // chunks
    parts: list[Segment] = []
    rows_before = 0
    for part in train:
        length = part.stop - part.start
        cuts = (min(max(low - rows_before, 0), length), min(max(high - rows_before, 0), length))
        parts += [Segment(part.start, part.start + cuts[0]), Segment(part.start + cuts[1], part.stop)]
        rows_before += length
    long_enough = [part for part in parts if part.stop - part.start >= min_rows]
    return long_enough or list(train)
