"""Whether a table is of a format: which of its columns are ours, which are left out, and what speaks against it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

import numpy as np
import pandas as pd

from sentio_kedro.market.formats.cells.numbers import decimal_mark, is_number, read_numbers
from sentio_kedro.market.formats.cells.shapes import Shape, shape_of
from sentio_kedro.market.formats.cells.stamps import joined
from sentio_kedro.market.formats.files.sheets import Sheet, plain_name
from sentio_kedro.market.formats.records import OUR_COLUMNS, BarFormat, DateOrder, Reading

OPTIONAL = ("dividend", "split", "spread", "funding")
PRICES: Final = ("open", "high", "low", "close")
ADJUSTED: Final = ("adj close", "adj_close", "adjclose", "adjusted close", "adjusted_close", "adj. close")
OF_THE_DAY: Final = ("milliseconds of the day",)
_STAMPS = ("timestamp", "date", "time")
_CONSISTENT = 0.9  # of the rows have their open and close within low and high


@dataclass(frozen=True, eq=False)
class Match:
    """How a table is read in a format.

    Attributes:
        format: The format.
        ours: Place of each of our columns in the table; ``date`` and ``time`` where they are apart.
        extra: Name of each further column with numbers, by its place.
        ignored: Reason for each column that is left out, by its place.
        shape: How timestamps are written.
        mark: Decimal mark.
        score: How much speaks for the format, most important first.
        evidence: The same in words.
        told: What is left out or taken instead.
    """

    format: BarFormat
    ours: Mapping[str, int]
    extra: Mapping[int, str]
    ignored: Mapping[int, str]
    shape: Shape
    mark: str
    score: tuple[int, int]
    evidence: tuple[str, ...]
    told: tuple[str, ...]


@dataclass(frozen=True)
class Miss:
    """Why a table is not of a format.

    Attributes:
        format: The format.
        reason: A clause.
        lacking: Columns that are missing.
        found: Number of the format's own columns that are there.
    """

    format: BarFormat
    reason: str
    lacking: tuple[str, ...] = ()
    found: int = 0


def match(sheet: Sheet, kind: BarFormat, reading: Reading) -> Match | Miss:
    """Return how a table is read in a format, or why it is not of that format."""
    header = sheet.header or kind.positions
    names = [plain_name(name) for name in header]
    lacking = tuple(name for name in kind.marks if name not in names) if sheet.header else ()
    found = len(kind.marks) - len(lacking) if sheet.header else 0
    reason = _form_against(sheet, kind)
    if not reason and lacking:
        reason = f"lacks {', '.join(map(repr, lacking))}"
    reason = reason or _place_against(sheet, kind)
    if reason:
        return Miss(kind, reason, lacking, found)
    ours, extra, ignored = _columns(sheet, kind, reading, header)
    needed = [name for name in ("timestamp", *PRICES) if not (name == "timestamp" and "date" in ours)]
    lost = tuple(name for name in needed if name not in ours)
    if lost:
        return Miss(kind, f"has no {', '.join(f'`{name}`' for name in lost)}", lost, found + len(PRICES) - len(lost))
    mark, sure = decimal_mark([str(cell) for name in PRICES for cell in sheet.head[ours[name]]], sheet.delimiter)
    shape = shape_of(head_stamps(sheet, ours).iloc[0]) if len(sheet.head) else Shape("unknown")
    reason = _content_against(sheet, kind, ours, shape, mark)
    if reason:
        return Miss(kind, reason, (), found)
    return _matched(sheet, kind, (ours, extra, ignored), shape, (mark, sure))


def _form_against(sheet: Sheet, kind: BarFormat) -> str:
    """Return what the form of the header says against a format; "" if nothing."""
    if sheet.header is None and len(kind.positions) != sheet.head.shape[1]:
        return f"has {sheet.head.shape[1]} columns without header"
    if sheet.header is not None and kind.positions and not kind.marks:
        return "has a header"
    if kind.header is not None and not re.fullmatch(kind.header, ",".join(sheet.header or ())):
        return "has another header"
    if (kind.symbol if kind.symbol in ("header", "column names") else "") != sheet.stacked:
        return f"has symbols in {sheet.stacked or 'no header'}"
    return ""


def _matched(
    sheet: Sheet,
    kind: BarFormat,
    columns: tuple[dict[str, int], dict[int, str], dict[int, str]],
    shape: Shape,
    decimals: tuple[str, bool],
) -> Match:
    ours, extra, ignored = columns
    named = bool(kind.file_pattern and re.fullmatch(kind.file_pattern, sheet.source.stem))
    points = len(kind.marks) if sheet.header else 0
    points += 2 * named * (sheet.header is None) + bool(kind.content) + bool(kind.stamps) * (sheet.header is None)
    points += 2 * bool(kind.first_line) + (kind.symbol == "key")
    evidence = []
    if sheet.header:
        marks = [name for name in kind.marks if name]
        evidence.append(
            f"The header is {', '.join(sheet.header)}." if not marks else f"The header has {', '.join(marks)}."
        )
    else:
        evidence.append(f"There is no header; {len(kind.positions)} columns are {', '.join(kind.positions)}.")
    if named:
        evidence.append(f"The file name {sheet.source.stem} fits.")
    if kind.content:
        evidence.append(f"The content fits: {kind.content}.")
    if kind.first_line and sheet.preamble:
        evidence.append(f"The first line is {sheet.preamble[0][:80]!r}.")
    header = sheet.header or kind.positions
    told = [kind.note] if kind.note and kind.name not in ("plain", "headerless", "headerless_date_time") else []
    told += [
        f"Column `{header[place]}` is left out: it {reason}."
        for place, reason in ignored.items()
        if reason and header[place]
    ]
    mark, sure = decimals
    if mark == "." and not sure:
        told.append("Commas in prices are read as thousands: three digits follow each.")
    if mark == ",":
        told.append(
            "Decimal commas are read." + ("" if sure else " No price says so, but fields are not separated by commas.")
        )
    return Match(
        kind, ours, extra, ignored, shape, mark, (points, len(ours) + len(ignored)), tuple(evidence), tuple(told)
    )


def _place_against(sheet: Sheet, kind: BarFormat) -> str:
    """Return what delimiter, file name and first line say against a format; "" if nothing."""
    if sheet.delimiter and sheet.delimiter not in kind.delimiters:
        return f"separates fields by {sheet.delimiter!r}"
    if kind.symbol == "key" and sheet.delimiter:
        return "is no JSON"
    if kind.by_name and not re.fullmatch(kind.file_pattern or "", sheet.source.stem):
        return f"is named {sheet.source.stem!r}"
    if kind.first_line and not (sheet.preamble and re.search(kind.first_line, sheet.preamble[0], re.IGNORECASE)):
        return "lacks the vendor's first line"
    return ""


def _columns(
    sheet: Sheet, kind: BarFormat, reading: Reading, header: tuple[str, ...]
) -> tuple[dict[str, int], dict[int, str], dict[int, str]]:
    renamed = {plain_name(name): target for name, target in (reading.columns or {}).items()}
    special = (*OUR_COLUMNS, *OPTIONAL, *_STAMPS, *kind.fallback)
    targets: dict[int, str] = {}
    extra: dict[int, str] = {}
    ignored: dict[int, str] = {}
    for place, name in enumerate(header):
        key = plain_name(name)
        target = renamed.get(key) or _known(kind, key) or (key if key in special else "")
        if key in kind.ignored and key not in renamed:
            ignored[place] = kind.ignored[key]
        elif target in special:
            targets[place] = target
        else:
            extra[place] = target or str(name).strip()
    ours: dict[str, int] = {}
    for place, target in sorted(targets.items(), key=lambda item: _column_rank(plain_name(header[item[0]]), item[1])):
        if target in _STAMPS:
            continue
        if target in ours:
            extra[place] = str(header[place]).strip()
        else:
            ours[target] = place
    _take_stamps(sheet, targets, ours, ignored)
    for place in list(extra):
        if not extra[place] or not _numeric(sheet.head[place]):
            ignored[place] = "" if not extra[place] else "is no number"
            del extra[place]
    return ours, extra, ignored


def _column_rank(name: str, target: str) -> tuple[bool, bool]:
    """Return how much a header's name is less than our own; of symbols a company's ``name`` is the last choice."""
    return name != target, name == "name"


def _known(kind: BarFormat, key: str) -> str:
    """Return our name of a vendor's column; "" if it has none."""
    exact = kind.columns.get(key)
    patterns = (name for pattern, name in kind.columns.items() if "*" in pattern and fnmatchcase(key, pattern))
    return exact or next(patterns, "")


