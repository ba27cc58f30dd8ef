"""Twelve faults of each vendor: after the download the store holds the truth."""

import pandas as pd
import pytest
from tests.vendors.conftest import assert_holds, files
from tests.vendors.fakes import BREAKING, SPOILING

from sentio_kedro.vendors import VendorError

VENDORS = ("yfinance", "alpaca", "ccxt", "stooq")


@pytest.mark.parametrize("fault", [*BREAKING, *SPOILING])
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_fault_of_one_answer_changes_nothing_in_the_store(setting, vendor, fault):
    case = setting(vendor)
    case.fake.script = [None, fault] if vendor == "ccxt" else [fault]
    counts = case.run()
    assert counts == (len(case.bars), 0, 0)
    assert_holds(case.store, case.name, case.bars)
    assert case.fake.script == []
    waited = [seconds for seconds in case.waits.slept if seconds > 0.5]
    assert waited == ([7.0] if fault == "429" else [1.0] if fault in BREAKING else [])


@pytest.mark.parametrize("vendor", VENDORS)
def test_an_unfinished_bar_is_left_until_it_has_ended(setting, vendor):
    case = setting(vendor)
    case.fake.now = case.bars["timestamp"].iloc[-1] - pd.Timedelta(minutes=1)
    case.ahead = 300.0  # our clock is not the vendor's
    assert case.run() == (len(case.bars) - 1, 0, 0)
    assert_holds(case.store, case.name, case.bars[:-1])
    case.fake.now += pd.Timedelta(minutes=2)
    assert case.run().new == 1
    assert_holds(case.store, case.name, case.bars)


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_changed_bar_becomes_a_revision_and_the_earlier_view_stays(setting, vendor):
    case = setting(vendor)
    case.run()
    before, known = files(case.root), case.waits.at
    changed = case.bars.assign(close=case.bars["close"].mask(case.bars.index == len(case.bars) - 3, case.bars["high"]))
    case.fake.bars, case.fake.now = {case.name: changed}, case.fake.now + pd.Timedelta(minutes=5)
    assert case.run()[:2] == (0, 1)
    assert_holds(case.store, case.name, changed)
    held = case.store.read([case.name], as_of=pd.Timestamp(known, unit="s", tz="UTC"))
    assert held["close"].tolist() == case.bars["close"].tolist()
    after = files(case.root)
    assert {name: after[name] for name in before if name.endswith(".parquet")} == {
        name: content for name, content in before.items() if name.endswith(".parquet")
    }


@pytest.mark.parametrize("vendor", VENDORS)
def test_days_on_which_clocks_change_have_each_bar_once(setting, vendor):
    case = setting(vendor)
    case.run()
    stamps = case.store.read([case.name])["timestamp"]
    around = stamps[(stamps > "2024-03-08T12") & (stamps <= "2024-03-12")]
    assert around.is_unique
    assert len(around) == (24 * 2 if vendor == "ccxt" else 2)


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_same_command_again_changes_no_byte(setting, vendor):
    case = setting(vendor)
    case.run()
    before = files(case.root)
    case.fake.now += pd.Timedelta(minutes=1)
    counts = case.run()
    assert counts[:2] == (0, 0)
    assert files(case.root) == before


@pytest.mark.parametrize(
    ("vendor", "fault"), [*((vendor, "html") for vendor in VENDORS), *(("alpaca", fault) for fault in BREAKING[:-1])]
)
def test_a_fault_that_stays_is_told_with_address_status_and_remedy(setting, vendor, fault):
    case = setting(vendor)
    case.fake.script = [fault] * 100
    with pytest.raises(VendorError) as refused:
        case.run()
    text = str(refused.value)
    assert "in 5 tries" in text
    assert case.fake.url in text
    assert {"429": "lower `rate.per_minute`", "500": "status 500", "html": "is a page, not data"}.get(fault, "") in text
    assert not case.store.exists()


def test_yahoo_may_want_another_cookie(setting):
    case = setting("yfinance")
    case.fake.script = ["401"]
    assert case.run().new == len(case.bars)
    case.fake.script = ["401"] * 9
    with pytest.raises(VendorError, match="check the symbol"):
        case.run()


def test_an_exchange_that_does_not_tell_the_time_dates_its_answers(setting, monkeypatch):
    case = setting("ccxt")
    answer = case.fake.answer
    monkeypatch.setattr(
        case.fake, "answer", lambda path, *rest: "{}" if path.endswith("/time") else answer(path, *rest)
    )
    case.fake.now, case.ahead = case.bars["timestamp"].iloc[-1] - pd.Timedelta(minutes=1), 300.0
    assert case.run().new == len(case.bars) - 1
