"""Screening: planted signals are found, hardly anything else is, and nothing after the train rows is read."""

import numpy as np
import pytest

from sentio_kedro.agent.data.screening import MIN_ROWS, Screening, mirror_invariant_columns, screen
from sentio_kedro.market.purged_folds import Segment

pytestmark = pytest.mark.filterwarnings("error")

ROWS, COLUMNS, LAGS, PLANTED = 1200, 20, 4, 3
TRAIN = (Segment(0, ROWS),)
SEEDS = (1, 3, 5, 7)
SEED = 5  # of few columns, with which nothing but the planted one is kept
ALONE = np.ones((ROWS, 1))
POISON = 1e9


def noise(seed, rows=ROWS, assets=1, columns=COLUMNS):
    """Features ``[T, A, F]`` and returns ``[T, A]`` that know nothing of each other."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, assets, columns)), 0.01 * rng.standard_normal((rows, assets))


def planted(seed, signal, lag=0, **sizes):
    """Noise where ``signal`` of one column, ``lag`` bars old, moves each asset's next return."""
    features, returns = noise(seed, **sizes)
    returns[lag + 1 :] += 0.01 * signal(features[: len(features) - lag - 1, :, PLANTED])
    return features, returns


def linear(values):
    return 0.5 * values


def size(values):
    return np.abs(values) - 0.8


