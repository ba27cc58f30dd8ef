"""The store of bars: append what a vendor delivered, read what was known at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from sentio_kedro.config.symbols import unknown_symbols
from sentio_kedro.store.files import MANIFEST, StoreFiles, folder_name
from sentio_kedro.store.manifest import Manifest, advanced, iso, moment_text, read_manifest
from sentio_kedro.store.parts import decoded, encoded, slices
from sentio_kedro.store.rows import LABELS, STORED, TIME, Split, against_held, delivered_rows, keys_of, latest
from sentio_kedro.store.selection import BEGIN, END, Chosen, chosen_parts, touched, view_query

PENDING = ".pending.json"
"""Names of the parts that an append is writing: what a killed one leaves is deleted by the next."""
_THREADS = 8  # they wait for disk or network


class Appended(NamedTuple):
    """What an append did.

    Attributes:
        new: Bars that were not held.
        revised: Bars that were held with other values.
        same: Bars that were held as they are; nothing was written for them.
    """

    new: int
    revised: int
    same: int


class StoredBars:
    """Bars by source, symbol and year in Parquet files that are never changed.

    ``<root>/<source>/<symbol>/<year>/part-<hash>.parquet`` holds the bars of a symbol; short spans of many symbols,
    such as a new day, share ``<root>/<source>/_recent/<year>/part-<hash>.parquet``. Timestamps are bar ends in UTC.
    Prices are as traded; dividends (cash per share, after the split) and splits (new shares per old) stand in columns
    of their own, so that a later split changes no earlier bar. A correction is a later row with a later ``known_at``.
    A source holds bars of one length: ``yfinance-1d`` and ``yfinance-1h`` are two.
    """

    def __init__(self, root: str, options: Mapping[str, Any] | None = None) -> None:
        """Open a store; nothing is made before the first append.

        Args:
            root: A folder or an fsspec URL such as ``s3://bucket/bars``.
            options: Of the file system, such as credentials.
        """
        self._files = StoreFiles(root, options or {})

    def append(self, frame: pd.DataFrame, source: str, known_at: Any, *, rounding: float = 0.0) -> Appended:
        """Add the bars that are new or revised; the same bars again write nothing.

        A process that is killed leaves the store as it was; the same command again gives the same bytes as if it had
        not been killed.

        Args:
            frame: Long bars with ``timestamp`` (bar ends with a zone), ``symbol``, ``open, high, low, close, volume``
                as traded, and any of ``dividend``, ``split`` and numeric columns of the vendor's own. Each row is the
                whole truth of its bar: a column that is absent is empty. Rows need no order.
            source: Name of the vendor.
            known_at: When the bars became known; UTC if it names no zone. Not before an earlier append of the source.
            rounding: Relative difference up to which a value counts as the same.

        Returns:
            Numbers of new, revised and same bars.

        Raises:
            BarsError: If bars lack columns, cannot be read, end after ``known_at``, are told twice with other values,
                or revise those of the same ``known_at``.
            ValueError: If ``known_at`` is before an earlier append, or another process appends to the source.
            DamagedFileError: If a file of the store is damaged.
        """
        known = moment_text(known_at, "known_at")
        rows = delivered_rows(frame, known)
        with self._files.locked(source):
            manifest, content = self._manifest(source)
            if known < manifest.known_at:
                raise ValueError(
                    f"`known_at` must not be before {manifest.known_at}, that of the last append of `{source}`, is "
                    f"{known}: a view of the past must not change; append with a later time."
                )
            self._clear(source, manifest)
            split = self._told_apart(source, manifest, rows, known, rounding)
            if split.rows.num_rows:
                self._write(source, manifest, content, split, known)
        revised = int(split.revised.sum())
        return Appended(split.rows.num_rows - revised, revised, split.same)

    def read(
        self,
        symbols: Sequence[str] | None = None,
        start: Any = None,
        end: Any = None,
        as_of: Any = None,
        columns: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Return the bars as they were known at a time.

        Args:
            symbols: Symbols to read; null reads all.
            start: First bar end; UTC if it names no zone, as for ``end`` and ``as_of``.
            end: Last bar end; a day without a time means all of it.
            as_of: When bars must have been known; a day without a time means all of it; null is now. What is appended
                later never changes the view.
            columns: Columns to return, ``known_at`` and ``source`` among them; null returns all but these two.
            sources: Vendors to read; null reads all.

        Returns:
            Long bars sorted by symbol and timestamp, a row a bar.

        Raises:
            ValueError: If a symbol, source or column is not held, or a symbol is held from several sources.
            DamagedFileError: If a file of the store is damaged.
        """
        span = self._span(start, end)
        chosen = self._chosen(symbols, span, as_of, sources)
        with ThreadPoolExecutor(_THREADS) as pool:
            tables = list(pool.map(lambda one: decoded(self._files, one, span), chosen))
        view = latest(pa.concat_tables([*tables, _no_rows()], promote_options="default"))
        extras = sorted(set(view.column_names) - {*STORED, *LABELS})
        lacking = sorted(set(columns or ()) - set(view.column_names))
        if lacking:
            raise ValueError(f"`columns` {lacking} are not held; choose among {[*STORED, *extras, *LABELS]}.")
        view = view.select([*STORED, *extras] if columns is None else list(columns))
        return _frame(view)

    def sql(
        self,
        symbols: Sequence[str] | None = None,
        start: Any = None,
        end: Any = None,
        as_of: Any = None,
        sources: Sequence[str] | None = None,
    ) -> str:
        """Return the query of DuckDB that gives what ``read`` gives; it names the parts to scan.

        Args and errors are those of ``read``. DuckDB needs access of its own to a bucket, and checks no hashes.
        """
        span = self._span(start, end)
        chosen = self._chosen(symbols, span, as_of, sources)
        if not chosen:
            raise ValueError("No bar is held for these symbols, span, `as_of` and sources; widen them.")
        paths = [self._files.path(f"{folder_name(one.source)}/{one.part.path}") for one in chosen]
        return view_query(chosen, paths, span)

    def watermarks(self, sources: Sequence[str] | None = None) -> pd.DataFrame:
        """Return how far each symbol of each source has come.

        Returns:
            ``source, symbol, bars, revisions, first, last`` (bar ends), ``known_from, known_at``; a row a symbol.
        """
        marks = [
            {"source": source, "symbol": symbol, **mark.__dict__}
            for source in self._sources(sources)
            for symbol, mark in self._manifest(source)[0].symbols.items()
        ]
        names = ["source", "symbol", "bars", "revisions", "first", "last", "known_from", "known_at"]
        frame = pd.DataFrame(marks, columns=names)
        moments = {name: pd.to_datetime(frame[name], utc=True) for name in names[4:]}
        return frame.assign(**moments)

    @property
    def files(self) -> StoreFiles:
        """The files below the root, for small records of what fills the store."""
        return self._files

    def tidy(self, source: str) -> None:
        """Delete what a killed append of a source has left; every append does so before it begins.

        Raises:
            ValueError: If another process appends to the source.
        """
        with self._files.locked(source):
            self._clear(source, self._manifest(source)[0])

    def exists(self) -> bool:
        """Return whether any bar was appended."""
        return bool(self._files.sources())

    def _manifest(self, source: str) -> tuple[Manifest, bytes | None]:
        name = f"{folder_name(source)}/{MANIFEST}"
        content = self._files.read(name)
        return read_manifest(content, self._files.path(name)), content

    def _sources(self, sources: Collection[str] | None) -> list[str]:
        held = self._files.sources()
        unknown = unknown_symbols(sources or (), held)
        if unknown:
            raise ValueError(f"`sources` {unknown} are not held; choose among {held}.")
        return held if sources is None else sorted(set(sources))

    def _span(self, start: Any, end: Any) -> tuple[str, str]:
        return (
            BEGIN if start is None else moment_text(start, "start"),
            END if end is None else moment_text(end, "end", end_of_day=True),
        )

    def _chosen(
        self, symbols: Sequence[str] | None, span: tuple[str, str], as_of: Any, sources: Sequence[str] | None
    ) -> list[Chosen]:
        known = END if as_of is None else moment_text(as_of, "as_of", end_of_day=True)
        manifests = {source: self._manifest(source)[0] for source in self._sources(sources)}
        return chosen_parts(manifests, symbols, span, known)

    def _told_apart(self, source: str, manifest: Manifest, rows: pa.Table, known: str, rounding: float) -> Split:
        keys = keys_of(rows)
        if not rows.num_rows:
            return Split(rows, np.zeros(0, dtype=np.bool_), 0)
        stamps = keys.stamp.astype("datetime64[us]")
        span = (iso(stamps.min()), iso(stamps.max()))
        parts = touched(manifest, set(keys.names), span, END)
        with ThreadPoolExecutor(_THREADS) as pool:
            tables = list(pool.map(lambda part: decoded(self._files, Chosen(source, part, keys.names), span), parts))
        held = latest(pa.concat_tables([*tables, _no_rows()], promote_options="default"))
        return against_held(rows, held.drop_columns("source"), known, rounding)

    def _write(self, source: str, manifest: Manifest, content: bytes | None, split: Split, known: str) -> None:
        """Write the parts, then the manifest that makes them exist."""
        folder = folder_name(source)
        with ThreadPoolExecutor(_THREADS) as pool:
            parts = list(pool.map(lambda one: encoded(one, source, known), slices(split.rows)))
            names = [f"{folder}/{part.path}" for part, _ in parts]
            if self._files.local:  # in a bucket they may be those of another process, and stay
                self._files.write(f"{folder}/{PENDING}", json.dumps(names).encode())
            list(pool.map(lambda name, new: self._files.write(name, new[1]), names, parts))
        marks = _marks(split)
        if self._files.read(f"{folder}/{MANIFEST}") != content:
            raise ValueError(
                f"Source `{source}` must have one writer at a time, and another process has appended to it; run the "
                "same command again."
            )
        after = advanced(manifest, known, [part for part, _ in parts], marks)
        self._files.write(f"{folder}/{MANIFEST}", after.to_json())
        self._files.remove(f"{folder}/{PENDING}")

    def _clear(self, source: str, manifest: Manifest) -> None:
        """Delete the parts that a killed append has left."""
        folder = folder_name(source)
        pending = self._files.read(f"{folder}/{PENDING}")
        if pending is not None:
            named = {f"{folder}/{part.path}" for part in manifest.parts}
            for name in json.loads(pending):
                if name not in named:
                    self._files.remove(name)
            self._files.remove(f"{folder}/{PENDING}")


