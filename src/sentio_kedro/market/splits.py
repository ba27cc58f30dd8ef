"""Folds of decision rows: purged walk-forward and purged combinatorial.

A decision at row t reads bars [t - I + 1, t] (input span I) and is rewarded by bars (t, t + H] (reward span H). A train
row's whole span must meet no reward span of a validation or test row, and a validation row's none of a test row
(Lopez de Prado, Advances in Financial Machine Learning, 2018, chapters 7 and 12).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.config import CrossValidationParameters

PARTS = ("train", "validation", "test")


class Segment(NamedTuple):
    """Contiguous decision rows ``start .. stop - 1``."""

    start: int
    stop: int


@dataclass(frozen=True)
class Fold:
    """One fold of decision rows on the aligned grid.

    Attributes:
        number: Place of the fold, from 0.
        train: Rows that fit everything that is fitted.
        validation: Rows that choose between checkpoints.
        test: Rows that are judged once.
    """

    number: int
    train: tuple[Segment, ...]
    validation: tuple[Segment, ...]
    test: tuple[Segment, ...]


@dataclass(frozen=True)
class Spans:
    """What a decision touches, in bars.

    Attributes:
        input: Bars that a decision reads, its own included (I).
        reward: Bars after the decision that its reward needs (H).
        episode: Decisions of one training episode.
    """

    input: int
    reward: int
    episode: int


def make_folds(bars: int, spans: Spans, parameters: CrossValidationParameters) -> list[Fold]:
    """Split the rows of a grid of ``bars`` bars into purged folds.

    Args:
        bars: Number T of bars on the aligned grid.
        spans: What a decision touches.
        parameters: The scheme and its sizes.

    Returns:
        The folds in order of their test rows.

    Raises:
        ValueError: If a part of a fold has fewer rows than one episode, with the arithmetic.
    """
    folds = _cut(bars, spans, parameters)
    problems = _too_short(bars, spans, folds)
    if problems:
        raise ValueError(_refusal(bars, spans, parameters, problems))
    return folds


def _cut(bars: int, spans: Spans, parameters: CrossValidationParameters) -> list[Fold]:
    usable = Segment(spans.input - 1, max(spans.input - 1, bars - spans.reward))
    if parameters.scheme == "walk_forward":
        return _walk_forward(usable, spans, parameters)
    return _combinatorial(usable, spans, parameters)


def _walk_forward(usable: Segment, spans: Spans, parameters: CrossValidationParameters) -> list[Fold]:
    first_test = usable.start + round(parameters.first_test * (usable.stop - usable.start))
    edges = _edges(Segment(first_test, usable.stop), parameters.folds)
    folds: list[Fold] = []
    for number, (start, stop) in enumerate(pairwise(edges)):
        choice = start - round(parameters.validation * (start - usable.start))  # first validation row
        train = Segment(usable.start, choice - spans.reward + 1)  # the last one is rewarded by bar `choice`
        if parameters.window == "rolling" and folds and folds[0].train:
            train = Segment(max(usable.start, train.stop - _rows(folds[0].train)), train.stop)
        validation = Segment(choice, start - spans.reward + 1)
        folds.append(Fold(number, _kept([train]), _kept([validation]), _kept([Segment(start, stop)])))
    return folds


def _combinatorial(usable: Segment, spans: Spans, parameters: CrossValidationParameters) -> list[Fold]:
    edges = _edges(usable, parameters.groups)
    groups = [Segment(start, stop) for start, stop in pairwise(edges)]
    folds = []
    for number, tested in enumerate(combinations(range(len(groups)), parameters.test_groups)):
        rest = [group for group in range(len(groups)) if group not in tested]
        test = _merged([groups[group] for group in tested])
        validation = _purged([groups[rest[-1]]], test, spans)
        train = _purged(_merged([groups[group] for group in rest[:-1]]), [*test, *validation], spans)
        folds.append(Fold(number, tuple(train), tuple(validation), tuple(test)))
    return folds


def _edges(rows: Segment, parts: int) -> list[int]:
    return [rows.start + (rows.stop - rows.start) * part // parts for part in range(parts + 1)]


def _kept(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    return tuple(segment for segment in segments if segment.stop > segment.start)


def _merged(segments: Sequence[Segment]) -> list[Segment]:
    merged: list[Segment] = []
    for segment in _kept(segments):
        if merged and merged[-1].stop == segment.start:
            merged[-1] = Segment(merged[-1].start, segment.stop)
        else:
            merged.append(segment)
    return merged


def _purged(segments: Sequence[Segment], judged: Sequence[Segment], spans: Spans) -> list[Segment]:
    """Cut from ``segments`` the rows whose span [t - I + 1, t + H] meets a reward span (s, s + H] of ``judged``."""
    kept = list(segments)
    for judge in judged:
        last_before = judge.start - spans.reward  # its reward ends at the judged block's first decision bar
        first_after = judge.stop + spans.reward + spans.input - 1  # its input starts after the block's last reward
        kept = [
            part
            for segment in kept
            for part in _kept(
                [
                    Segment(segment.start, min(segment.stop, last_before + 1)),
                    Segment(max(segment.start, first_after), segment.stop),
                ]
            )
        ]
    return kept


def _rows(segments: Sequence[Segment]) -> int:
    return sum(segment.stop - segment.start for segment in segments)


def _too_short(bars: int, spans: Spans, folds: Sequence[Fold]) -> list[str]:
    problems = []
    if bars < spans.input + spans.episode:
        problems.append(
            f"one episode needs input span {spans.input} + episode {spans.episode} = {spans.input + spans.episode} bars"
        )
    for fold in folds:
        longest = max((segment.stop - segment.start for segment in fold.train), default=0)
        if longest < spans.episode:
            problems.append(f"fold {fold.number}: the longest stretch of train rows is {longest}")
        for part in PARTS[1:]:
            rows = _rows(getattr(fold, part))
            if rows < spans.episode:
                problems.append(f"fold {fold.number}: {part} has {rows} rows")
    return problems


def _refusal(bars: int, spans: Spans, parameters: CrossValidationParameters, problems: Sequence[str]) -> str:
    usable = max(0, bars - spans.input - spans.reward + 1)
    shape = (
        "`cross_validation.folds` or raise `cross_validation.validation`"
        if parameters.scheme == "walk_forward"
        else "`cross_validation.groups`"
    )
    listed = "; ".join(problems[:6]) + (f"; and {len(problems) - 6} more" if len(problems) > 6 else "")  # noqa: PLR2004
    return (
        f"{bars} bars are too few for {parameters.scheme} folds: {usable} rows are usable ({bars} bars - input span "
        f"{spans.input} - reward span {spans.reward} + 1), and every part of a fold needs one episode of "
        f"{spans.episode} rows after purging. Too short: {listed}. "
        f"Give at least {_least_bars(spans, parameters)} bars, or lower `training.episode_bars`, {shape}, or the input "
        "span: `network.window`, `network.layers`, `regimes.memory`, the longest `lookback` of `features.columns`."
    )


def _least_bars(spans: Spans, parameters: CrossValidationParameters) -> int:
    """Return the least bars that suffice, found by bisection."""
    low, high = 1, 2 * (spans.input + spans.reward + spans.episode)
    while _too_short(high, spans, _cut(high, spans, parameters)):
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        if _too_short(middle, spans, _cut(middle, spans, parameters)):
            low = middle + 1
        else:
            high = middle
    return high


def combinatorial_paths(groups: int, test_groups: int) -> dict[tuple[int, int], int]:
    """Assign each tested group of each combinatorial fold to one backtest path.

    There are C(groups, test_groups) folds and test_groups / groups of that many paths; every path holds every group
    once (Lopez de Prado 2018, section 12.3).

    Returns:
        Path number by (fold number, group).
    """
    seen = [0] * groups
    paths = {}
    for fold, tested in enumerate(combinations(range(groups), test_groups)):
        for group in tested:
            paths[fold, group] = seen[group]
            seen[group] += 1
    return paths


def folds_to_dict(folds: Sequence[Fold], timestamps: NDArray[np.datetime64], spans: Spans) -> dict[str, Any]:
    """Describe folds by rows and by stamps, ready for JSON.

    Args:
        folds: The folds.
        timestamps: Bar ends [T] of the aligned grid.
        spans: The spans that they were purged with.
    """

    def segment(rows: Segment) -> dict[str, Any]:
        first, last = (np.datetime_as_string(timestamps[row], unit="s") for row in (rows.start, rows.stop - 1))
        return {"start": rows.start, "stop": rows.stop, "first": f"{first}Z", "last": f"{last}Z"}

    return {
        "spans": {"input": spans.input, "reward": spans.reward, "episode": spans.episode},
        "folds": [
            {"number": fold.number, **{part: [segment(rows) for rows in getattr(fold, part)] for part in PARTS}}
            for fold in folds
        ],
    }


def folds_from_dict(description: dict[str, Any]) -> list[Fold]:
    """Read what ``folds_to_dict`` wrote; the stamps are for people and are not read."""
    return [
        Fold(fold["number"], *(tuple(Segment(rows["start"], rows["stop"]) for rows in fold[part]) for part in PARTS))
        for fold in description["folds"]
    ]
