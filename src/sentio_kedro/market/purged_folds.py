"""Walk-forward, k-fold and combinatorial folds, each purged of rows that share bars with a later part's rewards.

A decision at row t reads bars [t - I + 1, t] (input span I) and is rewarded by bars (t, t + H] (reward span H). The
span [t - I + 1, t + H] of a train row must overlap no reward span of a validation or test row, and that of a validation
row none of a test row (Lopez de Prado, Advances in Financial Machine Learning, 2018, chapters 7 and 12).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import NamedTuple

from sentio_kedro.config import CrossValidationParameters

PARTS = ("train", "validation", "test")


class Segment(NamedTuple):
    """Contiguous decision rows ``start .. stop - 1``.

    Attributes:
        start: First row.
        stop: Row after the last one.
    """

    start: int
    stop: int


@dataclass(frozen=True)
class Fold:
    """One fold of decision rows on the aligned grid.

    Attributes:
        number: Place of the fold, from 0.
        train: Rows that fit everything that is fitted.
        validation: Rows that choose between checkpoints.
        test: Rows of the out-of-sample test.
    """

    number: int
    train: tuple[Segment, ...]
    validation: tuple[Segment, ...]
    test: tuple[Segment, ...]


@dataclass(frozen=True)
class Spans:
    """Spans of a decision, in bars.

    Attributes:
        input: Bars that a decision reads, its own included (I).
        reward: Bars after the decision that its reward needs (H).
        episode: Decisions of one training episode.
    """

    input: int
    reward: int
    episode: int


def cut_folds(bars: int, spans: Spans, parameters: CrossValidationParameters) -> list[Fold]:
    """Cut the rows of ``bars`` bars into folds, however short their parts are.

    Args:
        bars: Bars that folds may touch, from the first one on.
        spans: Spans of a decision.
        parameters: The scheme and its sizes.

    Returns:
        The folds in order of their test rows.
    """
    usable = Segment(spans.input - 1, max(spans.input - 1, bars - spans.reward))
    if parameters.scheme == "walk_forward":
        return _walk_forward(usable, spans, parameters)
    if parameters.scheme == "k_fold":
        return _k_fold(usable, spans, parameters)
    return _combinatorial(usable, spans, parameters)


def _walk_forward(usable: Segment, spans: Spans, parameters: CrossValidationParameters) -> list[Fold]:
    first_test = usable.start + round(parameters.first_test * (usable.stop - usable.start))
    edges = _edges(Segment(first_test, usable.stop), parameters.folds)
    folds: list[Fold] = []
    for number, (start, stop) in enumerate(pairwise(edges)):
        choice = start - round(parameters.validation * (start - usable.start))  # first validation row
        train = Segment(usable.start, choice - spans.reward + 1)  # the last one is rewarded by bar `choice`
        if parameters.window == "rolling" and folds and folds[0].train:
            train = Segment(max(usable.start, train.stop - count_rows(folds[0].train)), train.stop)
        validation = Segment(choice, start - spans.reward + 1)
        folds.append(Fold(number, _nonempty([train]), _nonempty([validation]), _nonempty([Segment(start, stop)])))
    return folds


def _k_fold(usable: Segment, spans: Spans, parameters: CrossValidationParameters) -> list[Fold]:
    """Test each of k blocks once; the latest of the other rows become validation rows."""
    folds = []
    for number, (start, stop) in enumerate(pairwise(_edges(usable, parameters.folds))):
        test = _nonempty([Segment(start, stop)])
        rest = _nonempty([Segment(usable.start, start), Segment(stop, usable.stop)])
        earlier, latest = _split_last(rest, round(parameters.validation * count_rows(rest)))
        validation = _purged(latest, test, spans)
        train = _purged(earlier, [*test, *validation], spans)
        folds.append(Fold(number, tuple(train), tuple(validation), test))
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


def combinatorial_paths(groups: int, test_groups: int) -> dict[tuple[int, int], int]:
    """Assign each tested group of each combinatorial fold to one backtest path.

    There are C(groups, test_groups) folds and test_groups / groups of that many paths; every path holds every group
    once (Lopez de Prado 2018, section 12.3).

    Returns:
        Path number by (fold number, group).
    """
    counts = [0] * groups
    paths = {}
    for fold, tested in enumerate(combinations(range(groups), test_groups)):
        for group in tested:
            paths[fold, group] = counts[group]
            counts[group] += 1
    return paths


def left_out(fold: Fold) -> tuple[list[Segment], list[Segment]]:
    """Return the rows between the parts of a fold that belong to none of them.

    Rows before its first and after its last part are not included.

    Returns:
        Purged rows, whose reward overlaps a later part, and embargoed rows, which follow a test block and would read
        its rewards.
    """
    placed = sorted((*segment, part) for part in PARTS for segment in getattr(fold, part))
    purged: list[Segment] = []
    embargoed: list[Segment] = []
    for (_, stop, part), (start, _, _) in pairwise(placed):
        (embargoed if part == "test" else purged).append(Segment(stop, start))
    return list(_nonempty(purged)), list(_nonempty(embargoed))


def count_rows(segments: Sequence[Segment]) -> int:
    """Count the rows of segments that do not overlap."""
    return sum(segment.stop - segment.start for segment in segments)


def _edges(rows: Segment, parts: int) -> list[int]:
    return [rows.start + (rows.stop - rows.start) * part // parts for part in range(parts + 1)]


def _nonempty(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    return tuple(segment for segment in segments if segment.stop > segment.start)


def _merged(segments: Sequence[Segment]) -> list[Segment]:
    merged: list[Segment] = []
    for segment in _nonempty(segments):
        if merged and merged[-1].stop == segment.start:
            merged[-1] = Segment(merged[-1].start, segment.stop)
        else:
            merged.append(segment)
    return merged


def _split_last(segments: Sequence[Segment], rows: int) -> tuple[tuple[Segment, ...], tuple[Segment, ...]]:
    """Split segments in order of time into all but the last ``rows`` rows, and these."""
    earlier: list[Segment] = []
    latest: list[Segment] = []
    wanted = rows
    for segment in reversed(segments):
        edge = max(segment.start, segment.stop - wanted)
        wanted -= segment.stop - edge
        earlier.insert(0, Segment(segment.start, edge))
        latest.insert(0, Segment(edge, segment.stop))
    return _nonempty(earlier), _nonempty(latest)


def _purged(segments: Sequence[Segment], tested: Sequence[Segment], spans: Spans) -> list[Segment]:
    """Cut from ``segments`` the rows whose span [t - I + 1, t + H] overlaps a reward span (s, s + H] of ``tested``."""
    rest = list(segments)
    for block in tested:
        last_before = block.start - spans.reward  # its reward ends at the tested block's first decision bar
        first_after = block.stop + spans.reward + spans.input - 1  # its input starts after the block's last reward
        rest = [
            part
            for segment in rest
            for part in _nonempty(
                [
                    Segment(segment.start, min(segment.stop, last_before + 1)),
                    Segment(max(segment.start, first_after), segment.stop),
                ]
            )
        ]
    return rest
