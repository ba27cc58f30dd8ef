"""Refusals of tables that are of no format: what they have, and what the nearest formats lack."""

from __future__ import annotations

from collections.abc import Sequence

from sentio_kedro.market.formats.cells.numbers import is_number
from sentio_kedro.market.formats.files.sheets import Sheet, plain_name
from sentio_kedro.market.formats.matching import Miss
from sentio_kedro.market.formats.records import BarFileError, Reading
from sentio_kedro.market.formats.registry import FORMATS

_SHOWN = 3  # formats in a message
_MOST_LACKING = 2  # columns of a format that is near


def no_format(sheet: Sheet, misses: Sequence[Miss], reading: Reading) -> BarFileError:
    """Return the refusal of a table of no format: what it has, and what the nearest formats lack."""
    place, line = sheet.source.place, _header_line(sheet)
    if sheet.header is None:
        row = [str(cell) for cell in sheet.head.iloc[0]]
        why = "; ".join(
            f"`{one.format.name}`: {one.reason}"
            for one in misses
            if "columns" not in one.reason and "header" not in one.reason
        )
        others = [name for name, one in FORMATS.items() if abs(len(one.positions) - len(row)) == 1]
        why += f"; with one column more or less: {', '.join(others)}" if others and not why else ""
        return BarFileError(
            place,
            f"has no header, and its {len(row)} columns fit no format: {row}"
            + (f" ({why.lstrip('; ')})" if why else ""),
            "write a line with the names timestamp, open, high, low, close, volume above the rows, or set `format`",
            line,
        )
    names = [name for name in map(plain_name, sheet.header)]
    if _is_wide(sheet, names):
        return BarFileError(
            place,
            f"has one column a symbol ({', '.join(sheet.header[1:4])}, ...), closes only: a bar needs open, high, low, "
            "close and volume",
            "download the bars themselves, one file a symbol or with a column `symbol`",
            line,
        )
    near = sorted(
        (one for one in misses if one.reason.startswith(("lacks", "has no ")) and one.found > len(one.lacking)),
        key=lambda one: (len(one.lacking), -one.found),
    )
    return BarFileError(place, *_near(sheet, near or list(misses), reading), line)


def _header_line(sheet: Sheet) -> int | None:
    first = sheet.line(0)
    return first if first is None or sheet.header is None else max(first - 1, 1)


def _near(sheet: Sheet, near: Sequence[Miss], reading: Reading) -> tuple[str, str]:
    known = {name for one in FORMATS.values() for name in (*one.columns, *one.ignored)} | {
        "open",
        "high",
        "low",
        "close",
    }
    known |= {"timestamp", "symbol", "volume", "date", "time"}
    new = [name for name in sheet.header or () if plain_name(name) not in known]
    plain = next((one for one in near if one.format.name == "plain"), near[0])
    lacking = [name for name in plain.lacking if name] or list(near[0].lacking)
    close = [one for one in near if one.format.name != "plain" and len(one.lacking) <= _MOST_LACKING][:_SHOWN]
    nearest = "; ".join(f"`{one.format.name}` {one.reason}" for one in close)
    if reading.format:
        nearest, lacking = f"`{near[0].format.name}` {near[0].reason}", list(near[0].lacking)
    first = [str(cell) for cell in sheet.head.iloc[0]] if len(sheet.head) else []
    absent = ", ".join(f"`{name}`" for name in lacking) or "format that fits"
    fault = (
        f"has the columns {list(sheet.header or ())} and no {absent}"
        + (f"; new names are {new}" if new else "")
        + (f"; nearest formats: {nearest}" if nearest else "")
        + f"; first row {first}"
    )
    if not lacking:
        return fault, "set `format`, or export the file as the vendor does"
    example = ", ".join(f"{old}: {ours}" for old, ours in zip(new or ["Name"], lacking, strict=False))
    return fault, f"say which is which, such as `columns: {{{example}}}`"


def _is_wide(sheet: Sheet, names: Sequence[str]) -> bool:
    parts = {"open", "high", "low", "close", "volume", "o", "h", "l", "c", "price"}
    if len(names) < 3 or parts & set(names):  # noqa: PLR2004 - a date and two symbols
        return False
    return all(sheet.head[place].map(is_number).all() for place in range(1, len(names)))