def _take_stamps(sheet: Sheet, targets: Mapping[int, str], ours: dict[str, int], ignored: dict[int, str]) -> None:
    places: dict[str, list[int]] = {name: [place for place, one in targets.items() if one == name] for name in _STAMPS}
    if places["date"] and places["time"] and not places["timestamp"]:
        date, time = places["date"][0], places["time"][0]
        if not _first_shape(sheet, date).has_time and not is_counter(sheet.head[time]) and _is_time(sheet.head[time]):
            ours["date"], ours["time"] = date, time
            return
    candidates = [place for name in _STAMPS for place in places[name]]
    if not candidates:
        return
    best = max(candidates, key=lambda place: (_rank(sheet, place), -place))
    ours["timestamp"] = best
    ignored.update({place: "" for place in candidates if place != best})


def _first_shape(sheet: Sheet, place: int) -> Shape:
    return shape_of(sheet.head[place].iloc[0]) if len(sheet.head) else Shape("unknown")


def is_counter(column: pd.Series) -> bool:
    """Return whether a column counts the rows."""
    values = pd.to_numeric(column, errors="coerce")
    return bool(len(values) > 1 and (values.diff().iloc[1:] == 1).all() and values.iloc[0] in (0, 1))


def _is_time(column: pd.Series) -> bool:
    return bool(
        column.astype("str").str.fullmatch(r"\s*(\d{1,2}:\d{2}(:\d{2})?(\.\d+)?(\s?[AaPp][Mm])?|\d{1,6})\s*").all()
    )


