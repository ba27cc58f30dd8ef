"""Parts of a store: rows as Parquet files that are named by their content."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentio_kedro.store.files import StoreFiles, folder_name
from sentio_kedro.store.manifest import Part, iso, times
from sentio_kedro.store.rows import LABELS, STORED, TIME, keys_of
from sentio_kedro.store.selection import Chosen

SHARED = "_recent"
"""Folder of parts with rows of several symbols; no folder of a symbol has that name."""
OWN_SPAN = np.timedelta64(30, "D")
"""Rows of a symbol and year that span this get a part of their own; else a day of 500 symbols would be 500 files."""


def slices(rows: pa.Table) -> list[tuple[str, str | None, pa.Table]]:
    """Divide rows, sorted by symbol and bar end, among parts.

    Returns:
        Folder, symbol and rows of each part: a folder a symbol and year, or ``SHARED`` and year for short spans.
    """
    keys = keys_of(rows)
    stamps = keys.stamp.astype("datetime64[us]")
    years = stamps.astype("datetime64[Y]").astype(np.int64) + 1970
    change = np.flatnonzero((np.diff(keys.code) != 0) | (np.diff(years) != 0)) + 1
    begins, ends = np.append(0, change), np.append(change, rows.num_rows)
    own = stamps[ends - 1] - stamps[begins] >= OWN_SPAN
    divided: list[tuple[str, str | None, pa.Table]] = []
    for begin, end in zip(begins[own].tolist(), ends[own].tolist(), strict=True):
        symbol = keys.names[keys.code[begin]]
        divided.append((f"{folder_name(symbol)}/{years[begin]}", symbol, rows.slice(begin, end - begin)))
    short = np.repeat(~own, ends - begins)
    for year in np.unique(years[short]).tolist():
        divided.append((f"{SHARED}/{year}", None, rows.filter(pa.array(short & (years == year)))))
    return divided


def encoded(divided: tuple[str, str | None, pa.Table], source: str, known_at: str) -> tuple[Part, bytes]:
    """Return what the manifest says of one of ``slices``, and its file; both follow from the rows alone."""
    folder, symbol, rows = divided
    own, stamps = rows.column_names[len(STORED) :], rows["timestamp"].to_numpy()
    labels = (pa.scalar(times([known_at])[0]).cast(TIME), pa.scalar(source))
    for name, value in zip(LABELS, labels, strict=True):
        rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", use_dictionary=["symbol", *LABELS], store_schema=False)
    content = sink.getvalue().to_pybytes()
    sha256 = hashlib.sha256(content).hexdigest()
    path = f"{folder}/part-{sha256[:32]}.parquet"
    span = iso(stamps.min()), iso(stamps.max())
    return Part(path, symbol, rows.num_rows, *span, known_at, own, sha256), content


def decoded(files: StoreFiles, chosen: Chosen, span: tuple[str, str]) -> pa.Table:
    """Read the rows of a part's chosen symbols and a span of bar ends, with ``known_at`` and ``source``.

    Raises:
        DamagedFileError: If the file is missing or is not what was written.
    """
    part = chosen.part
    content = files.read_checked(f"{folder_name(chosen.source)}/{part.path}", part.sha256)
    rows = pq.ParquetFile(pa.BufferReader(content), read_dictionary=["symbol", "source"]).read()
    keep = None
    if part.symbol is None:
        keep = pc.is_in(rows["symbol"].cast(pa.string()), pa.array(chosen.symbols, pa.string()))
    if part.first < span[0] or part.last > span[1]:
        first, last = (pa.scalar(time).cast(TIME) for time in times(list(span)))
        inside = pc.and_(pc.greater_equal(rows["timestamp"], first), pc.less_equal(rows["timestamp"], last))
        keep = inside if keep is None else pc.and_(keep, inside)
    return rows if keep is None else rows.filter(keep)
