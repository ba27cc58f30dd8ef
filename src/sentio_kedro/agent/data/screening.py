"""Selection of feature columns by a sparse regression on the train rows, before any network is trained.

A network of twenty columns and a few thousand noisy rows learns twenty coincidences. The lasso's path with an
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

from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.timestamps import Floats

Mask = NDArray[np.bool_]
Criterion = Literal["bic", "ebic"]

FEW_ASSETS = 4  # up to so many, an asset's return may follow from the columns of all
SHARE_OF_ASSETS = 0.25  # with more assets, this share of them (two at least) must select a column or a lag
LONGEST_PATH = 64  # steps of the lasso's path
SCALED_LIMIT = 5.0  # scaled columns are clipped here, as in the network
MIN_ROWS = 100  # with fewer every column is kept
MIN_DEVIATION = 1e-8
VALUE, SIZE = 0, 1  # shapes of a column in the regression; those after them are its products with the posterior
MIN_CORRELATION = 0.5  # of a mirror-invariant column with itself on the mirrored bars
_WARNINGS = Lock()


class Screening(NamedTuple):
    """Features selected for one fold.

    Attributes:
        values: ``[F]`` whether a column's value is kept, for its own sake or with the regimes'.
        sizes: ``[F]`` whether the size of a column is kept (its scaled distance from the mean).
        direct: ``[F]`` whether a column's value predicts the return whatever the regime.
        lags: ``[k]`` lags of the convolution: up to the longest one that predicts the next bar, since a column that
            predicts some bars ahead is available now.
        asset_mask: ``[A, A]`` whether a column of the second asset predicts the first one's next return. All true where
            assets are too many for a joint regression.
    """

    values: Mask
    sizes: Mask
    direct: Mask
    lags: Mask
    asset_mask: Mask

    @property
    def columns(self) -> Mask:
        """``[F]`` whether anything of a column is kept."""
        return self.values | self.sizes


def screen(
    features: Floats, returns: Floats, posterior: Floats, train: Sequence[Segment], lags: int, criterion: Criterion
) -> Screening:
    """Select the columns and lags that predict the next bar's return on train rows.

    Each asset's return is regressed on the columns of the last bars, on their sizes (distance from the mean), and on
    their products with the regimes' probabilities. Effects of two columns together, or of more bars than ``lags``, are
    not detected.

    Args:
        features: ``[T, A, F]``; NaN in warm-up.
        returns: ``[T, A]`` log returns of the bar before each timestamp; NaN where there is none.
        posterior: ``[T, K]`` filtered probabilities of the regimes.
        train: Decision rows; the return after each is in ``returns``.
        lags: Lags k of the convolution, the present bar included.
        criterion: Penalty of one more coefficient: log n (``bic``), or log n + log p (``ebic``).

    Returns:
        The selection; the value of every column where no asset has enough rows.
    """
    steps, assets, count = features.shape
    rows = np.concatenate([np.arange(max(part.start, lags - 1), min(part.stop, steps - 1)) for part in train])
    enough = [np.isfinite(features[rows, asset]).all(axis=-1).sum() >= MIN_ROWS for asset in range(assets)]
    pooled = np.flatnonzero(enough) if assets <= FEW_ASSETS else None
    selections, asset_mask = [], np.ones((assets, assets), dtype=bool)
    for asset in np.flatnonzero(enough):
        visible = features[:, [asset] if pooled is None else pooled]
        selection = _select_for_asset(visible, returns[:, asset], posterior, rows, lags, criterion)
        if selection is None:
            continue
        selections.append(selection)
        if pooled is not None:
            asset_mask[asset] = np.isin(np.arange(assets), pooled[selection.any(axis=(0, 1, 3))])
    if not selections:
        every, none = np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
        return Screening(every, none, none, np.ones(lags, dtype=bool), asset_mask)
    shapes = np.array([selection.any(axis=(0, 2)) for selection in selections])  # [selections, shapes, F]
    selections_per_lag = np.sum([selection.any(axis=(1, 2, 3)) for selection in selections], axis=0)
    required = 1.0 if assets <= FEW_ASSETS else max(1.0, SHARE_OF_ASSETS * len(selections))
    longest = np.flatnonzero(selections_per_lag >= required).max(initial=0)
    direct, sizes = (shapes[:, shape].sum(axis=0) >= required for shape in (VALUE, SIZE))
    columns = shapes.any(axis=1).sum(axis=0) >= required
    by_value = np.delete(shapes, SIZE, axis=1).any(axis=1).sum(axis=0) >= required
    return Screening(columns & (by_value | ~sizes), sizes, direct, np.arange(lags) <= longest, asset_mask)


def mirror_invariant_columns(features: Floats, mirrored: Floats, train: Sequence[Segment]) -> Mask:
    """Find the columns that are the same on bars mirrored in log price, such as volume and volatility.

    Args:
        features: ``[T, A, F]``; NaN where unknown.
        mirrored: ``[T, A, F]`` the same columns of the mirrored bars.
        train: Rows to compare.

    Returns:
        ``[F]`` whether the two have a correlation of at least a half.
    """
    rows = np.concatenate([np.arange(part.start, part.stop) for part in train])
    invariant = np.zeros(features.shape[2], dtype=bool)
    for column in range(features.shape[2]):
        pair = np.stack([features[rows, :, column].ravel(), mirrored[rows, :, column].ravel()])
        pair = pair[:, np.isfinite(pair).all(axis=0)]
        if pair.shape[1] >= MIN_ROWS:
            original, reflected = pair - pair.mean(axis=1, keepdims=True)
            scale = np.sqrt((original @ original) * (reflected @ reflected))
            invariant[column] = (
                scale > MIN_DEVIATION**2 * original.size and original @ reflected >= MIN_CORRELATION * scale
            )
    return invariant


def _select_for_asset(
    features: Floats, returns: Floats, posterior: Floats, rows: NDArray[np.int64], lags: int, criterion: Criterion
) -> Mask | None:
    """Select the inputs of one asset's return: ``[lags, shapes, assets, F]`` bool; None with too few complete rows."""
    past = np.stack([features[rows - lag] for lag in range(lags)], axis=1)  # [n, lags, A, F]
    target = returns[rows + 1]
    complete = np.isfinite(past).all(axis=(1, 2, 3)) & np.isfinite(target)
    if complete.sum() < MIN_ROWS:
        return None
    scaled = _scaled(past[complete])
    shapes = [scaled, _scaled(np.abs(scaled))]
    if posterior.shape[1] > 1:
        centred = posterior[rows][complete] - posterior[rows][complete].mean(axis=0)
        shapes += [_scaled(scaled * state[:, None, None, None]) for state in centred.T]
    inputs = np.stack(shapes, axis=2)  # [n, lags, shapes, A, F]
    shape = inputs.shape[1:]
    target = _scaled(target[complete])
    return _select_inputs(inputs.reshape(len(inputs), -1), target, criterion).reshape(shape)


