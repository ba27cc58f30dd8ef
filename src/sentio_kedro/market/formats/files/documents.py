"""Tables in JSON: records, rows, columns, or bars by symbol or by time, wherever they stand in an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sentio_kedro.market.formats.cells.shapes import shape_of
from sentio_kedro.market.formats.files.contents import Source
from sentio_kedro.market.formats.files.sheets import HEAD_ROWS, Sheet, numbered
from sentio_kedro.market.formats.records import BarFileError

_ERRORS = (
    "error message",
    "error",
    "errors",
    "errormessage",
    "message",
    "msg",
    "information",
    "note",
    "detail",
    "retmsg",
)
_SYMBOLS = ("symbol", "ticker", "2. symbol", "instid", "instrument", "pair")
_ZONES = ("6. time zone", "5. time zone", "exchangetimezonename", "exchange_timezone", "timezone")
_CONTAINERS = re.compile(
    r"bars|results?|data|list|candles|values|chart|quotes?|indicators|historical|prices|rows|items|ohlcv?|content|"
    r"time ?series.*|(daily|weekly|monthly) .*|records|payload|history",
    re.IGNORECASE,
)
_TICKER = re.compile(r"^[A-Za-z0-9.\-/_=^:]{1,30}$")
_FEWEST = 4  # columns of bars


@dataclass(frozen=True)
class _Table:
    """Rows in JSON and what stands beside them."""

    header: tuple[str, ...] | None
    rows: Sequence[Sequence[Any]]
    symbol: str | None
    zone: str | None


def json_sheets(source: Source) -> list[Sheet]:
    """Return the tables of a JSON file, or one of JSON lines.

    Raises:
        BarFileError: If it is no whole JSON, an error of a vendor, or holds no bars.
    """
    document = _document(source)
    tables = list(_tables(document, None, None))
    if not tables:
        raise BarFileError(source.place, *_no_table(document))
    sheets = []
    for table in tables:
        frame = numbered(pd.DataFrame(list(table.rows)))
        frame = frame.astype({name: "str" for name in frame if _is_text(frame[name])})
        sheets.append(
            Sheet(
                source,
                table.header,
                frame.head(HEAD_ROWS),
                lambda frame=frame: frame,  # type: ignore[misc]
                symbol=table.symbol,
                zone=table.zone,
            )
        )
    return sheets


def _is_text(column: pd.Series) -> bool:
    return column.dtype == object or isinstance(column.dtype, pd.StringDtype)


def _document(source: Source) -> Any:
    data = source.read(None)
    encoding = "utf-8-sig" if data.startswith(b"\xef\xbb\xbf") else json.detect_encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise BarFileError(source.place, f"is no UTF-8 text at byte {error.start:,}", "save it as UTF-8") from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > 1 and lines[0].strip().endswith(("}", "]")):  # JSON lines
            return [_parsed(source, line, number) for number, line in enumerate(lines, 1)]
        raise _broken(source, error, error.lineno) from error
    except (RecursionError, ValueError) as error:
        raise BarFileError(source.place, f"is no usable JSON ({error})", "download it again") from error


def _parsed(source: Source, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _broken(source, error, line) from error
    except (RecursionError, ValueError) as error:
        raise BarFileError(source.place, f"is no usable JSON ({error})", "download it again") from error


def _broken(source: Source, error: json.JSONDecodeError, line: int) -> BarFileError:
    end = error.pos >= len(error.doc.rstrip()) - 1 or "Unterminated" in error.msg
    where = "ends in the middle, so that it was cut off" if end else "is no JSON"
    return BarFileError(source.place, f"{where} (column {error.colno}: {error.msg})", "download it again", line)


def _no_table(document: Any) -> tuple[str, str]:
    texts = [
        f"{key}: {value}"
        for key, value in _scalars(document).items()
        if key.lower() in _ERRORS or (key.lower() in ("code", "status", "retcode") and value not in (0, "0", "OK"))
    ]
    if isinstance(document, Mapping) and not texts:
        texts = [f"{key}: {value}" for key, value in document.items() if str(key).lower() in _ERRORS and value]
    if texts:
        return (
            f"is a vendor's refusal and no bars: {'; '.join(texts)[:300]!r}",
            "correct the request and download it again",
        )
    return (
        f"is JSON without bars; it begins with {json.dumps(document, ensure_ascii=False)[:100]!r}",
        "give a list of bars, each with a time and four prices",
    )


def _scalars(node: Any) -> dict[str, Any]:
    """Return the values of a mapping, and of the mappings in it, that are no containers."""
    if not isinstance(node, Mapping):
        return {}
    found = {str(key): value for key, value in node.items() if isinstance(value, str | int | float)}
    for value in node.values():
        if isinstance(value, Mapping):
            found = {**{str(key): one for key, one in value.items() if isinstance(one, str | int | float)}, **found}
    return found


def _beside(node: Mapping[str, Any], names: Sequence[str]) -> str | None:
    values = {key.lower(): value for key, value in _scalars(node).items()}
    return next((str(values[name]) for name in names if isinstance(values.get(name), str)), None)


def _tables(node: Any, symbol: str | None, zone: str | None) -> Iterator[_Table]:
    if isinstance(node, list):
        yield from _listed(node, symbol, zone)
    elif isinstance(node, Mapping):
        yield from _mapped(node, symbol, zone)


def _listed(node: list[Any], symbol: str | None, zone: str | None) -> Iterator[_Table]:
    if node and all(isinstance(row, Mapping) and isinstance(row.get("mid"), Mapping) for row in node):
        node = [{**row, **row["mid"], "mid": None} for row in node]  # OANDA's prices
    if node and all(isinstance(row, Mapping) for row in node) and not any(_nested(row) for row in node[:3]):
        header = tuple(dict.fromkeys(str(key) for row in node for key in row))
        if len(header) >= _FEWEST:
            yield _Table(header, [[row.get(name) for name in header] for row in node], symbol, zone)
    elif node and all(isinstance(row, list) and len(row) >= _FEWEST + 1 for row in node) and not _nested(node[0]):
        yield _Table(None, node, symbol, zone)
    else:
        for child in node:
            yield from _tables(child, symbol, zone)


def _nested(node: Mapping[str, Any] | list[Any]) -> bool:
    values = node.values() if isinstance(node, Mapping) else node
    return any(isinstance(value, Mapping | list) and value for value in values)


def _mapped(node: Mapping[str, Any], symbol: str | None, zone: str | None) -> Iterator[_Table]:
    symbol = _beside(node, _SYMBOLS) or symbol
    zone = _beside(node, _ZONES) or zone
    arrays = _arrays(node)
    if arrays:
        yield _Table(tuple(arrays), list(zip(*arrays.values(), strict=True)), symbol, zone)
        return
    values = list(node.values())
    flat = [value for value in values if isinstance(value, Mapping) and not _nested(value)]
    if len(flat) == len(values) and flat:
        keys = [str(key) for key in node]
        if {"open", "high", "low", "close"} <= {key.lower() for key in keys}:  # a column each
            rows = list(dict.fromkeys(key for value in flat for key in value))
            yield _Table(("key", *keys), [[row, *(value.get(row) for value in flat)] for row in rows], symbol, zone)
            return
        if len(flat[0]) >= _FEWEST and shape_of(keys[0]).kind != "unknown":  # a bar each
            header = tuple(dict.fromkeys(str(name) for value in flat for name in value))
            rows_of_keys = [[key, *(value.get(name) for name in header)] for key, value in zip(keys, flat, strict=True)]
            yield _Table(("key", *header), rows_of_keys, symbol, zone)
            return
    if isinstance(node.get("columns"), list) and isinstance(node.get("data"), list):  # pandas `orient="split"`
        index = node.get("index", [])
        header = ("", *map(str, node["columns"])) if index else tuple(map(str, node["columns"]))
        rows = [[key, *row] for key, row in zip(index, node["data"], strict=False)] if index else node["data"]
        yield _Table(header, rows, symbol, zone)
        return
    for key, child in node.items():
        named = not _CONTAINERS.fullmatch(str(key)) and _TICKER.match(str(key)) and isinstance(child, list)
        yield from _tables(child, str(key) if named else symbol, zone)


def _arrays(node: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the columns of a mapping that holds a list each, also in mappings or lists of one below it."""
    found: dict[str, list[Any]] = {}

    def visit(inner: Any, depth: int) -> None:
        if isinstance(inner, Mapping):
            for key, value in inner.items():
                if isinstance(value, list) and value and not any(isinstance(one, Mapping | list) for one in value):
                    found[str(key)] = value
                elif depth:
                    visit(value, depth - 1)
        elif isinstance(inner, list) and len(inner) == 1 and depth:
            visit(inner[0], depth - 1)

    visit(node, 5)
    stamps = next((node[key] for key in node if key.lower() in ("timestamp", "t", "time", "date", "ticks")), None)
    if not isinstance(stamps, list):
        return {}
    same = {key: values for key, values in found.items() if len(values) == len(stamps)}
    return same if len(same) > _FEWEST else {}
