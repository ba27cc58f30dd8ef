"""Folds of decision rows, purged, and the lockbox: the last bars, which no fold touches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentio_kedro.config import CrossValidationParameters
from sentio_kedro.market.fold_shapes import (
    PARTS,
    Fold,
    Segment,
    Spans,
    count_rows,
    cut_folds,
)

MIN_LOCKBOX_ROWS = 2  # a Sharpe ratio needs two returns


def make_folds(bars: int, spans: Spans, parameters: CrossValidationParameters) -> list[Fold]:
    """Split the rows of a grid of ``bars`` bars into purged folds that leave the lockbox alone.

    Args:
        bars: Number T of bars on the aligned grid.
        spans: What a decision touches.
        parameters: The scheme, its sizes and the lockbox.

    Returns:
        The folds in order of their test rows. No row of theirs reads or is rewarded by a bar of the lockbox.

    Raises:
        ValueError: If a part of a fold has fewer rows than one episode, or the lockbox holds too few, with the
            arithmetic.
    """
    folds = cut_folds(lockbox_bars(bars, parameters).start, spans, parameters)
    problems = _too_short(bars, spans, parameters)
    if problems:
        raise ValueError(_refusal(bars, spans, parameters, problems))
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


def _refusal(bars: int, spans: Spans, parameters: CrossValidationParameters, problems: Sequence[str]) -> str:
    lockbox = lockbox_bars(bars, parameters)
    usable = max(0, lockbox.start - spans.input - spans.reward + 1)
    kept = f"lockbox {lockbox.stop - lockbox.start} - " if parameters.lockbox else ""
    shape = {
        "walk_forward": "`cross_validation.folds` or raise `cross_validation.validation`",
        "k_fold": "`cross_validation.folds` or raise `cross_validation.validation`",
        "combinatorial": "`cross_validation.groups`",
    }[parameters.scheme]
    remedies = "`training.episode_bars`, " + ("`cross_validation.lockbox`, " if parameters.lockbox else "") + shape
    listed = "; ".join(problems[:6]) + (f"; and {len(problems) - 6} more" if len(problems) > 6 else "")  # noqa: PLR2004
    return (
        f"{bars} bars are too few for {parameters.scheme} folds: {usable} rows are usable ({bars} bars - {kept}input "
        f"span {spans.input} - reward span {spans.reward} + 1), and every part of a fold needs one episode of "
        f"{spans.episode} rows after purging. Too short: {listed}. "
        f"Give at least {_min_bars(spans, parameters)} bars, or lower {remedies}, or the input "
        "span: `network.window`, `network.layers`, `regimes.memory`, the longest `lookback` of `features.columns`."
    )


def _min_bars(spans: Spans, parameters: CrossValidationParameters) -> int:
    """Return the least bars that suffice, found by bisection."""
    low, high = 1, 2 * (spans.input + spans.reward + spans.episode)
    while _too_short(high, spans, parameters):
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        if _too_short(middle, spans, parameters):
            low = middle + 1
        else:
            high = middle
    return high


def folds_to_dict(
    folds: Sequence[Fold], timestamps: NDArray[np.datetime64], spans: Spans, lockbox: Segment | None = None
) -> dict[str, Any]:
    """Describe folds by rows and by stamps, ready for JSON.

    Args:
        folds: The folds.
        timestamps: Bar ends [T] of the aligned grid.
        spans: The spans that they were purged with.
        lockbox: Bars that the folds leave alone; None or an empty segment if there are none.
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
        "lockbox": segment(lockbox) if lockbox is not None and lockbox.stop > lockbox.start else None,
    }


def folds_from_dict(description: Mapping[str, Any]) -> list[Fold]:
    """Read what ``folds_to_dict`` wrote; the stamps are for people and are not read."""
    return [
        Fold(fold["number"], *(tuple(Segment(rows["start"], rows["stop"]) for rows in fold[part]) for part in PARTS))
        for fold in description["folds"]
    ]


def open_bars(description: Mapping[str, Any]) -> slice:
    """Return the bars outside the lockbox: all that training, backtest and report may look at.

    Args:
        description: What ``folds_to_dict`` made.
    """
    lockbox = description.get("lockbox")
    return slice(0, None if lockbox is None else lockbox["start"])


def sealed_bars(description: Mapping[str, Any], timestamps: NDArray[np.datetime64]) -> Segment | None:
    """Return where the lockbox lies on other bars than those that were split; a feed may have dropped its oldest.

    Args:
        description: What ``folds_to_dict`` made; its stamps, which are whole seconds, are read, not its rows.
        timestamps: Bar ends [T], UTC, in order.

    Returns:
        Its rows, empty where none of its bars is there; None if there is no lockbox.
    """
    lockbox = description.get("lockbox")
    if lockbox is None:
        return None
    first, last = (np.datetime64(lockbox[end].removesuffix("Z"), "s") for end in ("first", "last"))
    start, stop = np.searchsorted(timestamps, np.array([first, last + 1]))
    return Segment(int(start), int(stop))


def lockbox_rows(description: Mapping[str, Any]) -> Segment:
    """Return the decision rows of the lockbox: decided at its bars and rewarded by them.

    The rows just before it, whose rewards it would pay, belong to nothing.

    Args:
        description: What ``folds_to_dict`` made.

    Raises:
        ValueError: If there is no lockbox.
    """
    lockbox = description.get("lockbox")
    if lockbox is None:
        raise ValueError(
            "There is no lockbox to open: `cross_validation.lockbox` was null when the folds were made. Set a share of "
            "the bars, such as 0.15, and run `kedro run` again."
        )
    return Segment(lockbox["start"], lockbox["stop"] - description["spans"]["reward"])
