"""Train paths: members miss different parts, and windows come from train rows and the generator alone."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.agent.data.paths import PathSampler
from sentio_kedro.agent.data.resampling import resample
from sentio_kedro.agent.data.training_set import TrainingSet, member_segments, visible_bars
from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.config import FeatureColumn, TradingParameters, TrainingParameters
from sentio_kedro.market.indicators import compute_features, longest_lookback
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.sessions import market_clock
from sentio_kedro.market.purged_folds import Fold, Segment, Spans
from sentio_kedro.market.regimes import RegimeModel
from sentio_kedro.market.tensors import MarketTensors

ROWS, STEPS, CONTEXT = 120, 5, 6
TRAIN = (Segment(30, 42), Segment(60, 67))
COLUMNS = [
    FeatureColumn(name="move", indicator="log_return", bars=1),
    FeatureColumn(name="wild", indicator="volatility", bars=4),
]
SEGMENTS = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 5)), min_size=1, max_size=4)


def walk(wild: bool = False) -> AlignedBars:
    """Two random walks; if ``wild``, moves outside the train rows are a hundred times as large."""
    rng = np.random.default_rng(0)
    returns = 0.01 * rng.standard_normal((ROWS, 2)).clip(-2.0, 2.0)
    train = np.concatenate([np.arange(part.start, part.stop) for part in TRAIN])
    if wild:
        returns[np.setdiff1d(np.arange(ROWS), train)] = rng.choice([-2.0, 2.0], (ROWS - len(train), 1))
    close = 100.0 * np.exp(np.cumsum(returns, axis=0))
    opened = np.concatenate([np.full((1, 2), 100.0), close[:-1]])
    timestamps = np.datetime64("2020-01-01T00:30", "ns") + np.arange(ROWS) * np.timedelta64(30, "m")
    top, bottom = np.maximum(opened, close), np.minimum(opened, close)
    return AlignedBars(timestamps, ("A", "B"), opened, top, bottom, close, np.ones((ROWS, 2)))


def training_set(wild: bool = False, daily: bool = False) -> TrainingSet:
    bars = walk(wild)
    if daily:
        bars = replace(bars, timestamps=bars.timestamps[0] + np.arange(ROWS) * np.timedelta64(1, "D"))
    model = RegimeModel(
        means=np.zeros(2),
        deviations=np.array([0.005, 0.02]),
        transition=np.array([[0.9, 0.1], [0.2, 0.8]]),
        stationary=np.array([2 / 3, 1 / 3]),
        memory=16,
    )
    fold = Fold(0, TRAIN, (Segment(80, 90),), (Segment(95, 100),))
    return TrainingSet(fold, bars, compute_features(bars, COLUMNS), COLUMNS, model, 17520.0)


def sampler(block_bars: int | None, wild: bool = False, windows: int = 6) -> PathSampler:
    how = TrainingParameters(
        windows=windows,
        minibatches=1,
        episode_bars=STEPS,
        block_bars=block_bars,
    )
    return PathSampler(training_set(wild), TRAIN, how, CONTEXT, torch.device("cpu"))


def flat(windows: Windows) -> list[np.ndarray]:
    parts = [x for part in windows for x in (part if isinstance(part, tuple) else (part,))]
    return [np.asarray(part) for part in parts if part is not None]


def facts_of(drawn: Windows) -> np.recarray:
    """Market facts of the decisions and of the bar after ``[S + 1, W, A]``."""
    return drawn.market.facts[drawn.rows.T]


def moves_of(drawn: Windows) -> np.ndarray:
    """Log returns of the bars after each decision ``[S, W, A]``."""
    facts = facts_of(drawn)[:-1]
    return np.log(facts.next_close / facts.close)


def rows_of(segments: list[Segment] | tuple[Segment, ...]) -> set[int]:
    return {row for part in segments for row in range(part.start, part.stop)}


def placed(sizes: list[tuple[int, int]]) -> list[Segment]:
    segments, row = [], 10
    for length, gap in sizes:
        row += gap
        segments.append(Segment(row, row + length))
        row += length
    return segments


@given(SEGMENTS, st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_members_miss_different_parts_and_together_keep_every_row(sizes: list[tuple[int, int]], members: int) -> None:
    train = placed(sizes)
    every = rows_of(train)
    if len(every) < 2 * max(members, 4):
        return
    missed = []
    for member in range(members):
        kept = member_segments(train, member, members, 1)
        assert len(rows_of(kept)) == sum(part.stop - part.start for part in kept)  # no row twice
        assert rows_of(kept) <= every
        missed.append(every - rows_of(kept))
    assert all(missed)
    assert sum(map(len, missed)) == len(set().union(*missed))  # no row is missed twice, so each has its keeper
    assert all(abs(len(part) - len(every) / max(members, 4)) < 1.0 + 1e-9 for part in missed)


@given(SEGMENTS)
@settings(max_examples=20, deadline=None)
def test_a_single_member_keeps_all(sizes: list[tuple[int, int]]) -> None:
    assert member_segments(placed(sizes), 0, 1, 10_000) == placed(sizes)


def test_rests_too_short_to_use_are_left_out_and_the_train_rows_are_never_empty() -> None:
    train = [Segment(0, 40), Segment(50, 90)]
    assert member_segments(train, 0, 2, 1) == [Segment(20, 40), Segment(50, 90)]
    assert member_segments(train, 1, 2, 1) == [Segment(0, 40), Segment(70, 90)]
    assert member_segments(train, 1, 2, 21) == [Segment(0, 40)]
    assert member_segments(train, 1, 2, 41) == train


@pytest.mark.parametrize("block_bars", [None, 8])
def test_windows_depend_on_the_generator_alone(block_bars: int | None) -> None:
    one = sampler(block_bars)
    first = one.draw(np.random.default_rng(4))
    one.draw(np.random.default_rng(5))
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - the global state must not matter
    random.seed(3)
    again = one.draw(np.random.default_rng(4))
    fresh = sampler(block_bars).draw(np.random.default_rng(4))
    other = one.draw(np.random.default_rng(6))
    assert all(np.array_equal(a, b) for a, b in zip(flat(first), flat(again), strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(flat(first), flat(fresh), strict=True))
    assert not np.array_equal(facts_of(first).close, facts_of(other).close)


def test_replayed_windows_stay_inside_the_segments_and_reach_all_of_them() -> None:
    one = sampler(None)
    close = training_set().market.close.numpy()
    known = {tuple(close[start : start + STEPS].flatten().tolist()): start for start in range(ROWS - STEPS)}
    starts = set()
    for seed in range(25):
        found = facts_of(one.draw(np.random.default_rng(seed))).close
        for window in range(6):
            start = known[tuple(found[:-1, window].flatten().tolist())]
            starts.add(start)
            assert np.array_equal(found[-1, window], close[start + STEPS])
    assert starts == set(range(30, 42 - STEPS + 1)) | set(range(60, 67 - STEPS + 1))


def test_replay_draws_each_start_equally_often() -> None:
    one = sampler(None, windows=400)
    first = np.concatenate([one.draw(np.random.default_rng(seed)).rows[:, 0] for seed in range(3)])
    counts = np.array([(first == row).sum() for row in [*range(30, 38), *range(60, 63)]])
    assert counts.sum() == 1200
    expected = 1200 / 11
    assert np.abs(counts - expected).max() < 4.5 * expected**0.5


def test_segments_shorter_than_an_episode_are_not_replayed() -> None:
    how = TrainingParameters(windows=50, minibatches=1, episode_bars=10, block_bars=None)
    one = PathSampler(training_set(), TRAIN, how, CONTEXT, torch.device("cpu"))
    assert set(one.draw(np.random.default_rng(0)).rows[:, 0].tolist()) <= {30, 31, 32}


@pytest.mark.parametrize("block_bars", [None, 8])
def test_windows_have_their_decisions_and_their_context(block_bars: int | None) -> None:
    drawn = sampler(block_bars).draw(np.random.default_rng(1))
    assert drawn.features.shape == (6, CONTEXT + STEPS + 1, 2, 2)
    assert drawn.features.dtype == torch.float32
    assert drawn.posterior.shape == (STEPS + 1, 6, 1, 2)
    assert drawn.unit.shape == (STEPS, 6, 1, 2)
    assert drawn.rows.shape == (6, STEPS + 1)
    assert (np.diff(drawn.rows, axis=1) == 1).all()
    torch.testing.assert_close(drawn.posterior.sum(-1), torch.ones(STEPS + 1, 6, 1))


def test_resampled_windows_follow_each_other_on_one_path_behind_its_warm_up() -> None:
    drawn = sampler(8).draw(np.random.default_rng(1))
    assert longest_lookback(COLUMNS) > 1
    assert facts_of(drawn).tradable.all()
    assert (drawn.features[..., 1] != 0.0).all()  # no bar of the context is still warming up
    assert np.array_equal(drawn.rows[1:, 0], drawn.rows[:-1, -1])
    told = drawn.features[:, CONTEXT + 1 :, :, 0].transpose(0, 1).numpy()  # log return of each bar after a decision
    np.testing.assert_allclose(told, moves_of(drawn), rtol=0, atol=1e-5)  # features belong to the path's own bars


def test_resampled_paths_are_made_of_train_rows_alone() -> None:
    drawn = sampler(8, wild=True).draw(np.random.default_rng(2))
    assert np.abs(moves_of(drawn)).max() < 0.021  # other rows move by 2


def test_the_scaler_is_fitted_on_train_rows_alone() -> None:
    calm, wild = training_set(), training_set(wild=True)
    rows = np.concatenate([calm.features[30:42], calm.features[60:67]]).reshape(-1, 2)
    mean, deviation = calm.scaler()
    np.testing.assert_allclose(mean, rows.mean(axis=0))
    np.testing.assert_allclose(deviation, rows.std(axis=0))
    same = TrainingSet(wild.fold, wild.bars, calm.features.copy(), COLUMNS, wild.regimes, 1.0)
    same.features[67:] *= 10.0
    same.features[:30] *= 10.0
    assert all(np.array_equal(*pair) for pair in zip(same.scaler(), (mean, deviation), strict=True))


def test_a_constant_feature_and_warm_up_rows_do_not_break_the_scaler() -> None:
    one = training_set()
    features = one.features.copy()
    features[:, :, 0] = 3.0
    features[30:32] = np.nan
    mean, deviation = TrainingSet(one.fold, one.bars, features, COLUMNS, one.regimes, 1.0).scaler()
    assert mean[0] == 3.0
    assert deviation[0] == 1.0
    assert np.isfinite([mean, deviation]).all()


def drawn_path(one: PathSampler, length: int, seed: int) -> tuple[MarketTensors, np.ndarray]:
    """A path of ``one`` and the source row of each of its bars."""
    block = one.parameters.block_bars
    assert block is not None
    _, source = resample(one.relative, one.segments, length, block, np.random.default_rng(seed), one.levels)
    return one._resampled(length, block, np.random.default_rng(seed))[0], source


def sampler_of(some: TrainingSet) -> PathSampler:
    how = TrainingParameters(windows=4, minibatches=1, episode_bars=STEPS, block_bars=8)
    return PathSampler(some, TRAIN, how, CONTEXT, torch.device("cpu"))


def test_the_clock_of_a_path_is_that_of_its_source_bars() -> None:
    calm = training_set()
    gaps = np.arange(ROWS) // 7 * np.timedelta64(3, "h")  # seven bars, then three hours more
    bars = replace(calm.bars, timestamps=calm.bars.timestamps + gaps)
    trading = TradingParameters(calendar="24/7")
    market, source = drawn_path(sampler_of(replace(calm, bars=bars, trading=trading)), 200, 3)
    clock = market_clock(bars.timestamps, "24/7")
    assert len(set(clock.elapsed[1:].round(6))) == 2
    np.testing.assert_allclose(market.elapsed, clock.elapsed[source], rtol=1e-6)
    np.testing.assert_array_equal(market.minutes_since_open, clock.minutes_since_open[source])
    np.testing.assert_array_equal(market.minutes_to_close, clock.minutes_to_close[source])
    same = (np.diff(source) == 1) & (np.diff(clock.session[source]) == 0)
    np.testing.assert_array_equal(np.diff(market.session) == 0, same)
    assert (np.diff(market.session) >= 0).all()
    np.testing.assert_allclose(market.daily_volatility, market.volatility * clock.bars_per_session**0.5, rtol=1e-6)
    assert clock.bars_per_session != 48.0  # what the path's own stamps would say


@pytest.mark.parametrize("resampled", [True, False])
def test_a_path_and_the_history_are_told_what_trading_asks_for(resampled: bool) -> None:
    calm = training_set()
    spread = np.random.default_rng(0).random((ROWS, 2)) / 100.0
    trading = TradingParameters(costs={"half_spread": "bars"}, masks={"no_short": ["B"]})
    asking = replace(calm, bars=replace(calm.bars, spread=spread), trading=trading)
    market, source = drawn_path(sampler_of(asking), 99, 1) if resampled else (asking.market, np.arange(ROWS))
    np.testing.assert_allclose(market.spread, spread[source], rtol=1e-6)
    assert market.shortable is not None
    assert market.shortable.tolist() == [True, False]
    assert drawn_path(sampler_of(calm), 99, 1)[0].spread is None
    assert calm.market.spread is None


@pytest.mark.parametrize("end", [35, 64, 75])
def test_an_asset_ends_on_a_path_where_its_end_was_drawn(end: int) -> None:
    calm = training_set(daily=True)
    gone = (np.arange(ROWS) >= end)[:, None] & np.array([False, True])
    bars = calm.bars.without(gone)
    market, source = drawn_path(sampler_of(replace(calm, bars=bars)), 300, 2)
    assert market.delisted is not None
    expected = np.stack([np.zeros(300, dtype=bool), source == end], axis=1)
    assert expected.any() == (end < 70)  # rows after the train rows are never drawn
    np.testing.assert_array_equal(market.delisted, expected)
    np.testing.assert_array_equal(market.present[:, 1], source < end)
    assert drawn_path(sampler_of(calm), 300, 2)[0].delisted is None


def test_hidden_blocks_hand_their_splits_on_and_delist_nobody() -> None:
    calm = training_set(daily=True)
    split, dividend = np.ones((ROWS, 2)), np.zeros((ROWS, 2))
    split[50, 0], split[95, 1], dividend[48, 1], split[116, 0] = 2.0, 3.0, 0.5, 7.0
    bars = replace(calm.bars, split=split, dividend=dividend, spread=np.ones((ROWS, 2)), funding=np.ones((ROWS, 2)))
    fold = Fold(0, (Segment(20, 40), Segment(60, 90)), (Segment(100, 110),), (Segment(44, 52),))
    seen, features = visible_bars(bars, calm.features, fold, Spans(input=4, reward=1, episode=2))
    hidden = np.r_[0:17, 41:57, 91:97]
    assert len(seen.timestamps) == len(features) == 111
    np.testing.assert_array_equal(seen.present.all(axis=1), ~np.isin(np.arange(111), hidden))
    assert seen.split is not None
    assert seen.dividend is not None
    assert np.argwhere(np.nan_to_num(seen.split, nan=1.0) != 1.0).tolist() == [[57, 0], [97, 1]]
    assert (seen.split[57, 0], seen.split[97, 1], seen.dividend[57, 1]) == (2.0, 3.0, 0.5)
    assert set(seen.columns()) == set(bars.columns())
    for name, column in seen.columns().items():
        assert np.isnan(column[hidden]).all(), name
    assert replace(calm, fold=fold, bars=seen, features=features).market.delisted is None


def test_paths_take_own_columns_from_the_bars_they_are_made_of_and_sessions_from_their_own_clock() -> None:
    columns = [
        FeatureColumn(name="change", indicator="own_column_change", bars=2, column="vix"),
        FeatureColumn(name="return", indicator="log_return"),
        FeatureColumn(name="gap", indicator="overnight_gap", bars=50),
        FeatureColumn(name="share", indicator="minutes_since_open"),
    ]
    calm = training_set()
    bars = replace(calm.bars, extra={"vix": np.random.default_rng(1).standard_normal((ROWS, 2))})
    calm = replace(calm, bars=bars, columns=columns, features=compute_features(bars, columns))
    market, source = drawn_path(sampler_of(calm), 120, 7)
    features = np.asarray(market.features)
    known = slice(49, None)  # from the longest look-back on
    np.testing.assert_allclose(features[known, :, 0], calm.features[source][known, :, 0], rtol=1e-6)
    np.testing.assert_allclose(features[known, :, 3], calm.features[source][known, :, 3], rtol=1e-6)
    ends, begins = np.flatnonzero(np.diff(source) != 1), np.flatnonzero(np.diff(source) != 1) + 1
    later = begins > 49
    opened = np.exp(features[begins[later], :, 2])  # a block begins a session: its open against the close before
    assert len(ends) > 3
    expected = np.asarray(market.open)[begins[later]] / np.asarray(market.close)[ends[later]]
    np.testing.assert_allclose(opened, expected, rtol=1e-6)
