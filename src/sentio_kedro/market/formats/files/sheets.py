"""Tables as files hold them, before anyone knows the vendor: header, first rows, and a way to all rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from sentio_kedro.market.formats.files.contents import Source

HEAD_ROWS: Final = 100
PRICES: Final = frozenset({"open", "high", "low", "close", "volume"})


@dataclass(frozen=True, eq=False)
class Sheet:
    """One table of a file.

    Attributes:
        source: Its file or member.
        header: Names of the columns as they stand there; none if there is no header.
        head: The first rows, a frame with columns numbered from 0.
        load: Returns all rows in the same form.
        line: Returns the line of a row, from 1; none where a file has no lines.
        preamble: Lines before the header.
        delimiter: What separates the fields; "" where nothing does.
        symbol: Symbol beside the rows, as in JSON.
        zone: Zone beside the rows.
        stacked: ``header`` if symbols of a second row of header were stacked, ``column names`` if those of the first.
        told: What was left out so far.
    """

    source: Source
    header: tuple[str, ...] | None
    head: pd.DataFrame
    load: Callable[[], pd.DataFrame]
    line: Callable[[int], int | None] = lambda row: None
    preamble: tuple[str, ...] = ()
    delimiter: str = ""
    symbol: str | None = None
    zone: str | None = None
    stacked: str = ""
    told: tuple[str, ...] = ()


def plain_name(name: object) -> str:
    """Return a header's name as names are compared: lower case, without blanks, quotes and angle brackets."""
    return str(name).strip().strip("\"'<>\ufeff").strip().lower()


def numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with columns numbered from 0."""
    return frame.set_axis(range(frame.shape[1]), axis=1)


def stacked(sheet: Sheet, levels: tuple[tuple[str, ...], ...], place: str = "header") -> Sheet:
    """Return a table whose two rows of header name field and symbol, as one row a symbol and bar."""
    fields_first = sum(plain_name(cell) in PRICES for cell in levels[0]) > 0
    fields, symbols = levels if fields_first else levels[::-1]
    names = list(dict.fromkeys(fields[1:]))
    by_symbol: dict[str, dict[str, int]] = {}
    for number, (field, symbol) in enumerate(zip(fields[1:], symbols[1:], strict=True), 1):
        by_symbol.setdefault(symbol, {})[field] = number

    def long(frame: pd.DataFrame) -> pd.DataFrame:
        parts = []
        for symbol, places in by_symbol.items():
            part = pd.DataFrame({0: frame[0], 1: symbol})
            for number, name in enumerate(names, 2):
                part[number] = frame[places[name]] if name in places else np.nan
            part.index = frame.index
            filled = part[list(range(2, 2 + len(names)))].replace("", np.nan).notna().any(axis=1)
            parts.append(part[filled])
        return pd.concat(parts)

    header = ("Date", "symbol", *names)
    told = (f"{len(by_symbol)} symbol(s) side by side are stacked; rows without any value are no bars.",)
    return Sheet(
        sheet.source,
        header,
        long(sheet.head).reset_index(drop=True),
        lambda: long(sheet.load()),
        sheet.line,
        (),
        sheet.delimiter,
        stacked=place,
        told=(*sheet.told, *told),
    )


def flattened(header: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Return the two rows of header that names such as ``AAPL_Open`` or ``Open AAPL`` stand for; none for others."""
    fields = "open|high|low|close|adj close|volume"
    for pattern in (rf"(?P<symbol>.+)[_ .:-](?P<field>{fields})", rf"(?P<field>{fields})[_ .:-](?P<symbol>.+)"):
        found = [re.fullmatch(pattern, name.strip(), re.IGNORECASE) for name in header[1:]]
        pairs = [(one["field"], one["symbol"]) for one in found if one]
        if len(pairs) == len(found) and {"open", "high", "low", "close"} <= {field.lower() for field, _ in pairs}:
            return ("Date", *(field for field, _ in pairs)), ("", *(symbol for _, symbol in pairs))
    return ()
