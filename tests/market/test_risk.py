"""Trailing risk has a memory in sessions: bars, gaps and the time of day do not matter."""

import math
from dataclasses import replace
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.ingestion.adjustment import adjustment_factors
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars, hold
from sentio_kedro.market.ingestion.sessions import Clock, market_clock
from sentio_kedro.market.risk import MIN_VOLATILITY, MIN_VOLUME, risk_facts, trading_lookback
from sentio_kedro.market.tensors import delisted_rows

MINUTE, DAY = np.timedelta64(1, "m"), np.timedelta64(1, "D")
MINUTES = 390  # of a session
NORMAL = NormalDist().inv_cdf(0.99)


def bars_of(timestamps, close, volume=None):
    """Bars whose open, high and low are the close ``[T, A]``."""
    volume = np.where(np.isfinite(close), 1.0, np.nan) if volume is None else volume
    return AlignedBars(timestamps, tuple("ABCDEFGH"[: close.shape[1]]), close, close, close, close, volume)


def stamps(days, bars, minutes):
    """Ends of the ``bars`` bars of ``minutes`` minutes from half past two on ``days`` (numbers of days)."""
    opens = np.datetime64("2020-01-06T14:30", "ns") + np.asarray(days)[:, None] * DAY
    return (opens + np.arange(1, bars + 1) * minutes * MINUTE).ravel()


def from_returns(returns):
    return 100.0 * np.exp(np.cumsum(returns, axis=0))


def facts_of(bars, clock=None, first=0, **trading):
    """Risk facts of bars and their clock; sessions are UTC days."""
    clock = market_clock(bars.timestamps, None) if clock is None else clock
    factors = adjustment_factors(bars)
    total = (bars if factors is None else factors.applied(bars)).held_close()
    return risk_facts(bars, total, factors, clock, TradingParameters(**trading), first)


def sessions_of(lengths):
    """Clock of sessions of so many bars."""
    session, zeros = np.repeat(np.arange(len(lengths)), lengths), np.zeros(sum(lengths))
    return Clock(zeros, session, zeros, zeros, float(np.median(lengths)))


def minute_market(sessions, seed=0, exact=False):
    """Bars of a minute, wild at open and close and calm at noon, with jumps over night.

    If ``exact``, prices move only where a half hour ends and over night, so that squared returns are the same sum at
    1, 5 and 30 minutes.
    """
    rng = np.random.default_rng(seed)
    profile = 2e-4 * (1.0 + 4.0 * np.linspace(-1.0, 1.0, MINUTES) ** 2)
    returns = profile * rng.standard_normal((sessions, MINUTES))
    if exact:
        returns *= np.arange(1, MINUTES + 1) % 30 == 0
        returns[:, 29] = 0.0  # the first half hour holds the jump alone
    returns[:, 0] += 0.006 * rng.standard_normal(sessions)
    volume = np.ceil(1e4 * profile / profile.min() * rng.random((sessions, MINUTES)))
    days = np.arange(sessions) // 5 * 7 + np.arange(sessions) % 5
    return bars_of(stamps(days, MINUTES, 1), from_returns(returns.reshape(-1, 1)), volume.reshape(-1, 1))


def coarser(bars, minutes):
    """The market at ``minutes`` minutes."""
    last = np.arange(minutes - 1, len(bars.timestamps), minutes)
    volume = bars.volume.reshape(-1, minutes, bars.volume.shape[1]).sum(axis=1)
    return bars_of(bars.timestamps[last], bars.close[last], volume)


