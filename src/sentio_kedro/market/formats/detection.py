"""What files of bars are, from their heads, with the evidence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from sentio_kedro.market.formats.cells.numbers import read_numbers
from sentio_kedro.market.formats.cells.stamps import date_order_of, read_stamps
from sentio_kedro.market.formats.files.columnar import columnar_sheet
from sentio_kedro.market.formats.files.contents import files_of, sources_of
from sentio_kedro.market.formats.files.databases import database_sheet, is_database
from sentio_kedro.market.formats.files.documents import json_sheets
from sentio_kedro.market.formats.files.sheets import Sheet, plain_name
from sentio_kedro.market.formats.files.texts import text_sheet
from sentio_kedro.market.formats.matching import (
    ADJUSTED,
    OF_THE_DAY,
    PRICES,
    Match,
    Miss,
    fixed_order,
    head_stamps,
    match,
)
from sentio_kedro.market.formats.misfits import no_format
from sentio_kedro.market.formats.naming import symbol_of
from sentio_kedro.market.formats.records import (
    BarFileError,
    BarFormat,
    Choice,
    DateOrder,
    Detection,
    Reading,
)
from sentio_kedro.market.formats.registry import FORMATS

_MIDNIGHT = r"[T ]00:?00(?::?00(?:\.0+)?)?\s*(?:Z|UTC|[+-]\d{2}:?\d{2})?$"
_UTC = re.compile(r"(?:\b|_)(?:utc|gmt)(?:\b|_)")
_ZONES = ("America/New_York", "UTC", "Europe/London")
_ENCODINGS = tuple(dict.fromkeys(name for one in FORMATS.values() for name in one.encodings))
_WORDS = frozenset(name for one in FORMATS.values() for name in one.columns if not name.isascii())
_SHOWN = 3  # files in a message


@dataclass(frozen=True, eq=False)
class Settled:
    """One table, and how it will be read.

    Attributes:
        sheet: The table.
        match: Its columns.
        symbol: Its symbol, if no column has it; none if it must be named.
        zone: Zone of timestamps that name none; none if it must be named.
        order: Order of day and month; none if it does not matter or must be named.
        open_order: Whether it must be named.
        evidence: Where the symbol is from.
    """

    sheet: Sheet
    match: Match
    symbol: str | None
    zone: str | None
    order: DateOrder | None
    open_order: bool
    evidence: str


def detect(paths: str | Path | Sequence[str | Path], reading: Reading | None = None) -> Detection:
    """Tell what files of bars are from their heads.

    Args:
        paths: A file, a folder, a glob, or several of them.
        reading: What is known already; the rest is found out.

    Raises:
        BarFileError: If a file is no file of bars, several formats are possible, or the files differ in format.
    """
    reading = reading or Reading()
    files = files_of(paths)
    return described(files, settled(files, reading), reading)


def settled(files: Sequence[Path], reading: Reading) -> list[Settled]:
    """Return the tables of ``files`` and how each will be read.

    Raises:
        BarFileError: See ``detect``.
    """
    if reading.format is not None and reading.format not in FORMATS:
        near = ", ".join(sorted(FORMATS))
        raise BarFileError(
            files[0], f"cannot be read as `format: {reading.format}`, which is unknown", f"use one of {near}"
        )
    known: dict[tuple[str, ...] | None, BarFormat] = {}  # by header: a folder of files is of one format
    tables = []
    for sheet in (sheet for file in files for sheet in _sheets(file, reading)):
        tables.append(_settled(sheet, reading, known.get(sheet.header)))
        if sheet.header is not None:
            known[sheet.header] = tables[-1].match.format
    names = {one.match.format.name: one for one in reversed(tables)}
    if len(names) > 1:
        kinds = "; ".join(f"`{one.sheet.source.place}` is {name}" for name, one in sorted(names.items()))
        raise BarFileError(
            files[0], f"and the others are of several formats: {kinds}", "give files of one format at a time"
        )
    order = next((one.order for one in tables if one.order), None)
    return [replace(one, order=order, open_order=False) if one.open_order and order else one for one in tables]


def _sheets(file: Path, reading: Reading) -> list[Sheet]:
    if is_database(file):
        return [database_sheet(file, reading)]
    sheets = []
    for source in sources_of(file):
        columnar = columnar_sheet(source)
        start = source.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
        if columnar is not None:
            sheets.append(columnar)
        elif start[:1] in (b"{", b"["):
            sheets += json_sheets(source)
        else:
            sheets.append(text_sheet(source, _ENCODINGS, _WORDS))
    return sheets


def _settled(sheet: Sheet, reading: Reading, known: BarFormat | None) -> Settled:
    again = match(sheet, known, reading) if known else None
    found = again if isinstance(again, Match) else _best(sheet, reading)
    stamps = _head_stamps(sheet, found, reading)
    if "symbol" not in found.ours and stamps is not None:
        prices = {name: read_numbers(sheet.head[found.ours[name]], found.mark)[0] for name in PRICES}
        refuse_two_symbols(sheet, pd.DataFrame({"timestamp": stamps, **prices}))
    symbol, where = ("", "") if "symbol" in found.ours else symbol_of(sheet, found.format, reading)
    order, is_open = _order(sheet, found, reading)
    zone = reading.timezone or found.format.zone or _zone_beside(sheet, found)
    if found.shape.has_zone and found.format.stamps != OF_THE_DAY:
        zone = "UTC"
    return Settled(sheet, found, symbol, zone, order, is_open, where)


def _zone_beside(sheet: Sheet, found: Match) -> str | None:
    """Return the zone that a file states outside of its timestamps, in the column's name or beside the bars."""
    name = (sheet.header or found.format.positions)[found.ours.get("timestamp", found.ours.get("date", 0))]
    if _UTC.search(plain_name(name)):
        return "UTC"
    return {"US/Eastern": "America/New_York"}.get(sheet.zone or "", sheet.zone)


