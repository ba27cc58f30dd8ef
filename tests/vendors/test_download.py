"""Downloads that are killed, repeated, or meet several symbols."""

import json
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import pandas as pd
import pytest
from tests.vendors.conftest import files
from tests.vendors.fakes import DAY, exchange_days, market

from sentio_kedro.store import StoredBars
from sentio_kedro.store.files import StoreFiles
from sentio_kedro.vendors import VendorError, download
from sentio_kedro.vendors.contract import COLUMNS, Clock

ENDS = exchange_days("2022-11-01", "2024-03-01")
START = ENDS[0] - DAY
NOW = ENDS[-1] + pd.Timedelta(hours=1)


class Killed(BaseException):
    """What stands for SIGKILL: nothing handles it."""


class Shop:
    """A vendor without a network."""

    source, batch, always_open, rewrites, length = "shop-1d", 1, False, False, DAY

    def __init__(self, bars: dict[str, pd.DataFrame]) -> None:
        self.bars, self.asked = bars, 0

    def fetch(self, symbols: Sequence[str], start: pd.Timestamp, end: pd.Timestamp) -> Iterator[pd.DataFrame]:
        self.asked += 1
        for symbol in symbols:
            if symbol not in self.bars:
                raise VendorError(f"no {symbol}")
            bars = self.bars[symbol].assign(symbol=symbol)[list(COLUMNS)]
            bars = bars[(bars["timestamp"] - DAY >= start) & (bars["timestamp"] <= end)]
            half = len(bars) // 2
            yield bars[:half].reset_index(drop=True)
            yield bars[half:].reset_index(drop=True)


def run(root: Path, shop: Shop, now: pd.Timestamp = NOW, symbols: Sequence[str] = ("A", "B", "C")):
    store = StoredBars(str(root))
    return download.download(shop, store, symbols, START, None, Clock(now.timestamp)), store


@pytest.fixture
def shop(monkeypatch) -> Shop:
    monkeypatch.setattr(download, "MANY", 60)  # so that a symbol is appended by years
    return Shop({name: market(ENDS, seed) for seed, name in enumerate("ABC")})


def test_a_download_that_is_killed_at_any_write_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MANY", 10)  # a month an append
    ends = ENDS[(ENDS > "2023-12-10") & (ENDS < "2024-02-01")]
    bars = market(ends)
    first = bars[:-8].assign(close=bars["close"].mask(bars.index == len(bars) - 10, bars["low"]))  # revised by the rest
    steps = [(first, ends[-9] + pd.Timedelta(hours=1)), (bars, ends[-1] + pd.Timedelta(hours=1))]

    def both(root: Path, killed_at: int | None) -> int:
        """Download a part, then the rest; kill before a change of a file, and type the command again."""
        changes = count()

        def counted(name: str):
            original = getattr(StoreFiles, name)

            def change(self: StoreFiles, path: str, *content: bytes) -> None:
                # before its plan is kept a download has not begun
                if not (name == "write" and path.startswith(".download.")) and next(changes) == killed_at:
                    raise Killed
                original(self, path, *content)

            return change

        with monkeypatch.context() as patch:
            for name in ("write", "remove"):
                patch.setattr(StoreFiles, name, counted(name))
            for delivered, now in steps:
                try:
                    run(root, Shop({"A": delivered}), now, "A")
                except Killed:
                    run(root, Shop({"A": delivered}), now + pd.Timedelta(minutes=9), "A")
        return next(changes)

    total = both(tmp_path / "whole", None)
    truth = files(tmp_path / "whole")
    marks = StoredBars(str(tmp_path / "whole")).watermarks()
    assert marks[["bars", "revisions"]].to_numpy().tolist() == [[len(bars), 1]]
    for killed_at in range(total):
        both(tmp_path / str(killed_at), killed_at)
        assert files(tmp_path / str(killed_at)) == truth, killed_at


def test_a_download_goes_on_to_what_has_come_since_it_was_killed(shop, tmp_path, monkeypatch):
    def fetch(symbols, start, end):
        if "B" in symbols:
            raise Killed
        return Shop.fetch(shop, symbols, start, end)

    monkeypatch.setattr(shop, "fetch", fetch)
    with pytest.raises(Killed):
        run(tmp_path, shop, ENDS[-2] + pd.Timedelta(hours=1))
    plan = json.loads(next(tmp_path.glob(".download.*")).read_bytes())
    assert plan["known_at"].startswith(f"{ENDS[-2]:%Y-%m-%d}T01:00")
    monkeypatch.undo()
    counts, store = run(tmp_path, shop)
    assert counts.new == 2 * len(ENDS) + 1  # A was done but for its newest bar
    known = store.read(columns=["symbol", "known_at"]).groupby("symbol")["known_at"].agg(["min", "max"])
    assert (known["min"] == ENDS[-2] + pd.Timedelta(hours=1)).all()
    assert (known["max"] == NOW).all()
    assert not list(tmp_path.glob(".download.*"))


