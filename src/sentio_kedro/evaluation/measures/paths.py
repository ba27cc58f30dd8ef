"""Backtest paths: complete histories put together from folds that test the same rows several times.

The k-th fold that tests a row belongs to the k-th path, so that each path holds every row once (Lopez de Prado,
Advances in Financial Machine Learning, 2018, chapter 12).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Places = NDArray[np.int64]
MIN_GROWTH = 1e-12  # of an account that lost everything, so that its logarithm is finite


def path_places(rows: ArrayLike) -> list[Places]:
    """Split the entries of a table into paths.

    Args:
        rows: Row number or time of each entry, entries of earlier folds first, [E].

    Returns:
        Places of the entries of each path, in order of the rows; all places unchanged if no row repeats. A row with
        fewer entries than there are paths starts over with its first entry.
    """
    values = np.asarray(rows)
    order = np.argsort(values, kind="stable")
    _, first, count = np.unique(values[order], return_index=True, return_counts=True)
    if len(first) == len(values):
        return [np.arange(len(values))]
    return [order[first + number % count] for number in range(int(count.max()))]


def table_paths(table: pd.DataFrame) -> list[Places]:
    """Paths of a table with index ``(fold, row)``, in order of fold and row; see ``path_places``."""
    return path_places(table.index.get_level_values("row").to_numpy())


def median_place(totals: Sequence[Any]) -> int:
    """Place of the median total return, the lower of two in the middle."""
    return int(np.argsort(np.asarray(totals, dtype=np.float64), kind="stable")[(len(totals) - 1) // 2])


def median_path(returns: NDArray[np.float64], paths: Sequence[Places]) -> Places:
    """Path with the median total return, the lower of two in the middle.

    Args:
        returns: Simple returns of one account in every fold, [E].
        paths: See ``path_places``.
    """
    growth = np.log1p(np.maximum(returns, MIN_GROWTH - 1.0))
    return paths[median_place([growth[places].sum() for places in paths])]


def once_a_bar(returns: pd.DataFrame, account: str) -> pd.DataFrame:
    """Reduce a table to the median path of an account, so that each bar counts once.

    Args:
        returns: Simple returns, index ``(fold, row)`` in order of fold and row, one column per account.
        account: Account whose total returns choose the path.

    Returns:
        Index ``row``, in order; the returns of each account in the folds of that path.
    """
    places = median_path(returns[account].to_numpy(dtype=np.float64), table_paths(returns))
    return returns.iloc[places].droplevel("fold").sort_index()
