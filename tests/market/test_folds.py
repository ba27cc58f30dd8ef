"""Folds: purged against every reward span, exact answers, refusal with arithmetic."""

import json
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.config import CrossValidationParameters
from sentio_kedro.market.folds import Folds, lockbox_bars, make_folds
from sentio_kedro.market.purged_folds import Fold, Segment, Spans, combinatorial_paths


def unlocked(**given):
    return CrossValidationParameters(**{"lockbox": None, **given})


def rows_of(segments):
    return [row for segment in segments for row in range(segment.start, segment.stop)]


def rewarding(judged, spans):
    """Bars that reward the rows ``judged``."""
    return {bar for judge in judged for bar in range(judge + 1, judge + spans.reward + 1)}


def meets(row, rewards, spans):
    """Whether the raw bars of ``row`` meet a bar of ``rewards``, bar by bar."""
    return any(bar in rewards for bar in range(row - spans.input + 1, row + spans.reward + 1))


spans_of = st.builds(Spans, input=st.integers(1, 9), reward=st.integers(1, 4), episode=st.integers(1, 3))


@settings(max_examples=60, deadline=None)
@given(
    bars=st.integers(150, 260),
    spans=spans_of,
    folds=st.integers(1, 4),
    validation=st.floats(0.15, 0.5),
    window=st.sampled_from(["expanding", "rolling"]),
)
def test_no_walk_forward_train_row_meets_a_reward_of_validation_or_test(bars, spans, folds, validation, window):
    parameters = unlocked(folds=folds, validation=validation, window=window)
    made = make_folds(bars, spans, parameters)
    for fold in made:
        train, choice, test = rows_of(fold.train), rows_of(fold.validation), rows_of(fold.test)
        of_test, of_both = rewarding(test, spans), rewarding(choice + test, spans)
        assert max(train) < min(choice)
        assert max(choice) < min(test)
        assert min(train) >= spans.input - 1
        assert max(test) + spans.reward <= bars - 1
        # The bars up to a row are read before its own reward, so in walk-forward the rewards alone can meet.
        assert max(train) + spans.reward <= min(choice)
        assert max(choice) + spans.reward <= min(test)
        assert not any(meets(row, of_both, spans) for row in train)
        assert not any(meets(row, of_test, spans) for row in choice)
        assert meets(max(train) + 1, of_both, spans)  # no row is wasted
    tests = [row for fold in made for row in rows_of(fold.test)]
    assert tests == list(range(tests[0], bars - spans.reward))
    if window == "rolling":
        assert len({len(rows_of(fold.train)) for fold in made}) == 1


