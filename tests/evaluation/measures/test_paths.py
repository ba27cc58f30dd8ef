"""Each path holds every row once, and the median one is a path."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sentio_kedro.evaluation.measures.paths import median_path, once_a_bar, path_places


def test_rows_that_do_not_come_again_are_one_path_as_they_stand() -> None:
    (only,) = path_places([7, 3, 5])
    assert only.tolist() == [0, 1, 2]


def test_the_kth_entry_of_a_row_belongs_to_the_kth_path() -> None:
    assert [places.tolist() for places in path_places([1, 2, 1, 3, 2, 3])] == [[0, 1, 3], [2, 4, 5]]


def test_a_row_with_fewer_entries_begins_again_with_its_first() -> None:
    assert [places.tolist() for places in path_places([1, 2, 1])] == [[0, 1], [2, 1]]


def test_the_median_path_is_the_lower_one_of_two_and_bears_ruin() -> None:
    paths = path_places([0, 0, 0])
    assert median_path(np.array([0.3, -1.0, 0.1]), paths).tolist() == [2]
    assert median_path(np.array([0.3, -1.0]), path_places([0, 0])).tolist() == [1]


def test_all_accounts_follow_the_path_of_the_one_that_chooses() -> None:
    index = pd.MultiIndex.from_product([[0, 1, 2], [5, 6]], names=["fold", "row"])
    table = pd.DataFrame({"seed_0": [0.3, 0.3, 0.1, 0.2, -0.2, -0.2], "random": np.arange(6.0)}, index=index)
    cut = once_a_bar(table, "seed_0")
    assert cut["seed_0"].to_dict() == {5: 0.1, 6: 0.2}
    assert cut["random"].tolist() == [2.0, 3.0]
