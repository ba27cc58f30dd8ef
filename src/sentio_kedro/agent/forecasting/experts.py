"""Experts: regressions with scikit-learn's ``fit`` and ``predict`` on the design matrix of ``Dictionary``.

A new expert is a dataclass with these two methods and an entry in ``make_experts`` and ``EXPERTS``. What it has learnt
are its fields, arrays and numbers, so that it can be saved; it forecasts a row alone as among others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np

from sentio_kedro.agent.forecasting.dictionary import Dictionary
from sentio_kedro.agent.forecasting.regressions import Trees, linear
from sentio_kedro.agent.forecasting.targets import PREMIUM, Horizon
from sentio_kedro.market.ingestion.timestamps import Floats

MIN_T = 3.4  # |t| at which one of all columns enters a stepwise regression
PLAIN_MIN_T = 2.5  # |t| at which a plain input of an asset does: chance finds less among fewer
MOST_COLUMNS = 12
PENALTY = 0.5  # of squared coefficients of a one-bar segment, times the number of examples
TREE_EXAMPLES = 60_000
TREES = {"max_iter": 60, "learning_rate": 0.05, "max_leaf_nodes": 8, "l2_regularization": 50.0, "max_features": 0.5}


class Expert(Protocol):
    """A regression of targets on the design matrix."""

    def fit(self, inputs: Floats, targets: Floats, blocks: np.ndarray) -> Expert:
        """Fit on examples in order of time.

        Args:
            inputs: ``[n, P]``.
            targets: ``[n]``.
            blocks: ``[n]`` number of each example's block of time, never decreasing.
        """
        ...

    def predict(self, inputs: Floats) -> Floats:
        """Forecast the targets ``[n]`` of ``inputs`` ``[n, P]``."""
        ...


def block_sums(values: Floats, blocks: np.ndarray) -> Floats:
    """Sums of ``values`` ``[n, ...]`` over each block of examples ``[blocks, ...]``."""
    starts = np.flatnonzero(np.diff(blocks, prepend=blocks[:1] - 1))
    return np.asarray(np.add.reduceat(values, starts, axis=0))


def block_t(values: Floats, blocks: np.ndarray) -> float:
    """T statistic of the mean of ``values`` ``[n]`` that are dependent within blocks alone; 0 below 12 blocks.

    sum of the block sums / root of the sum of their squares (a sign-flip variance: under no effect the expectation of
    each block's sum is 0).
    """
    sums = block_sums(values, blocks) if values.size else np.zeros(0)
    scale = float(np.sqrt((sums**2).sum()))
    return float(sums.sum() / scale) if len(sums) >= 12 and scale > 0.0 else 0.0  # noqa: PLR2004


@dataclass
class Stepwise:
    """Least squares on the columns that enter one by one by their block-robust t.

    Attributes:
        min_t: |t| at which a column enters.
        stop: Column before which columns may enter; -2 leaves place and asset out.
        columns: ``[C]`` columns, in the order in which they entered.
        coefficients: ``[C]`` theirs.
    """

    min_t: float = MIN_T
    stop: int = -2
    columns: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    coefficients: Floats = field(default_factory=lambda: np.zeros(0))

    def fit(self, inputs: Floats, targets: Floats, blocks: np.ndarray) -> Stepwise:
        """Add the column with the largest |t| on the residual until none reaches ``min_t``."""
        inputs, targets = inputs[:, : self.stop], targets.astype(np.float32)
        edges = [*np.flatnonzero(np.diff(blocks, prepend=blocks[:1] - 1)), len(blocks)]
        residual = targets
        for _ in range(MOST_COLUMNS):
            sums = np.stack([residual[a:b] @ inputs[a:b] for a, b in pairwise(edges)])
            scale = np.sqrt((sums.astype(np.float64) ** 2).sum(axis=0))
            t = np.abs(np.where(scale > 0.0, sums.sum(axis=0) / np.maximum(scale, 1e-12), 0.0))
            t[self.columns] = 0.0
            best = int(np.argmax(t))
            if t[best] <= self.min_t:
                break
            self.columns = np.append(self.columns, best)
            chosen = inputs[:, self.columns].astype(np.float64)
            products, covariance = chosen.T @ chosen, chosen.T @ targets
            self.coefficients = np.linalg.lstsq(products, covariance, rcond=None)[0].astype(np.float64)
            residual = targets - (chosen @ self.coefficients).astype(np.float32)
        return self

    def predict(self, inputs: Floats) -> Floats:
        """Forecast; 0 without a column."""
        return linear(inputs, self.columns, self.coefficients)


@dataclass
class PlainRidge:
    """Ridge regression on the plain inputs.

    Attributes:
        plain: Number of plain inputs.
        penalty: Penalty of squared coefficients over the number of examples.
        coefficients: ``[plain]``.
    """

    plain: int
    penalty: float
    coefficients: Floats = field(default_factory=lambda: np.zeros(0))

    def fit(self, inputs: Floats, targets: Floats, blocks: np.ndarray) -> PlainRidge:
        """Fit; ``blocks`` are not used."""
        from sklearn.linear_model import Ridge  # type: ignore[import-untyped]  # noqa: PLC0415 - half a second

        regression = Ridge(alpha=self.penalty * len(targets), fit_intercept=False)
        self.coefficients = regression.fit(inputs[:, : self.plain].astype(np.float64), targets).coef_
        return self

    def predict(self, inputs: Floats) -> Floats:
        """Forecast."""
        return linear(inputs, np.arange(self.plain), self.coefficients)


@dataclass
class AssetStepwise:
    """A stepwise regression on the plain inputs for each asset alone: one may lead another, or have a law of its own.

    Attributes:
        plain: Number of plain inputs.
        coefficients: ``[assets, plain]``; 0 where a column did not enter, and for an asset without examples.
    """

    plain: int
    coefficients: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def fit(self, inputs: Floats, targets: Floats, blocks: np.ndarray) -> AssetStepwise:
        """Fit each asset's regression as ``Stepwise`` does."""
        asset = inputs[:, -1].astype(np.int64)
        self.coefficients = np.zeros((int(asset.max()) + 1, self.plain))
        for number in np.unique(asset):
            own = asset == number
            fitted = Stepwise(PLAIN_MIN_T, self.plain).fit(inputs[own], targets[own], blocks[own])
            self.coefficients[number, fitted.columns] = fitted.coefficients
        return self

    def predict(self, inputs: Floats) -> Floats:
        """Forecast; 0 for an asset without examples."""
        return linear(inputs, np.arange(self.plain), self.coefficients)


@dataclass
class TimeOfDay:
    """The mean of the targets by place in the day, shrunk to their common mean by its variance between places.

    Attributes:
        means: ``[places]`` shrunk means.
    """

    means: Floats = field(default_factory=lambda: np.zeros(1))

    def fit(self, inputs: Floats, targets: Floats, blocks: np.ndarray) -> TimeOfDay:
        """Take means over examples; ``blocks`` are not used.

        A place of n examples of variance v keeps the share t / (t + v / n) of its distance from the common mean, where
        t is the variance between places that the means show beyond chance (Efron and Morris, Data Analysis Using
        Stein's Estimator and its Generalizations, Journal of the American Statistical Association, 1975).
        """
        place = inputs[:, -2].astype(np.int64)
        counts = np.maximum(np.bincount(place), 1)
        means = np.bincount(place, targets) / counts
        error = float(targets.var()) / counts
        common = float(targets.mean())
        between = max(float(((means - common) ** 2 - error).mean()), 0.0)
        self.means = common + (means - common) * between / (between + error)
        return self

    def predict(self, inputs: Floats) -> Floats:
        """Forecast; the common mean where a place has no examples."""
        return np.asarray(self.means[np.minimum(inputs[:, -2].astype(np.int64), len(self.means) - 1)])


@dataclass
class BoostedTrees:
    """Boosted trees on the plain inputs, the place in the day and the asset.

    Attributes:
        plain: Number of plain inputs.
        seed: Seed of the features drawn at each split.
        baseline: Forecast before the first tree.
        trees: Their nodes.
    """

    plain: int
    seed: int = 0
    baseline: float = 0.0
    trees: Trees = field(default_factory=lambda: Trees(*[np.zeros(0)] * 6))

    def fit(self, inputs: Floats, targets: Floats, blocks: np.ndarray) -> BoostedTrees:
        """Fit on at most ``TREE_EXAMPLES`` examples, evenly spaced; ``blocks`` are not used."""
        from sklearn.ensemble import (  # type: ignore[import-untyped]  # noqa: PLC0415 - half a second
            HistGradientBoostingRegressor,
        )

        few = slice(None, None, math.ceil(len(targets) / TREE_EXAMPLES))
        columns = np.array([*range(self.plain), inputs.shape[1] - 2, inputs.shape[1] - 1])
        inputs, targets = inputs[few][:, columns], targets[few]
        leaf = max(60, len(targets) // 200)
        regression = HistGradientBoostingRegressor(
            **TREES, min_samples_leaf=leaf, max_bins=64, early_stopping=False, random_state=self.seed
        ).fit(inputs, targets)
        self.baseline, self.trees = float(regression._baseline_prediction.item()), Trees.of(regression, columns)
        return self

    def predict(self, inputs: Floats) -> Floats:
        """Forecast."""
        return self.trees.predict(inputs, self.baseline)


@dataclass
class PastMean:
    """The mean of all targets so far: what holding earns.

    Attributes:
        mean: That mean.
    """

    mean: float = 0.0

    def fit(self, inputs: Floats, targets: Floats, blocks: np.ndarray) -> PastMean:
        """Take the mean of ``targets``; nothing else is used."""
        self.mean = float(targets.mean())
        return self

    def predict(self, inputs: Floats) -> Floats:
        """Forecast the same everywhere."""
        return np.full(len(inputs), self.mean)


def make_experts(sleeve: str, dictionary: Dictionary, horizon: Horizon) -> Mapping[str, Expert]:
    """Fresh experts for a segment of a sleeve."""
    if sleeve == PREMIUM:
        return {"mean": PastMean()}
    return {
        "stepwise": Stepwise(),
        "ridge": PlainRidge(dictionary.plain, PENALTY * math.sqrt(horizon.last)),
        "trees": BoostedTrees(dictionary.plain),
        "asset_stepwise": AssetStepwise(dictionary.plain),
        "time_of_day": TimeOfDay(),
    }


EXPERTS = (Stepwise, PlainRidge, AssetStepwise, TimeOfDay, BoostedTrees, PastMean)
"""All kinds of experts."""