def test_what_the_vendor_changed_while_a_download_was_killed_stops_it_not(shop, tmp_path, monkeypatch):
    writes = count()

    def write(self: StoreFiles, name: str, content: bytes) -> None:
        if next(writes) == 6:  # plan, pending, part, manifest of the first months are written
            raise Killed
        original(self, name, content)

    original = StoreFiles.write
    monkeypatch.setattr(StoreFiles, "write", write)
    with pytest.raises(Killed):
        run(tmp_path, shop, symbols="A")
    monkeypatch.setattr(StoreFiles, "write", original)
    held = StoredBars(str(tmp_path)).read()
    assert 60 < len(held) < len(ENDS)
    shop.bars["A"] = shop.bars["A"].assign(volume=1.0)
    _, store = run(tmp_path, shop, symbols="A")
    after = store.read()
    assert after["timestamp"].tolist() == list(ENDS)
    assert (after["volume"] == 1.0).sum() == len(ENDS) - len(held)


def test_a_symbol_that_fails_stops_no_other(shop, tmp_path):
    with pytest.raises(VendorError, match="no X"):
        run(tmp_path, shop, symbols=("A", "X", "C"))
    marks = StoredBars(str(tmp_path)).watermarks()
    assert marks["symbol"].tolist() == ["A", "C"]
    assert marks["bars"].tolist() == [len(ENDS)] * 2
    assert not list(tmp_path.glob(".download.*"))


def test_a_symbol_that_fails_or_is_scaled_stops_no_other_of_its_group(shop, tmp_path):
    run(tmp_path, shop, ENDS[-2] + pd.Timedelta(hours=1), "ABC")
    prices = ["open", "high", "low", "close"]
    shop.bars["B"] = shop.bars["B"].assign(**{name: shop.bars["B"][name] / 2.0 for name in prices})
    del shop.bars["C"]
    with pytest.raises(VendorError, match=r"no C\nPrices of B must be those of the store, but of 6 bar"):
        run(tmp_path, shop, symbols="ABC")
    marks = StoredBars(str(tmp_path)).watermarks()
    assert marks["bars"].tolist() == [len(ENDS), len(ENDS) - 1, len(ENDS) - 1]


def test_an_outage_ends_the_download_and_keeps_its_plan(shop, tmp_path):
    with pytest.raises(VendorError, match="The rest was not tried"):
        run(tmp_path, shop, symbols=("X", "Y", "Z", "A"))
    assert len(list(tmp_path.glob(".download.*"))) == 1


def test_a_new_day_of_all_symbols_is_one_file(shop, tmp_path):
    run(tmp_path, shop, ENDS[-2] + pd.Timedelta(hours=1))
    before = set(files(tmp_path))
    counts, _ = run(tmp_path, shop)
    assert counts == (3, 0, 18)
    assert [name.split("/")[1] for name in set(files(tmp_path)) - before] == ["_recent"]


def test_a_bar_that_came_late_is_added(shop, tmp_path):
    whole = shop.bars["A"]
    shop.bars["A"] = whole.drop(index=len(whole) - 3)
    counts, _ = run(tmp_path, shop, symbols=("A",))
    assert counts.new == len(whole) - 1
    shop.bars["A"] = whole
    counts, store = run(tmp_path, shop, NOW + pd.Timedelta(minutes=1), symbols=("A",))
    assert counts[:2] == (1, 0)
    assert len(store.read()) == len(whole)


def test_until_ends_the_download(shop, tmp_path):
    store = StoredBars(str(tmp_path))
    counts = download.download(shop, store, ["A"], START, ENDS[9], Clock(NOW.timestamp))
    assert counts.new == 10
    assert store.watermarks()["last"].tolist() == [ENDS[9]]
    assert store.read(columns=["known_at"])["known_at"].unique().tolist() == [NOW]


def test_a_store_takes_one_download_of_a_vendor_at_a_time(shop, tmp_path):
    with (
        StoredBars(str(tmp_path)).files.locked("download of shop-1d"),
        pytest.raises(ValueError, match="one writer at a time"),
    ):
        run(tmp_path, shop)
    run(tmp_path, shop)


def test_bars_that_the_store_refuses_are_told_and_stop_no_other(shop, tmp_path):
    shop.bars["B"] = shop.bars["B"].assign(timestamp=shop.bars["B"]["timestamp"] + pd.Timedelta(nanoseconds=1))
    with pytest.raises(VendorError, match=r"shop-1d, B: .*\n.*whole microseconds"):
        run(tmp_path, shop)
    assert StoredBars(str(tmp_path)).watermarks()["symbol"].tolist() == ["A", "C"]
