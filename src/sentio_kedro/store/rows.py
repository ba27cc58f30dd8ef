"""Rows of a store: what a vendor delivers in the store's columns, what of it is new, and the view at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sentio_kedro.config.symbols import SYMBOL_RULE, symbol_fault
from sentio_kedro.market.ingestion.aligned_bars import NEUTRAL
from sentio_kedro.market.ingestion.bar_checks import COLUMNS, numbers
from sentio_kedro.market.ingestion.problems import EXAMPLES, BarsError, Problem, shown
from sentio_kedro.market.ingestion.timestamps import Timestamps, parse_timestamps
from sentio_kedro.store.manifest import iso

STORED = (*COLUMNS, "dividend", "split")
"""Columns that every part has, in their order; others follow by name."""
LABELS = ("known_at", "source")
TIME = pa.timestamp("us", tz="UTC")

Mask = NDArray[np.bool_]


class Keys(NamedTuple):
    """Keys of rows [n].

    Attributes:
        code: Number of the symbol among ``names``.
        stamp: Bar end, microseconds since 1970.
        names: Symbols, sorted.
    """

    code: NDArray[np.int64]
    stamp: NDArray[np.int64]
    names: list[str]

    def changes(self) -> Mask:
        """Return where a row has another key than the one before [n]; true for the first."""
        differs = np.ones(len(self.code), dtype=np.bool_)
        differs[1:] = (self.code[1:] != self.code[:-1]) | (self.stamp[1:] != self.stamp[:-1])
        return differs


def delivered_rows(frame: pd.DataFrame, known_at: str) -> pa.Table:
    """Return the bars of a vendor in the store's columns, sorted by symbol and bar end, rows told twice once.

    Args:
        frame: Long bars: ``timestamp`` (bar end, with a zone), ``symbol``, prices as traded, ``volume``, and any of
            ``dividend``, ``split`` and numbers of the vendor's own. An empty dividend is 0, an empty split 1.
        known_at: When they became known; no bar may end later.

    Raises:
        BarsError: With every problem, its symbol, timestamp and remedy.
    """
    lacking = [name for name in COLUMNS if name not in frame.columns]
    if lacking:
        raise BarsError((Problem("columns are missing: name the vendor's columns so", len(lacking), tuple(lacking)),))
    frame = frame.reset_index(drop=True)
    stamps, problems = _stamps(frame, known_at)
    names = sorted(set(frame.columns) - {*STORED, *LABELS})
    given = [name for name in STORED[2:] if name in frame]
    values = {name: numbers(frame[name]) for name in (*given, *names)}
    unread = [f"column `{name}`" for name, column in values.items() if (np.isnan(column) & frame[name].notna()).any()]
    if unread:
        problems.append(Problem("values must be numbers or empty: correct or drop them", len(unread), tuple(unread)))
    for name in ("dividend", "split"):
        column = values.get(name, np.full(len(frame), np.nan))
        values[name] = np.where(np.isnan(column), NEUTRAL[name], column)
    if problems:
        raise BarsError(tuple(problems))
    symbol = pd.Categorical(frame["symbol"].astype(str))
    order = np.lexsort((stamps.astype(np.int64), symbol.codes))
    arrays = {
        "timestamp": pa.array(stamps[order]).cast(TIME),
        "symbol": pa.array(symbol[order]).cast(pa.dictionary(pa.int32(), pa.string())),
        **{name: pa.array(values[name][order]) for name in (*STORED[2:], *names)},
    }
    return _told_once(pa.table(arrays))


def _stamps(frame: pd.DataFrame, known_at: str) -> tuple[Timestamps, list[Problem]]:
    """Return the bar ends [n] in microseconds, and what is wrong with them and the symbols."""
    parsed = parse_timestamps(frame["timestamp"])
    zoned = isinstance(parsed.dtype, pd.DatetimeTZDtype)
    exact = parsed.dt.tz_localize(None).to_numpy(dtype="datetime64[ns]")
    stamps = exact.astype("datetime64[us]")
    unread = np.isnat(stamps) | (stamps != exact) | (not zoned)
    late = ~unread & (stamps > np.datetime64(known_at.removesuffix("Z")))
    wrong = {
        "timestamp must be the bar's end, a time with a zone, whole microseconds: convert the vendor's": unread,
        f"bars must have ended when they became known ({known_at}): drop the bar that has not ended": late,
    }
    problems = [
        Problem(rule, int(rows.sum()), tuple(_case(frame, row) for row in np.flatnonzero(rows)[:EXAMPLES]))
        for rule, rows in wrong.items()
        if rows.any()
    ]
    symbols = frame["symbol"].unique()
    faults = [shown(name) for name in symbols if not isinstance(name, str) or symbol_fault(name)]
    if faults:
        problems.append(Problem(f"symbol must be {SYMBOL_RULE}: correct it", len(faults), tuple(faults[:EXAMPLES])))
    return stamps, problems


def _case(frame: pd.DataFrame, row: int) -> str:
    return f"{shown(frame['symbol'].iloc[row])} {shown(frame['timestamp'].iloc[row])} in row {row}"


def _told_once(table: pa.Table) -> pa.Table:
    """Drop rows that repeat the one before; refuse those that have its key and other values."""
    first = keys_of(table).changes()
    if first.all():
        return table
    differing = ~first & ~_as_before(table, 0.0)
    if differing.any():
        rule = "a bar must be delivered once, or twice with the same values: keep the right one"
        raise BarsError((Problem(rule, int(differing.sum()), _cases(table, differing)),))
    return table.filter(pa.array(first))


def _cases(table: pa.Table, wrong: Mask) -> tuple[str, ...]:
    some = table.take(np.flatnonzero(wrong)[:EXAMPLES])
    stamps = some["timestamp"].to_numpy()
    return tuple(f"{name} {iso(stamp)}" for name, stamp in zip(some["symbol"].to_pylist(), stamps, strict=True))


def keys_of(table: pa.Table) -> Keys:
    """Return the keys of rows; ``symbol`` is a dictionary column."""
    symbol = table["symbol"].unify_dictionaries() if table["symbol"].num_chunks > 1 else table["symbol"]
    symbol = symbol.combine_chunks()
    names = symbol.dictionary.to_pylist()
    rank = np.empty(len(names), dtype=np.int64)
    order = sorted(range(len(names)), key=names.__getitem__)
    rank[order] = np.arange(len(names))
    stamps = table["timestamp"].to_numpy().astype("datetime64[us]").astype(np.int64)
    return Keys(rank[symbol.indices.to_numpy()], stamps, [names[place] for place in order])


def latest(table: pa.Table) -> pa.Table:
    """Return the view of rows: of each symbol and bar end the one that became known last, sorted by both.

    Args:
        table: Rows with ``known_at``.
    """
    if not table.num_rows:
        return table
    keys = keys_of(table)
    known = table["known_at"].to_numpy().astype("datetime64[us]").astype(np.int64)
    gain = np.where(keys.code[1:] == keys.code[:-1], keys.stamp[1:] > keys.stamp[:-1], keys.code[1:] > keys.code[:-1])
    if gain.all():
        return table
    order = np.lexsort((known, keys.stamp, keys.code))
    ends = Keys(keys.code[order], keys.stamp[order], keys.names).changes()
    return table.take(order[np.roll(ends, -1)])  # the last of each key


class Split(NamedTuple):
    """Delivered rows against those held.

    Attributes:
        rows: The rows to write.
        revised: Which of ``rows`` [n] replace a held one.
        same: Number of rows that are held as they are.
    """

    rows: pa.Table
    revised: Mask
    same: int


def against_held(rows: pa.Table, held: pa.Table, known_at: str, rounding: float) -> Split:
    """Tell new and revised rows from those held.

    Args:
        rows: The result of ``delivered_rows``.
        held: The latest view of the same span, with ``known_at``.
        known_at: When ``rows`` became known.
        rounding: Relative difference up to which a value counts as the same.

    Raises:
        BarsError: If a row differs from one that became known at the same time: a view at that time must not change.
    """
    if not held.num_rows:
        return Split(rows, np.zeros(rows.num_rows, dtype=np.bool_), 0)
    both = pa.concat_tables([held, rows], promote_options="default")
    keys, told = keys_of(both), np.arange(both.num_rows) >= held.num_rows
    order = np.lexsort((told, keys.stamp, keys.code))
    both, told = both.take(order), told[order]
    known = ~Keys(keys.code[order], keys.stamp[order], keys.names).changes()  # has the key of the row before
    same = known & _as_before(both.drop_columns("known_at"), rounding)
    earlier = np.roll(both["known_at"].to_numpy().astype("datetime64[us]"), 1)
    clash = known & ~same & (earlier >= np.datetime64(known_at.removesuffix("Z")))
    if clash.any():
        rule = (
            f"a bar that became known at {known_at} cannot be revised at the same time: append with a later `known_at`"
        )
        raise BarsError((Problem(rule, int(clash.sum()), _cases(both, clash)),))
    write = told & ~same
    return Split(both.filter(pa.array(write)).select(rows.column_names), known[write], int((told & same).sum()))


def _as_before(table: pa.Table, rounding: float) -> Mask:
    """Return where a row has the values of the one before [n], empty ones alike; false for the first."""
    same = np.ones(table.num_rows, dtype=np.bool_)
    same[:1] = False
    for name in table.column_names:
        if name not in ("timestamp", "symbol"):
            values = table[name].to_numpy().astype(np.float64)
            same[1:] &= np.isclose(values[1:], values[:-1], rtol=rounding, atol=0.0, equal_nan=True)
    return same
