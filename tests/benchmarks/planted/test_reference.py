"""The reference line: a ridge regression that sees train rows alone, and the best rule for what it says."""

import numpy as np
import pytest

from planted.catalogue import MARKETS
from planted.paths import PlantedPath
from planted.reference import ridge_positions, ridge_predictions
from planted.scores import share_of_optimum
from sentio_kedro.market.purged_folds import Segment

TRAIN = (Segment(20, 1_500), Segment(1_600, 4_000))
LEVELS = np.array([-1.0, 0.0, 1.0])


def drawn(name: str) -> tuple[PlantedPath, np.ndarray]:
    """A path, and as features its last returns and a column of noise; warm-up is NaN."""
    path = MARKETS[name].law.draw(8_000, seed=1)
    noise = np.random.default_rng(0).standard_normal((*path.returns.shape, 1))
    features = np.concatenate([path.returns[..., None], noise], axis=-1)
    features[:10] = np.nan
    return path, features


@pytest.mark.parametrize("name", ["ar1", "lag3", "lead_lag"])
def test_it_finds_a_linear_law_at_its_lag_and_in_other_assets(name: str) -> None:
    path, features = drawn(name)
    predictions = ridge_predictions(features, path.returns, TRAIN)
    unseen = slice(4_010, None)
    assert np.corrcoef(predictions[unseen, -1], path.means[unseen, -1])[0, 1] > 0.8


def test_later_returns_and_features_change_nothing() -> None:
    path, features = drawn("ar1")
    changed, moved = path.returns.copy(), features.copy()
    changed[4_001:], moved[4_000:] = 0.5, 9.0
    before, after = (ridge_predictions(f, r, TRAIN)[:4_000] for f, r in ((features, path.returns), (moved, changed)))
    assert np.array_equal(before, after, equal_nan=True)
    changed[4_000] = 0.5  # what the last train row predicts
    assert not np.array_equal(before, ridge_predictions(moved, changed, TRAIN)[:4_000], equal_nan=True)


@pytest.mark.parametrize("name", ["ar1", "reversal", "signal", "drift"])
def test_true_means_are_traded_as_the_optimum_does(name: str) -> None:
    market = MARKETS[name]
    path, cost = market.law.draw(8_000, seed=1), market.cost_bps * 1e-4
    optimum = market.law.optimum(path, cost, LEVELS)
    assert share_of_optimum(ridge_positions(path.means, TRAIN, cost, LEVELS), optimum, path.means, cost) > 0.995


def test_a_prediction_without_content_is_not_traded() -> None:
    assert not ridge_positions(np.zeros((4_000, 1)), TRAIN, 2e-4, LEVELS).any()