def _best(sheet: Sheet, reading: Reading) -> Match:
    kinds = (
        [FORMATS[reading.format]]
        if reading.format
        else [one for one in FORMATS.values() if one.name not in ("wide", "duckdb")]
    )
    results = [match(sheet, kind, reading) for kind in kinds]
    matches = [one for one in results if isinstance(one, Match)]
    if not matches:
        raise no_format(sheet, [one for one in results if isinstance(one, Miss)], reading)
    best = max(one.score for one in matches)
    tied = [one for one in matches if one.score == best]
    if len({(tuple(sorted(one.ours.items())), one.format.zone, one.format.label) for one in tied}) > 1:
        names = ", ".join(f"`{one.format.name}` ({one.format.vendor})" for one in tied)
        raise BarFileError(sheet.source.place, f"may be of several formats: {names}", "set `format` to the right one")
    return tied[0]


def _head_stamps(sheet: Sheet, found: Match, reading: Reading) -> pd.Series | None:
    """Return the timestamps of the first rows, whatever the order of day and month; none where they are times alone.

    Raises:
        BarFileError: If they cannot be read.
    """
    if found.format.stamps == OF_THE_DAY:
        return None

    def fault(row: int, text: str, remedy: str) -> Exception:
        return BarFileError(sheet.source.place, text, remedy, sheet.line(row))

    stamps = head_stamps(sheet, found.ours)
    order = reading.date_order or fixed_order(found.format)
    if order is None and found.shape.kind == "day or month first":
        order = date_order_of(stamps) or "dmy"
    return read_stamps(stamps, order, fault).values


def refuse_two_symbols(sheet: Sheet, bars: pd.DataFrame) -> None:
    """Refuse bars of a table without symbols whose timestamps repeat with other prices.

    Args:
        sheet: The table.
        bars: Its timestamps and prices, with the numbers of its rows as index.

    Raises:
        BarFileError: With the first such row.
    """
    stamps, close = bars["timestamp"], bars["close"]
    if (np.diff(stamps.to_numpy(dtype="datetime64[ns]")).astype(np.int64) > 0).all():
        return
    rows = np.flatnonzero(stamps.duplicated() & ~bars.duplicated(["timestamp", *PRICES]) & close.notna())
    if not rows.size:
        return
    row = int(rows[0])
    first = int(np.flatnonzero((stamps == stamps.iloc[row]).to_numpy())[0])
    line = sheet.line(int(bars.index[first]))
    raise BarFileError(
        sheet.source.place,
        f"has the timestamp {stamps.iloc[row]} again with close {close.iloc[row]:g}, where "
        f"{f'line {line}' if line else f'row {first}'} has {close.iloc[first]:g} ({rows.size} such row(s))",
        "give each symbol a file of its own or a column `symbol`; if a clock was set back, export times in UTC",
        sheet.line(int(bars.index[row])),
    )