def _marks(split: Split) -> dict[str, tuple[int, int, np.datetime64, np.datetime64]]:
    """Return new bars, revisions, first and last bar end of each symbol among the rows that are written."""
    keys = keys_of(split.rows)
    begins = np.flatnonzero(np.append(True, np.diff(keys.code) != 0))
    ends = np.append(begins[1:], len(keys.code))
    stamps = keys.stamp.astype("datetime64[us]")
    revised = np.add.reduceat(split.revised.astype(np.int64), begins)
    return {
        keys.names[keys.code[begin]]: (int(end - begin - again), int(again), stamps[begin], stamps[end - 1])
        for begin, end, again in zip(begins, ends, revised, strict=True)
    }


def _no_rows() -> pa.Table:
    kinds = {name: pa.float64() for name in STORED[2:]}
    labels = {"timestamp": TIME, "symbol": pa.dictionary(pa.int32(), pa.string())}
    names = {"known_at": TIME, "source": pa.dictionary(pa.int32(), pa.string())}
    return pa.schema({**labels, **kinds, **names}).empty_table()


def _frame(view: pa.Table) -> pd.DataFrame:
    for name in ("symbol", "source"):
        if name in view.column_names:
            place = view.column_names.index(name)
            view = view.set_column(place, name, view[name].cast(pa.string()))
    frame: pd.DataFrame = view.to_pandas(split_blocks=True, self_destruct=True)
    return frame
