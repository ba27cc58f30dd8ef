"""Features of sessions: exact on small ones, over daylight saving, half days and holes, from the last bars alone."""

from dataclasses import replace

import exchange_calendars
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sentio_kedro.config import FeatureColumn
from sentio_kedro.config.market import SESSION_INDICATORS, SESSION_PRICE_INDICATORS
from sentio_kedro.manifests import expected_manifest
from sentio_kedro.market import formulas
from sentio_kedro.market.indicators import column_times, compute_features, lookback, newest_features, with_sessions
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.sessions import bar_times, session_schedule

HOUR = np.timedelta64(1, "h")
OWN = [
    FeatureColumn(name=name, indicator=name, bars=3, column="vix")
    for name in ("own_column", "own_column_change", "own_column_zscore")
]


def column(name, bars=1):
    return FeatureColumn(name=name, indicator=name, bars=bars)


def ends_of(first, last):
    """Ends of hourly bars of the New York Stock Exchange: six a session, the last one of half an hour left out."""
    sessions = exchange_calendars.get_calendar("XNYS", start=first, end=last)
    opens, closes = (values.astype("datetime64[ns]") for values in (sessions.opens_nanos, sessions.closes_nanos))
    days = zip(opens, closes, strict=True)
    return np.concatenate([np.arange(opened + HOUR, closed + 1, HOUR) for opened, closed in days])


def bars_of(timestamps, close, opened=None, volume=None):
    close = np.asarray(close, dtype=float).reshape(len(timestamps), -1)
    opened = close if opened is None else np.asarray(opened, dtype=float).reshape(close.shape)
    volume = np.ones(close.shape) if volume is None else np.asarray(volume, dtype=float).reshape(close.shape)
    names = tuple("ABC"[: close.shape[1]])
    return AlignedBars(timestamps, names, opened, np.maximum(opened, close), np.minimum(opened, close), close, volume)


def feature(bars, name, horizon, calendar="XNYS"):
    columns = [column(name, horizon)]
    return compute_features(bars, columns, column_times(bars.timestamps, columns, calendar))[:, :, 0]


TWO_DAYS = ends_of("2024-01-03", "2024-01-04")  # six bars each


def test_the_gap_over_night_is_known_from_the_first_bar_on():
    close = np.r_[np.full(6, 100.0), np.linspace(101.0, 106.0, 6)]
    opened = np.r_[np.full(6, 100.0), 102.0, np.linspace(101.0, 105.0, 5)]
    gap = feature(bars_of(TWO_DAYS, close, opened), "overnight_gap", 7)[:, 0]
    assert np.isnan(gap[:6]).all()
    np.testing.assert_allclose(gap[6:], np.log(1.02))


def test_a_dividend_over_night_is_no_gap():
    bars = bars_of(TWO_DAYS, np.r_[np.full(6, 100.0), np.full(6, 49.0)])
    split, dividend = np.ones((12, 1)), np.zeros((12, 1))
    split[6], dividend[6] = 2.0, 1.0
    bars = replace(bars, split=split, dividend=dividend)
    np.testing.assert_allclose(feature(bars, "overnight_gap", 7)[6:], 0.0, atol=1e-12)
    np.testing.assert_allclose(feature(bars, "prior_close_gap", 7)[6:], 0.0, atol=1e-9)


def test_the_prior_close_is_measured_in_the_volatility_of_a_session():
    close = np.exp(np.r_[np.zeros(6), 0.03, 0.03, 0.07, 0.07, 0.07, 0.07])
    gap = feature(bars_of(TWO_DAYS, close), "prior_close_gap", 7)[6:, 0]
    past = np.log(close[6:] / close[5])
    volatility = np.array([0.03, 0.03, 0.05, 0.05, 0.05, 0.05])  # of six returns and one session
    np.testing.assert_allclose(gap, past / volatility)


def test_the_session_average_weighs_prices_by_volume_and_begins_anew():
    close, volume = np.r_[np.full(6, 50.0), 10.0, 20.0, 20.0, 20.0, 20.0, 20.0], np.ones(12)
    volume[6:8] = 1.0, 3.0
    volume[8:] = 0.0
    gap = feature(bars_of(TWO_DAYS, close, volume=volume), "session_vwap_gap", 7)[6:, 0]
    returns = np.log([0.2, 2.0])
    deviation = np.sqrt(np.cumsum(returns**2))[[0, 1, 1, 1, 1, 1]]
    average = np.array([10.0, 17.5, 17.5, 17.5, 17.5, 17.5])
    np.testing.assert_allclose(gap, np.log(close[6:] / average) / deviation)
    nothing = feature(bars_of(TWO_DAYS, close, volume=np.zeros(12)), "session_vwap_gap", 7)
    np.testing.assert_array_equal(nothing[6:], 0.0)


