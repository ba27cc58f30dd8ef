"""The reference line: a ridge regression on the agent's features and rows, traded by the best rule for what it says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV  # type: ignore[import-untyped]

from planted.control import autoregressive_positions
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Segment

LAGS = (1, 4)  # bars of features that a regression may see, the current one included
PENALTIES = np.logspace(0.0, 5.0, 11)
FEW_ASSETS = 4  # up to so many, the regression of an asset sees the features of all
SCALED_LIMIT = 5.0  # scaled features are clipped here
LARGEST_PERSISTENCE = 0.99


def ridge_predictions(features: Floats, returns: Floats, train: Sequence[Segment]) -> Floats:
    """Predict each asset's next return by a ridge regression of its own.

    The penalty, and whether it sees the current bar's features or those of the last bars too, are chosen by
    leave-one-out error on the train rows.

    Args:
        features: ``[T, A, F]``; NaN in warm-up.
        returns: ``[T, A]`` log returns.
        train: Decision rows to fit on, each with ``max(LAGS)`` rows of finite features and a next return.

    Returns:
        ``[T, A]``, NaN where the features are.
    """
    rows = segment_rows(train)
    predictions = np.empty_like(returns)
    for asset in range(returns.shape[1]):
        visible = features if returns.shape[1] <= FEW_ASSETS else features[:, [asset]]
        fits = [_fit(visible.reshape(len(visible), -1), returns[:, asset], rows, lags) for lags in LAGS]
        predictions[:, asset] = max(fits, key=lambda fit: fit[0])[1]
    return predictions


def _fit(values: Floats, returns: Floats, rows: NDArray[np.int64], lags: int) -> tuple[float, Floats]:
    """Return the leave-one-out score on ``rows`` and the predictions ``[T]``."""
    inputs = _scaled(_lagged(values, lags), rows)
    unit = returns[rows + 1].std()
    model = RidgeCV(alphas=PENALTIES).fit(inputs[rows], returns[rows + 1] / unit)
    complete = np.isfinite(inputs).all(-1)
    predictions = np.full(len(values), np.nan)
    predictions[complete] = model.predict(inputs[complete]) * unit
    return float(model.best_score_), predictions


def ridge_positions(predictions: Floats, train: Sequence[Segment], cost: float, levels: Floats) -> Floats:
    """Trade predictions as if they were conditional means that follow a first-order autoregression.

    Their mean, persistence and deviation are taken from the train rows. The rule is the best one for such means; it
    knows less than the optimum where the law predicts more than one bar.

    Args:
        predictions: ``[T, A]``; NaN counts as their mean.
        train: Rows that the law of the predictions is fitted on.
        cost: Cost of trading, fraction of notional.
        levels: ``[P]`` positions of one asset, fraction of equity, one of them 0.

    Returns:
        ``[T, A]`` positions.
    """
    rows = segment_rows(train)
    positions = np.empty_like(predictions)
    for asset in range(predictions.shape[1]):
        mean = float(predictions[rows, asset].mean())
        deviations = np.nan_to_num(predictions[:, asset] - mean)
        variance = float((deviations[rows] ** 2).mean())
        together = float((deviations[rows[1:]] * deviations[rows[1:] - 1]).mean())
        limit = LARGEST_PERSISTENCE
        persistence = float(np.clip(together / variance, -limit, limit)) if variance > 0.0 else 0.0
        sigma = (variance * (1.0 - persistence**2)) ** 0.5
        positions[:, asset] = autoregressive_positions(deviations, persistence, sigma, 1.0, cost, levels, mean=mean)
    return positions


def segment_rows(segments: Sequence[Segment]) -> NDArray[np.int64]:
    """Return the rows of segments in order."""
    return np.concatenate([np.arange(segment.start, segment.stop) for segment in segments])


def _lagged(values: Floats, lags: int) -> Floats:
    """Lay ``lags`` rows of ``values`` ``[T, N]`` side by side: ``[T, lags N]``, NaN before the first."""
    padded = np.vstack([np.full((lags - 1, values.shape[1]), np.nan), values])
    return np.hstack([padded[lags - 1 - lag : len(padded) - lag] for lag in range(lags)])


def _scaled(inputs: Floats, rows: NDArray[np.int64]) -> Floats:
    """Scale by mean and deviation of the rows given, and clip."""
    deviation = inputs[rows].std(axis=0)
    scaled = (inputs - inputs[rows].mean(axis=0)) / np.where(deviation > 1e-8, deviation, 1.0)  # noqa: PLR2004 - constant
    return np.asarray(np.clip(scaled, -SCALED_LIMIT, SCALED_LIMIT))