@settings(max_examples=40, deadline=None)
@given(bars=st.integers(260, 320), spans=spans_of, groups=st.integers(3, 6), data=st.data())
def test_no_combinatorial_train_row_meets_a_reward_of_validation_or_test(bars, spans, groups, data):
    tested = data.draw(st.integers(1, groups - 2))
    parameters = unlocked(scheme="combinatorial", groups=groups, test_groups=tested)
    made = make_folds(bars, spans, parameters)
    assert len(made) == comb(groups, tested)
    edges = [spans.input - 1 + (bars - spans.reward - spans.input + 1) * g // groups for g in range(groups + 1)]
    for fold in made:
        train, choice, test = rows_of(fold.train), rows_of(fold.validation), rows_of(fold.test)
        of_test, of_both = rewarding(test, spans), rewarding(choice + test, spans)
        assert not any(meets(row, of_both, spans) for row in train)
        assert not any(meets(row, of_test, spans) for row in choice)
        in_test = set(test)
        free = [g for g in range(groups) if edges[g] not in in_test]
        assert set(choice) <= set(range(edges[free[-1]], edges[free[-1] + 1]))
        candidates = [row for g in free[:-1] for row in range(edges[g], edges[g + 1])]
        assert train == [row for row in candidates if not meets(row, of_both, spans)]


@settings(max_examples=40, deadline=None)
@given(bars=st.integers(260, 320), spans=spans_of, folds=st.integers(2, 6), validation=st.floats(0.15, 0.5))
def test_no_k_fold_train_row_meets_a_reward_of_validation_or_test(bars, spans, folds, validation):
    made = make_folds(bars, spans, unlocked(scheme="k_fold", folds=folds, validation=validation))
    assert [fold.number for fold in made] == list(range(folds))
    assert [row for fold in made for row in rows_of(fold.test)] == list(range(spans.input - 1, bars - spans.reward))
    for fold in made:
        train, choice, test = rows_of(fold.train), rows_of(fold.validation), rows_of(fold.test)
        of_test, of_both = rewarding(test, spans), rewarding(choice + test, spans)
        assert not any(meets(row, of_both, spans) for row in train)
        assert not any(meets(row, of_test, spans) for row in choice)
        assert max(train) < min(choice)
        beside = sorted(set(range(spans.input - 1, bars - spans.reward)) - set(test))
        latest = beside[len(beside) - round(validation * len(beside)) :]
        assert choice == [row for row in latest if not meets(row, of_test, spans)]  # no row is wasted
        assert train == [row for row in beside if row not in latest and not meets(row, of_both, spans)]


@settings(max_examples=40, deadline=None)
@given(bars=st.integers(400, 500), spans=spans_of, lockbox=st.floats(0.05, 0.3), data=st.data())
def test_no_fold_reads_or_is_rewarded_by_a_bar_of_the_lockbox(bars, spans, lockbox, data):
    scheme = data.draw(st.sampled_from(["walk_forward", "k_fold", "combinatorial"]))
    parameters = CrossValidationParameters(scheme=scheme, lockbox=lockbox, groups=4)
    locked = lockbox_bars(bars, parameters)
    assert locked == (bars - round(lockbox * bars), bars)
    made = make_folds(bars, spans, parameters)
    assert made == make_folds(locked.start, spans, unlocked(scheme=scheme, groups=4))  # as if those bars were not there
    last = max(part.stop - 1 for fold in made for part in (*fold.train, *fold.validation, *fold.test))
    assert last + spans.reward == locked.start - 1  # and no bar before it is wasted
    rows = Folds.of(made, spans, np.arange(bars).astype("datetime64[m]"), locked).lockbox_rows()
    assert (rows.start, rows.stop - 1 + spans.reward) == (locked.start, bars - 1)


def test_walk_forward_rows_exactly():
    spans = Spans(input=11, reward=1, episode=4)
    parameters = unlocked(folds=2, first_test=0.5, validation=0.2)
    assert make_folds(111, spans, parameters) == [
        Fold(0, (Segment(10, 50),), (Segment(50, 60),), (Segment(60, 85),)),
        Fold(1, (Segment(10, 70),), (Segment(70, 85),), (Segment(85, 110),)),
    ]


def test_k_fold_rows_exactly():
    spans = Spans(input=6, reward=2, episode=2)
    folds = make_folds(5 + 80 + 2, spans, unlocked(scheme="k_fold", folds=4, validation=0.2))
    assert folds == [
        Fold(0, (Segment(32, 72),), (Segment(73, 85),), (Segment(5, 25),)),
        Fold(1, (Segment(5, 24), Segment(52, 72)), (Segment(73, 85),), (Segment(25, 45),)),
        Fold(2, (Segment(5, 44),), (Segment(73, 85),), (Segment(45, 65),)),
        Fold(3, (Segment(5, 52),), (Segment(53, 64),), (Segment(65, 85),)),
    ]


def test_a_k_fold_of_one_block_is_refused():
    with pytest.raises(ValueError, match=r"`cross_validation.folds` must be at least 2 .*; was 1"):
        unlocked(scheme="k_fold", folds=1)


def test_longer_rewards_cut_the_end_of_train_and_validation():
    parameters = unlocked(folds=1, first_test=0.5, validation=0.2)
    (fold,) = make_folds(113, Spans(input=11, reward=3, episode=4), parameters)
    assert fold == Fold(0, (Segment(10, 48),), (Segment(50, 58),), (Segment(60, 110),))


def test_embargo_after_a_test_block_covers_the_input_span():
    spans = Spans(input=6, reward=2, episode=2)
    parameters = unlocked(scheme="combinatorial", groups=4, test_groups=1)
    folds = make_folds(5 + 80 + 2, spans, parameters)
    first = folds[0]  # group 0 is tested
    assert first.test == (Segment(5, 25),)
    assert first.train[0].start == 25 - 1 + spans.reward + spans.input
    second = folds[1]  # group 1 is tested: both neighbours are cut
    assert second.train == (Segment(5, 24), Segment(52, 64))
    assert second.validation == (Segment(65, 85),)


def test_too_few_bars_are_refused_with_the_arithmetic():
    spans = Spans(input=100, reward=1, episode=20)
    parameters = unlocked(folds=2, validation=0.2)
    with pytest.raises(ValueError, match=r"Give at least (\d+) bars") as caught:
        make_folds(150, spans, parameters)
    message = str(caught.value)
    for part in ("150 bars", "50 rows are usable", "input span 100", "episode of 20", "`training.episode_bars`"):
        assert part in message
    least = int(message.split("Give at least ")[1].split(maxsplit=1)[0])
    make_folds(least, spans, parameters)
    with pytest.raises(ValueError, match=f"Give at least {least} bars"):
        make_folds(least - 1, spans, parameters)


def test_the_lockbox_counts_in_the_arithmetic_and_is_named_as_a_remedy():
    spans = Spans(input=20, reward=1, episode=10)
    with pytest.raises(ValueError, match=r"Give at least (\d+) bars") as caught:
        make_folds(100, spans, CrossValidationParameters(folds=1, validation=0.2, lockbox=0.3))
    message = str(caught.value)
    assert "50 rows are usable (100 bars - lockbox 30 - input span 20 - reward span 1 + 1)" in message
    assert "lower `training.episode_bars`, `cross_validation.lockbox`, `cross_validation.folds`" in message
    least = int(message.split("Give at least ")[1].split(maxsplit=1)[0])
    make_folds(least, spans, CrossValidationParameters(folds=1, validation=0.2, lockbox=0.3))
    make_folds(130, spans, unlocked(folds=1, validation=0.2))


@pytest.mark.parametrize("share", [1e-300, 5e-324])
def test_a_share_that_no_number_of_bars_fits_is_named_with_its_value(share):
    with pytest.raises(ValueError, match=r"Too short: .*\. Lower .*`cross_validation.first_test` = ") as caught:
        make_folds(700, Spans(input=20, reward=1, episode=10), unlocked(first_test=share))
    assert f"raise `cross_validation.first_test` = {share:g} or `cross_validation.validation` = 0.15" in str(
        caught.value
    )


def test_a_lockbox_too_small_for_a_sharpe_ratio_is_refused():
    spans = Spans(input=5, reward=1, episode=2)
    with pytest.raises(ValueError, match="the lockbox has 1 rows and needs 2: raise it or set it to null"):
        make_folds(100, spans, CrossValidationParameters(lockbox=0.02))
    make_folds(100, spans, CrossValidationParameters(lockbox=0.03))


def test_bars_shorter_than_the_input_span_are_refused():
    with pytest.raises(
        ValueError, match=r"0 rows are usable.*lower .*`trading\.memory_sessions`, .*kelly_bars`, .*spread_bars`"
    ):
        make_folds(30, Spans(100, 1, 8), unlocked(scheme="combinatorial"))


@pytest.mark.parametrize(("groups", "tested"), [(6, 2), (5, 3), (4, 1)])
def test_combinatorial_paths_use_each_fold_once_and_hold_each_group(groups, tested):
    paths = combinatorial_paths(groups, tested)
    count = comb(groups, tested) * tested // groups
    assert len(paths) == comb(groups, tested) * tested
    assert set(paths.values()) == set(range(count))
    for path in range(count):
        assert sorted(group for (_, group), number in paths.items() if number == path) == list(range(groups))


def test_combinatorial_paths_match_the_tested_groups_of_the_folds():
    spans = Spans(3, 1, 2)
    parameters = unlocked(scheme="combinatorial", groups=5, test_groups=2)
    folds = make_folds(203, spans, parameters)
    edges = [2 + 200 * group // 5 for group in range(6)]
    used = {(fold.number, group) for fold in folds for group in range(5) if edges[group] in set(rows_of(fold.test))}
    assert used == set(combinatorial_paths(5, 2))


def test_folds_survive_json():
    spans = Spans(input=11, reward=1, episode=4)
    folds = make_folds(111, spans, unlocked(folds=2))
    timestamps = np.datetime64("2020-01-01T00:30", "ns") + np.arange(111) * np.timedelta64(30, "m")
    dated = Folds.of(folds, spans, timestamps, Segment(100, 111))
    text = json.dumps(dated.to_dict())
    assert Folds.from_dict(json.loads(text)) == dated
    assert dated.folds == folds
    assert json.loads(text)["folds"][0]["train"][0]["first"] == "2020-01-01T05:30:00Z"
    assert json.loads(text)["lockbox"] == {
        "start": 100,
        "stop": 111,
        "first": "2020-01-03T02:30:00Z",
        "last": "2020-01-03T07:30:00Z",
    }
    assert dated.open_bars == slice(0, 100)
    assert dated.lockbox_dates == {"first": "2020-01-03T02:30:00Z", "last": "2020-01-03T07:30:00Z"}
    without = Folds.of(folds, spans, timestamps)
    assert (without.open_bars, without.lockbox_dates) == (slice(0, None), None)
    assert Folds.from_dict(without.to_dict()) == without


def test_there_is_no_lockbox_to_open_where_it_is_off():
    timestamps = np.arange(111).astype("datetime64[m]")
    folds = make_folds(111, Spans(11, 1, 4), unlocked(folds=2))
    with pytest.raises(ValueError, match=r"`cross_validation.lockbox` was null"):
        Folds.of(folds, Spans(11, 1, 4), timestamps, Segment(111, 111)).lockbox_rows()


def test_the_lockbox_is_found_by_its_stamps_on_bars_that_have_moved():
    timestamps = np.datetime64("2024-01-01", "ns") + np.arange(100) * np.timedelta64(30, "m")
    sealed = Segment(60, 90)
    folds = Folds.of([], Spans(1, 1, 1), timestamps, sealed)
    assert folds.locate_lockbox(timestamps) == sealed
    assert folds.locate_lockbox(timestamps[10:]) == Segment(50, 80)
    assert folds.locate_lockbox(timestamps[70:]) == Segment(0, 20)
    assert folds.locate_lockbox(timestamps[95:]) == Segment(0, 0)
    assert folds.locate_lockbox(timestamps[:50]) == Segment(50, 50)
    within = timestamps + np.timedelta64(400, "ms")  # the dates of folds are whole seconds
    assert Folds.of([], Spans(1, 1, 1), within, sealed).locate_lockbox(within) == sealed
    assert Folds.of([], Spans(1, 1, 1), timestamps).locate_lockbox(timestamps) is None
    far = folds.to_dict()
    far["lockbox"]["last"] = "9999-12-31T00:00:00Z"
    with pytest.raises(ValueError, match=r"`last` must lie in the years 1678 to 2261"):
        Folds.from_dict(far).locate_lockbox(timestamps)