def test_volume_is_compared_with_the_same_minute_of_earlier_sessions():
    ends = ends_of("2024-07-01", "2024-07-05")  # the 3rd closes at 13:00, the 4th is a holiday: 6, 6, 3 and 6 bars
    assert len(ends) == 21
    volume = np.r_[1:7, 3:9, 100:103, 50:56].astype(float)
    hole = np.arange(21) != 7  # no second bar of the second session
    bars = bars_of(ends, np.ones(21), volume=volume).rows(hole)
    profile = feature(bars, "minute_profile", 19)[:, 0]
    assert np.isnan(profile[:18]).all()
    mean = np.array([(5 + 7) / 2, (6 + 8) / 2])  # the half day has neither minute
    share = (volume[19:] / mean + 1e-3) / (1 + 1e-3)
    np.testing.assert_allclose(profile[18:], np.log(share))
    short = feature(bars, "minute_profile", 7)[:, 0]
    expected = np.log((volume[15:18] / volume[12:15] + 1e-3) / (1 + 1e-3))  # within seven bars: the half day alone
    np.testing.assert_allclose(short[14:17], expected)
    np.testing.assert_array_equal(short[17:], 0.0)  # nothing to compare with


def test_the_clock_on_the_wall_knows_daylight_saving_and_half_days():
    ends = np.concatenate([ends_of("2024-03-08", "2024-03-11"), ends_of("2024-07-03", "2024-07-04")])
    columns = [column(name) for name in ("exchange_time_sine", "time_of_day_sine", "minutes_since_open")]
    columns += [column("minutes_to_close"), column("exchange_day_cosine")]
    found = compute_features(bars_of(ends, np.ones(15)), columns, column_times(ends, columns, "XNYS"))[:, 0]
    np.testing.assert_allclose(found[:6, 0], found[6:12, 0])  # half past ten in New York before and after
    assert abs(found[0, 1] - found[6, 1]) > 0.1  # in UTC it is another hour
    np.testing.assert_allclose(found[0, 0], np.sin(2 * np.pi * 10.5 / 24))
    np.testing.assert_allclose(found[:6, 2], np.arange(1, 7) / 6.5)
    np.testing.assert_allclose(found[12:, 2], np.arange(1, 4) / 3.5)
    np.testing.assert_allclose(found[:, 3], 1.0 - found[:, 2])
    friday, monday = (4 + 10.5 / 24) / 7, (10.5 / 24) / 7
    np.testing.assert_allclose(found[[0, 6], 4], np.cos(2 * np.pi * np.array([friday, monday])))


def test_daily_bars_that_are_stamped_by_a_date_have_the_day_that_closed():
    dates = np.array(["2024-01-05", "2024-01-06", "2024-01-09"], dtype="datetime64[ns]")
    # the bars of a Thursday, a Friday and a Monday
    assert bar_times(dates, "XNYS").local.astype("datetime64[h]").astype(str).tolist() == [
        "2024-01-04T16",
        "2024-01-05T16",
        "2024-01-08T16",
    ]


def test_without_a_calendar_sessions_are_days_of_utc():
    times = bar_times(np.array(["2024-01-01T18:00", "2024-01-02", "2024-01-02T06:00"], dtype="datetime64[ns]"))
    assert np.diff(times.session).tolist() == [0, 1]
    assert times.share.tolist() == [0.75, 1.0, 0.25]
    assert times.minute.tolist() == [1080, 1440, 360]


ENDS = ends_of("2024-02-20", "2024-03-22")  # 24 sessions, over the change of the clock
SCHEDULE = session_schedule(ENDS, "XNYS")
SESSION_COLUMNS = [column(name, 14 if name in SESSION_PRICE_INDICATORS else 1) for name in sorted(SESSION_INDICATORS)]


