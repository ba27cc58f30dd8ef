"""Experts on planted examples, and the block-robust t."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from sentio_kedro.agent.forecasting.experts import (
    EXPERTS,
    TREES,
    AssetStepwise,
    BoostedTrees,
    PastMean,
    PlainRidge,
    Stepwise,
    TimeOfDay,
    block_sums,
    block_t,
)
from sentio_kedro.agent.forecasting.regressions import LEAF

ROWS = 4_000


def examples(seed: int = 0, columns: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A design matrix with place in the day and asset in its last columns, noise, and blocks of 50 rows."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((ROWS, columns + 2)).astype(np.float32)
    inputs[:, -2], inputs[:, -1] = np.arange(ROWS) // 2 % 4, np.arange(ROWS) % 2
    return inputs, rng.standard_normal(ROWS), np.arange(ROWS) // 50


def test_block_sums_and_their_t_by_hand() -> None:
    values = np.array([1.0, 2.0, -1.0, 4.0])
    assert block_sums(values, np.array([0, 0, 3, 4])).tolist() == [3.0, -1.0, 4.0]
    many = np.repeat([1.0, 3.0], 6)
    assert block_t(many, np.arange(12)) == pytest.approx(24.0 / np.sqrt(6 + 54))
    assert block_t(many[:11], np.arange(11)) == 0.0  # fewer than 12 blocks
    assert block_t(np.zeros(0), np.zeros(0, int)) == 0.0


def test_dependence_within_blocks_does_not_raise_the_t() -> None:
    rng = np.random.default_rng(3)
    blocks = np.repeat(np.arange(60), 40)
    ts = [block_t(np.repeat(rng.standard_normal(60), 40), blocks) for _ in range(400)]
    assert np.std(ts) == pytest.approx(1.0, abs=0.12)


def test_stepwise_finds_the_columns_that_predict_and_no_others() -> None:
    inputs, noise, blocks = examples()
    targets = 0.1 * inputs[:, 7] - 0.2 * inputs[:, 19] + noise
    fitted = Stepwise().fit(inputs, targets, blocks)
    assert fitted.columns.tolist() == [19, 7]
    assert fitted.coefficients == pytest.approx([-0.2, 0.1], abs=0.04)
    assert fitted.predict(inputs) == pytest.approx(inputs[:, [19, 7]] @ fitted.coefficients, abs=1e-5)
    chosen = [Stepwise().fit(*examples(seed)).columns for seed in range(1, 13)]
    assert sum(columns.size for columns in chosen) <= 2
    assert not Stepwise().predict(inputs).any()


def test_a_column_that_fits_one_block_of_time_alone_does_not_enter() -> None:
    inputs, noise, blocks = examples()
    targets = noise + np.where(blocks == 3, 5.0 * inputs[:, 7], 0.0)
    products = inputs[:, 7] * targets
    assert products.mean() / products.std() * ROWS**0.5 > 3.4  # without blocks it would
    assert not Stepwise().fit(inputs, targets, blocks).columns.size


def test_a_plain_stepwise_regression_takes_a_weaker_column_and_none_beyond_the_plain_ones() -> None:
    inputs, noise, blocks = examples()
    targets = 0.04 * inputs[:, 2] + 0.2 * inputs[:, 19] + noise
    assert Stepwise().fit(inputs, targets, blocks).columns.tolist() == [19]
    assert Stepwise(2.5, 5).fit(inputs, targets, blocks).columns.tolist() == [2]


def test_ridge_shrinks_by_its_penalty() -> None:
    inputs, noise, blocks = examples()
    targets = 0.3 * inputs[:, 2] + noise
    loose, tight = (PlainRidge(5, penalty).fit(inputs, targets, blocks) for penalty in (1e-9, 1.0))
    assert loose.coefficients[2] == pytest.approx(0.3, abs=0.05)
    assert tight.coefficients[2] == pytest.approx(0.5 * loose.coefficients[2], rel=0.1)
    assert loose.predict(inputs) == pytest.approx(inputs[:, :5].astype(np.float64) @ loose.coefficients, abs=1e-15)


def test_an_asset_may_have_a_law_of_its_own() -> None:
    inputs, noise, blocks = examples()
    second = inputs[:, -1] == 1.0
    targets = np.where(second, 0.2 * inputs[:, 2], 0.0) + noise
    own = AssetStepwise(5).fit(inputs, targets, blocks)
    assert not own.coefficients[0].any()
    assert own.coefficients[1] == pytest.approx([0.0, 0.0, 0.2, 0.0, 0.0], abs=0.04)
    alone = Stepwise(2.5, 5).fit(inputs[second], targets[second], blocks[second])
    assert alone.columns.tolist() == [2]
    np.testing.assert_array_equal(own.predict(inputs[second]), alone.predict(inputs[second]))
    unknown = inputs.copy()
    unknown[:, -1] = 7.0
    assert not own.predict(unknown).any()


def test_the_time_of_day_keeps_the_share_that_is_no_chance() -> None:
    inputs, noise, blocks = examples()
    place = inputs[:, -2].astype(int)
    targets = np.array([0.5, -0.5, 0.1, -0.1])[place] + noise
    fitted = TimeOfDay().fit(inputs, targets, blocks)
    means = np.array([targets[place == p].mean() for p in range(4)])
    error = targets.var() / 1_000
    between = ((means - targets.mean()) ** 2 - error).mean()
    assert fitted.means == pytest.approx(targets.mean() + (means - targets.mean()) * between / (between + error))
    assert fitted.predict(inputs) == pytest.approx(fitted.means[place])
    flat = TimeOfDay().fit(inputs, np.tile([1.0, -1.0], ROWS // 2), blocks)
    assert flat.means == pytest.approx(np.zeros(4))


def test_trees_see_an_interaction_and_are_the_same_twice() -> None:
    inputs, noise, blocks = examples()
    targets = 0.5 * np.sign(inputs[:, 0] * inputs[:, 1]) + noise
    first, second = (BoostedTrees(5).fit(inputs, targets, blocks).predict(inputs) for _ in range(2))
    assert np.corrcoef(first, targets - noise)[0, 1] > 0.5
    np.testing.assert_array_equal(first, second)


def test_trees_forecast_as_scikit_learn_does() -> None:
    inputs, noise, blocks = examples()
    targets = np.sin(inputs[:, 0] * inputs[:, 1]) + 0.3 * inputs[:, -2] + noise
    fitted = BoostedTrees(5).fit(inputs, targets, blocks)
    same = HistGradientBoostingRegressor(
        **TREES, min_samples_leaf=60, max_bins=64, early_stopping=False, random_state=0
    ).fit(inputs[:, [*range(5), -2, -1]], targets)
    assert len(fitted.trees.roots) == 60
    assert {0, 1, 30} <= set(fitted.trees.columns) - {LEAF} <= {*range(5), 30, 31}
    at_thresholds = inputs[: fitted.trees.columns.size].copy()  # a row goes left up to the threshold, included
    at_thresholds[:, :5] = np.where(fitted.trees.columns == 0, fitted.trees.thresholds, 0.0)[:, None]
    for rows in (inputs, examples(1)[0], at_thresholds):
        np.testing.assert_array_equal(fitted.predict(rows), same.predict(rows[:, [*range(5), -2, -1]]))


def test_a_row_alone_is_forecast_as_among_others() -> None:
    inputs, noise, blocks = examples()
    targets = 0.2 * inputs[:, 2] + noise
    experts = [Stepwise(), PlainRidge(5, 0.05), AssetStepwise(5), TimeOfDay(), BoostedTrees(5), PastMean()]
    assert {type(expert) for expert in experts} == set(EXPERTS)
    for expert in experts:
        together = expert.fit(inputs, targets, blocks).predict(inputs)
        alone = [expert.predict(inputs[row : row + 1])[0] for row in range(0, ROWS, 97)]
        np.testing.assert_array_equal(alone, together[::97])


def test_the_past_mean_forecasts_the_same_everywhere() -> None:
    inputs, noise, blocks = examples()
    assert (PastMean().fit(inputs, noise + 1.0, blocks).predict(inputs) == (noise + 1.0).mean()).all()
