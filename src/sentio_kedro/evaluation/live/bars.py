"""The bars of a journal beside those of the dataset: as delivered later, as seen live, and what was missed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sentio_kedro.market.ingestion.aligned_bars import NEUTRAL, AlignedBars, Mask
from sentio_kedro.market.ingestion.timestamps import Floats, Timestamps


class LiveBars(NamedTuple):
    """Three histories of the same time, each from the dataset's first bar to the journal's last.

    Attributes:
        delivered: Bars of the dataset; those of the journal where it has none.
        seen: The same, with the journal's bars wherever it has one.
        journaled: The journal's bars alone after the first decision, behind the dataset's history.
        revised: ``[rows, A]`` later bars of ``delivered`` that the journal has with other values.
        missed: ``[rows, A]`` later bars of ``delivered`` that the journal lacks.
    """

    delivered: AlignedBars
    seen: AlignedBars
    journaled: AlignedBars
    revised: Mask
    missed: Mask


def live_bars(dataset: AlignedBars, journal: AlignedBars, first: np.datetime64) -> LiveBars:
    """Lay a journal's bars beside those of the dataset, of the same symbols.

    Args:
        dataset: Bars that may end before the journal does; those later than its last bar are left out.
        journal: Bars as seen.
        first: End of the bar of the first decision.

    Raises:
        ValueError: If the dataset is of a dated universe, or does not reach the first decision.
    """
    known = dataset.rows(slice(0, int(np.searchsorted(dataset.timestamps, journal.timestamps[-1], side="right"))))
    _require_history(known, journal, first)
    stamps = np.union1d(known.timestamps, journal.timestamps)
    names = list(dict.fromkeys((*known.columns(), *journal.columns())))
    theirs, ours = _placed(known, stamps, names), _placed(journal, stamps, names)
    here, there = np.isfinite(ours["close"]), np.isfinite(theirs["close"])
    inside = (stamps > first)[:, None]
    delivered = _merged(stamps, journal.symbols, {n: np.where(there, theirs[n], ours[n]) for n in names})
    live = {n: np.where(inside & here, _or(ours[n], theirs[n]), np.where(there, theirs[n], ours[n])) for n in names}
    seen = _merged(stamps, journal.symbols, live)
    alone = {n: np.where(inside & ~here, np.nan, live[n]) for n in names}
    kept = np.flatnonzero(np.isfinite(alone["close"]).any(axis=1))
    journaled = _merged(stamps, journal.symbols, alone).rows(kept)
    told = [name for name in names if name in journal.columns() and name in known.columns()]
    other = np.logical_or.reduce([ours[name] != theirs[name] for name in told])
    return LiveBars(delivered, seen, journaled, inside & here & there & other, inside & there & ~here)


def _require_history(known: AlignedBars, journal: AlignedBars, first: np.datetime64) -> None:
    if known.leavers is not None:
        raise ValueError(
            "The bars of the dataset are of a dated universe, in which sessions do not trade; set `universe` to null."
        )
    before, has = known.timestamps[known.timestamps < first], np.isin(first, [*known.timestamps, *journal.timestamps])
    gaps = np.diff(before)
    if not has or len(before) < 2 or first - before[-1] > gaps.max():  # noqa: PLR2004 - a gap needs two
        last = np.datetime_as_string(before[-1], unit="s") + "Z" if len(before) else "none"
        raise ValueError(
            f"The dataset `bars` must reach up to the first decision, {np.datetime_as_string(first, unit='s')}Z, its "
            f"last bar before is {last}: fetch the bars in between, for example by `kedro run --pipeline download`."
        )


def _placed(bars: AlignedBars, stamps: Timestamps, names: list[str]) -> dict[str, Floats]:
    """Columns ``[rows, A]`` at ``stamps``; NaN where there is no bar or no such column."""
    rows, columns = np.searchsorted(stamps, bars.timestamps), bars.columns()
    placed = {name: np.full((len(stamps), len(bars.symbols)), np.nan) for name in names}
    for name, column in columns.items():
        placed[name][rows] = column
    return placed


def _or(values: Floats, others: Floats) -> Floats:
    return np.where(np.isnan(values), others, values)


def _merged(stamps: Timestamps, symbols: tuple[str, ...], columns: Mapping[str, Floats]) -> AlignedBars:
    """Bars of columns; a bar without an optional value gets the neutral one."""
    present = np.isfinite(columns["close"])
    filled = {
        name: np.where(present & np.isnan(values), NEUTRAL[name], values) if name in NEUTRAL else values
        for name, values in columns.items()
    }
    return AlignedBars.of(stamps, symbols, filled)
