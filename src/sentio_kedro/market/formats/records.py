"""What a vendor's files are like, how they are to be read, and what was found out about some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sentio_kedro.config.fields import parameters

Label = Literal["start", "end"]
DateOrder = Literal["dmy", "mdy"]
Adjustment = Literal["none", "splits", "splits and dividends", "unknown"]
SymbolPlace = Literal["column", "header", "column names", "first line", "key", "named"]

OUR_COLUMNS = ("timestamp", "symbol", "open", "high", "low", "close", "volume")


class BarFileError(ValueError):
    """A file of bars cannot be read as it is; the text has file, line, value and remedy.

    Attributes:
        path: The file, or the member of an archive.
        line: Its line, from 1, if one is at fault.
    """

    def __init__(self, path: Path | str, fault: str, remedy: str, line: int | None = None) -> None:
        """Render one readable text: ``fault`` is the predicate of a sentence about the file, ``remedy`` a clause."""
        self.path, self.line = path, line
        place = f"`{path}`" + (f", line {line}," if line else "")
        super().__init__(f"{place} {fault}; {remedy.rstrip('.')}.")


@dataclass(frozen=True)
class BarFormat:
    """One kind of file that a vendor exports. Names of columns are compared without case and blanks at their ends.

    Attributes:
        name: Its key, for ``Reading.format``.
        vendor: Who exports such files, for people.
        columns: The vendor's columns, with ``*`` for any text, and ours. ``date`` and ``time`` together make
            ``timestamp``. Columns that are named as ours, whatever the case, need no entry.
        marks: Columns that tell the format from others; all must be there.
        header: Pattern of the header's names, joined by commas, with their case; it also is a mark.
        positions: Names of the columns of a file without header, as in ``columns``; empty if there always is one.
        stamps: ``strptime`` formats of the timestamps, or ``iso``, ``epoch`` (unit by magnitude), ``day first``,
            ``month first``, ``milliseconds of the day``; empty for any that can be told from the values.
        zone: Zone of timestamps that name none; null if the user must name it.
        label: Whether a timestamp is the start or the end of its bar; null if the vendor does not say.
        symbol: Where the symbol is: ``header`` is a second row of it, ``column names`` are such as ``AAPL_Open``,
            ``key`` is beside the bars in JSON; ``named`` if the file name has it or the user must name it.
        file_pattern: Pattern of the file name, whose group ``symbol`` is the symbol.
        by_name: Whether the file name must fit ``file_pattern``, since the content alone does not tell the format.
        content: What the numbers must be like: ``volume 0``, ``volume`` or ``whole prices``.
        first_line: Pattern of the first line, whose group ``symbol`` is the symbol; it also is a mark.
        ignored: Columns that are left out, each with the reason.
        keep: Rows that are bars, by a column's value; others are left out, and told.
        adjustment: What the prices are adjusted for.
        scale: Factor from the file's prices to the quote currency.
        encodings: Encodings other than UTF-8 that the vendor uses.
        delimiters: Delimiters of the fields.
        fallback: Other names of ``volume``, used if it is absent or 0 throughout, best first.
        note: What a reader must know, one sentence.
    """

    name: str
    vendor: str
    columns: Mapping[str, str] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    header: str | None = None
    positions: tuple[str, ...] = ()
    stamps: tuple[str, ...] = ()
    zone: str | None = None
    label: Label | None = "start"
    symbol: SymbolPlace = "named"
    file_pattern: str | None = None
    by_name: bool = False
    content: Literal["", "volume 0", "volume", "whole prices"] = ""
    first_line: str | None = None
    ignored: Mapping[str, str] = field(default_factory=dict)
    keep: Mapping[str, str] = field(default_factory=dict)
    adjustment: Adjustment = "unknown"
    scale: float = 1.0
    encodings: tuple[str, ...] = ()
    delimiters: str = ",;\t|"
    fallback: tuple[str, ...] = ()
    note: str = ""


@parameters
class Reading:
    """How files of bars are read: the keys of ``sentio_kedro.datasets.BarFiles``.

    Attributes:
        format: Name of a format of the registry; null finds it out.
        symbol: Symbol of a file that names none.
        symbols: Symbol by name of the file without its endings, for several such files.
        symbol_pattern: Regular expression of the file name, whose first group is the symbol.
        timezone: Zone of timestamps that name none, such as ``America/New_York``; null leaves them naive.
        date_order: ``dmy`` or ``mdy`` for dates such as 03/04/2024, where no row has a part above 12.
        prices: ``as_traded`` takes open, high, low and close as the file has them; ``adjusted`` scales them by
            ``Adj Close`` / ``Close``.
        columns: Other names of columns: the file's name and ours, or a new one for a column that is passed through.
        table: Table of a DuckDB database.
        query: SQL query of a DuckDB database, whose result has the columns of bars.
    """

    format: str | None = None
    symbol: str | None = None
    symbols: dict[str, str] | None = None
    symbol_pattern: str | None = None
    timezone: str | None = None
    date_order: DateOrder | None = None
    prices: Literal["as_traded", "adjusted"] = "as_traded"
    columns: dict[str, str] | None = None
    table: str | None = None
    query: str | None = None


@dataclass(frozen=True)
class Choice:
    """Something that files do not say and a person must.

    Attributes:
        key: Key of ``Reading`` to set.
        question: What must be said, and why it cannot be told from the files.
        options: Values that are possible, if they are few; examples otherwise.
    """

    key: str
    question: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Detection:
    """What some files are, with the evidence.

    Attributes:
        files: The files, sorted.
        format: Their format.
        evidence: Why it is that one, one sentence each.
        told: What reading them leaves out or takes instead, one sentence each.
        choices: What must be named before they can be read.
        reading: What is settled; ``dataclasses.replace`` it by the choices.
        columns: The file's columns and ours, as they will be read.
        extra_columns: Further columns that hold numbers, by the names that they will have.
        symbols: Symbols of the first rows, or of the file names.
        zone: Zone of the timestamps; null if they name none and nobody does.
        dates_only: Whether timestamps are dates without time, or at midnight throughout.
        bar_label: Whether a timestamp is the start or end of its bar; null if the vendor does not say.
        adjustment: What the prices are adjusted for.
    """

    files: tuple[Path, ...]
    format: BarFormat
    evidence: tuple[str, ...]
    told: tuple[str, ...]
    choices: tuple[Choice, ...]
    reading: Reading
    columns: Mapping[str, str]
    extra_columns: tuple[str, ...]
    symbols: tuple[str, ...]
    zone: str | None
    dates_only: bool
    bar_label: Label | None
    adjustment: Adjustment
