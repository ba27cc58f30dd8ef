"""Which feature columns have anything to say: a sparse regression on train rows, before any network sees them.

A network that sees twenty columns with a few thousand noisy rows learns twenty coincidences. The lasso's path with an
information criterion (Zou, Hastie and Tibshirani, On the degrees of freedom of the lasso, Annals of Statistics 2007)
keeps what pays for its own degree of freedom. Of hundreds of candidates some pass ``bic`` by chance: one, on
average, of some thousand rows of noise. ``ebic`` asks for more (Chen and Chen, Extended Bayesian information criteria,
Biometrika 2008, gamma 1/2) and misses weak signals.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from threading import Lock
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
from sklearn.linear_model import lars_path  # type: ignore[import-untyped]

from sentio_kedro.market.fold_shapes import Segment
from sentio_kedro.market.timestamps import Floats

Mask = NDArray[np.bool_]
Criterion = Literal["bic", "ebic"]

FEW_ASSETS = 4  # up to so many, an asset's return may follow from the columns of all
SHARE_OF_ASSETS = 0.25  # of many, so many must need a column or a lag: at least two, since many find more by chance
LONGEST_PATH = 64  # steps of the lasso's path
SCALED_LIMIT = 5.0  # scaled columns are clipped here, as in the network
MIN_ROWS = 100  # fewer tell nothing: all is kept
MIN_DEVIATION = 1e-8
VALUE, SIZE = 0, 1  # shapes in which a column is offered; those after them are its products with the posterior
EVEN = 0.5  # least correlation of a column with itself on the mirrored bars
_LISTENING = Lock()


class Screening(NamedTuple):
    """What is worth hearing.

    Attributes:
        values: ``[F]`` whether a column's value is kept, for its own sake or with the regimes'.
        sizes: ``[F]`` whether the size of a column is kept (its scaled distance from the mean, for even signals).
        direct: ``[F]`` whether a column's value foretells the return whatever the regime.
        lags: ``[k]`` whether a column of so many bars ago is heard on its own: up to the longest lag that foretells the
            next bar, since what will foretell it in some bars is known now.
        pairs: ``[A, A]`` whether the first asset's next return needs a column of the second. All are, where assets are
            too many to be looked at together.
    """

    values: Mask
    sizes: Mask
    direct: Mask
    lags: Mask
    pairs: Mask

    @property
    def columns(self) -> Mask:
        """``[F]`` whether anything of a column is kept."""
        return self.values | self.sizes


def screen(
    features: Floats, returns: Floats, posterior: Floats, train: Sequence[Segment], lags: int, criterion: Criterion
) -> Screening:
    """Keep the columns and lags that foretell the next bar's return on train rows.

    Each asset's return is regressed on the columns of the last bars, on their sizes (distance from the mean, for even
    signals), and on their products with the regimes' probabilities. What acts only together with another column, or
    adds up over more bars than ``lags``, is not found.

    Args:
        features: ``[T, A, F]``; NaN in warm-up.
        returns: ``[T, A]`` log returns of the bar before each stamp; NaN where there is none.
        posterior: ``[T, K]`` filtered probabilities of the regimes.
        train: Decision rows; the return after each is known.
        lags: Bars k that are heard one by one, the present one included.
        criterion: What one more coefficient must gain: log n (``bic``), or log n + log p (``ebic``).

    Returns:
        What is kept; the value of every column where no asset has enough rows to tell.
    """
    steps, assets, count = features.shape
    rows = np.concatenate([np.arange(max(part.start, lags - 1), min(part.stop, steps - 1)) for part in train])
    known = [np.isfinite(features[rows, asset]).all(axis=-1).sum() >= MIN_ROWS for asset in range(assets)]
    pooled = np.flatnonzero(known) if assets <= FEW_ASSETS else None
    told, pairs = [], np.ones((assets, assets), dtype=bool)
    for asset in np.flatnonzero(known):
        seen = features[:, [asset] if pooled is None else pooled]
        chosen = _chosen(seen, returns[:, asset], posterior, rows, lags, criterion)
        if chosen is None:
            continue
        told.append(chosen)
        if pooled is not None:
            pairs[asset] = np.isin(np.arange(assets), pooled[chosen.any(axis=(0, 1, 3))])
    if not told:
        every, none = np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
        return Screening(every, none, none, np.ones(lags, dtype=bool), pairs)
    shapes = np.array([chosen.any(axis=(0, 2)) for chosen in told])  # [told, shapes, F]
    selected_features = np.sum([chosen.any(axis=(1, 2, 3)) for chosen in told], axis=0)
    needed = 1.0 if assets <= FEW_ASSETS else max(1.0, SHARE_OF_ASSETS * len(told))
    longest = np.flatnonzero(selected_features >= needed).max(initial=0)
    direct, sizes = (shapes[:, shape].sum(axis=0) >= needed for shape in (VALUE, SIZE))
    columns = shapes.any(axis=1).sum(axis=0) >= needed
    own = np.delete(shapes, SIZE, axis=1).any(axis=1).sum(axis=0) >= needed
    return Screening(columns & (own | ~sizes), sizes, direct, np.arange(lags) <= longest, pairs)


def unmoved(features: Floats, mirrored: Floats, train: Sequence[Segment]) -> Mask:
    """Say which columns are the same on bars mirrored in log price, such as those of volume and volatility.

    Args:
        features: ``[T, A, F]``; NaN where unknown.
        mirrored: ``[T, A, F]`` the same columns of the mirrored bars.
        train: Rows to compare.

    Returns:
        ``[F]`` whether the two have a correlation of at least a half.
    """
    rows = np.concatenate([np.arange(part.start, part.stop) for part in train])
    found = np.zeros(features.shape[2], dtype=bool)
    for column in range(features.shape[2]):
        pair = np.stack([features[rows, :, column].ravel(), mirrored[rows, :, column].ravel()])
        pair = pair[:, np.isfinite(pair).all(axis=0)]
        if pair.shape[1] >= MIN_ROWS:
            ours, theirs = pair - pair.mean(axis=1, keepdims=True)
            scale = np.sqrt((ours @ ours) * (theirs @ theirs))
            found[column] = scale > MIN_DEVIATION**2 * ours.size and ours @ theirs >= EVEN * scale
    return found


def _chosen(
    seen: Floats, returns: Floats, posterior: Floats, rows: NDArray[np.int64], lags: int, criterion: Criterion
) -> Mask | None:
    """Say what one asset's return needs: ``[lags, shapes, assets, F]`` bool; None if too few rows are whole."""
    past = np.stack([seen[rows - lag] for lag in range(lags)], axis=1)  # [n, lags, A, F]
    target = returns[rows + 1]
    whole = np.isfinite(past).all(axis=(1, 2, 3)) & np.isfinite(target)
    if whole.sum() < MIN_ROWS:
        return None
    scaled = _scaled(past[whole])
    shapes = [scaled, _scaled(np.abs(scaled))]
    if posterior.shape[1] > 1:
        likelier = posterior[rows][whole] - posterior[rows][whole].mean(axis=0)
        shapes += [_scaled(scaled * state[:, None, None, None]) for state in likelier.T]
    inputs = np.stack(shapes, axis=2)  # [n, lags, shapes, A, F]
    shape = inputs.shape[1:]
    target = _scaled(target[whole])
    return _needed(inputs.reshape(len(inputs), -1), target, criterion).reshape(shape)


