"""The body of a request, read strictly."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from sentio_kedro.serving.request_body import read_request

COLUMNS = ["timestamp", "symbol", "open", "high", "low", "close", "volume", "vwap"]
ROW: list[Any] = ["2020-01-01T00:00:00Z", "AAA", 1, 2.5, 1, 2, None, "ignored"]


def body(rows: list[Any], columns: Any = COLUMNS) -> bytes:
    return json.dumps({"dataframe_split": {"columns": columns, "data": rows}}).encode()


def cell(name: str, value: Any) -> bytes:
    return body([ROW, [value if column == name else cell for column, cell in zip(COLUMNS, ROW, strict=True)]])


def test_numbers_become_floats_other_columns_are_dropped_and_both_formats_say_the_same() -> None:
    expected = pd.DataFrame(
        {"timestamp": [ROW[0]], "symbol": ["AAA"], "open": 1.0, "high": 2.5, "low": 1.0, "close": 2.0, "volume": [None]}
    ).astype({"volume": float})
    frame, params = read_request(body([ROW]))
    pd.testing.assert_frame_equal(frame, expected)
    assert params == {}
    records = {"dataframe_records": [dict(zip(COLUMNS, ROW, strict=True))], "params": {"equity": 1}}
    frame, params = read_request(json.dumps(records).encode())
    pd.testing.assert_frame_equal(frame, expected)
    assert params == {"equity": 1}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"{'a': 1}", r"^The body must be a JSON object: Expecting property name .* line 1, column 2; correct it\.$"),
        (b"\xff{}", r"^The body must be JSON in UTF-8, byte 0 is no text; encode it so\.$"),
        (b"[" * 10**5, r"^The body must be a JSON object, was nested too deeply; flatten it\.$"),
        (b"[1]", r"^The body must be a JSON object, was a list; give names and values\.$"),
        (b"9" * 5000, r"^The body must not hold integers of thousands of digits; correct the number\.$"),
        (b'{"params": {}, "params": {}}', r"^The body must name a key once, named 'params' twice; leave one out\.$"),
        (b"{}", r"^The body must be .*; it has neither of them\.$"),
        (b'{"dataframe_records": [{}], "dataframe_split": {"columns": [], "data": []}}', r"; it has both of them\.$"),
        (b'{"inputs": {}}', r"; `inputs`: Unexpected keyword argument, was an object\.$"),
        (b'{"dataframe_records": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]}', r"valid dictionary, was 10; and 2 more\.$"),
        (body([ROW, ROW[1:]]), r"a cell for each of the 8 columns, row 1 has 7; give null where a bar has no value\.$"),
        (body([ROW], ["open"] * 8), r"^The columns of bars must differ, \['open'\] are doubled; name each once\.$"),
        (cell("close", "2"), r"^`close` must hold numbers, held '2' in row 1 \(1 of 2 rows are wrong\); correct it\.$"),
        (cell("close", True), r"^`close` must hold numbers, held True in row 1 "),
        (cell("close", 10**400), r"^`close` holds an integer that is larger than 1\.8e308; correct it\.$"),
        (cell("symbol", 5), r"^`symbol` must hold printable text, held 5 in row 1 "),
        (cell("symbol", 10**400), r"^`symbol` must hold printable text, held an integer of 1329 bits in row 1 "),
        (cell("symbol", "A\0"), r"^`symbol` must hold printable text, held 'A\\x00' in row 1 "),
        (cell("symbol", "\ud800"), r"^Texts of bars must be characters, held half a surrogate pair; correct it\.$"),
        (cell("timestamp", None), r"^`timestamp` must hold printable text, held nan in row 1 "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_value_and_remedy(given: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_request(given)
