"""Views against a dictionary, and DuckDB against views."""

import itertools
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import ROOT

from sentio_kedro.store import StoredBars

ROOTS = itertools.count()
DAYS = pd.date_range("2023-11-01 21:00", periods=4, freq="31D", tz="UTC")
KNOWN = pd.date_range("2024-03-01", periods=4, freq="D", tz="UTC")

keys = st.tuples(st.sampled_from("AB"), st.integers(0, len(DAYS) - 1))
appends = st.lists(st.dictionaries(keys, st.integers(1, 3), min_size=1), min_size=1, max_size=len(KNOWN))


def _frame(bars: dict[tuple[str, int], int]) -> pd.DataFrame:
    rows = [(DAYS[day], symbol, *[float(close)] * 4, 1.0) for (symbol, day), close in bars.items()]
    return pd.DataFrame(rows, columns=["timestamp", "symbol", "open", "high", "low", "close", "volume"])


def _seen(store: StoredBars, as_of: pd.Timestamp) -> dict[tuple[str, int], int]:
    view = store.read(as_of=as_of)
    days = (view["timestamp"] - DAYS[0]).dt.days // 31
    return dict(zip(zip(view["symbol"], days, strict=True), view["close"].astype(int), strict=True))


@settings(max_examples=15, deadline=None)
@given(appends)
def test_views_are_those_of_a_dictionary_and_stay(delivered: list[dict[tuple[str, int], int]]) -> None:
    store = StoredBars(f"memory://views/{next(ROOTS)}")
    model: dict[tuple[str, int], int] = {}
    views: list[dict[tuple[str, int], int]] = []
    for known, bars in zip(KNOWN, delivered, strict=False):
        counts = store.append(_frame(bars), "vendor", known)
        new = len(bars.keys() - model.keys())
        same = sum(model.get(key) == close for key, close in bars.items())
        assert counts == (new, len(bars) - new - same, same)
        model = model | bars
        views.append(model)
        assert [_seen(store, time) for time in KNOWN[: len(views)]] == views  # earlier ones too


@pytest.fixture
def filled(tmp_path: Path) -> StoredBars:
    store = StoredBars(str(tmp_path / "it's"))
    for number, known in enumerate(KNOWN[:3]):
        bars = {("A", day): number + day + 1 for day in range(number, 4)} | {("B'", number): 2}
        frame = _frame(bars)
        store.append(frame if number < 2 else frame.assign(vix=20.0), "vendor", known)
    return store


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"as_of": "2024-03-01"},
        {"as_of": "2024-03-02", "symbols": ["B'"]},
        {"symbols": ["A"], "start": "2023-12-02", "end": "2024-01-02", "sources": ["vendor"]},
    ],
)
def test_duckdb_gives_the_view(filled: StoredBars, arguments: dict[str, object]) -> None:
    with duckdb.connect() as connection:
        frame = connection.sql(filled.sql(**arguments)).df()
    expected = filled.read(**arguments)
    pd.testing.assert_frame_equal(_utc(frame)[expected.columns], expected, check_dtype=False)


def test_query_of_the_page_gives_the_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = StoredBars(str(tmp_path / "data/01_raw/store"))
    for number, known in enumerate(KNOWN[:3]):  # the page asks for what was known before the last
        bars = {(symbol, day): number + day + 1 for symbol in ("AAPL", "MSFT", "X") for day in range(number, 4)}
        store.append(_frame(bars), "yfinance-1d", known)
    query = (ROOT / "docs" / "store.md").read_text().partition("```sql\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    with duckdb.connect() as connection:
        frame = connection.execute(query.replace("2026-01-31", "2024-03-02")).df()
    pd.testing.assert_frame_equal(_utc(frame), store.read(["AAPL", "MSFT"], as_of="2024-03-02"), check_dtype=False)


def _utc(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(timestamp=frame["timestamp"].dt.tz_convert("UTC"))


def test_query_without_bars_is_refused(filled: StoredBars) -> None:
    with pytest.raises(ValueError, match="No bar is held for these symbols, span"):
        filled.sql(start="2030-01-01")
