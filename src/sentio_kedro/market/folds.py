"""Purged folds of decision rows, and the lockbox: the last bars, which are in no fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.config import CrossValidationParameters
from sentio_kedro.config.fields import LARGEST
from sentio_kedro.market.ingestion.timestamps import moment
from sentio_kedro.market.purged_folds import (
    PARTS,
    Fold,
    Segment,
    Spans,
    count_rows,
    cut_folds,
)

MIN_LOCKBOX_ROWS = 2  # a Sharpe ratio needs two returns


def make_folds(bars: int, spans: Spans, parameters: CrossValidationParameters) -> list[Fold]:
    """Split the rows of a grid of ``bars`` bars into purged folds that exclude the lockbox.

    Args:
        bars: Number T of bars on the aligned grid.
        spans: Spans of a decision.
        parameters: The scheme, its sizes and the lockbox.

    Returns:
        The folds in order of their test rows. None of their rows reads, or is rewarded by, a bar of the lockbox.

    Raises:
        ValueError: If a part of a fold has fewer rows than one episode, or the lockbox too few, with the arithmetic.

    Example:
        Decisions that read 10 bars and are rewarded by the next one, on 100 bars without a lockbox:

        >>> from sentio_kedro.config import CrossValidationParameters
        >>> parameters = CrossValidationParameters(folds=2, validation=0.2, lockbox=None)
        >>> for fold in make_folds(100, Spans(input=10, reward=1, episode=5), parameters):
        ...     print(*fold.train, *fold.validation, *fold.test)
        Segment(start=9, stop=45) Segment(start=45, stop=54) Segment(start=54, stop=76)
        Segment(start=9, stop=63) Segment(start=63, stop=76) Segment(start=76, stop=99)
    """
    folds = cut_folds(lockbox_bars(bars, parameters).start, spans, parameters)
    problems = _too_short(bars, spans, parameters)
    if problems:
        raise ValueError(_explain(bars, spans, parameters, problems))
    return folds


def lockbox_bars(bars: int, parameters: CrossValidationParameters) -> Segment:
    """Return the bars of the lockbox, the last ``cross_validation.lockbox`` of ``bars``; none if it is off."""
    return Segment(bars - round((parameters.lockbox or 0.0) * bars), bars)


def _too_short(bars: int, spans: Spans, parameters: CrossValidationParameters) -> list[str]:
    lockbox, problems = lockbox_bars(bars, parameters), []
    if lockbox.start < spans.input + spans.episode:
        problems.append(
            f"one episode needs input span {spans.input} + episode {spans.episode} = {spans.input + spans.episode} bars"
        )
    for fold in cut_folds(lockbox.start, spans, parameters):
        longest = max((segment.stop - segment.start for segment in fold.train), default=0)
        if longest < spans.episode:
            problems.append(f"fold {fold.number}: the longest stretch of train rows is {longest}")
        for part in PARTS[1:]:
            rows = count_rows(getattr(fold, part))
            if rows < spans.episode:
                problems.append(f"fold {fold.number}: {part} has {rows} rows")
    rows = max(0, lockbox.stop - lockbox.start - spans.reward)
    if parameters.lockbox and rows < MIN_LOCKBOX_ROWS:
        problems.append(f"the lockbox has {rows} rows and needs {MIN_LOCKBOX_ROWS}: raise it or set it to null")
    return problems


def _explain(bars: int, spans: Spans, parameters: CrossValidationParameters, problems: Sequence[str]) -> str:
    lockbox = lockbox_bars(bars, parameters)
    usable = max(0, lockbox.start - spans.input - spans.reward + 1)
    lockbox_term = f"lockbox {lockbox.stop - lockbox.start} - " if parameters.lockbox else ""
    validation = f"`cross_validation.validation` = {parameters.validation:g}"
    shape = {
        "walk_forward": f"`cross_validation.folds` = {parameters.folds}, or raise `cross_validation.first_test` = "
        f"{parameters.first_test:g} or {validation}",
        "k_fold": f"`cross_validation.folds` = {parameters.folds}, or raise {validation}",
        "combinatorial": f"`cross_validation.groups` = {parameters.groups}",
    }[parameters.scheme]
    least = min_bars(spans, parameters)
    remedies = "`training.episode_bars`, " + ("`cross_validation.lockbox`, " if parameters.lockbox else "") + shape
    listed = "; ".join(problems[:6]) + (f"; and {len(problems) - 6} more" if len(problems) > 6 else "")  # noqa: PLR2004
    return (
        f"{bars} bars are too few for {parameters.scheme} folds: {usable} rows are usable ({bars} bars - {lockbox_term}"
        f"input span {spans.input} - reward span {spans.reward} + 1), and every part of a fold needs one episode of "
        f"{spans.episode} rows after purging. Too short: {listed}. "
        f"{'Lower' if least is None else f'Give at least {least} bars, or lower'} {remedies}, or the input "
        "span: `network.window`, `network.layers`, `regimes.memory`, `trading.memory_sessions`, "
        "`trading.masks.kelly_bars`, `trading.costs.spread_bars`, the longest `lookback` of `features.columns`; "
        "without forecasts (`trading.unit: allocation`, `network.variant` and "
        "`training.variant: enhanced`) it is shorter."
    )


def min_bars(spans: Spans, parameters: CrossValidationParameters) -> int | None:
    """Return the smallest sufficient number of bars, by bisection; null if it is more than any feed has."""
    low, high = 1, 2 * (spans.input + spans.reward + spans.episode)
    while _too_short(high, spans, parameters):
        low, high = high, 2 * high
        if low > LARGEST:
            return None
    while low < high:
        middle = (low + high) // 2
        if _too_short(middle, spans, parameters):
            low = middle + 1
        else:
            high = middle
    return high


@dataclass(frozen=True)
class Folds:
    """Folds of decision rows on one grid of bars.

    Attributes:
        folds: The folds in order of their test rows.
        spans: The spans that they are purged with.
        lockbox: Bars that are in no fold; null if there are none.
        dates: Bar ends, ISO 8601 in UTC, of the first and the last row of every segment, by row.
    """

    folds: Sequence[Fold]
    spans: Spans
    lockbox: Segment | None
    dates: Mapping[int, str]

    @classmethod
    def of(
        cls, folds: Sequence[Fold], spans: Spans, timestamps: NDArray[np.datetime64], lockbox: Segment | None = None
    ) -> Folds:
        """Date the segments by the bar ends ``timestamps`` [T]; an empty lockbox is none."""
        lockbox = lockbox if lockbox is not None and lockbox.stop > lockbox.start else None
        segments = [rows for fold in folds for part in PARTS for rows in getattr(fold, part)]
        segments += [] if lockbox is None else [lockbox]
        ends = sorted({row for rows in segments for row in (rows.start, rows.stop - 1)})
        dates = {row: f"{np.datetime_as_string(timestamps[row], unit='s')}Z" for row in ends}
        return cls(list(folds), spans, lockbox, dates)

    @property
    def open_bars(self) -> slice:
        """Bars outside the lockbox: all that training, backtest and report may read."""
        return slice(0, None if self.lockbox is None else self.lockbox.start)

    @property
    def lockbox_dates(self) -> dict[str, str] | None:
        """Bar ends of the ``first`` and the ``last`` bar of the lockbox; null if there is none."""
        if self.lockbox is None:
            return None
        return {"first": self.dates[self.lockbox.start], "last": self.dates[self.lockbox.stop - 1]}

    def lockbox_rows(self) -> Segment:
        """Return the decision rows of the lockbox: decided at its bars and rewarded by them.

        Raises:
            ValueError: If there is no lockbox.
        """
        if self.lockbox is None:
            raise ValueError(
                "There is no lockbox to open: `cross_validation.lockbox` was null when the folds were made. Set a "
                "share of the bars, such as 0.15, and run `kedro run` again."
            )
        return Segment(self.lockbox.start, self.lockbox.stop - self.spans.reward)

    def locate_lockbox(self, timestamps: NDArray[np.datetime64]) -> Segment | None:
        """Find the lockbox by its dates on other bars than those that were split; a feed may have dropped its oldest.

        Args:
            timestamps: Bar ends [T], UTC, in order.

        Returns:
            Its rows, empty where none of its bars is there; null if there is no lockbox.
        """
        dates = self.lockbox_dates
        if dates is None:
            return None
        first, last = (moment(dates[end], end) for end in ("first", "last"))
        after = last + np.timedelta64(1, "s")  # dates are whole seconds
        start, stop = np.searchsorted(timestamps, np.array([first, after]))
        return Segment(int(start), int(stop))

    def to_dict(self) -> dict[str, Any]:
        """Return spans, folds and lockbox as plain data, each segment with its rows and dates."""
        return {
            "spans": asdict(self.spans),
            "folds": [
                {
                    "number": fold.number,
                    **{part: [self._dated(rows) for rows in getattr(fold, part)] for part in PARTS},
                }
                for fold in self.folds
            ],
            "lockbox": None if self.lockbox is None else self._dated(self.lockbox),
        }

    def _dated(self, rows: Segment) -> dict[str, Any]:
        return {**rows._asdict(), "first": self.dates[rows.start], "last": self.dates[rows.stop - 1]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Folds:
        """Read what ``to_dict`` returned."""
        dates: dict[int, str] = {}

        def segment(rows: Mapping[str, Any]) -> Segment:
            dates.update({rows["start"]: rows["first"], rows["stop"] - 1: rows["last"]})
            return Segment(rows["start"], rows["stop"])

        folds = [
            Fold(fold["number"], *(tuple(segment(rows) for rows in fold[part]) for part in PARTS))
            for fold in values["folds"]
        ]
        lockbox = None if values["lockbox"] is None else segment(values["lockbox"])
        return cls(folds, Spans(**values["spans"]), lockbox, dates)
