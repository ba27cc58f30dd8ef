"""Vendors' files as a dataset of the catalog."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DataCatalog, DatasetError
from pydantic import ValidationError

from sentio_kedro.datasets import BarFiles
from sentio_kedro.refusals import refusal_text

TEXT = "Date,Open,High,Low,Close,Adj Close,Volume\n2024-01-02,10,12,9,11,5.5,100\n2024-01-03,11,13,10,12,6,200\n"


def _catalog(path: Path, **keys: object) -> DataCatalog:
    entry = {"type": "sentio_kedro.datasets.BarFiles", "filepath": str(path), "validator": "sentio_kedro.schemas.Bars"}
    return DataCatalog.from_config({"bars": {**entry, **keys}})


def test_an_entry_of_the_catalog_reads_checked_bars(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "AAPL.csv").write_text(TEXT)

    with caplog.at_level(logging.INFO, "sentio_kedro"):
        bars = _catalog(tmp_path, timezone="America/New_York").load("bars")

    assert bars["timestamp"].tolist() == [pd.Timestamp("2024-01-02T05:00Z"), pd.Timestamp("2024-01-03T05:00Z")]
    assert bars["close"].tolist() == [11.0, 12.0]
    assert "Column `Adj Close` is left out" in caplog.text


def test_keys_of_the_entry_reach_the_reader(tmp_path: Path) -> None:
    (tmp_path / "prices of apple.csv").write_text(TEXT)

    bars = _catalog(tmp_path / "prices of apple.csv", symbol="AAPL", prices="adjusted", format="yahoo").load("bars")

    assert bars[["symbol", "open", "close"]].to_numpy().tolist() == [["AAPL", 5.0, 5.5], ["AAPL", 5.5, 6.0]]


def test_a_key_that_is_unknown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as refused:
        _catalog(tmp_path, timezon="UTC").load("bars")

    assert "timezon" in str(refused.value)
    with pytest.raises(ValidationError):
        BarFiles(filepath="x.csv", date_order="ymd")


def test_a_file_that_cannot_be_read_is_one_readable_text(tmp_path: Path) -> None:
    (tmp_path / "AAPL.csv").write_text("<html><title>Sign in</title></html>")

    with pytest.raises(DatasetError) as refused:
        _catalog(tmp_path).load("bars")

    text = str(refusal_text(refused.value))
    assert text.startswith(f"`{tmp_path}/AAPL.csv` is a web page and no table: 'Sign in'; download the data itself")
    assert "Traceback" not in text
    assert len(text.splitlines()) == 1


def test_previews_exists_and_read_only(tmp_path: Path) -> None:
    dataset = BarFiles(filepath=f"{tmp_path}/*.csv")
    assert not dataset.exists()
    (tmp_path / "AAPL.csv").write_text(TEXT)

    assert dataset.exists()
    assert dataset.preview(1)["data"] == [["2024-01-02", "AAPL", "10.0", "12.0", "9.0", "11.0", "100.0"]]
    with pytest.raises(DatasetError, match="only reads"):
        dataset.save("bars")