def _rank(sheet: Sheet, place: int) -> int:
    column = sheet.head[place]
    shape = _first_shape(sheet, place)
    if shape.kind == "unknown" or is_counter(column):
        return 0
    if shape.kind == "epoch":
        number = float(str(column.iloc[0]))
        return 4 if number > 1e8 else 0  # noqa: PLR2004 - seconds since 1970
    return 4 if shape.has_zone else 3 if shape.has_time else 2


def _numeric(column: pd.Series) -> bool:
    if pd.api.types.is_datetime64_any_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        return False
    return bool(pd.api.types.is_numeric_dtype(column.dtype) or column.map(is_number).all())


def head_stamps(sheet: Sheet, ours: Mapping[str, int], rows: pd.DataFrame | None = None) -> pd.Series:
    """Return the column of timestamps of the first rows, or of all; date and time are joined."""
    frame = sheet.head if rows is None else rows
    return joined(frame[ours["date"]], frame[ours["time"]]) if "date" in ours else frame[ours["timestamp"]]


def _content_against(sheet: Sheet, kind: BarFormat, ours: Mapping[str, int], shape: Shape, mark: str) -> str:
    """Return what the first rows say against a format; "" if nothing."""
    if kind.stamps and not _fits(shape, kind.stamps, sheet, ours):
        return f"has timestamps such as {head_stamps(sheet, ours).iloc[0]!r}"
    if sheet.header is not None and not kind.content:
        return ""
    prices = {name: read_numbers(sheet.head[ours[name]], mark)[0] for name in PRICES}
    with np.errstate(invalid="ignore"):
        good = (prices["high"] >= np.maximum(prices["open"], prices["close"])) & (
            prices["low"] <= np.minimum(prices["open"], prices["close"])
        )
    bars = np.isfinite(prices["high"])
    if not bars.any() or good[bars].mean() < _CONSISTENT:
        return "has prices outside of what would be low and high"
    if "vwap" in kind.positions:
        average = read_numbers(sheet.head[kind.positions.index("vwap")], mark)[0]
        good &= (average == 0.0) | ((average >= prices["low"]) & (average <= prices["high"]))
        if good[bars].mean() < _CONSISTENT:
            return "has averages outside of low and high"
    volume = read_numbers(sheet.head[ours["volume"]], mark)[0] if "volume" in ours else np.zeros(1)
    whole = all((values[bars] == np.round(values[bars])).all() for values in prices.values())
    fits = {"": True, "volume 0": not volume.any(), "volume": bool(volume.any()), "whole prices": whole}
    return "" if fits[kind.content] else f"lacks {kind.content}"


def _fits(shape: Shape, stamps: tuple[str, ...], sheet: Sheet, ours: Mapping[str, int]) -> bool:
    if stamps == OF_THE_DAY:
        values = pd.to_numeric(sheet.head[ours["timestamp"]], errors="coerce")
        return bool((values.between(0, 86_400_000) & (values == values.round())).all())
    if shape.kind == "epoch" and "epoch" in stamps:
        return _rank(sheet, ours["timestamp"]) > 0
    ordered = {"day first": "dmy", "month first": "mdy"}
    names = {
        "iso zoned": shape.kind in ("iso", "typed") and shape.has_zone,
        "iso date": shape.kind in ("iso", "typed") and not shape.has_time,
        "day first": shape.kind == "day or month first" and not shape.has_zone,
        "day first zoned": shape.kind == "day or month first" and shape.has_zone,
        "month first": shape.kind == "day or month first" and not shape.has_zone,
    }
    if not any(names.get(one, one == shape.form) for one in stamps):
        return False
    order = next((ordered[one] for one in stamps if one in ordered), None)
    return order is None or not _contradicts(head_stamps(sheet, ours), order)


def _contradicts(stamps: pd.Series, order: str) -> bool:
    part = 1 if order == "dmy" else 0
    found = stamps.astype("str").str.extract(r"^(\d{1,2})[-/.](\d{1,2})")[part]
    return bool((pd.to_numeric(found) > 12).any())  # noqa: PLR2004 - months


def fixed_order(kind: BarFormat) -> DateOrder | None:
    """Return the order of day and month that a vendor always writes."""
    if "day first" in kind.stamps:
        return "dmy"
    return "mdy" if "month first" in kind.stamps else None
