"""Requests to the served model that are no JSON, have another shape, or are not what HTTP asks for.

All are made from a good request: ``dataframe_split`` with at least the required bars of each symbol, and ``params``
with an ``account``. Each has the statuses that are right for it: 400 where the content is wrong; 200 where it is odd
but has a meaning. Random ones are seeded.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

OK, BAD = 200, 400
EITHER = (OK, BAD)
JSON = {"Content-Type": "application/json"}
HUGE = 10**400
CUTS, FLIPS = 12, 24  # random truncations and changed bytes


@dataclass(frozen=True)
class Hostile:
    """A request.

    Attributes:
        name: What is wrong with it.
        body: Its bytes.
        statuses: Statuses that are right.
        method: Its method.
        path: Its path.
        headers: Its headers.
    """

    name: str
    body: bytes
    statuses: tuple[int, ...] = (BAD,)
    method: str = "POST"
    path: str = "/invocations"
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))


def encoded(document: Any) -> bytes:
    """Encode a document; NaN and infinity become what Python writes, which is no JSON."""
    return json.dumps(document).encode()


def no_json(good: dict[str, Any]) -> Iterator[Hostile]:
    """Yield bodies that are no JSON object, and good ones with random damage."""
    text = encoded(good)
    bodies = {
        "nothing": b"",
        "a space": b" ", "a brace": b"{", "a word": b"nope", "a number": b"1", "a text": b'"text"',
        "true": b"true", "null": b"null", "NaN": b"NaN", "a list": b"[]", "an empty object": b"{}",
        "zeros": b"\0" * 999,
        "bytes of no encoding": b"\xff\xfe\xfd", "gzip": gzip.compress(text), "single quotes": b"{'params': 1}",
        "a comma too many": text[:-1] + b",}", "garbage behind": text + b"x", "twice": text + text,
        "100,000 brackets": b"[" * 100_000, "50,000 objects": b'{"a":' * 50_000, "a surrogate": b'{"\\ud800": 1}',
        "5,000 digits": b'{"params": ' + b"9" * 5_000 + b"}", "latin letters": '{"ä": 1}'.encode("latin-1"),
        "a key twice": b'{"params": {}, ' + text[1:],
        "a parameter twice": text.replace(b'"account"', b'"equity": 1, "equity"', 1),
    }  # fmt: skip
    yield from (Hostile(f"{name} as body", body) for name, body in bodies.items())
    yield Hostile("UTF-16", text.decode().encode("utf-16"), EITHER)
    yield Hostile("UTF-8 with a byte order mark", b"\xef\xbb\xbf" + text, EITHER)
    draw = random.Random(1)  # noqa: S311 - no secret
    yield from (Hostile(f"cut {cut}", text[: draw.randrange(1, len(text) - 1)]) for cut in range(CUTS))
    for flip in range(FLIPS):
        changed = bytearray(text)
        for _ in range(1 + flip):
            changed[draw.randrange(len(text))] = draw.choice(b'0123456789.e-"') if flip % 2 else draw.randrange(256)
        yield Hostile(f"{flip + 1} bytes changed", bytes(changed), EITHER)


def envelopes(good: dict[str, Any]) -> Iterator[Hostile]:
    """Yield JSON objects of another shape."""
    split = good["dataframe_split"]
    columns, data = split["columns"], split["data"]
    records = [dict(zip(columns, row, strict=True)) for row in data]
    by_column = {name: [row[place] for row in data] for place, name in enumerate(columns)}
    documents: dict[str, Any] = {
        "no bars": {"params": good["params"]},
        "both formats": {**good, "dataframe_records": records},
        "an unknown key": {**good, "parms": {}},
        "inputs": {"inputs": by_column}, "instances": {"instances": records}, "messages": {"messages": []},
        "records that are numbers": {"dataframe_records": [1, 2]},
        "records that are lists": {"dataframe_records": [[1]]},
        "no records": {"dataframe_records": []}, "empty records": {"dataframe_records": [{}, {}]},
        "records of other keys": {"dataframe_records": [*records[:-1], {"close": 1.0}]},
    }  # fmt: skip
    frames: dict[str, Any] = {
        "null": None, "a number": 1, "a text": "text", "a list": data, "nothing": {}, "no columns": {"data": data},
        "no data": {"columns": columns}, "columns as text": {"columns": "timestamp", "data": data},
        "columns as numbers": {"columns": list(range(len(columns))), "data": data},
        "a column twice": {"columns": ["close" if name == "open" else name for name in columns], "data": data},
        "too few columns": {"columns": columns[:-1], "data": data},
        "a short row": {"columns": columns, "data": [*data[:-1], data[-1][:-1]]},
        "a row that is a number": {"columns": columns, "data": [*data[:-1], 1]},
        "a row that is an object": {"columns": columns, "data": [*data[:-1], {}]},
        "data as an object": {"columns": columns, "data": by_column},
        "an unknown part": {"columns": columns, "data": data, "dtypes": {}},
    }  # fmt: skip
    yield from (Hostile(name, encoded(document)) for name, document in documents.items())
    yield from (Hostile(f"bars: {name}", encoded({**good, "dataframe_split": frame})) for name, frame in frames.items())
    yield Hostile("an index", encoded({**good, "dataframe_split": {**split, "index": "text"}}), EITHER)
    yield Hostile("records", encoded({"dataframe_records": records}), (OK,))


def given_parameters(good: dict[str, Any]) -> Iterator[Hostile]:
    """Yield parameters that are misspelt, of another type or out of bounds."""
    account = good["params"]["account"]
    wrong: list[Any] = [
        {"acount": account}, {"Account": account}, {"equty": 1e5}, {"account ": account}, {"": 1},
        {"equity": 1e5, "x": None}, [], "text", 5, True,
        *({"account": value} for value in (None, 5, True, [], {}, {"cash": 1e5}, [account], 1.5)),
        *({"equity": value} for value in (0, -1, -0.0, float("nan"), float("inf"), 1e308, HUGE, "text", "50000", True)),
        *({"equity": value} for value in (None, [], {})),
    ]  # fmt: skip
    yield from (Hostile(f"params {params!r:.60}", encoded({**good, "params": params})) for params in wrong)
    odd: list[Any] = [None, {}, {"account": ""}, {"equity": 1e-320}, {"equity": 1}, {"equity": 1e15}]
    yield from (Hostile(f"params {params!r}", encoded({**good, "params": params}), (OK,)) for params in odd)


def http_requests(good: dict[str, Any]) -> Iterator[Hostile]:
    """Yield other methods, paths, types and sizes."""
    text = encoded(good)
    csv = "\n".join([",".join(good["dataframe_split"]["columns"]), "x,y,1,2,3,4,5"]).encode()
    for kind in (
        "", "text/csv", "text/plain", "application/xml", "multipart/form-data; boundary=x", "*/*", ";;;;",
        "application/vnd.apache.parquet", "application/octet-stream",
    ):  # fmt: skip
        yield Hostile(
            f"content type {kind!r}",
            csv if "csv" in kind else text,
            (415,),
            headers={"Content-Type": kind} if kind else {},
        )
    for parameter in ("charset=latin-1", "charset=utf-8", "foo=bar", "charset=", ";", "charset=utf-8; charset=x"):
        headers = {"Content-Type": f"application/json; {parameter}"}
        yield Hostile(f"content type with {parameter!r}", text, EITHER, headers=headers)
    yield Hostile("gzip announced", gzip.compress(text), headers={**JSON, "Content-Encoding": "gzip"})
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "PROPFIND"):
        yield Hostile(f"method {method}", b"" if method == "HEAD" else text, (405,), method=method)
    for path in (
        "/",
        "/nope",
        "/invocations/",
        "/INVOCATIONS",
        "/../../etc/passwd",
        "/%00",
        "/%2e%2e/etc",
        "/" + "a" * 5000,
    ):
        yield Hostile(f"path {path:.40}", text, (404, 405, 307), path=path)
    for path in ("/ping", "/health", "/version", "/docs", "/openapi.json"):
        yield Hostile(f"POST to {path}", text, (405,), path=path)
        yield Hostile(f"GET {path}", b"", (OK,), method="GET", path=path, headers={})
    yield Hostile("a query", text, (OK,), path="/invocations?account=%7B%7D&x=" + "y" * 2000)
    yield Hostile("17 MiB", b" " * (17 * 1024**2), (413,))
    yield Hostile("15 MiB of spaces", b" " * (15 * 1024**2) + text, (OK,))
    yield Hostile("15 MiB of numbers", b'{"params": [' + b"1.5," * (15 * 1024**2 // 4) + b"1]}")