def calm_or_wild(seed, rows=ROWS):
    """Posterior ``[T, 2]`` of two states that take turns every few bars, never certain."""
    first = 0.1 + 0.8 * np.repeat(np.random.default_rng([seed, 1]).random(rows // 8) < 0.5, 8)
    return np.stack([first, 1.0 - first], axis=1)


def found(kept):
    return set(np.flatnonzero(kept.columns).tolist())


def same(ours, theirs):
    return all(mine.tobytes() == other.tobytes() for mine, other in zip(ours, theirs, strict=True))


def everything(kept):
    return bool(kept.columns.all() and kept.lags.all())


@pytest.mark.parametrize("signal", [linear, size])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_column_that_foretells_the_return_is_found_and_hardly_any_other(signal, seed):
    kept = screen(*planted(seed, signal), ALONE, TRAIN, 1, "bic")
    assert kept.columns.shape == (COLUMNS,)
    assert kept.columns.dtype == bool
    assert PLANTED in found(kept)
    assert len(found(kept)) <= 2
    np.testing.assert_array_equal(kept.lags, [True])


@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_told_whether_a_columns_value_or_its_size_foretells_the_return(seed):
    of_value, of_size = (screen(*planted(seed, signal), ALONE, TRAIN, 1, "bic") for signal in (linear, size))
    for kept, told, silent in ((of_value, "values", "sizes"), (of_size, "sizes", "values")):
        assert getattr(kept, told)[PLANTED]
        assert not getattr(kept, silent)[PLANTED]
        np.testing.assert_array_equal(kept.columns, kept.values | kept.sizes)
        np.testing.assert_array_equal(kept.direct, kept.values)  # of one regime


def test_of_many_assets_a_quarter_must_need_a_size():
    features, returns = noise(1, assets=8, columns=6)
    returns[1:, :2] += 0.01 * size(features[:-1, :2, 2])
    returns[1:, 4] += 0.01 * size(features[:-1, 4, 4])
    kept = screen(features, returns, ALONE, TRAIN, 1, "bic")
    assert np.flatnonzero(kept.sizes).tolist() == [2]
    assert not kept.values.any()


def test_a_column_is_mirror_invariant_if_the_mirror_leaves_it_alike_on_train_rows():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((ROWS, 2, 6))
    mirrored = features.copy()
    mirrored[..., 1] *= -1.0
    mirrored[..., 2] = rng.standard_normal((ROWS, 2))  # neither
    mirrored[..., 3] += 0.5 * rng.standard_normal((ROWS, 2))  # nearly alike
    features[..., 4] = mirrored[..., 4] = 2.0  # says nothing
    mirrored[ROWS // 2 :, :, 0] *= -1.0  # after the train rows
    mirrored[:9, :, 5], features[20:40, 1, 5] = np.nan, np.nan
    train = (Segment(0, 200), Segment(300, ROWS // 2))
    assert mirror_invariant_columns(features, mirrored, train).tolist() == [True, False, False, True, False, True]
    assert not mirror_invariant_columns(
        features[: MIN_ROWS // 4], mirrored[: MIN_ROWS // 4], (Segment(0, MIN_ROWS // 4),)
    ).any()


def test_the_longest_lag_that_foretells_the_return_keeps_those_before_it():
    for lag in range(LAGS):
        kept = screen(*planted(SEED, linear, lag, columns=5), ALONE, TRAIN, LAGS, "bic")
        assert found(kept) == {PLANTED}
        np.testing.assert_array_equal(kept.lags, np.arange(LAGS) <= lag)


@pytest.mark.parametrize("seed", [1, 7, 9, 10])  # where chance gives the column no slope of its own
def test_a_signal_whose_sign_follows_the_regime_is_found_with_the_posterior_alone(seed):
    posterior = calm_or_wild(seed)
    features, returns = noise(seed)
    flipped = features[:-1, :, PLANTED] * np.sign(posterior[:-1, :1] - 0.5)
    returns[1:] += 0.01 * (flipped - flipped.mean())
    assert PLANTED in found(screen(features, returns, posterior, TRAIN, 1, "bic"))
    assert PLANTED not in found(screen(features, returns, ALONE, TRAIN, 1, "bic"))


def test_of_noise_nothing_is_kept_where_columns_are_few():
    kept = [screen(*noise(seed, columns=4), ALONE, TRAIN, 1, "bic") for seed in range(20)]
    assert sum(some.columns.any() for some in kept) <= 3
    nothing = next(some for some in kept if not some.columns.any())
    assert nothing.lags.tolist() == [True]
    none = screen(*noise(0, columns=2), ALONE, TRAIN, LAGS, "bic")
    np.testing.assert_array_equal(none.lags, [True, False, False, False])


def test_of_many_columns_of_noise_few_are_kept():
    kept = [screen(*noise(seed), ALONE, TRAIN, LAGS, "bic").columns for seed in range(20)]
    assert np.mean(kept) <= 0.06  # of 400 columns, each with 8 chances


def test_of_few_assets_one_may_follow_another():
    features, returns = noise(0, assets=2, columns=6)
    returns[1:, 0] += 0.005 * features[:-1, 1, 3]
    assert found(screen(features, returns, ALONE, TRAIN, 1, "bic")) == {3}
    alone = screen(features[:, :1], returns[:, :1], ALONE, TRAIN, 1, "bic")
    assert 3 not in found(alone)


def test_of_few_assets_it_is_told_who_needs_whom():
    features, returns = noise(SEED, assets=3, columns=6)
    returns[1:, 0] += 0.01 * features[:-1, 2, 3]
    returns[1:, 1] += 0.01 * features[:-1, 1, 3]
    asset_mask = screen(features, returns, ALONE, TRAIN, 1, "ebic").asset_mask
    np.testing.assert_array_equal(asset_mask, [[False, False, True], [False, True, False], [False, False, False]])


def test_of_many_assets_anyone_may_need_anyone():
    features, returns = noise(1, assets=8, columns=6)
    assert screen(features, returns, ALONE, TRAIN, 1, "bic").asset_mask.all()


def test_an_asset_with_too_few_rows_may_need_anyone():
    features, returns = noise(SEED, assets=2, columns=6)
    features[MIN_ROWS // 2 :, 1] = np.nan
    asset_mask = screen(features, returns, ALONE, TRAIN, 1, "ebic").asset_mask
    np.testing.assert_array_equal(asset_mask, [[False, False], [True, True]])


def test_of_many_assets_a_quarter_must_need_a_column_and_a_lag():
    features, returns = noise(1, assets=8, columns=6)
    returns[1:, :2] += 0.01 * features[:-1, :2, 2]
    returns[2:, 4] += 0.01 * features[:-2, 4, 4]  # one asset's column and lag
    returns[1:, 5:] += 0.01 * features[:-1, :3, 5]  # other assets' columns
    kept = screen(features, returns, ALONE, TRAIN, 2, "bic")
    assert found(kept) == {2}
    np.testing.assert_array_equal(kept.lags, [True, False])
    returns[2:, 6] += 0.01 * features[:-2, 6, 4]
    kept = screen(features, returns, ALONE, TRAIN, 2, "bic")
    assert found(kept) == {2, 4}
    assert kept.lags.all()


def test_rows_after_the_train_rows_leave_what_is_kept_as_it_is():
    stop = 900
    features, returns = planted(SEED, linear, 1, columns=5)
    posterior = calm_or_wild(0)
    kept = screen(features, returns, posterior, (Segment(100, stop),), LAGS, "bic")
    assert found(kept) == {PLANTED}
    for factor in (10.0, POISON, np.nan):
        later = [values.copy() for values in (features, returns, posterior)]
        later[0][stop:] *= factor
        later[1][stop + 1 :] *= factor
        later[2][stop:] *= factor
        assert same(screen(*later, (Segment(100, stop),), LAGS, "bic"), kept)
        cut = [values[: stop + 1] for values in later]
        assert same(screen(*cut, (Segment(100, stop),), LAGS, "bic"), kept)
    returns[stop] = POISON  # what the last decision earns
    assert PLANTED not in found(screen(features, returns, posterior, (Segment(100, stop),), LAGS, "bic"))


def test_rows_before_the_train_rows_count_as_far_as_the_lags_reach():
    start = 300
    train = (Segment(start, ROWS),)
    features, returns = planted(SEED, linear, 1, columns=5)
    kept = screen(features, returns, ALONE, train, LAGS, "bic")
    assert found(kept) == {PLANTED}
    before = [features.copy(), returns.copy()]
    before[0][: start - LAGS + 1], before[1][: start + 1] = POISON, POISON
    assert same(screen(*before, ALONE, train, LAGS, "bic"), kept)
    before[0][start - 1] = POISON
    assert not same(screen(*before, ALONE, train, LAGS, "bic"), kept)
    whole = screen(features[start - LAGS + 1 :], returns[start - LAGS + 1 :], ALONE, TRAIN, LAGS, "bic")
    assert same(whole, kept)  # from the first row on, only those with all lags count


def test_rows_between_train_segments_are_not_read():
    train = (Segment(0, 500), Segment(700, ROWS))
    features, returns = planted(1, linear)
    kept = screen(features, returns, ALONE, train, 2, "bic")
    features[500:699], returns[501:701] = POISON, POISON
    assert same(screen(features, returns, ALONE, train, 2, "bic"), kept)
    assert PLANTED in found(kept)


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_that_are_not_whole_are_left_out_and_change_nothing_else(seed):
    features, returns = planted(seed, linear)
    holes = (Segment(20, 400), Segment(402, 800), Segment(801, ROWS))
    kept = screen(features, returns, ALONE, holes, 2, "bic")
    torn, gone = features.copy(), returns.copy()
    torn[:19] = np.nan  # the warm-up: row 19 is read by row 20
    gone[20] = np.nan
    torn[400] = POISON  # rows 400 and 401 read it
    torn[400, 0, 9] = np.nan
    gone[401:403] = POISON
    gone[801] = np.nan  # row 800 earns it
    assert same(screen(torn, gone, ALONE, TRAIN, 2, "bic"), kept)
    assert PLANTED in found(kept)


def test_a_missing_bar_of_one_of_few_assets_leaves_the_row_out_for_all():
    features, returns = planted(0, linear, assets=2)
    kept = screen(features, returns, ALONE, (Segment(0, 600), Segment(601, ROWS)), 1, "bic")
    features[600, 0] = np.nan
    features[600, 1] = POISON
    returns[601, 1] = POISON
    returns[600, 0] = np.nan
    torn = screen(features, returns, ALONE, TRAIN, 1, "bic")
    assert PLANTED in found(torn)
    assert found(torn) == found(kept)


def test_too_few_whole_rows_keep_everything():
    features, returns = noise(0)
    for rows, all_kept in ((MIN_ROWS - 1, True), (MIN_ROWS, False)):
        train = (Segment(10, 10 + rows),)
        assert everything(screen(features, returns, ALONE, train, 1, "bic")) is all_kept
    kept = screen(features[:40], returns[:40], ALONE[:40], (Segment(5, 39),), LAGS, "bic")
    assert isinstance(kept, Screening)
    assert everything(kept)
    features[:, 0, 2] = np.nan
    assert everything(screen(features, returns, ALONE, TRAIN, LAGS, "bic"))


@pytest.mark.parametrize("lags", [1, LAGS])
def test_columns_that_repeat_each_other_or_never_change_break_nothing(lags):
    features, returns = planted(0, linear)
    features[:, :, 4] = features[:, :, PLANTED]
    features[:, :, 5] = -3.0 * features[:, :, PLANTED]
    features[:, :, 6] = features[:, :, 8] + features[:, :, 9]
    features[:, :, 0], features[:, :, 1], features[:, :, 2] = 0.0, 123.456, 1e12
    features[:, :, 7] = np.where(features[:, :, 7] > 0.0, 1.0, -1.0)  # its size never changes
    kept = found(screen(features, returns, ALONE, TRAIN, lags, "bic"))
    assert len(kept & {4, 5, PLANTED}) == 1  # one says it all
    assert not kept & {0, 1, 2}


def test_scale_and_offset_of_columns_and_returns_do_not_matter():
    features, returns = planted(2, linear, 1)
    kept = screen(features, returns, ALONE, TRAIN, LAGS, "bic")
    scale = 10.0 ** np.linspace(-4.0, 4.0, COLUMNS)
    assert same(screen(features * scale + 5.0 * scale, 100.0 * returns + 1.0, ALONE, TRAIN, LAGS, "bic"), kept)
    assert PLANTED in found(kept)


def test_an_asset_that_is_not_yet_listed_leaves_the_others_what_they_hear():
    features, returns = planted(SEED, linear, columns=5, assets=2)
    features[:, 1], returns[:, 1] = np.nan, np.nan
    kept = screen(features, returns, ALONE, TRAIN, LAGS, "bic")
    alone = screen(features[:, :1], returns[:, :1], ALONE, TRAIN, LAGS, "bic")
    assert same(kept[:2], alone[:2])
    np.testing.assert_array_equal(kept.asset_mask, [[alone.asset_mask[0, 0], False], [True, True]])
    assert PLANTED in found(kept)
    assert not everything(kept)
