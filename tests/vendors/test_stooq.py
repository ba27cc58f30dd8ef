"""Files of Stooq."""

import zipfile

import pandas as pd
import pytest

from sentio_kedro.vendors import VendorError, open_vendor

HEAD = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
ROWS = "AAA.US,D,20240102,000000,10,12,9,11,1000,0\nAAA.US,D,20240103,000000,11,13,10,12.5,2000,0\n"
SPAN = (pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2024-02-01", tz="UTC"))


def fetched(place, symbol="aaa.us"):
    (bars,) = open_vendor("stooq", "1d", url=str(place)).fetch([symbol], *SPAN)
    return bars


def placed(tmp_path, kind):
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "d_us_txt.zip", "w") as archive:
            archive.writestr("data/daily/us/aaa.us.txt", HEAD + ROWS)
        return tmp_path / "d_us_txt.zip"
    path = tmp_path / "daily" / "us" / "aaa.us.txt"
    path.parent.mkdir(parents=True)
    path.write_text(HEAD + ROWS)
    return tmp_path if kind == "folder" else path


@pytest.mark.parametrize("symbol", ["aaa.us", "AAA"])
@pytest.mark.parametrize("kind", ["file", "folder", "zip"])
def test_a_day_ends_at_the_midnight_after_its_date(tmp_path, kind, symbol):
    bars = fetched(placed(tmp_path, kind), symbol)
    assert bars["timestamp"].tolist() == [pd.Timestamp(day, tz="UTC") for day in ("2024-01-03", "2024-01-04")]
    assert bars["close"].tolist() == [11.0, 12.5]
    assert bars["volume"].tolist() == [1000.0, 2000.0]
    assert set(bars["symbol"]) == {symbol}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HEAD + ROWS[:-20], "in the middle of a row"),
        ("<!DOCTYPE html><html>", "is a page"),
        ("No data\n", "says 'no data"),
        (HEAD + ROWS.replace("AAA", "BBB"), "has 0 rows"),
        (HEAD + ROWS.replace(",D,", ",60,"), r"\(<PER> D\)"),
        (HEAD + ROWS.replace("20240103", "2024-13-01"), "must have daily bars"),
        ((HEAD + ROWS).replace("<CLOSE>", "<LAST>"), "<CLOSE>"),
    ],
)
def test_what_is_no_file_of_daily_bars_is_refused(tmp_path, text, reason):
    (tmp_path / "aaa.us.txt").write_text(text)
    with pytest.raises(VendorError, match=reason):
        fetched(tmp_path)


def test_a_truncated_zip_is_refused(tmp_path):
    whole = placed(tmp_path, "zip").read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VendorError, match=r"half\.zip"):
        fetched(tmp_path / "half.zip")


def test_hours_are_refused():
    with pytest.raises(VendorError, match="must be 1d for stooq"):
        open_vendor("stooq", "1h")
