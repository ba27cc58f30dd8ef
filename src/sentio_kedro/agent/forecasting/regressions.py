"""Compiled predictions of fitted regressions: of a row the same bits, alone or among others."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.trading.compilation import compiled

LEAF = -1  # in place of a column


class Trees(NamedTuple):
    """Nodes of boosted trees, one tree after the other.

    Attributes:
        roots: ``[trees]`` first node of each tree.
        columns: ``[nodes]`` column that a node asks for, ``LEAF`` for none.
        thresholds: ``[nodes]`` up to which a row goes left.
        left: ``[nodes]`` node reached then.
        right: ``[nodes]`` node reached else.
        values: ``[nodes]`` of leaves.
    """

    roots: np.ndarray
    columns: np.ndarray
    thresholds: Floats
    left: np.ndarray
    right: np.ndarray
    values: Floats

    @classmethod
    def of(cls, regression: Any, columns: np.ndarray) -> Trees:
        """Read the nodes of a fitted ``HistGradientBoostingRegressor`` without categories.

        Args:
            regression: The regressor.
            columns: ``[features]`` column of the design matrix of each of its features.
        """
        trees = [tree.nodes for (tree,) in regression._predictors]  # no public name; a test compares with its `predict`
        sizes = np.array([len(nodes) for nodes in trees])
        roots, nodes = np.cumsum(sizes) - sizes, np.concatenate(trees)
        first = np.repeat(roots, sizes)
        asked = np.where(nodes["is_leaf"] == 1, LEAF, columns[nodes["feature_idx"]])
        left, right = first + nodes["left"], first + nodes["right"]
        return cls(roots, asked, nodes["num_threshold"].copy(), left, right, nodes["value"].copy())

    def predict(self, inputs: Floats, baseline: float) -> Floats:
        """Add to ``baseline``, tree by tree, the leaves that ``inputs`` ``[n, P]`` without NaN end in ``[n]``."""
        found = np.full(len(inputs), baseline)
        _add_trees(inputs, *self, found)
        return found


def linear(inputs: Floats, columns: np.ndarray, coefficients: Floats) -> Floats:
    """Return inputs x coefficients ``[n]``.

    Args:
        inputs: ``[n, P]``, the number of the asset in the last column.
        columns: ``[C]`` columns read.
        coefficients: ``[C]``, or ``[A, C]`` if each asset has its own; 0 for other assets.
    """
    found, own = np.zeros(len(inputs)), coefficients.ndim > 1
    _add_linear(inputs, columns, np.ascontiguousarray(np.atleast_2d(coefficients)), own, found)
    return found


@compiled
def _add_linear(inputs: Floats, columns: np.ndarray, coefficients: Floats, own: bool, found: Floats) -> None:
    for row in range(inputs.shape[0]):
        asset = int(inputs[row, inputs.shape[1] - 1]) if own else 0
        if asset < coefficients.shape[0]:
            total = 0.0
            for place in range(len(columns)):
                total += float(inputs[row, columns[place]]) * coefficients[asset, place]
            found[row] += total


@compiled
def _add_trees(
    inputs: Floats,
    roots: np.ndarray,
    columns: np.ndarray,
    thresholds: Floats,
    left: np.ndarray,
    right: np.ndarray,
    values: Floats,
    found: Floats,
) -> None:
    for row in range(inputs.shape[0]):
        for tree in range(len(roots)):
            node = roots[tree]
            while columns[node] != LEAF:
                node = left[node] if inputs[row, columns[node]] <= thresholds[node] else right[node]
            found[row] += values[node]
