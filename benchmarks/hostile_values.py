"""Requests to the served model that are right as JSON, with wrong accounts, bars or times; see ``hostile_bodies``."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

from hostile_bodies import BAD, EITHER, HUGE, OK, Hostile, encoded

WORTHS = ("equity", "peak_equity", "session_equity", "initial_equity")
NUMBERS = ("open", "high", "low", "close", "volume")
NAN, INF = float("nan"), float("inf")


def accounts(good: dict[str, Any]) -> Iterator[Hostile]:
    """Yield accounts that are no JSON, of other types, out of bounds or ruined."""
    symbol = _symbols(good)[0]
    wrong: list[Any] = [
        None, [], 1, "text", {}, {"shares": {}},
        *({"cash": value} for value in (NAN, INF, -INF, 1e308, -1e308, HUGE, None, "much", "1e5", True, [], {})),
        *({"cash": 1e5, "shares": {symbol: value}} for value in (NAN, INF, 1e308, -1e12, None, "1", [])),
        *({"cash": 1e5, "shares": {name: 1}} for name in ("XXX", symbol.lower(), f"{symbol} ", "", "\ud800")),
        *({"cash": 1e5, "shares": value} for value in ([], [symbol], "text", 1)),
        {"cash": -1e6, "shares": {symbol: 1}}, {"cash": 1e5, "shares": {symbol: -1e9}},
        {"cash": 0, "equity": 0, "shares": {symbol: 1}},
        *({"cash": 1e5, name: value} for name in WORTHS for value in (-1, NAN, INF, 1e308, "1")),
        *({"cash": 1e5, "session_highs": value} for value in ([NAN], [-1], [1e5] * 5000, 1e5, {"0": 1e5})),
        *({"cash": 1e5, "bars_held": {symbol: value}} for value in (-1, 1.5, 10**30, HUGE, NAN, "1", True)),
        *({"cash": 1e5, "in_flight": {symbol: value}} for value in ([NAN], [1e308], [1.0] * 99, 1.0, ["1"], [[]])),
        *({"cash": 1e5, "entry_price": {symbol: value}} for value in (0, -1, NAN, INF, "1")),
        *({"cash": 1e5, "trades_today": {symbol: value}} for value in (-1, 0.5, HUGE)),
        *({"cash": 1e5, "opened_today": value} for value in (["XXX"], symbol, [1])),
        {"cash": 1e5, "day_trades": [0] * 6}, {"cash": 1e5, "day_trades": [NAN]},
        {"cash": 1e5, "stocks": {}}, {"Cash": 1e5},
    ]  # fmt: skip
    texts = [json.dumps(account) for account in wrong]
    texts += ["{cash: 1}", '{"cash": 1, "cash": 2}', '{"cash": 1e999}', "[" * 5_000, '{"a":' * 500 + "1" + "}" * 500]
    texts += [" ", '{"cash": 1}x', "\0", '{"cash": 0x10}', '{"cash": ' + "9" * 5_000 + "}", "x" * 10**6]
    yield from (Hostile(f"account {text:.70}", _with_account(good, text)) for text in texts)
    odd: list[Any] = [
        {"cash": 0}, {"cash": -1}, {"cash": -1e6}, {"cash": 1e-300}, {"cash": 1e15}, {"cash": 1e5, "equity": 0},
        {"cash": 1e5, "peak_equity": 0}, {"cash": 1e5, "peak_equity": 1e15}, {"cash": 1e5, "initial_equity": 1e15},
        {"cash": 1e5, "shares": {symbol: 1}, "entry_price": {symbol: 1e-300}},
        {"cash": 1e5, "bars_held": {symbol: 10**9}, "shares": {symbol: 1}},
    ]  # fmt: skip
    yield from (Hostile(f"account {json.dumps(one)}", _with_account(good, json.dumps(one)), (OK,)) for one in odd)


def account_times(good: dict[str, Any]) -> Iterator[Hostile]:
    """Yield accounts at other times than the ends of bars."""
    times: list[Any] = [
        "now", "", "text", 0, -1, 1e20, HUGE, True, [], {}, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
        "1677-01-01", "2262-04-12", "2020-02-30", "2020-01-01T25:00:00Z", "2020-01-01T00:00:00+99:99",
        "1970-01-01T00:00:00.000000001Z",
    ]  # fmt: skip
    for time in times:
        yield Hostile(f"account at {time!r:.40}", _with_account(good, json.dumps({"cash": 1e5, "time": time})))


def cells(good: dict[str, Any]) -> Iterator[Hostile]:
    """Yield bars with one wrong cell, in the last row."""
    for name in NUMBERS:
        for value in (None, NAN, INF, -INF, 0, -1, 1e308, -1e308, HUGE, "abc", "1", True, [], {}, [1.0]):
            odd = (name, value) in (("volume", 0), ("volume", 1e308), ("high", 1e308))
            yield Hostile(f"{name} {value!r:.20}", _with_cell(good, name, value), EITHER if odd else (BAD,))
    known = _symbols(good)[0]
    symbols = (None, "", 5, "XXX", "xxx", "A" * 10**5, [], {}, True, "<script>", "\0", "\ud800", "../../etc/passwd")
    for symbol in (*symbols, "%s%n", f"{known} ", known.lower()):
        yield Hostile(f"symbol {symbol!r:.20}", _with_cell(good, "symbol", symbol))
    times = (
        None, "", "now", "text", 0, 1e300, HUGE, True, [], {}, "0001-01-01T00:00:00Z", "1677-01-01T00:00:00Z",
        "2262-04-12T00:00:00Z", "9999-12-31T00:00:00Z", "10000-01-01T00:00:00Z", "2020-02-30T00:00:00Z",
        "2020-01-01T25:00:00Z", "2020-01-01T00:00:00+99:99",
    )  # fmt: skip
    yield from (Hostile(f"timestamp {time!r:.30}", _with_cell(good, "timestamp", time)) for time in times)
    optional: dict[str, tuple[Any, ...]] = {
        "dividend": (-1, INF, "1", 1e308),
        "split": (0, -1, INF, []),
        "spread": (-1, INF, True),
        "funding": (INF, "x"),
    }
    for name, values in optional.items():
        yield from (Hostile(f"{name} {value!r}", _with_cell(good, name, value)) for value in values)


def frames(good: dict[str, Any]) -> Iterator[Hostile]:
    """Yield bars that are wrong as a whole."""
    split = good["dataframe_split"]
    columns, data = split["columns"], split["data"]
    place = {name: index for index, name in enumerate(columns)}

    def framed(name: str, columns: list[str], rows: list[list[Any]], statuses: tuple[int, ...] = (BAD,)) -> Hostile:
        return Hostile(name, encoded({**good, "dataframe_split": {"columns": columns, "data": rows}}), statuses)

    for name in columns[:7]:
        kept = [index for index, column in enumerate(columns) if column != name]
        yield framed(f"no {name}", [columns[index] for index in kept], [[row[k] for k in kept] for row in data])
        yield framed(name.upper(), [column.upper() if column == name else column for column in columns], data)
    prices = {place[name] for name in NUMBERS[:4]}
    for factor in (1e300, 1e-300, 1e250, 1e-250):
        rows = [[cell * factor if k in prices else cell for k, cell in enumerate(row)] for row in data]
        yield framed(f"prices times {factor:g}", columns, rows, EITHER)
    first = [row for row in data if row[place["symbol"]] == data[0][place["symbol"]]]
    named = [[f"S{i}" if k == place["symbol"] else cell for k, cell in enumerate(data[0])] for i in range(5000)]
    constant = [[1.0 if k in prices else cell for k, cell in enumerate(row)] for row in data]
    draw = random.Random(2)  # noqa: S311 - no secret
    yield framed("no rows", columns, [])
    yield framed("one row", columns, data[-1:])
    yield framed("one symbol", columns, first, EITHER)
    yield framed("half the bars", columns, data[: len(data) // 2])
    yield framed("all bars twice", columns, [*data, *data])
    yield framed("the last bar a thousand times", columns, [*data, *[data[-1]] * 1000])
    yield framed("bars from new to old", columns, data[::-1])
    yield framed("constant prices", columns, constant)
    yield framed("all cells null", columns, [[None] * len(columns) for _ in data])
    yield framed("all cells text", columns, [["x"] * len(columns) for _ in data])
    yield framed("5,000 symbols", columns, named)
    yield framed("shuffled bars", columns, draw.sample(data, len(data)), EITHER)
    yield framed("shuffled columns", draw.sample(columns, len(columns)), data)
    yield framed("an unknown column", [*columns, "vwap"], [[*row, {"a": [1]}] for row in data], (OK,))


def _symbols(good: dict[str, Any]) -> list[str]:
    split = good["dataframe_split"]
    place = split["columns"].index("symbol")
    return list(dict.fromkeys(row[place] for row in split["data"]))


def _with_account(good: dict[str, Any], text: str) -> bytes:
    return encoded({**good, "params": {"account": text}})


def _with_cell(good: dict[str, Any], name: str, value: Any) -> bytes:
    """Encode the good request with another value in its last row; a new column is null elsewhere."""
    document = copy.deepcopy(good)
    split = document["dataframe_split"]
    if name not in split["columns"]:
        split["columns"].append(name)
        for row in split["data"]:
            row.append(None)
    split["data"][-1][split["columns"].index(name)] = value
    return encoded(document)
