"""Drift of the newest bars' features from those that agents were trained on: population stability index.

The index compares shares of two samples in bins: the symmetric divergence of Kullback and Leibler. By convention below
0.1 is no shift, above 0.25 a large one (Siddiqi 2006, Credit Risk Scorecards). Samples of n and m independent values of
one law show about (bins - 1) (1 / n + 1 / m) (Yurdakul and Naranjo 2020, Statistical Properties of the Population
Stability Index, Journal of Risk Model Validation 14); dependent values show more, so that few bars drift without a
change. A p-value would call every change of volatility over thousands of dependent bars significant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10
PRIOR = 0.5  # added to each bin's count, so that an empty one does not make the index infinite


def stability_index(train: Floats, newest: Floats) -> float | None:
    """Population stability index of one feature.

    Args:
        train: Its values on train bars, any shape; values that are not finite are left out.
        newest: Its values on the newest bars.

    Returns:
        Sum over bins of (newest share - train share) ln(newest share / train share), with deciles of the train values
        as bins; None if a sample is empty.
    """
    before, after = (values[np.isfinite(values)] for values in (train, newest))
    if not len(before) or not len(after):
        return None
    borders = np.unique(np.quantile(before, np.linspace(0.0, 1.0, BINS + 1)[1:-1]))
    expected, observed = _shares(before, borders), _shares(after, borders)
    return float(((observed - expected) * np.log(observed / expected)).sum())


def _shares(values: Floats, borders: Floats) -> Floats:
    counts = np.bincount(np.searchsorted(borders, values, side="left"), minlength=len(borders) + 1) + PRIOR
    shares: Floats = counts / counts.sum()
    return shares


def feature_drift(train: Floats, newest: Floats) -> float | None:
    """Mean population stability index over features; None if one is undefined.

    Args:
        train: Features of the train bars, [T, A, F].
        newest: Features of the newest bars, [S, A, F].
    """
    indices = [stability_index(train[..., number], newest[..., number]) for number in range(train.shape[-1])]
    defined = [index for index in indices if index is not None]
    return float(np.mean(defined)) if defined and len(defined) == len(indices) else None