def _needed(inputs: Floats, target: Floats, criterion: Criterion) -> Mask:
    """Say which inputs ``[n, p]`` the target ``[n]`` needs: the best prefix of the path, each fitted anew ``[p]``.

    Both have mean 0. A fit's misfit is minus twice its log likelihood with normal residuals, up to a constant.
    """
    rows, floor = len(target), MIN_DEVIATION * len(target)
    products, covariance, total = inputs.T @ inputs, inputs.T @ target, float(target @ target)
    with _LISTENING, warnings.catch_warnings():  # the filters are the process's, and agents train in threads
        warnings.simplefilter("ignore", ConvergenceWarning)  # columns that repeat each other end the path early
        _, _, path = lars_path(inputs, target, Gram=products, Xy=covariance, max_iter=LONGEST_PATH, method="lasso")
    price = math.log(rows) + (math.log(inputs.shape[1]) if criterion == "ebic" else 0.0)
    best, chosen = rows * math.log(max(total, floor)), np.zeros(inputs.shape[1], dtype=bool)
    for active in (path != 0.0).T:
        own = covariance[active]
        explained = float(own @ np.linalg.lstsq(products[np.ix_(active, active)], own, rcond=None)[0])
        score = rows * math.log(max(total - explained, floor)) + price * int(active.sum())
        if score < best:
            best, chosen = score, active
    return chosen


def _scaled(values: Floats) -> Floats:
    """Scale ``[n, ...]`` by mean and deviation over rows, clip, and take away the mean that is left."""
    deviation = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(deviation > MIN_DEVIATION, deviation, 1.0)
    clipped = np.clip(scaled, -SCALED_LIMIT, SCALED_LIMIT)
    return np.asarray(clipped - clipped.mean(axis=0))
