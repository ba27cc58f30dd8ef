"""Splits and dividends between two downloads: what is held stays, and total returns are those of the vendor."""

import numpy as np
import pandas as pd
import pytest
from tests.vendors.conftest import DAYS, KEYS, Waits, assert_holds, files
from tests.vendors.fakes import exchange_days, exchange_hours, market

from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.adjustment import adjusted
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.store import StoredBars
from sentio_kedro.vendors import VendorError, open_vendor
from sentio_kedro.vendors.download import download
from sentio_kedro.vendors.pages import as_traded, page

SPLIT, PAID, BEFORE = 18, 23, 15  # rows of the split and the dividend, and of the last bar of the first download


def with_actions(bars: pd.DataFrame, ratio: float = 4.0) -> pd.DataFrame:
    """The market with a split and a dividend."""
    later = bars.index >= SPLIT
    prices = {name: bars[name].mask(later, bars[name] / ratio) for name in ("open", "high", "low", "close")}
    return bars.assign(
        **prices,
        volume=bars["volume"].mask(later, bars["volume"] * ratio),
        split=np.where(bars.index == SPLIT, ratio, 1.0),
        dividend=np.where(bars.index == PAID, 0.5, 0.0),
    )


def vendor_adjusted(bars: pd.DataFrame) -> np.ndarray:
    """Closes as Yahoo's column of adjusted closes: over later splits, less later dividends."""
    close, factor, out = bars["close"].to_numpy(), 1.0, []
    for row in range(len(bars) - 1, -1, -1):
        out.append(close[row] * factor)
        if row:
            before = close[row - 1] / bars["split"][row]
            factor *= (1.0 - bars["dividend"][row] / before) / bars["split"][row]
    return np.array(out[::-1])


@pytest.mark.parametrize("ratio", [4.0, 0.125, 3.0])
@pytest.mark.parametrize("vendor", ["yfinance", "alpaca"])
def test_a_split_and_a_dividend_leave_what_is_held_and_give_the_vendors_total_returns(setting, vendor, ratio):
    case = setting(vendor)
    truth = with_actions(case.bars, ratio)
    end = case.fake.now
    case.fake.bars, case.fake.now = {case.name: truth}, DAYS[BEFORE] + pd.Timedelta(hours=1)
    case.run()
    before = files(case.root)
    case.fake.now = end
    assert case.run()[:2] == (len(truth) - BEFORE - 1, 0)
    after = files(case.root)
    parts = [name for name in before if name.endswith(".parquet")]
    assert [after[name] for name in parts] == [before[name] for name in parts]
    assert_holds(case.store, case.name, truth)
    total = adjusted(align_bars(case.store.read(), IngestionParameters(bar_label="end"))).close[:, 0]
    np.testing.assert_allclose(total[1:] / total[:-1], np.exp(np.diff(np.log(vendor_adjusted(truth)))), rtol=1e-9)


@pytest.mark.parametrize("vendor", ["yfinance", "alpaca"])
def test_a_history_that_is_scaled_without_a_split_is_refused_with_both_values(setting, vendor):
    case = setting(vendor)
    case.run()
    before = files(case.root)
    prices = {name: case.bars[name] / 20.0 for name in ("open", "high", "low", "close")}
    case.fake.bars = {case.name: case.bars.assign(**prices)}
    with pytest.raises(VendorError, match=r"all four are now 0\.05 of them \(close [\d.]+ held, [\d.]+ now\)"):
        case.run()
    assert files(case.root) == before


def test_a_vendor_that_adjusts_its_prices_is_fetched_whole_and_revised_whole(setting):
    case = setting("stooq")
    case.run()
    truth = case.bars.assign(**{name: case.bars[name] / 4.0 for name in ("open", "high", "low", "close")})
    case.fake.bars, case.fake.now = {case.name: truth}, case.fake.now + pd.Timedelta(minutes=1)
    assert case.run() == (0, len(truth), 0)
    assert_holds(case.store, case.name, truth)


def test_prices_are_multiplied_by_later_splits_alone():
    days = pd.date_range("2024-01-01", periods=3)
    bars = pd.DataFrame({name: [25.0, 50.0, 50.0] for name in ("open", "high", "low", "close")}, index=days)
    bars = bars.assign(volume=[400.0, 200.0, 200.0], dividend=[0.25, 0.0, 0.0])
    undone = as_traded(bars, pd.Series([2.0, 4.0], index=days[[1, 0]]))  # a bar's own split is in its prices
    assert undone["close"].tolist() == [50.0, 50.0, 50.0]
    assert undone["volume"].tolist() == [200.0, 200.0, 200.0]
    assert undone["dividend"].tolist() == [0.5, 0.0, 0.0]


def test_events_of_a_day_without_a_bar_go_to_the_next_bar():
    ends = pd.date_range("2024-01-02", periods=3, tz="UTC")
    values = pd.DataFrame({name: [10.0, np.nan, 5.0] for name in ("open", "high", "low", "close")}).assign(volume=1.0)
    events = pd.DataFrame({"end": ends[[1, 2]], "dividend": [1.0, 0.25], "split": [1.0, 2.0]})
    bars = page("AAA", ends, values, events)
    assert bars["timestamp"].tolist() == [ends[0], ends[2]]
    assert bars["dividend"].tolist() == [0.0, 0.75]  # a dividend before the split, per share after it
    assert bars["split"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("vendor", ["yfinance", "alpaca"])
def test_hours_of_an_exchange_end_an_hour_after_they_begin_with_events_at_the_first_of_the_day(fakes, tmp_path, vendor):
    ends = exchange_hours("2024-03-07", "2024-03-13")  # clocks change on the tenth
    hours, days = market(ends), market(exchange_days("2024-03-07", "2024-03-13"))
    at = {"split": ends.searchsorted(pd.Timestamp("2024-03-12", tz="UTC")), "dividend": len(ends) - 7}
    later = hours.index >= at["split"]
    prices = {name: hours[name].mask(later, hours[name] / 4.0) for name in ("open", "high", "low", "close")}
    hours = hours.assign(
        **prices,
        split=np.where(hours.index == at["split"], 4.0, 1.0),
        dividend=np.where(hours.index == at["dividend"], 0.25, 0.0),
    )
    days = days.assign(split=[1.0, 1.0, 1.0, 4.0, 1.0], dividend=[0.0, 0.0, 0.0, 0.0, 0.25])
    fake = fakes[vendor]
    fake.reset({"AAA": days}, ends[-1])
    fake.hours = {"AAA": hours}
    source = open_vendor(
        vendor, "1h", keys=KEYS if vendor == "alpaca" else None, url=fake.url, per_minute=6000, clock=Waits(0.0).clock()
    )
    store = StoredBars(str(tmp_path))
    download(source, store, ["AAA"], ends[0].floor("D"), None, Waits(ends[-1].timestamp()).clock())
    assert_holds(store, "AAA", hours)