def _order(sheet: Sheet, found: Match, reading: Reading) -> tuple[DateOrder | None, bool]:
    """Return the order of day and month, and whether it must be named."""
    if found.shape.kind != "day or month first":
        return None, False
    known = reading.date_order or fixed_order(found.format) or date_order_of(head_stamps(sheet, found.ours))
    if known is None:
        known = date_order_of(head_stamps(sheet, found.ours, sheet.load()))
    return known, known is None


def described(files: Sequence[Path], tables: Sequence[Settled], reading: Reading) -> Detection:
    """Return what tables are and what must be named."""
    first = tables[0]
    found, sheet = first.match, first.sheet
    header = sheet.header or found.format.positions
    symbols = dict.fromkeys(symbol for one in tables for symbol in _symbols_of(one))
    adjustment = found.format.adjustment
    if found.format.name == "yahoo_multi" and any(plain_name(name) in ADJUSTED for name in header):
        adjustment = "splits"
    origins = dict.fromkeys(one.evidence for one in tables if one.evidence)
    return Detection(
        files=tuple(files),
        format=found.format,
        evidence=(*found.evidence, *list(origins)[:_SHOWN]),
        told=tuple(dict.fromkeys(line for one in tables for line in (*one.sheet.told, *one.match.told))),
        choices=choices(tables),
        reading=replace(reading, format=found.format.name),
        columns={str(header[place]): name for name, place in found.ours.items()},
        extra_columns=tuple(found.extra.values()),
        symbols=tuple(symbols),
        zone=first.zone,
        dates_only=_dates_only(first),
        bar_label=found.format.label,
        adjustment="splits and dividends" if reading.prices == "adjusted" else adjustment,
    )


def _symbols_of(one: Settled) -> list[str]:
    if "symbol" in one.match.ours:
        return [str(symbol).strip() for symbol in one.sheet.head[one.match.ours["symbol"]].unique()]
    return [one.symbol] if one.symbol else []


def _dates_only(one: Settled) -> bool:
    if one.match.shape.kind == "epoch" or one.match.format.stamps == OF_THE_DAY:
        return False
    if not one.match.shape.has_time:
        return True
    stamps = head_stamps(one.sheet, one.match.ours).astype("str")
    return bool(stamps.str.contains(_MIDNIGHT).all()) and stamps.nunique() > 1


def choices(tables: Sequence[Settled]) -> tuple[Choice, ...]:
    """Return what must be named before ``tables`` can be read as bars."""
    found = []
    nameless = [one.sheet.source for one in tables if one.symbol is None]
    if nameless:
        names = ", ".join(f"`{source.place}`" for source in nameless[:_SHOWN])
        more = f" and {len(nameless) - _SHOWN} more" if len(nameless) > _SHOWN else ""
        several = "{" + ", ".join(f"{source.stem}: ..." for source in nameless[:_SHOWN]) + "}"
        key = "symbol" if len(nameless) == 1 else "symbols"
        example = "`symbol: ...`" if len(nameless) == 1 else f"`symbols: {several}`, or `symbol_pattern`"
        of = f" of {names}{more}" if len(nameless) > 1 else ""
        found.append(Choice(key, f"No column and no file name{of} names the symbol: set {example}."))
    unknown = next((one for one in tables if one.open_order), None)
    if unknown is not None:
        stamp = head_stamps(unknown.sheet, unknown.match.ours).iloc[0]
        question = (
            f"Dates are such as {stamp}, and no row says whether day or month is first: set `date_order: dmy` or "
            "`date_order: mdy`."
        )
        found.append(Choice("date_order", question, ("dmy", "mdy")))
    if any(one.zone is None for one in tables):
        one = next(one for one in tables if one.zone is None)
        stamp = head_stamps(one.sheet, one.match.ours).iloc[0]
        note = (
            f" {one.match.format.note}" if "zone" in one.match.format.note or "broker" in one.match.format.note else ""
        )
        found.append(
            Choice(
                "timezone",
                f"Timestamps such as {stamp} name no zone: set the zone of the exchange or feed.{note}",
                _ZONES,
            )
        )
    return tuple(found)
