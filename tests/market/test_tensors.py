"""Bars as tensors: what is missing is held and never filled from the future."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.config import TradingParameters
from sentio_kedro.market import large_arrays, session_risk
from sentio_kedro.market.ingestion.adjustment import adjusted
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.sessions import Clock, market_clock
from sentio_kedro.market.risk import MIN_VOLUME
from sentio_kedro.market.tensors import MarketTensors, delisted_rows, market_tensors
from sentio_kedro.market.trailing import estimated_spread

ACTIONS = {(5, 0): (2.0, 0.0), (9, 0): (1.0, 3.0), (9, 1): (0.1, 0.0), (20, 1): (3.0, 1.5), (30, 0): (1.5, 0.0)}


def plain_features(bars, features=2):
    return np.random.default_rng(0).standard_normal((*bars.close.shape, features))


def posterior_of(bars):
    return np.full((len(bars.timestamps), 2), 0.5)


def with_gaps(bars, gaps):
    """The bars without those at ``gaps`` (pairs of a row slice and an asset)."""
    columns = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close", "volume")}
    for rows, asset in gaps:
        for column in columns.values():
            column[rows, asset] = np.nan
    return AlignedBars(bars.timestamps, bars.symbols, **columns)


def test_a_missing_bar_is_untradable_and_holds_its_last_close(walk):
    bars = walk(20, 2)
    market = market_tensors(with_gaps(bars, [(slice(7, 10), 0)]), plain_features(bars), posterior_of(bars))
    last = bars.close[6, 0]
    assert market.close[6:10, 0].tolist() == [last] * 4
    assert market.open[7:10, 0].tolist() == [last] * 3
    assert market.tradable[:, 0].tolist() == [True] * 7 + [False] * 3 + [True] * 10
    assert market.tradable[:, 1].all()
    assert market.open[10, 0].item() == bars.open[10, 0]
    np.testing.assert_array_equal(market.close[:, 1], bars.close[:, 1])
    np.testing.assert_array_equal(market.open[:, 1], bars.open[:, 1])


@given(seed=st.integers(0, 50), length=st.integers(1, 39), source=st.sampled_from(["constant", "bars", "estimated"]))
@settings(max_examples=30, deadline=None)
def test_nothing_is_filled_from_later_bars(walk, traded, seed, length, source):
    bars = walk(40, 2, seed=seed, missing=0.3)
    features = plain_features(bars)
    bars = replace(traded(bars, ACTIONS), spread=np.where(bars.present, 0.01, np.nan), funding=bars.volume / 1e3)
    head = bars.rows(slice(0, length))
    trading = TradingParameters(costs={"half_spread": source})
    clock = market_clock(bars.timestamps, None)  # the bars of a session are known from elsewhere
    whole = market_tensors(bars, features, posterior_of(bars), trading, clock)._asdict()
    now = clock.rows(slice(0, length))
    part = market_tensors(head, features[:length], posterior_of(head), trading, now)._asdict()
    for name in set(whole) - {"delisted", "shortable"}:
        if part[name] is not None:  # null where nothing has happened yet
            assert torch.equal(whole[name][:length], part[name]), name


def test_an_asset_that_has_not_begun_is_priced_one_and_untradable(walk):
    bars = walk(20, 2)
    market = market_tensors(with_gaps(bars, [(slice(0, 8), 1)]), plain_features(bars), posterior_of(bars))
    assert (market.close[:8, 1] == 1.0).all()
    assert (market.open[:8, 1] == 1.0).all()
    assert not market.tradable[:8, 1].any()
    assert market.close[8, 1].item() == bars.close[8, 1]
    assert market.open[8, 1].item() == bars.open[8, 1]


def test_a_row_without_all_its_features_is_untradable_and_reads_zero(walk):
    bars = walk(20, 2)
    features = plain_features(bars)
    features[:5, 0, 1] = np.nan
    market = market_tensors(bars, features, posterior_of(bars))
    assert not market.tradable[:5, 0].any()
    assert market.tradable[5:, 0].all()
    assert market.tradable[:, 1].all()
    assert (market.features[:5, 0] == 0.0).all()
    np.testing.assert_array_equal(market.features[5:, 0], features[5:, 0])


def test_moving_changes_the_precision_of_numbers_and_not_of_masks(walk):
    bars = walk(12, 2)
    market = market_tensors(bars, plain_features(bars), posterior_of(bars))
    assert {part.dtype for part in market if part is not None} == {torch.float64, torch.int64, torch.bool}
    moved = market.to(torch.device("cpu"), torch.float32)
    assert {part.dtype for part in moved if part is not None} == {torch.float32, torch.int64, torch.bool}
    assert moved.session.dtype == torch.int64
    assert [part is None for part in moved] == [part is None for part in market]
    assert moved.spread is None
    assert (market.bars, market.assets) == (12, 2)


def test_the_first_six_fields_are_enough():
    six = [torch.zeros(3, 2, 1), *(torch.ones(3, 2) for _ in range(4)), torch.ones(3, 1)]
    market = MarketTensors(*six)
    assert MarketTensors._fields[:6] == ("features", "open", "close", "tradable", "volatility", "posterior")
    assert all(part is None for part in market[6:])
    assert all(part is None for part in market.to(torch.device("cpu"), torch.float64)[6:])


def test_a_missing_bar_has_no_range_no_volume_and_no_return(walk):
    bars = walk(20, 2)
    market = market_tensors(with_gaps(bars, [(slice(7, 10), 0)]), plain_features(bars), posterior_of(bars))
    last = bars.close[6, 0]
    assert market.high[7:10, 0].tolist() == market.low[7:10, 0].tolist() == [last] * 3
    assert market.volume[7:10, 0].tolist() == market.returns[7:10, 0].tolist() == [0.0] * 3
    assert market.present[:, 0].tolist() == [True] * 7 + [False] * 3 + [True] * 10
    np.testing.assert_array_equal(market.high[:, 1], bars.high[:, 1])
    np.testing.assert_array_equal(market.low[:, 1], bars.low[:, 1])
    np.testing.assert_array_equal(market.volume[:, 1], bars.volume[:, 1])
    assert market.returns[10, 0].item() == pytest.approx(math.log(bars.close[10, 0] / last))
    np.testing.assert_allclose(market.returns[1:, 1], np.diff(np.log(bars.close[:, 1])))
    assert market.returns[0, 1] == 0.0
    late = market_tensors(with_gaps(bars, [(slice(0, 8), 1)]), plain_features(bars), posterior_of(bars))
    assert (late.returns[:9, 1] == 0.0).all()  # the first bar has no close before it
    assert (late.high[:8, 1] == 1.0).all()


def test_presence_does_not_wait_for_features(walk):
    bars = walk(20, 2)
    features = plain_features(bars)
    features[:5] = np.nan
    market = market_tensors(bars, features, posterior_of(bars))
    assert market.present.all()
    assert not market.tradable[:5].any()


def test_prices_are_as_traded_and_returns_are_total(walk, traded):
    whole = walk(40, 2, missing=0.2, seed=3)
    bars = traded(whole, ACTIONS)
    market = market_tensors(bars, plain_features(bars), posterior_of(bars))
    smooth = market_tensors(whole, plain_features(bars), posterior_of(bars))
    np.testing.assert_allclose(market.returns, smooth.returns, atol=1e-12)
    np.testing.assert_allclose(market.volatility, smooth.volatility, rtol=1e-9)
    np.testing.assert_array_equal(market.close[-1], bars.held_close()[-1])
    assert abs(market.close[-1] / smooth.close[-1] - 1.0).max() > 0.1
    np.testing.assert_array_equal(market.split, np.where(bars.present, bars.split, 1.0))
    np.testing.assert_array_equal(market.dividend, np.where(bars.present, bars.dividend, 0.0))


def test_facts_that_are_neutral_everywhere_are_null(walk):
    bars = walk(20, 2)
    ones, zeros = np.ones((20, 2)), np.zeros((20, 2))
    bars = replace(bars, dividend=zeros, split=ones, funding=zeros, spread=zeros)
    market = market_tensors(bars, plain_features(bars), posterior_of(bars))
    assert market.dividend is market.split is market.funding is market.spread is market.delisted is None
    paid = zeros.copy()
    paid[3, 1] = -2e-4
    market = market_tensors(replace(bars, funding=paid), plain_features(bars), posterior_of(bars))
    np.testing.assert_array_equal(market.funding, paid)


def test_volume_counts_missing_bars_and_speaks_of_the_shares_of_its_row(walk):
    bars = walk(200, 2, missing=0.2, seed=1)
    split = np.where(bars.present, 1.0, np.nan)
    row = 150 + int(np.argmax(bars.present[150:, 0]))
    split[row, 0] = 4.0
    bars = replace(bars, split=split)
    clock = market_clock(bars.timestamps, None)._replace(bars_per_session=10.0)
    trading = TradingParameters(memory_sessions=2)  # windows of 96 half hours
    market = market_tensors(bars, plain_features(bars), posterior_of(bars), trading, clock)
    volume = np.nan_to_num(bars.volume)
    begin = int(np.argmax(bars.present[:, 0]))
    assert market.daily_volume[begin + 2, 0].item() == pytest.approx(10.0 * volume[begin : begin + 3, 0].mean())
    assert market.daily_volume[row - 1, 0].item() == pytest.approx(10.0 * volume[row - 96 : row, 0].mean())
    new = np.concatenate([4.0 * volume[row - 92 : row, 0], volume[row : row + 4, 0]])
    assert market.daily_volume[row + 3, 0].item() == pytest.approx(10.0 * new.mean())
    assert market.daily_volume[row + 3, 1].item() == pytest.approx(10.0 * volume[row - 92 : row + 4, 1].mean())
    np.testing.assert_array_equal(market.bar_volume, market.daily_volume / 10.0)
    silent = market_tensors(replace(bars, volume=0.0 * bars.volume), plain_features(bars), posterior_of(bars))
    assert (silent.daily_volume == MIN_VOLUME).all()
    assert (silent.to(torch.device("cpu"), torch.float32).daily_volume > 0.0).all()


def test_a_day_is_as_volatile_as_its_bars_together(walk):
    bars = walk(96, 2)
    market = market_tensors(bars, plain_features(bars), posterior_of(bars))
    np.testing.assert_allclose(market.daily_volatility, market.volatility * 48**0.5)


def test_the_clock_is_read_from_the_calendar_or_taken_as_given(walk):
    bars = walk(60, 1)  # half hours from 00:30 on 1 January 2020
    market = market_tensors(bars, plain_features(bars), posterior_of(bars))
    assert market.session.tolist() == [0] * 48 + [1] * 12
    assert market.elapsed.tolist() == pytest.approx([0.0] + [1 / 48] * 59)
    assert torch.isinf(market.minutes_to_close).all()
    always = market_tensors(bars, plain_features(bars), posterior_of(bars), TradingParameters(calendar="24/7"))
    assert always.minutes_since_open[:49].tolist() == [*range(30, 1441, 30), 30]
    assert always.minutes_to_close[:49].tolist() == [*range(1410, -1, -30), 1410]
    rows = np.arange(60)
    given_clock = Clock(rows * 2.0, rows * 3, rows * 5.0, rows * 7.0, 9.0)
    given = market_tensors(
        bars, plain_features(bars), posterior_of(bars), TradingParameters(calendar="24/7"), given_clock
    )
    assert given.session.tolist() == [3 * row for row in range(60)]
    assert given.elapsed[4] == 8.0
    assert (given.minutes_since_open[4], given.minutes_to_close[4]) == (20.0, 28.0)
    np.testing.assert_allclose(given.daily_volatility, given.volatility * 3.0)


def test_the_spread_is_constant_quoted_or_estimated(walk, traded):
    bars = traded(walk(120, 2, missing=0.1), {(60, 0): (2.0, 1.0)})
    features, posterior = plain_features(bars), posterior_of(bars)
    constant = TradingParameters(costs={"half_spread": "constant"})
    quoted = TradingParameters(costs={"half_spread": "bars"})
    estimated = TradingParameters(costs={"half_spread": "estimated", "spread_bars": 20})
    told = np.where(bars.present, np.linspace(0.001, 0.002, 240).reshape(120, 2), np.nan)
    with_column = replace(bars, spread=told)
    assert market_tensors(with_column, features, posterior, constant).spread is None
    spread = market_tensors(with_column, features, posterior, quoted).spread.numpy()
    np.testing.assert_array_equal(spread[bars.present], told[bars.present])
    row, asset = next((t, a) for t, a in np.argwhere(~bars.present) if t > 0 and bars.present[t - 1, a])
    assert spread[row, asset] == told[row - 1, asset]  # held
    whole = adjusted(bars)
    found = market_tensors(bars, features, posterior, estimated).spread
    np.testing.assert_array_equal(found, estimated_spread(whole.high, whole.low, whole.close, 20))
    with pytest.raises(ValueError, match=r"`trading\.costs\.half_spread` is `bars`.*no column `spread`.*`estimated`"):
        market_tensors(bars, features, posterior, quoted)


def test_an_asset_is_delisted_at_the_row_after_its_last_bar(walk):
    bars = with_gaps(walk(40, 4), [(slice(5, 8), 0), (slice(12, 40), 1), (slice(0, 40), 2), (slice(20, 40), 3)])
    bars = replace(bars, timestamps=bars.timestamps[0] + np.arange(40) * np.timedelta64(1, "D"))
    market = market_tensors(bars, plain_features(bars), posterior_of(bars))
    # no gap that ends, no asset without bars, and none that is missing for 20 sessions only: it may come back
    assert torch.nonzero(market.delisted).tolist() == [[12, 1]]
    days = np.arange(40)
    assert delisted_rows(bars.rows(slice(0, 12)), days[:12]) is None  # whether bars follow is unknown
    assert delisted_rows(walk(20, 3), days[:20]) is None
    assert np.argwhere(delisted_rows(bars, 2 * days)).tolist() == [[12, 1], [20, 3]]  # of the calendar, not rows


def test_who_may_be_sold_short_is_said_by_name(walk):
    bars = walk(20, 3)

    def shortable(names):
        trading = TradingParameters(masks={"no_short": names})
        return market_tensors(bars, plain_features(bars), posterior_of(bars), trading).shortable.tolist()

    assert shortable([]) == [True, True, True]
    assert shortable(["C", "A"]) == [False, True, False]
    assert shortable(["*"]) == [False, False, False]
    with pytest.raises(ValueError, match=r"`trading\.masks\.no_short` must hold symbols.*had \['ZZZ'\]"):
        shortable(["A", "ZZZ"])


@pytest.mark.parametrize("source", ["bars", "estimated"])
def test_pieces_and_arrays_on_file_change_no_bit(walk, traded, monkeypatch, source):
    bars = walk(700, 5, seed=2, missing=0.2)
    bars = replace(traded(bars, ACTIONS), spread=np.where(bars.present, 0.01, np.nan), funding=bars.volume / 1e3)
    features, trading = plain_features(bars), TradingParameters(costs={"half_spread": source}, memory_sessions=4)
    features[:30] = np.nan
    whole = market_tensors(bars, features, posterior_of(bars), trading)
    monkeypatch.setattr(large_arrays, "LARGEST_IN_MEMORY", 0)
    monkeypatch.setattr(large_arrays, "BLOCK", 2 * 700)  # two assets
    monkeypatch.setattr(session_risk, "CHUNK", 1)  # sessions one by one
    pieces = market_tensors(bars, features, posterior_of(bars), trading)
    assert len(whole.tail.unique()) > 4
    assert len(whole.correlation.unique()) > 4
    for name, expected in whole._asdict().items():
        np.testing.assert_array_equal(getattr(pieces, name), expected, err_msg=name)