def wild_bars(seed, missing):
    rng = np.random.default_rng(seed)
    close = 50.0 * np.exp(np.cumsum(0.01 * rng.standard_normal((len(ENDS), 2)), axis=0))
    opened = close * np.exp(0.01 * rng.standard_normal(close.shape))
    bars = bars_of(ENDS, close, opened, rng.lognormal(size=close.shape))
    vix = 20.0 + np.cumsum(rng.standard_normal(close.shape), axis=0)
    return replace(bars, extra={"vix": vix}).without(rng.random(close.shape) < missing)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99), missing=st.sampled_from([0.0, 0.2]), cut=st.integers(20, len(ENDS) - 1))
def test_features_of_sessions_and_own_columns_read_their_last_bars_alone(seed, missing, cut):
    bars, columns = wild_bars(seed, missing), [*SESSION_COLUMNS, *OWN]
    times = column_times(ENDS, columns, "XNYS", SCHEDULE)
    whole = compute_features(bars, columns, times)
    prefix = bars.rows(slice(0, cut))
    np.testing.assert_array_equal(
        compute_features(prefix, columns, column_times(ENDS[:cut], columns, "XNYS", SCHEDULE)), whole[:cut]
    )
    told = with_sessions(prefix, times.rows(slice(0, cut)))
    own = [np.flatnonzero(told.present[:, asset])[-14:] for asset in range(2)]
    if min(len(rows) for rows in own) == 14:
        last = AlignedBars.of(
            ENDS[:14], bars.symbols,
            {name: np.column_stack([c[own[a], a] for a in range(2)]) for name, c in told.columns().items()},
        )  # fmt: skip
        newest = newest_features(last, columns, prefix.present[-1], times.at(cut - 1), whole[cut - 2])
        np.testing.assert_allclose(newest, whole[cut - 1], rtol=0, atol=1e-12)


def test_a_feature_of_sessions_must_look_back_on_a_whole_one():
    with pytest.raises(ValueError, match=r"`bars` must be above 6, .* was 6; 7 look back on one session, 121 on 20"):
        feature(bars_of(TWO_DAYS, np.ones(12)), "minute_profile", 6)
    assert lookback(column("minute_profile", 7)) == 7


def test_own_columns_are_read_as_they_are():
    bars = replace(bars_of(TWO_DAYS, np.ones(12)), extra={"vix": np.r_[1.0, 2.0, 6.0, np.full(9, 6.0)][:, None]})
    level, change, score = compute_features(bars, OWN)[:, 0].T
    np.testing.assert_array_equal(level, bars.extra["vix"][:, 0])
    np.testing.assert_array_equal(change[3:6], [5.0, 4.0, 0.0])
    np.testing.assert_allclose(score[2:6], [3 / np.sqrt(14 / 3), (6 - 14 / 3) / np.sqrt(32 / 9), 0.0, 0.0])
    assert np.isnan(change[:3]).all()
    assert np.isnan(score[:2]).all()
    assert np.isnan(formulas.score(np.array([1.0]), 3)).all()


def test_spread_and_funding_are_read_like_own_columns():
    funding = np.arange(12.0)[:, None]
    bars = replace(bars_of(TWO_DAYS, np.ones(12)), funding=funding)
    level = FeatureColumn(name="funding", indicator="own_column", column="funding")
    np.testing.assert_array_equal(compute_features(bars, [level])[..., 0], funding)
    with pytest.raises(ValueError, match=r"read the own columns \['spread'\], the aligned bars hold \['funding'\]"):
        compute_features(bars, [replace(level, column="spread")])


def test_own_columns_that_the_bars_lack_are_named_with_the_rules():
    message = (
        r"read the own columns \['vix'\], the aligned bars hold \[\]; name them in `ingestion.columns`, .*next_bar"
    )
    with pytest.raises(ValueError, match=message):
        compute_features(bars_of(TWO_DAYS, np.ones(12)), OWN)
    with pytest.raises(ValidationError, match="must name the own column that it reads"):
        column("own_column")
    with pytest.raises(ValidationError, match="must not be given"):
        FeatureColumn(name="x", indicator="log_return", column="vix")


def test_the_calendar_shapes_features_of_sessions_alone():
    def manifest(*columns):
        return expected_manifest("features", "", {"features.columns": columns, "trading.calendar": "XNYS"}).parameters

    assert "trading.calendar" not in manifest({"indicator": "log_return"})
    assert manifest({"indicator": "log_return"}, {"indicator": "overnight_gap"})["trading.calendar"] == "XNYS"
