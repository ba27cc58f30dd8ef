"""Folders, archives, Parquet and its kin, databases: what is read, and where symbols come from."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.ipc
import pytest

from sentio_kedro.market.formats import (
    FORMATS,
    BarFileError,
    BarFormat,
    Reading,
    detect,
    detection,
    read_bars,
    read_files,
)
from sentio_kedro.market.formats.registry.table import vendor_table

STAMPS = pd.to_datetime(["2024-01-02T14:30Z", "2024-01-02T14:31Z"])
TEXT = "timestamp,open,high,low,close,volume\n2024-01-02T14:30:00Z,{},12,9,11,100\n"


def _long() -> pd.DataFrame:
    bars = {"open": 10.0, "high": 12.0, "low": 9.0, "close": [11.0, 11.5], "volume": [100, 200], "vix": [13.0, 14.0]}
    return pd.DataFrame({"timestamp": STAMPS, "symbol": "000001", **bars})


def _expected() -> pd.DataFrame:
    frame = _long()
    frame["timestamp"] = frame["timestamp"].dt.as_unit("ns")
    return frame.astype({"volume": float, "symbol": "str"})


def _arrow(frame: pd.DataFrame, path: Path) -> None:
    table = pa.Table.from_pandas(frame)
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)


@pytest.mark.parametrize("name", ["x.parquet", "x.feather", "x.arrow", "x.csv", "x.json", "x.csv.gz", "x.zip"])
def test_the_same_bars_in_every_kind_of_file(name: str, tmp_path: Path) -> None:
    path, frame = tmp_path / name, _long()
    if name == "x.parquet":
        frame.to_parquet(path)
    elif name == "x.feather":
        frame.to_feather(path)
    elif name == "x.arrow":
        _arrow(frame, path)
    elif name == "x.json":
        frame.to_json(path, orient="records", date_format="iso")
    else:
        frame.to_csv(path, index=False)

    pd.testing.assert_frame_equal(read_bars(path), _expected())


@pytest.mark.parametrize("levels", [["timestamp", "symbol"], ["symbol", "timestamp"], ["timestamp"], [None]])
def test_levels_of_the_index_are_columns(levels: list[str | None], tmp_path: Path) -> None:
    frame = _long()
    named = [level or "timestamp" for level in levels]
    frame.set_index(named).rename_axis(levels).to_parquet(tmp_path / "x.parquet")

    bars = read_bars(tmp_path / "x.parquet")

    pd.testing.assert_frame_equal(bars, _expected())


def test_two_levels_of_columns_in_parquet_are_stacked(tmp_path: Path) -> None:
    wide = pd.concat({"B": _long(), "A": _long()}, axis=1).drop(columns=[("A", "symbol"), ("B", "symbol")])
    wide = wide.set_index(STAMPS).drop(columns=[("A", "timestamp"), ("B", "timestamp")]).swaplevel(axis=1)
    wide.to_parquet(tmp_path / "x.parquet")

    bars = read_bars(tmp_path / "x.parquet")

    assert bars["symbol"].tolist() == ["A", "A", "B", "B"]
    assert bars["close"].tolist() == [11.0, 11.5, 11.0, 11.5]


def test_symbols_that_are_numbers_are_refused(tmp_path: Path) -> None:
    _long().assign(symbol=1).to_parquet(tmp_path / "x.parquet")

    with pytest.raises(BarFileError, match=r"has the symbol .*1.*, a number, which has lost leading zeros"):
        read_bars(tmp_path / "x.parquet")


def test_a_folder_holds_a_file_per_symbol(tmp_path: Path) -> None:
    for name, price in (("AAPL", 10), ("BRK-B_1min", 11)):
        (tmp_path / f"{name}.csv").write_text(TEXT.format(price))
    (tmp_path / "readme.md").write_text("not bars")

    bars = read_files(tmp_path, Reading())

    assert bars.frame[["symbol", "open"]].to_numpy().tolist() == [["AAPL", 10.0], ["BRK-B", 11.0]]
    assert bars.detection.symbols == ("AAPL", "BRK-B")
    assert read_bars(f"{tmp_path}/*.csv").equals(bars.frame)
    assert read_bars([tmp_path / "BRK-B_1min.csv", tmp_path / "AAPL.csv"]).equals(bars.frame)


@pytest.mark.parametrize(
    "reading",
    [Reading(symbols={"bars of apple": "AAPL", "bars of ibm": "IBM"}), Reading(symbol_pattern="of (.+)$")],
)
def test_names_of_files_are_mapped_to_symbols(reading: Reading, tmp_path: Path) -> None:
    for name in ("bars of apple", "bars of ibm"):
        (tmp_path / f"{name}.csv").write_text(TEXT.format(10))

    assert len(read_bars(tmp_path, reading)["symbol"].unique()) == 2
    with pytest.raises(
        BarFileError, match=r"`symbols: \{bars of apple: \.\.\., bars of ibm: \.\.\.\}`, or `symbol_patt"
    ):
        read_bars(tmp_path)


def test_monthly_archives_of_one_symbol_are_one_series(tmp_path: Path) -> None:
    for month in ("01", "02"):
        with zipfile.ZipFile(tmp_path / f"BTCUSDT-1d-2024-{month}.zip", "w") as archive:
            stamp = pd.Timestamp(f"2024-{month}-01", tz="UTC").value // 1_000_000
            archive.writestr(f"BTCUSDT-1d-2024-{month}.csv", f"{stamp},10,12,9,11,1.5,{stamp + 1},7,1,1,0,0\n")

    bars = read_bars(tmp_path)

    assert bars["symbol"].tolist() == ["BTCUSDT", "BTCUSDT"]
    assert bars["timestamp"].dt.month.tolist() == [1, 2]


def test_one_file_decides_the_order_of_day_and_month_for_all(tmp_path: Path) -> None:
    head = "Date,Open,High,Low,Close,Volume\n"
    (tmp_path / "A.csv").write_text(head + "02/01/2024,10,12,9,11,100\n")
    (tmp_path / "B.csv").write_text(head + "13/01/2024,10,12,9,11,100\n")

    assert read_bars(tmp_path)["timestamp"].dt.month.tolist() == [1, 1]


def test_what_is_left_out_or_taken_instead_is_told(tmp_path: Path) -> None:
    (tmp_path / "AAPL.csv").write_text(
        "Date,Open,High,Low,Close,Adj Close,Volume,Sector,VIX\n2024-01-02,10,12,9,11,5,100,Tech,13.5\n"
    )

    bars = read_files(tmp_path / "AAPL.csv", Reading(columns={"VIX": "vix"}))

    assert list(bars.frame) == ["timestamp", "symbol", "open", "high", "low", "close", "volume", "vix"]
    assert bars.told == (
        "Prices are adjusted for splits; `prices: adjusted` adjusts them for dividends too.",
        "Column `Adj Close` is left out: it is adjusted for dividends and no price that was traded.",
        "Column `Sector` is left out: it is no number.",
    )


def test_codes_are_symbols_and_years_are_not(tmp_path: Path) -> None:
    for name in ("005930", "7203"):
        (tmp_path / f"{name}.csv").write_text(TEXT.format(10))
    assert read_bars(tmp_path)["symbol"].tolist() == ["005930", "7203"]

    (tmp_path / "2024.csv").write_text(TEXT.format(10))
    assert [choice.key for choice in detect(tmp_path).choices] == ["symbol"]


def test_commas_that_may_be_decimal_are_told(tmp_path: Path) -> None:
    (tmp_path / "A.csv").write_text('Date,Open,High,Low,Close,Volume\n2024-01-02,"2,367","2,373","2,364","2,370",1\n')
    (tmp_path / "B.csv").write_text("Date;Open;High;Low;Close;Volume\n2024-01-02;1,367;1,373;1,364;1,370;1\n")

    thousands, decimals = (read_files(tmp_path / name, Reading()) for name in ("A.csv", "B.csv"))

    assert (thousands.frame["close"].item(), decimals.frame["close"].item()) == (2370.0, 1.37)
    assert thousands.told == ("Commas in prices are read as thousands: three digits follow each.",)
    assert decimals.told == ("Decimal commas are read. No price says so, but fields are not separated by commas.",)


def test_a_table_of_duckdb_is_read(tmp_path: Path) -> None:
    path, frame = tmp_path / "bars.duckdb", _long()
    with duckdb.connect(str(path)) as connection:
        connection.register("frame", frame)
        connection.execute("create table bars as select * from frame")
        connection.execute("create table other as select 1 as x")

    pd.testing.assert_frame_equal(read_bars(path, Reading(table="bars")), _expected())
    one = read_bars(path, Reading(query="select * exclude vix from bars where close > 11.2"))
    assert (len(one), list(one)[-1]) == (1, "volume")
    assert detect(path, Reading(table="bars")).symbols == ("000001",)
    for reading, text in (
        (Reading(), r"does not say which table has the bars; it has \['bars', 'other'\]; set `table` or `query`"),
        (Reading(table="prices"), "has no table 'prices'"),
        (Reading(query="select nothing"), "cannot be read .*nothing.*; correct `table` or `query`"),
    ):
        with pytest.raises(BarFileError, match=text):
            read_bars(path, reading)


def test_duckdb_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with duckdb.connect(str(tmp_path / "bars.duckdb")):
        pass
    monkeypatch.setitem(sys.modules, "duckdb", None)

    with pytest.raises(BarFileError, match=r"DuckDB is not installed; run `pip install sentio_kedro\[data\]`"):
        read_bars(tmp_path / "bars.duckdb")


def test_the_table_of_vendors_says_what_must_be_named() -> None:
    rows = {row.format: row for row in vendor_table()}

    assert rows["binance_klines"].named == "symbol, unless the file name has it"
    assert rows["yahoo"].named == "symbol, unless the file is called by it; zone, unless timestamps have one"
    assert rows["alpaca_csv"].named == "nothing"
    assert rows["alpaca_csv"].command == "kedro bars adopt FILE... --env mine"


def test_a_new_vendor_is_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acme = BarFormat(
        name="acme",
        vendor="Acme Data",
        columns={"when": "timestamp", "last px": "close", "shares": "volume"},
        marks=("when", "last px"),
        zone="America/New_York",
        label="end",
        file_pattern=r"^acme_(?P<symbol>[A-Z]+)$",
    )
    monkeypatch.setattr(detection, "FORMATS", {**FORMATS, "acme": acme})
    (tmp_path / "acme_IBM.csv").write_text("When,Open,High,Low,Last Px,Shares\n2024-07-02 09:31,10,12,9,11,100\n")

    bars = read_files(tmp_path, Reading())

    assert bars.detection.format is acme
    assert bars.frame.iloc[0].tolist() == [pd.Timestamp("2024-07-02T13:31Z"), "IBM", 10.0, 12.0, 9.0, 11.0, 100.0]
