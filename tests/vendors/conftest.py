"""A fake of each vendor, and a clock that waits for nothing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import pandas as pd
import pytest
from tests.vendors.fakes import (
    DAY,
    Fake,
    FakeAlpaca,
    FakeBinance,
    FakeStooq,
    FakeYahoo,
    exchange_days,
    market,
    serving,
)

from sentio_kedro.store import Appended, StoredBars
from sentio_kedro.vendors import open_vendor
from sentio_kedro.vendors.contract import Clock
from sentio_kedro.vendors.download import download

KEYS = {"api_key": "PKTESTKEY", "secret_key": "never-to-be-shown"}
# Two changes of the clocks of New York, and a holiday.
DAYS = exchange_days("2024-02-26", "2024-04-05", ("2024-03-29",))
HOURS = pd.date_range("2024-03-10", periods=48, freq="h", tz="UTC").as_unit("ns")
NAMES = {"yfinance": "AAA", "alpaca": "AAA", "ccxt": "AAA/USDT", "stooq": "aaa.us"}


@dataclass
class Waits:
    """A clock whose sleep passes its own time."""

    at: float
    slept: list[float] = field(default_factory=list)

    def clock(self) -> Clock:
        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.at += seconds

        return Clock(lambda: self.at, sleep, lambda: 0.5)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch) -> None:
    """No test cuts the power."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def fakes() -> Iterator[dict[str, Fake]]:
    with (
        serving(FakeYahoo()) as yahoo,
        serving(FakeAlpaca()) as alpaca,
        serving(FakeBinance()) as binance,
        serving(FakeStooq()) as stooq,
    ):
        yield {"yfinance": yahoo, "alpaca": alpaca, "ccxt": binance, "stooq": stooq}


@pytest.fixture
def setting(fakes: dict[str, Fake], tmp_path, request) -> Callable[[str], SimpleNamespace]:
    """Make a vendor's fake with some bars, an empty store, and a function that downloads."""

    def make(vendor: str) -> SimpleNamespace:
        fake = fakes[vendor]
        ends, interval = (HOURS, "1h") if vendor == "ccxt" else (DAYS, "1d")
        bars, name = market(ends), NAMES[vendor]
        fake.reset({name: bars}, ends[-1] + pd.Timedelta(minutes=10))
        store, waits = StoredBars(str(tmp_path / "store")), Waits(fake.now.timestamp())

        def run(symbols: tuple[str, ...] = (name,), until: pd.Timestamp | None = None) -> Appended:
            waits.at = fake.now.timestamp() + case.ahead
            source = open_vendor(
                vendor,
                interval,
                keys=KEYS if vendor == "alpaca" else None,
                url=fake.url,
                per_minute=6000,
                clock=waits.clock(),
            )
            return download(
                source, store, symbols, ends[0] - (DAY if interval == "1d" else ends.freq), until, waits.clock()
            )

        root = tmp_path / "store"
        case = SimpleNamespace(fake=fake, bars=bars, name=name, store=store, waits=waits, run=run, root=root, ahead=0.0)
        return case

    return make


def files(root) -> dict[str, bytes]:
    """Content of all files of a store but its locks."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.suffix != ".lock" and path.is_file()
    }


def assert_holds(store: StoredBars, symbol: str, truth: pd.DataFrame) -> None:
    """The store holds the truth of a symbol and no more."""
    held = store.read([symbol]).drop(columns="symbol")
    truth = truth.reset_index(drop=True)
    assert held["timestamp"].tolist() == truth["timestamp"].tolist()
    values = [name for name in truth.columns if name != "timestamp"]
    pd.testing.assert_frame_equal(held[values], truth[values], rtol=1e-12, check_dtype=False)
