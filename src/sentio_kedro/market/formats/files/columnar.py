"""Parquet, Feather and Arrow files, and frames, as tables."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from sentio_kedro.market.formats.files.contents import Source
from sentio_kedro.market.formats.files.sheets import HEAD_ROWS, Sheet, numbered, stacked
from sentio_kedro.market.formats.records import BarFileError


def columnar_sheet(source: Source) -> Sheet | None:
    """Return the table of a Parquet, Feather or Arrow file; none if it is another kind of file.

    Raises:
        BarFileError: If it is damaged.
    """
    start = source.read(16)
    if not start.startswith((b"PAR1", b"ARROW1", b"FEA1")):
        if source.place.lower().endswith((".parquet", ".feather", ".arrow")):
            raise BarFileError(
                source.place, "is no Parquet, Feather or Arrow file, or its begin is lost", "save it again"
            )
        return None
    try:
        frame = _columnar_table(source, start).to_pandas()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise BarFileError(
            source.place, f"is damaged, perhaps cut off ({reason})", "download or save it again"
        ) from error
    return frame_sheet(source, frame)


def _columnar_table(source: Source, start: bytes) -> pa.Table:
    buffer = pa.BufferReader(source.read(None))
    return pa.parquet.read_table(buffer) if start.startswith(b"PAR1") else pa.feather.read_table(buffer)


def frame_sheet(source: Source, frame: pd.DataFrame) -> Sheet:
    """Return a frame as a table; levels of its index are columns, two levels of its columns are stacked."""
    if isinstance(frame.columns, pd.MultiIndex) or _looks_two_levels(frame.columns):
        pairs = [tuple(map(str, _pair(name))) for name in frame.columns]
        frame = frame.reset_index(names="Date" if frame.index.nlevels == 1 else None)
        name = "Date"
        whole = numbered(frame)
        upper, lower = ((name, *(pair[level] for pair in pairs)) for level in (0, 1))
        sheet = Sheet(source, upper, whole.head(HEAD_ROWS), lambda: whole)
        return stacked(sheet, (upper, lower))
    if not isinstance(frame.index, pd.RangeIndex):
        names = [name if name is not None else "" for name in frame.index.names]
        if all(name == "" or name not in frame.columns for name in names):
            frame = frame.reset_index(names=names if len(names) > 1 else names[0], allow_duplicates=True)
        else:
            frame = frame.reset_index(drop=True)
    whole = numbered(frame)
    return Sheet(source, tuple(map(str, frame.columns)), whole.head(HEAD_ROWS), lambda: whole)


def _looks_two_levels(columns: pd.Index) -> bool:
    return bool(len(columns)) and all(str(name).startswith("('") for name in columns)


def _pair(name: object) -> tuple[str, str]:
    if isinstance(name, tuple):
        return str(name[0]), str(name[1])
    first, second = str(name).strip("()").split(",", 1)
    return first.strip(" '"), second.strip(" '")
