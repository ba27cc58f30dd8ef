"""Our folds against the splitters of skfolio and scikit-learn, where the definitions coincide.

They count samples, we count decision rows: their sample i is our row I - 1 + i (input span I), and their samples end
with our last row, H bars before the last bar (reward span H). Then

- ``CombinatorialPurgedCV``: ``purged_size`` = H - 1 and ``embargo_size`` = I, as a row whose reward ends with the bar
  of the first tested decision still shares no return with it. Groups are equal only if they divide the rows: skfolio
  gives what is left over to the last group, we spread it. It has no validation rows; ours are the last group
  that is not tested, so its train rows are our train and validation rows and the H - 1 rows purged between the two.
- ``WalkForward``: ``purged_size`` = H - 1. Only the expanding window is compared: our rolling window counts train rows
  and its validation rows grow, skfolio's counts all rows before the test block.
- k-fold: skfolio's needs two test folds at least; the test blocks are those of scikit-learn's ``KFold``.
"""

import numpy as np
import pytest
from skfolio.model_selection import CombinatorialPurgedCV, WalkForward
from sklearn.model_selection import KFold

from sentio_kedro.config import CrossValidationParameters
from sentio_kedro.market.folds import make_folds
from sentio_kedro.market.purged_folds import Spans, combinatorial_paths

SPANS = [Spans(input=9, reward=1, episode=3), Spans(input=6, reward=4, episode=3), Spans(input=1, reward=1, episode=3)]


def rows_of(segments):
    return [row for segment in segments for row in range(segment.start, segment.stop)]


def samples_of(segments, spans):
    return np.array(rows_of(segments)) - (spans.input - 1)


def bars_for(samples, spans):
    return samples + spans.input - 1 + spans.reward


def seen_by_peer(fold, spans):
    """Train and validation rows with the rows that were purged between them alone, as samples."""
    first = fold.validation[0].start
    last = first - spans.reward + 1
    between = range(last, first) if fold.train[-1].stop == last else ()  # else a test block lies between
    rows = {*rows_of(fold.train), *rows_of(fold.validation), *between}
    return np.array(sorted(rows)) - (spans.input - 1)


@pytest.mark.parametrize("spans", SPANS)
@pytest.mark.parametrize(("groups", "tested"), [(6, 2), (5, 3), (8, 2)])
def test_combinatorial_folds_are_those_of_skfolio(spans, groups, tested):
    samples = groups * 30
    parameters = CrossValidationParameters(scheme="combinatorial", groups=groups, test_groups=tested, lockbox=None)
    peer = CombinatorialPurgedCV(groups, tested, purged_size=spans.reward - 1, embargo_size=spans.input)
    folds = make_folds(bars_for(samples, spans), spans, parameters)
    assert len(folds) == peer.n_splits
    for fold, (train, test) in zip(folds, peer.split(np.zeros((samples, 1))), strict=True):
        np.testing.assert_array_equal(samples_of(fold.test, spans), np.concatenate(test))
        np.testing.assert_array_equal(seen_by_peer(fold, spans), train)


@pytest.mark.parametrize(("groups", "tested"), [(6, 2), (5, 3), (8, 2)])
def test_backtest_paths_are_those_of_skfolio(groups, tested):
    peer = CombinatorialPurgedCV(groups, tested)
    paths = combinatorial_paths(groups, tested)
    for fold, (tested_groups, numbers) in enumerate(zip(peer.test_set_index, peer.get_path_ids(), strict=True)):
        assert [paths[fold, group] for group in tested_groups.tolist()] == numbers.tolist()
    assert max(paths.values()) + 1 == peer.n_test_paths


@pytest.mark.parametrize("spans", SPANS)
@pytest.mark.parametrize("blocks", [1, 4])
def test_expanding_walk_forward_folds_are_those_of_skfolio(spans, blocks):
    samples, first = 240, 120
    parameters = CrossValidationParameters(folds=blocks, first_test=0.5, validation=0.2, lockbox=None)
    purged = spans.reward - 1
    peer = WalkForward(
        test_size=(samples - first) // blocks, train_size=first - purged, expand_train=True, purged_size=purged
    )
    folds = make_folds(bars_for(samples, spans), spans, parameters)
    splits = list(peer.split(np.zeros((samples, 1))))
    assert len(folds) == len(splits)
    for fold, (train, test) in zip(folds, splits, strict=True):
        np.testing.assert_array_equal(samples_of(fold.test, spans), test)
        np.testing.assert_array_equal(seen_by_peer(fold, spans), train)


@pytest.mark.parametrize("blocks", [2, 5])
def test_blocks_of_a_k_fold_are_those_of_scikit_learn(blocks):
    spans, samples = SPANS[1], 40 * blocks
    parameters = CrossValidationParameters(scheme="k_fold", folds=blocks, validation=0.3, lockbox=None)
    folds = make_folds(bars_for(samples, spans), spans, parameters)
    for fold, (_, test) in zip(folds, KFold(blocks).split(np.zeros((samples, 1))), strict=True):
        np.testing.assert_array_equal(samples_of(fold.test, spans), test)