def _select_inputs(inputs: Floats, target: Floats, criterion: Criterion) -> Mask:
    """Select inputs ``[n, p]`` of the target ``[n]``: the best prefix of the path, each refitted ``[p]``.

    Both have mean 0. The misfit is minus twice its log likelihood with normal residuals, up to a constant.
    """
    rows, floor = len(target), MIN_DEVIATION * len(target)
    products, covariance, total = inputs.T @ inputs, inputs.T @ target, float(target @ target)
    with _WARNINGS, warnings.catch_warnings():  # the filters are the process's, and agents train in threads
        warnings.simplefilter("ignore", ConvergenceWarning)  # columns that repeat each other end the path early
        _, _, path = lars_path(inputs, target, Gram=products, Xy=covariance, max_iter=LONGEST_PATH, method="lasso")
    penalty = math.log(rows) + (math.log(inputs.shape[1]) if criterion == "ebic" else 0.0)
    best, selection = rows * math.log(max(total, floor)), np.zeros(inputs.shape[1], dtype=bool)
    for active in (path != 0.0).T:
        active_covariance = covariance[active]
        explained = float(
            active_covariance @ np.linalg.lstsq(products[np.ix_(active, active)], active_covariance, rcond=None)[0]
        )
        score = rows * math.log(max(total - explained, floor)) + penalty * int(active.sum())
        if score < best:
            best, selection = score, active
    return selection


def _scaled(values: Floats) -> Floats:
    """Scale ``[n, ...]`` by mean and deviation over rows, clip, and subtract the remaining mean."""
    deviation = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(deviation > MIN_DEVIATION, deviation, 1.0)
    clipped = np.clip(scaled, -SCALED_LIMIT, SCALED_LIMIT)
    return np.asarray(clipped - clipped.mean(axis=0))