def slow_facts(bars, clock, memory):
    """Daily volatility and volume, row by row and asset by asset, as the documentation defines them."""
    session, size = clock.session, clock.bars_per_session
    place = np.concatenate([np.arange(n) for n in np.unique(session, return_counts=True)[1]])
    volatility, volume = np.full(bars.close.shape, MIN_VOLATILITY * size**0.5), np.full(bars.close.shape, MIN_VOLUME)
    for asset in range(bars.close.shape[1]):
        own = np.flatnonzero(bars.present[:, asset])
        for now in range(own[0] if own.size else len(session), len(session)):
            oldest = session[now] - memory
            window = [
                row for row in range(now + 1) if (session[row], place[row]) > (oldest, place[now]) and row >= own[0]
            ]
            alive = set(session[own[own <= now]])
            held = [row for row in window if session[row] in alive]
            pairs = [(a, b) for a, b in pairwise(own) if b in window and session[a] >= oldest]
            squares = {pair: math.log(bars.close[pair[1], asset] / bars.close[pair[0], asset]) ** 2 for pair in pairs}
            night = [squares[a, b] for a, b in pairs if session[a] < session[b]]
            day = [squares[a, b] for a, b in pairs if session[a] == session[b]]
            started = len(held) - (own[0] in held)
            variance = np.mean(night or [0.0]) + size * sum(day) / max(started, 1)
            volatility[now, asset] = max(math.sqrt(variance), volatility[now, asset])
            traded = sum(bars.volume[row, asset] for row in own if row in window)
            volume[now, asset] = max(size * traded / max(len(held), 1), MIN_VOLUME)
    return volatility, volume


@pytest.mark.parametrize("memory", [2, 3, 20])
@pytest.mark.parametrize("missing", [0.0, 0.5])
@pytest.mark.parametrize("lengths", [[4] * 9, [2, 5, 1, 4, 4, 3, 6, 4], [1] * 25])
def test_volatility_and_volume_equal_a_slow_twin(walk, memory, missing, lengths):
    bars, clock = walk(sum(lengths), 2, seed=3, missing=missing), sessions_of(lengths)
    found = facts_of(bars, clock, memory_sessions=memory)
    volatility, volume = slow_facts(bars, clock, memory)
    np.testing.assert_allclose(found.daily_volatility, volatility, rtol=1e-12)
    np.testing.assert_allclose(found.daily_volume, volume, rtol=1e-12)


def test_two_sessions_of_two_bars_by_hand():
    returns = np.array([[0.0], [0.03], [0.04], [0.02], [0.01], [0.05]])
    bars = bars_of(stamps(range(3), 2, 30), from_returns(returns), np.array([[10.0], [20], [30], [40], [50], [60]]))
    found = facts_of(bars, memory_sessions=2)
    # at the last bar the window holds the bars of the last two sessions: nights 0.04, 0.01 and days 0.02, 0.05
    assert found.daily_volatility[-1, 0] == pytest.approx(math.sqrt((16e-4 + 1e-4) / 2 + (4e-4 + 25e-4) / 2))
    # at the bar before: the night 0.01 and 0.04, and the days 0.02 and 0.03 (of the session two earlier)
    assert found.daily_volatility[-2, 0] == pytest.approx(math.sqrt((16e-4 + 1e-4) / 2 + (4e-4 + 9e-4) / 2))
    np.testing.assert_allclose(found.volatility, found.daily_volatility / math.sqrt(2.0))
    # a fraction of a session counts: 10, 30, 60 shares in 1/2, 1, 3/2 sessions
    np.testing.assert_allclose(found.daily_volume[:, 0], [20.0, 30.0, 40.0, 50.0, 70.0, 90.0])
    np.testing.assert_allclose(found.bar_volume, found.daily_volume / 2.0)


def test_daily_bars_are_sessions_of_one_bar():
    returns = 0.01 * np.random.default_rng(0).standard_normal((60, 1))
    days = np.arange(60) // 5 * 7 + np.arange(60) % 5  # weekends are no sessions
    found = facts_of(bars_of(stamps(days, 1, 390), from_returns(returns)))
    assert found.daily_volatility[-1, 0] == pytest.approx(math.sqrt((returns[-20:] ** 2).mean()))
    np.testing.assert_array_equal(found.volatility, found.daily_volatility)


