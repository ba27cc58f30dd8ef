"""The symbol of a table that has no column for it: named by the user, or beside the bars, or in the file name."""

from __future__ import annotations

import re
from typing import Final

from sentio_kedro.market.formats.files.sheets import Sheet
from sentio_kedro.market.formats.records import BarFileError, BarFormat, Reading

_TICKER: Final = re.compile(
    r"^(?P<symbol>[A-Z0-9][A-Z0-9.=^-]{0,14})"
    r"(?:_(?:\d+ ?(?:s|m|h|d|min|mins|minute|hour|day)|daily|hourly|1d|1h|D|W|M\d+|H\d+|D1)\w*)?$"
)
_YEAR: Final = re.compile(r"(?:19|20)\d\d|\d{1,3}|\d{8,}")  # or a count, or a date, and no code


def symbol_of(sheet: Sheet, kind: BarFormat, reading: Reading) -> tuple[str | None, str]:
    """Return the symbol of a table without a column for it, and where it is from."""
    stem = sheet.source.stem
    if reading.symbols is not None and stem in reading.symbols:
        return reading.symbols[stem], ""
    if reading.symbol_pattern is not None:
        return _symbol_by(reading.symbol_pattern, sheet), ""
    given = reading.symbol or sheet.symbol
    if given is not None:
        return given, "" if reading.symbol else f"The symbol {given} stands beside the bars."
    if kind.symbol == "first line" and (found := re.search(kind.first_line or "", sheet.preamble[0])):
        return found["symbol"], f"The symbol {found['symbol']} is in the first line."
    for pattern in (kind.file_pattern, _TICKER.pattern):
        found = re.fullmatch(pattern, stem) if pattern else None
        if found and not _YEAR.fullmatch(found["symbol"]):
            symbol = found["symbol"].upper() if kind.name.startswith("lean") else found["symbol"]
            return symbol, f"The symbol {symbol} is in the file name {stem}."
    return None, ""


def _symbol_by(pattern: str, sheet: Sheet) -> str:
    try:
        found = re.search(pattern, sheet.source.stem)
    except re.error:
        found = None
    if not found or not found.groups():
        raise BarFileError(
            sheet.source.place,
            f"has no symbol by `symbol_pattern: {pattern}` in its name {sheet.source.stem!r}",
            "correct the pattern, whose first group is the symbol, such as ([A-Z]+)_1min",
        )
    return str(found[1])
