from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, DatasetError

from sentio_kedro.datasets import BarStore
from sentio_kedro.market.ingestion.bars import bars_hash


def _catalog(folder: Path, **entry: Any) -> DataCatalog:
    bars = {"type": "sentio_kedro.datasets.BarStore", "filepath": str(folder), "save_args": {"source": "vendor"}}
    return DataCatalog.from_config({"bars": bars | {"validator": "sentio_kedro.schemas.Bars"} | entry})


def _bars(days: int = 5) -> pd.DataFrame:
    ends = pd.date_range("2024-01-02 21:00", periods=days, freq="D", tz="UTC")
    price = 10.0 + np.arange(days)
    values = {"open": price, "high": price + 1, "low": price - 1, "close": price, "volume": 9.0}
    return pd.concat([pd.DataFrame({"timestamp": ends, "symbol": symbol, **values}) for symbol in ("A", "B")])


def test_catalog_appends_and_reads(tmp_path: Path) -> None:
    catalog = _catalog(tmp_path / "store", load_args={"symbols": ["B"], "start": "2024-01-04"})
    assert not catalog["bars"].exists()
    with pytest.raises(DatasetError, match="holds no bars; download or append some first"):
        catalog.load("bars")
    catalog.save("bars", _bars(3))
    catalog.save("bars", _bars(5))
    assert catalog.load("bars")["close"].tolist() == [12.0, 13.0, 14.0]


def test_validator_sees_what_is_loaded(tmp_path: Path) -> None:
    BarStore(filepath=str(tmp_path), save_args={"source": "vendor"}).save(_bars().assign(low=100.0))
    with pytest.raises(DatasetError, match="high must not be below low"):
        _catalog(tmp_path).load("bars")


def test_hash_of_bars_repeats_after_revisions(tmp_path: Path) -> None:
    catalog = _catalog(tmp_path, save_args={"source": "vendor", "known_at": "2024-02-01T09:00:00Z"})
    catalog.save("bars", _bars())
    pinned = _catalog(tmp_path, load_args={"as_of": "2024-02-01"})
    before = bars_hash(pinned.load("bars"))
    revised = _bars(7).assign(funding=0.001)
    revised["close"] += 0.5
    _catalog(tmp_path).save("bars", revised)
    assert bars_hash(pinned.load("bars")) == before
    assert bars_hash(catalog.load("bars")) != before


def test_column_names_the_source(tmp_path: Path) -> None:
    frame = _bars().assign(source=["one"] * 5 + ["two"] * 5)
    BarStore(filepath=str(tmp_path)).save(frame)
    assert BarStore(filepath=str(tmp_path), load_args={"sources": ["two"]}).load()["symbol"].unique().tolist() == ["B"]
    with pytest.raises(DatasetError, match=r"need a source: set `save_args.source`"):
        BarStore(filepath=str(tmp_path)).save(_bars())


def test_preview_shows_the_last_bars(tmp_path: Path) -> None:
    dataset = BarStore(filepath=str(tmp_path), save_args={"source": "vendor"})
    dataset.save(_bars())
    shown = dataset.preview(2)
    assert [row[:2] for row in shown["data"]] == [[f"2024-01-0{day} 21:00:00+00:00", "A"] for day in (5, 6)]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"versioned": True}, "drop `versioned`, and set `load_args.as_of`"),
        ({"load_args": {"symbol": ["A"]}}, r"`load_args` of a BarStore has no \['symbol'\]; choose among \['symbols'"),
        ({"save_args": {"frame": 1}}, r"`save_args` of a BarStore has no \['frame'\]; choose among \['source'"),
    ],
)
def test_unknown_settings_are_refused(tmp_path: Path, entry: dict[str, Any], problem: str) -> None:
    with pytest.raises(DatasetError, match=problem):
        _catalog(tmp_path, **entry)["bars"]


def test_credentials_reach_the_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.__init__", lambda _, **own: given.update(own))
    BarStore(filepath="memory://elsewhere", credentials={"key": "k"}, fs_args={"endpoint_url": "u"})
    assert given == {"key": "k", "endpoint_url": "u"}