def test_a_market_is_as_volatile_and_as_liquid_at_1_5_and_30_minutes():
    minutes = minute_market(45, exact=True)
    fine, *coarse = (facts_of(coarser(minutes, length)) for length in (1, 5, 30))
    full = np.arange(20 * MINUTES, 45 * MINUTES)  # rows at a minute whose window is full
    for length, found in zip((5, 30), coarse, strict=True):
        rows = full[(full + 1) % length == 0]
        same = (rows + 1) // length - 1
        np.testing.assert_allclose(found.daily_volatility[same], fine.daily_volatility[rows], rtol=1e-12)
        np.testing.assert_array_equal(found.daily_volume[same], fine.daily_volume[rows])
        np.testing.assert_allclose(found.volatility[same], fine.volatility[rows] * length**0.5, rtol=1e-12)


def test_a_random_market_is_about_as_volatile_at_1_5_and_30_minutes():
    minutes = minute_market(120)
    means = [
        facts_of(coarser(minutes, length)).daily_volatility[20 * MINUTES // length :].mean() for length in (1, 5, 30)
    ]
    np.testing.assert_allclose(means, means[0], rtol=0.05)  # 100 sessions of 13 half hours: 3 % and what nights add


@pytest.mark.parametrize("length", [1, 30])
def test_volatility_and_volume_do_not_depend_on_the_time_of_the_session(length):
    found = facts_of(coarser(minute_market(60), length))
    for values in (found.daily_volatility, found.daily_volume):
        by_place = values.reshape(60, -1)[20:].mean(axis=0)
        assert by_place.max() / by_place.min() < 1.1


def steady_market(sessions, seed=0):
    """Weekdays of 13 half hours whose moves have a size that depends on the place alone, so that days are alike."""
    rng = np.random.default_rng(seed)
    size = 0.002 * (1.0 + np.linspace(-1.0, 1.0, 13) ** 2)
    size[0] = 0.01
    returns = size * rng.choice([-1.0, 1.0], (sessions, 13))
    days = np.arange(sessions) // 5 * 7 + np.arange(sessions) % 5
    return bars_of(stamps(days, 13, 30), from_returns(returns.reshape(-1, 1))), math.sqrt((size**2).sum())


def test_nights_and_weekends_of_another_market_lower_nothing():
    bars, daily = steady_market(60)
    alone = facts_of(bars)
    np.testing.assert_allclose(alone.daily_volatility[21 * 13 :], daily, rtol=1e-12)
    np.testing.assert_array_equal(alone.daily_volume[21 * 13 :], 13.0)
    first = np.datetime64("2020-01-06T00:30", "ns")
    grid = first + np.arange(84 * 48) * np.timedelta64(30, "m")  # the other market never closes
    close = np.full((len(grid), 2), np.nan)
    close[:, 1] = from_returns(0.001 * np.random.default_rng(1).standard_normal(len(grid)))
    close[np.searchsorted(grid, bars.timestamps), 0] = bars.close[:, 0]
    both = facts_of(bars_of(grid, close))
    ends = np.arange(48 * 28 - 1, len(grid), 48)  # ends of days, where the window holds whole days
    np.testing.assert_allclose(both.daily_volatility[ends, 0], daily, rtol=1e-12)
    np.testing.assert_allclose(both.daily_volume[ends, 0], 13.0, rtol=1e-12)
    np.testing.assert_allclose(both.daily_volatility[48 * 28 :, 0], daily, rtol=0.05)
    assert both.daily_volatility[48 * 28 :, 0].min() > 0.97 * daily


def test_missing_bars_are_no_returns_of_zero():
    bars, daily = steady_market(300)
    hidden = np.random.default_rng(2).random(bars.close.shape) < 0.3
    clock = market_clock(bars.timestamps, None)
    found = facts_of(bars.without(hidden), clock).daily_volatility[21 * 13 :]
    assert found.mean() == pytest.approx(daily, rel=0.03)
    away = np.repeat(np.arange(300) % 3 == 1, 13)[:, None]  # every third session
    np.testing.assert_allclose(facts_of(bars.without(away), clock).daily_volume[21 * 13 :: 13], 13.0, rtol=0.08)
    assert facts_of(bars.without(away), clock).daily_volatility[21 * 13 :].mean() > 0.97 * daily


@pytest.mark.parametrize("length", [1, 5, 30])
def test_an_asset_is_delisted_after_twenty_sessions_whatever_the_bars(length):
    minutes = minute_market(60)
    gone = np.repeat(np.arange(60) >= 30, MINUTES)[:, None]
    two = replace(
        minutes.map_columns(lambda column: np.column_stack([column, np.where(gone, np.nan, column)])),
        symbols=("A", "B"),
    )
    bars = coarser(two, length)
    per_session = MINUTES // length
    session = np.repeat(np.arange(60), per_session)
    assert np.argwhere(delisted_rows(bars, session)).tolist() == [[30 * per_session, 1]]
    assert delisted_rows(bars.rows(slice(0, 51 * per_session)), session[: 51 * per_session]) is not None
    assert delisted_rows(bars.rows(slice(0, 50 * per_session)), session[: 50 * per_session]) is None


def eventful(walk, seed, missing=0.3):
    """Sessions of 2 to 6 bars of three assets with gaps, a split among them, and their clock."""
    lengths = np.random.default_rng(seed).integers(2, 7, 16)
    bars = walk(int(lengths.sum()), 3, seed=seed, missing=missing)
    split = np.where(bars.present, 1.0, np.nan)
    own = np.flatnonzero(bars.present[:, 0])
    row = int(own[len(own) * 3 // 4])
    split[row, 0] = 4.0
    return replace(bars, split=split), sessions_of(lengths.tolist())


@given(seed=st.integers(0, 60), length=st.integers(1, 32), memory=st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_later_bars_change_nothing(walk, seed, length, memory):
    bars, clock = eventful(walk, seed)
    whole = facts_of(bars, clock, memory_sessions=memory)
    part = facts_of(bars.rows(slice(0, length)), clock.rows(slice(0, length)), memory_sessions=memory)
    for name, values in part._asdict().items():
        np.testing.assert_allclose(values, getattr(whole, name)[:length], rtol=1e-12, atol=1e-12, err_msg=name)


@given(seed=st.integers(0, 60), first=st.integers(0, 20), memory=st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_the_last_rows_alone_have_the_facts_of_all_rows(walk, seed, first, memory):
    bars, clock = eventful(walk, seed)
    whole, part = (facts_of(bars, clock, row, memory_sessions=memory) for row in (0, first))
    for name, values in part._asdict().items():
        np.testing.assert_array_equal(values[first:], getattr(whole, name)[first:], err_msg=name)


def newest(bars, first, stop):
    """The rows from ``first`` on; in front the last earlier bar of an asset that is halted there, as a session has."""
    halted = ~bars.present[first]
    earlier = bars.map_columns(lambda column: hold(column[: first + 1])[-1:])
    earlier = replace(earlier, split=np.where(halted, np.where(earlier.present, 1.0, np.nan), earlier.split))
    kept = bars.rows(slice(first, stop))
    joined = {name: np.vstack([column, getattr(kept, name)[1:]]) for name, column in earlier.columns().items()}
    return replace(kept, **joined)


@given(
    seed=st.integers(0, 60), back=st.integers(0, 6), memory=st.integers(2, 5), missing=st.sampled_from([0.0, 0.3, 0.9])
)
@settings(max_examples=60, deadline=None)
def test_the_bars_of_the_look_back_alone_give_the_same(walk, seed, back, memory, missing):
    bars, clock = eventful(walk, seed, missing)
    parameters = TradingParameters(memory_sessions=memory)
    stop = len(bars.timestamps) - back
    first = max(0, stop - trading_lookback(parameters, clock) - 1)
    whole = facts_of(bars, clock, memory_sessions=memory)
    alone = facts_of(newest(bars, first, stop), clock.rows(slice(first, stop)), memory_sessions=memory)
    for name, values in alone._asdict().items():
        np.testing.assert_allclose(values[-1], getattr(whole, name)[stop - 1], rtol=1e-9, atol=1e-12, err_msg=name)


def test_what_has_left_the_window_leaves_no_error():
    returns = 1e-4 * np.random.default_rng(0).standard_normal((40 * 13, 1))
    crash = returns.copy()
    crash[5], crash[6] = -20.0, 20.0
    volume = np.ones_like(returns)
    wild = np.where(np.arange(len(volume)) < 13, 1e18, 1.0)[:, None]
    times = stamps(range(40), 13, 30)
    calm, after = (
        facts_of(bars_of(times, from_returns(returns), volume)),
        facts_of(bars_of(times, from_returns(crash), wild)),
    )
    np.testing.assert_allclose(after.daily_volatility[-13:], calm.daily_volatility[-13:], rtol=1e-9)
    np.testing.assert_array_equal(after.daily_volume[-13:], calm.daily_volume[-13:])


def test_an_asset_that_begins_late_knows_nothing_of_before():
    returns = 0.01 * np.random.default_rng(0).standard_normal((30 * 4, 1))
    times, close = stamps(range(30), 4, 60), from_returns(returns)
    late = facts_of(bars_of(times, np.where(np.arange(120)[:, None] < 42, np.nan, close)))
    short = facts_of(bars_of(times[42:], close[42:]), market_clock(times, None).rows(slice(42, None)))
    np.testing.assert_allclose(late.daily_volatility[42:], short.daily_volatility, rtol=1e-12)
    np.testing.assert_allclose(late.daily_volume[42:], short.daily_volume, rtol=1e-12)
    assert (late.volatility[:43] == MIN_VOLATILITY).all()
    assert (late.daily_volume[:42] == MIN_VOLUME).all()


def test_a_price_that_stands_still_has_the_least_volatility_and_no_correlation_of_its_own():
    still = facts_of(bars_of(stamps(range(30), 4, 60), np.full((120, 2), 5.0)))
    assert (still.volatility == MIN_VOLATILITY).all()
    assert (still.tail == NORMAL).all()


def test_the_tail_is_the_quantile_of_one_session_returns_in_volatilities():
    size = np.array([0.01, 0.01, 0.05, 0.01, 0.02, 0.01])
    bars = bars_of(stamps(range(6), 1, 390), from_returns(size[:, None]))
    tail = facts_of(bars, memory_sessions=4, masks={"var_confidence": 0.75}).tail
    normal = NormalDist().inv_cdf(0.75)
    assert tail[:2].tolist() == [normal] * 2  # fewer than two sessions before
    # before the fifth session: the returns 0.01, 0.05 and 0.01 of the four before; three quarters of them reach 0.05
    assert tail[4] == pytest.approx(0.05 / math.sqrt((2 * 0.01**2 + 0.05**2) / 3))
    # before the sixth: 0.05, 0.01 and 0.02
    assert tail[5] == pytest.approx(0.05 / math.sqrt((0.01**2 + 0.02**2 + 0.05**2) / 3))
    assert facts_of(bars, memory_sessions=4).tail.min() == NORMAL


def test_tail_and_correlation_hold_for_all_bars_of_a_session():
    returns = np.random.default_rng(0).standard_t(3, (20 * 5, 2)) * 0.01
    found = facts_of(bars_of(stamps(range(20), 5, 60), from_returns(returns)), memory_sessions=5)
    for values in (found.tail, found.correlation):
        by_session = values.reshape(20, 5)
        np.testing.assert_array_equal(by_session, np.repeat(by_session[:, :1], 5, axis=1))
        assert len(set(by_session[:, 0])) > 5


@pytest.mark.parametrize("per_session", [1, 13])
def test_a_value_at_risk_is_exceeded_about_as_often_as_it_says(per_session):
    sessions, rng = 2_000, np.random.default_rng(7)
    profile = 1.0 + 3.0 * np.linspace(-1.0, 1.0, per_session) ** 2  # wild at open and close
    returns = 0.001 * np.tile(profile, sessions)[:, None] * rng.standard_t(4, (sessions * per_session, 4))
    close = from_returns(returns)
    found = facts_of(bars_of(stamps(range(sessions), per_session, 30), close))
    rows = np.arange(25 * per_session - 1, (sessions - 1) * per_session, per_session)
    moves = np.log(close[rows + per_session] / close[rows])
    level = found.tail[rows, None] * found.daily_volatility[rows]
    losses = np.stack([-moves, moves])  # of a long and of a short position
    assert 0.005 < (losses > level).mean() < 0.02
    assert per_session > 1 or (losses > NORMAL * found.daily_volatility[rows]).mean() > 0.02  # the normal law's


def test_correlation_is_that_of_bar_returns():
    rng = np.random.default_rng(0)
    common, own = rng.standard_normal((40 * 13, 1)), rng.standard_normal((40 * 13, 3))
    times = stamps(range(40), 13, 30)

    def newest(returns):
        return facts_of(bars_of(times, from_returns(0.001 * returns))).correlation[-1]

    scale = np.array([1.0, 3.0, 0.2])
    assert newest(common * scale) == pytest.approx(1.0)
    assert newest(common * np.array([1.0, -1.0])) == 0.0  # clipped
    mixed = (0.8 * common + 0.6 * own) * scale
    window = mixed[20 * 13 : 39 * 13]  # the 19 sessions whose returns begin in the 20 before the last
    raw = np.array([[(a * b).mean() for b in window.T] for a in window.T])
    pairs = [raw[i, j] / math.sqrt(raw[i, i] * raw[j, j]) for i in range(3) for j in range(i)]
    assert newest(mixed) == pytest.approx(np.mean(pairs))
    assert newest(own[:, :1]) == 0.0


def test_assets_move_together_until_something_is_known():
    rng = np.random.default_rng(0)
    found = facts_of(bars_of(stamps(range(4), 13, 30), from_returns(0.001 * rng.standard_normal((52, 2)))))
    assert (found.correlation[:13] == 1.0).all()
    assert (found.correlation[13:] < 0.5).all()


def test_correlation_counts_bars_of_both_alone():
    rng = np.random.default_rng(0)
    returns = 0.001 * rng.standard_normal((40 * 12, 1)) * np.ones(2)
    close = from_returns(returns)
    half = np.arange(len(close)) % 12 >= 6
    close[half, 0] = np.nan  # the first asset trades in the first half of each session
    clock = market_clock(stamps(range(40), 12, 30), None)
    found = facts_of(bars_of(stamps(range(40), 12, 30), close), clock)
    # a return of the first asset that spans six bars of the other's makes its mean square twice as large
    assert found.correlation[-1] == pytest.approx(0.5**0.5, abs=0.1)


def test_correlation_leaves_out_returns_that_span_a_session():
    moves = 0.01 * np.random.default_rng(0).choice([-1.0, 1.0], (30, 1))
    moves[24:26, 0] = 0.01, -0.01
    close = from_returns(moves * np.ones(2))
    close[24, 1] = np.nan  # the return over the gap is 0
    assert facts_of(bars_of(stamps(range(30), 1, 390), close)).correlation[-1] == pytest.approx(1.0, rel=1e-12)


def test_the_look_back_counts_the_longest_session():
    clock = sessions_of([7, 13, 13, 13])
    parameters = TradingParameters(memory_sessions=20)
    assert trading_lookback(parameters, clock) == 21 * 13 + 1
    assert trading_lookback(parameters, clock._replace(bars_per_session=13.5)) == 21 * 14 + 1
    assert trading_lookback(TradingParameters(memory_sessions=2), sessions_of([1] * 5)) == 4
    kelly = TradingParameters(memory_sessions=2, masks={"kelly_fraction": 0.5, "kelly_bars": 480})
    assert trading_lookback(kelly, clock) == 481
    spread = TradingParameters(memory_sessions=2, costs={"half_spread": "estimated", "spread_bars": 96})
    assert trading_lookback(spread, clock) == 98
