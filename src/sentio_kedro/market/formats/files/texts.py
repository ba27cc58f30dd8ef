"""Texts with one row a line as tables: encoding, delimiter, header and rows."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from sentio_kedro.market.formats.cells.numbers import is_number
from sentio_kedro.market.formats.cells.shapes import shape_of
from sentio_kedro.market.formats.files.contents import HEAD, Source, encoding_of, refuse_zero_bytes
from sentio_kedro.market.formats.files.sheets import HEAD_ROWS, PRICES, Sheet, flattened, numbered, plain_name, stacked
from sentio_kedro.market.formats.records import BarFileError

_PREAMBLE = 40  # lines before the first row
_HALF = 0.5
_MOST = 0.75
_FEW = 3
_NAMES = ("date", "time", "datetime", "timestamp", "symbol", "ticker")  # which begin a header of numeric codes


@dataclass(frozen=True)
class _Layout:
    """Where header and rows of a text are."""

    delimiter: str
    rows: list[list[str]]
    first: int  # line of the first row, from 0

    @property
    def width(self) -> int:
        return len(self.rows[self.first])


def text_sheet(source: Source, encodings: Sequence[str], words: frozenset[str]) -> Sheet:
    """Return the table of a text with one row a line.

    Args:
        source: The text.
        encodings: Encodings other than UTF-8 to try.
        words: Names of columns in lower case that tell whether an encoding is right.

    Raises:
        BarFileError: If it has no rows of bars.
    """
    encoding = encoding_of(source, encodings, words)
    start = source.read(HEAD)
    text = start.decode(encoding, "replace")
    lines = text.splitlines()
    if len(start) == HEAD:  # the last line may be cut
        lines = lines[:-1]
    lines = lines[: _PREAMBLE + HEAD_ROWS]
    layout = _layout(source, lines)
    top = layout.rows[: layout.first]
    header, levels = _header(source, layout, top)
    names = () if levels else flattened(header or ())
    used = (2 if levels else 1) if header is not None else 0
    above = [line for line in lines[: layout.first] if line.strip()]
    preamble = tuple(above[: max(len(above) - used, 0)]) if not levels else ()
    width, first, delimiter = layout.width, layout.first, layout.delimiter
    head = _head(source, layout, lines)

    def load() -> pd.DataFrame:
        return _all_rows(source, encoding, delimiter, first, width)

    def line(row: int) -> int:
        return _line_of(source, encoding, first, row)

    told: tuple[str, ...] = (f"Read as {encoding}, not UTF-8.",) if encoding not in ("utf-8", "utf-8-sig") else ()
    told += (f"{len(preamble)} line(s) before the header left out: {preamble[0][:80]!r}.",) if preamble else ()
    sheet = Sheet(source, header, head, load, line, preamble, delimiter, told=told)
    if names:
        return stacked(sheet, names, "column names")
    return stacked(sheet, levels) if levels else sheet


def _head(source: Source, layout: _Layout, lines: list[str]) -> pd.DataFrame:
    rows, width = [], layout.width
    for number, row in enumerate(layout.rows[layout.first :], layout.first):
        footer = number == len(lines) - 1 and len(row) == 1
        if not any(cell.strip() for cell in row) or footer:
            continue
        if len(row) != width:
            raise _ragged_line(source, lines[number], len(row), width, number + 1)
        rows.append(row)
    return pd.DataFrame(rows[:HEAD_ROWS], dtype="str")


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a field beyond the limit of the module
        return [line]


def _layout(source: Source, lines: list[str]) -> _Layout:
    for delimiter in "\t;|,":
        rows = [_fields(line, delimiter) for line in lines]
        for number, row in enumerate(rows[:_PREAMBLE]):
            if len(row) > 2 and _is_row(row):  # noqa: PLR2004 - a stamp and a price at least
                return _Layout(delimiter, rows, number)
    seen = next((line for line in lines if line.strip()), "")
    fault = "has no row with a date and numbers in its first lines"
    if lines and lines[0].lstrip()[:1] in "{[":
        fault = "is JSON without bars"
    raise BarFileError(
        source.place,
        f"{fault}; it begins with {seen[:100]!r}",
        "give a table with a header and one bar a row, fields separated by comma, semicolon or tab",
        1,
    )


def _is_row(row: list[str]) -> bool:
    cells = [cell.strip() for cell in row]
    filled = [cell for cell in cells if cell]
    if not filled:
        return False
    numbers = sum(is_number(cell) for cell in filled)
    stamps = sum(
        shape_of(cell).kind not in ("unknown", "epoch") or bool(re.fullmatch(r"\d{9,19}(\.\d+)?", cell))
        for cell in filled
    )
    only_stamps = sum(not is_number(cell) and shape_of(cell).kind != "unknown" for cell in filled)
    enough = (numbers + only_stamps) / len(filled)
    if stamps:
        return enough >= _HALF and numbers > 1
    return enough >= _MOST and numbers > _FEW and plain_name(filled[0]) not in _NAMES


def _header(
    source: Source, layout: _Layout, top: list[list[str]]
) -> tuple[tuple[str, ...] | None, tuple[tuple[str, ...], ...]]:
    """Return the names of the columns and, if there are two rows of them, both rows."""
    width = layout.width
    rows = [[cell.strip() for cell in row] for row in top if any(cell.strip() for cell in row)]
    if len(rows) > 1 and len(rows[-1]) == width and not any(rows[-1][1:]):  # the name of the index below the names
        rows = rows[:-1]
    if not rows:
        return None, ()
    for upper, lower in pairwise(rows):
        prices = [sum(plain_name(cell) in PRICES for cell in row) for row in (upper, lower)]
        if max(prices) >= 4 and min(len(upper), len(lower)) >= width and min(prices) == 0:  # noqa: PLR2004
            others = upper if prices[1] > prices[0] else lower
            if sum(bool(cell) for cell in others) >= len(others) - 1:
                return tuple(upper), (tuple(upper[:width]), tuple(lower[:width]))
    row = rows[-1]
    if not row[1:] or all(not cell for cell in row[1:]):
        return None, ()
    if len(row) == width + 1 and not row[-1]:
        row = row[:-1]
    if len(row) == width - 1:
        trailing = not layout.rows[layout.first][-1].strip()
        row = [*row, ""] if trailing else ["", *row]
    if len(row) != width:
        if len(row) < width // 2:
            return None, ()
        raise BarFileError(
            source.place,
            f"has {width} fields in its first row and {len(row)} names in its header {row}",
            "make both equal",
            layout.first + 1,
        )
    return tuple(row), ()


def _all_rows(source: Source, encoding: str, delimiter: str, first: int, width: int) -> pd.DataFrame:
    data = _decoded(source, encoding)
    refuse_zero_bytes(source, data)
    data, told = _without_footer(data, delimiter)
    bad: list[pa.csv.InvalidRow] = []

    def keep(row: pa.csv.InvalidRow) -> str:
        bad.append(row)
        return "error"

    names = [str(number) for number in range(width)]
    try:
        table = pa.csv.read_csv(
            io.BytesIO(data),
            pa.csv.ReadOptions(skip_rows=first, column_names=names, block_size=2**23),
            pa.csv.ParseOptions(delimiter=delimiter, invalid_row_handler=keep),
            pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid as error:
        if not bad:
            raise BarFileError(source.place, f"cannot be read ({str(error)[:200]})", "correct it") from error
        raise _ragged(source, data, bad[0]) from error
    frame = numbered(table.to_pandas(types_mapper={pa.string(): pd.StringDtype("pyarrow", na_value=np.nan)}.get))
    frame.attrs["told"] = told
    return frame


def _decoded(source: Source, encoding: str) -> bytes:
    """Return the whole text as UTF-8."""
    data = source.read(None)
    if encoding == "utf-8":
        return data if b"\n" in data else data.replace(b"\r", b"\n")
    try:
        return data.decode(encoding).encode("utf-8")
    except UnicodeDecodeError as error:
        raise BarFileError(
            source.place,
            f"is no {encoding} text at byte {error.start:,}",
            "save it as UTF-8",
            data[: error.start].count(b"\n") + 1,
        ) from error


def _without_footer(data: bytes, delimiter: str) -> tuple[bytes, str]:
    """Return the text without a last line that has one field of words, as some vendors write."""
    body = data.rstrip()
    begin = body.rfind(b"\n") + 1
    last = body[begin:]
    fields = _fields(last.decode("utf-8", "replace"), delimiter)
    if begin and len(fields) == 1 and re.search(rb"[A-Za-z]{3,} ", last):
        return body[:begin], f"The last line left out: {last.decode('utf-8', 'replace')[:80]!r}."
    return data, ""


def _ragged(source: Source, data: bytes, row: pa.csv.InvalidRow) -> BarFileError:
    shown = row.text.encode() + b"\n"
    place = data.find(b"\n" + shown.rstrip(b"\n"))
    line = data[: place + 1].count(b"\n") + 1 if place >= 0 else None
    return _ragged_line(source, row.text, row.actual_columns, row.expected_columns, line)


def _ragged_line(source: Source, text: str, fields: int, width: int, line: int | None) -> BarFileError:
    kind = "few" if fields < width else "many"
    return BarFileError(
        source.place,
        f"has too {kind} fields, {fields} where the first row has {width}: {text[:100]!r}",
        "correct the line; the file may be cut off, or a number may hold the delimiter without quotes",
        line,
    )


def _line_of(source: Source, encoding: str, first: int, row: int) -> int:
    """Return the line of a row, from 1: empty lines count as lines and not as rows."""
    lines = _decoded(source, encoding).splitlines()
    found = -1
    for number, line in enumerate(lines[first:], first + 1):
        found += bool(line.strip())
        if found == row:
            return number
    return first + row + 1
