"""Files that cannot be taken are refused with file, line, value and remedy."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sentio_kedro.market.formats import BarFileError, Reading, detect, read_files

HEAD = "Date,Open,High,Low,Close,Volume\n"


def _zipped(text: str, name: str = "AAPL.csv") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, text)
    return buffer.getvalue()


MANY = HEAD + "".join(f"2024-01-{day:02},10,12,9,11,100\n" for day in range(1, 29))
CASES: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "web page": (
        "AAPL.csv",
        "<!DOCTYPE html><html><head><title>Just a\n moment...</title></head></html>",
        ("is a web page and no table: 'Just a moment...'", "download the data itself"),
    ),
    "empty file": ("AAPL.csv", "", ("is empty; download it again",)),
    "header alone": ("AAPL.csv", HEAD, ("has no row with a date and numbers", "'Date,Open,High,Low,Close,Volume'")),
    "workbook": ("AAPL.xlsx", _zipped("", "xl/workbook.xml"), ("is an Excel workbook; export the sheet as CSV",)),
    "old workbook": ("AAPL.csv", b"\xd0\xcf\x11\xe0rest", ("is an old Excel workbook",)),
    "truncated zip": ("AAPL.zip", _zipped(MANY)[:200], ("is a damaged archive, perhaps cut off", "200 bytes", "again")),
    "damaged directory of a zip": (
        "AAPL.zip",
        _zipped(MANY)[:-6] + b"\xff\x7f\0\0" + _zipped(MANY)[-2:],
        ("is a damaged archive, perhaps cut off",),
    ),
    "truncated gzip": ("AAPL.csv.gz", gzip.compress(MANY.encode())[:60], ("is a damaged archive, perhaps cut off",)),
    "zip without tables": ("AAPL.zip", _zipped("hello", "readme.md"), ("has no table in it, but ['readme.md']",)),
    "truncated JSON": (
        "AAPL.json",
        '[{"t": "2024-01-02", "o": 10, "h"',
        ("line 1, ends in the middle, so that it was cut off", "download it again"),
    ),
    "error of a vendor": (
        "AAPL.json",
        {"code": -1121, "msg": "Invalid symbol."},
        ("is a vendor's refusal and no bars", "Invalid symbol.", "correct the request"),
    ),
    "limit of a vendor, in a file called CSV": (
        "AAPL.csv",
        {"Information": "rate limit is 25 requests per day"},
        ("is a vendor's refusal and no bars", "25 requests per day"),
    ),
    "truncated Parquet": ("AAPL.parquet", b"PAR1" + b"x" * 40, ("is damaged, perhaps cut off",)),
    "text called Parquet": ("AAPL.parquet", MANY, ("is no Parquet, Feather or Arrow file",)),
    "cut line": (
        "AAPL.csv",
        MANY + "2024-01-29,10,12\n",
        ("line 30, has too few fields, 3 where", "'2024-01-29,10,12'"),
    ),
    "cut line far down": (
        "AAPL.csv",
        HEAD
        + "".join(f"{day},10,12,9,11,100\n" for day in pd.date_range("2000-01-01", periods=9000).astype(str))
        + "2025\n",
        ("line 9002, has too few fields, 1 where the first row has 6: '2025'",),
    ),
    "thousands without quotes": (
        "AAPL.csv",
        MANY + "2024-01-29,10,12,9,11,1,100\n",
        ("line 30, has too many fields, 7 where", "without quotes"),
    ),
    "zero bytes": ("AAPL.csv", MANY.encode() + b"\0\0\0\n", ("line 30, has a zero byte",)),
    "mixed zones": (
        "AAPL.csv",
        HEAD + "2024-01-02 09:30:00-05:00,10,12,9,11,100\n2024-01-02 09:31:00,10,12,9,11,100\n",
        (
            "line 3, has the timestamp '2024-01-02 09:31:00', which has no zone where the rows before have",
            "with a zone",
        ),
    ),
    "mixed zones, the other way": (
        "AAPL.csv",
        HEAD + "2024-01-02 09:30:00,10,12,9,11,100\n2024-01-02T09:31:00Z,10,12,9,11,100\n",
        ("line 3, has the timestamp '2024-01-02T09:31:00Z', which names a zone where the rows before do not",),
    ),
    "two symbols in one file": (
        "stocks2024.csv",
        HEAD + "2024-01-02,10,12,9,11,100\n\n2024-01-02,20,22,19,21,300\n",
        ("line 4, has the timestamp 2024-01-02 00:00:00 again with close 21, where line 2 has 11", "a column `symbol`"),
    ),
    "daily and minute rows": (
        "AAPL.csv",
        HEAD + "2024-01-02,10,12,9,11,100\n2024-01-03 09:31:00,10,12,9,11,100\n",
        ("line 3, has the timestamp '2024-01-03 09:31:00', which is not written as '2024-01-02'", "files of their own"),
    ),
    "day and month mixed": (
        "AAPL.csv",
        HEAD + "13/02/2024,10,12,9,11,100\n02/14/2024,10,12,9,11,100\n",
        ("line 3, has the date '02/14/2024', which is month and day the other way round than '13/02/2024'",),
    ),
    "day or month first": (
        "AAPL.csv",
        HEAD + "01/02/2024,10,12,9,11,100\n02/02/2024,10,12,9,11,100\n",
        ("no row says whether day or month is first: set `date_order: dmy` or `date_order: mdy`.",),
    ),
    "Excel date number": (
        "AAPL.csv",
        HEAD + "45293,10,12,9,11,100\n45294,10,12,9,11,100\n",
        ("line 2, has the timestamp 45293, which looks like an Excel date number (2024-01-02,", "yyyy-mm-dd"),
    ),
    "Excel date number in one row": (
        "AAPL.csv",
        MANY + "45321,10,12,9,11,100\n",
        ("line 30, has the timestamp 45321, which looks like an Excel date number (2024-01-30,",),
    ),
    "Excel date number beside a symbol": (
        "bars.csv",
        "ticker,date,open,high,low,close,volume\nAAPL,45293.5,10,12,9,11,100\n",
        ("line 2, has the timestamp 45293.5, which looks like an Excel date number",),
    ),
    "closes of yfinance": (
        "closes.csv",
        "Ticker,AAPL,MSFT\nDate,,\n2024-01-02,10,20\n2024-01-03,11,21\n",
        ("has one column a symbol (AAPL, MSFT, ...), closes only",),
    ),
    "pickle": ("AAPL.csv", b"\x80\x04\x95", ("is a pickle, which may run any code and is not opened",)),
    "7z": ("AAPL.7z", b"7z\xbc\xaf\x27\x1c", ("is an archive of a kind that is not opened; unpack it",)),
    "epoch that becomes a counter": (
        "AAPL.csv",
        HEAD + "1704205800,10,12,9,11,100\n17042058,10,12,9,11,100\n",
        ("line 3, has the timestamp '17042058', which is no date and no seconds",),
    ),
    "no timestamp": ("AAPL.csv", MANY + ",10,12,9,11,100\n", ("line 30, has no timestamp",)),
    "a word for a price": (
        "AAPL.csv",
        MANY + "2024-01-29,10,12,9,halted,100\n",
        ("line 30, has 'halted' for `close`, which is no number (1 such row(s))",),
    ),
    "changed header": (
        "AAPL.csv",
        "Date,Open,High,Low,Settlement,Adj Close,Volume\n2024-01-02,10,12,9,11,11,100\n",
        (
            "line 1, has the columns ['Date'",
            "no `close`",
            "new names are ['Settlement']",
            "`columns: {Settlement: close}`",
        ),
    ),
    "changed header of a vendor, by name": (
        "bars.csv",
        "unix,date,pair,begin,High,Low,Close,Volume\n1704205800,2024-01-02,BTC,10,12,9,11,100\n",
        ("line 1,", "no `open`"),
    ),
    "closes only": (
        "closes.csv",
        "Date,AAPL,MSFT\n2024-01-02,10,20\n2024-01-03,11,21\n",
        ("line 1, has one column a symbol (AAPL, MSFT, ...), closes only", "download the bars themselves"),
    ),
    "no symbol": (
        "my prices.csv",
        MANY,
        ("cannot be read yet; No column and no file name names the symbol: set `symbol: ...`.",),
    ),
    "blank symbol": (
        "bars.csv",
        "symbol,timestamp,open,high,low,close,volume\n ,2024-01-02T10:00:00Z,10,12,9,11,100\n",
        ("line 2, has no symbol",),
    ),
    "prose": (
        "notes.txt",
        "dear all,\nthese are, well, notes\n",
        ("has no row with a date and numbers", "'dear all,'"),
    ),
    "a column less than the vendor's": (
        "BTCUSDT-1d-2025-01.csv",
        "1735603200000,10,12,9,11,5,1735689599999,1,7,1,1\n",
        ("has no header, and its 11 columns fit no format", "(with one column more or less: binance_klines)"),
    ),
    "header repeated": ("AAPL.csv", MANY + HEAD, ("line 30, has the timestamp 'Date', which is not written as",)),
    "low and high swapped, no header": (
        "AAPL.csv",
        "2024-01-02 14:30,10,9,12,11,100\n2024-01-02 14:31,10,9,12,11,100\n",
        ("has no header, and its 6 columns fit no format", "`headerless`: has prices outside"),
    ),
}


def _written(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    data = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize("name", CASES)
def test_the_refusal_names_file_line_value_and_remedy(name: str, tmp_path: Path) -> None:
    file, content, texts = CASES[name]
    path = _written(tmp_path, file, content)

    with pytest.raises(BarFileError) as refused:
        read_files(path, Reading())

    assert str(path) in str(refused.value)
    for text in texts:
        assert text in str(refused.value)


def test_what_must_be_named_is_asked_and_not_refused_by_detection(tmp_path: Path) -> None:
    path = _written(tmp_path, "my prices.csv", HEAD + "01/02/2024 09:30,10,12,9,11,100\n")

    found = detect(path)

    assert [choice.key for choice in found.choices] == ["symbol", "date_order", "timezone"]
    assert (found.format.name, found.zone, found.dates_only, found.bar_label) == ("plain", None, False, None)
    bars = read_files(path, Reading(symbol="A", date_order="mdy", timezone="America/New_York"))
    assert bars.frame["timestamp"].tolist() == [pd.Timestamp("2024-01-02T14:30Z")]


def test_a_date_order_that_a_row_contradicts_is_refused(tmp_path: Path) -> None:
    path = _written(tmp_path, "AAPL.csv", HEAD + "13/02/2024,10,12,9,11,100\n")

    with pytest.raises(
        BarFileError, match="line 2, has the date '13/02/2024', which is not `mdy`; set `date_order: dmy`"
    ):
        read_files(path, Reading(date_order="mdy"))


def test_times_that_a_change_of_clocks_skips_are_refused(tmp_path: Path) -> None:
    path = _written(tmp_path, "AAPL.csv", HEAD + "2024-03-10 02:30,10,12,9,11,100\n")

    with pytest.raises(BarFileError, match=r"line 2, has the timestamp .* which daylight saving skips or doubles"):
        read_files(path, Reading(timezone="America/New_York"))


def test_files_of_several_formats_are_refused_together(tmp_path: Path) -> None:
    _written(tmp_path, "AAPL.csv", MANY)
    _written(tmp_path, "XBTUSD_60.csv", "1735603200,10,12,9,11,1.5,306\n")

    with pytest.raises(BarFileError, match=r"several formats: .*XBTUSD_60.csv` is kraken_ohlcvt; .*AAPL.csv` is plain"):
        detect(tmp_path)


@pytest.mark.parametrize("name", ["AAPL.csv", "nothing"])
def test_paths_without_files_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()

    with pytest.raises(BarFileError, match=r"is missing|has no file of bars in it"):
        detect(tmp_path / name)


def test_a_format_that_is_named_and_does_not_fit_says_what_lacks(tmp_path: Path) -> None:
    path = _written(tmp_path, "AAPL.csv", MANY)

    with pytest.raises(BarFileError, match="`yahoo` lacks 'adj close'"):
        detect(path, Reading(format="yahoo"))
    with pytest.raises(BarFileError, match="`format: yaho`, which is unknown"):
        detect(path, Reading(format="yaho"))
