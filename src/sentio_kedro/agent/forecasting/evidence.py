"""Evidence for forecasts on out-of-fold rows, and what it leaves of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sentio_kedro.agent.forecasting.experts import block_sums, block_t
from sentio_kedro.agent.forecasting.targets import Horizon
from sentio_kedro.market.ingestion.timestamps import Floats

MIN_T = 2.0  # of an expert, and of the combination of experts
SLEEVE_MIN_T = 2.5  # of the combination of a sleeve's best segment: five segments are five chances
MAX_WEIGHT = 1.5
MAX_SLOPE = 2.0
BLOCKS, SHORTEST, LONGEST = 120, 10, 96  # blocks of time that are aimed at, and their length in bars


class Evidence(NamedTuple):
    """What the out-of-fold rows say about the forecasts of one segment.

    Attributes:
        t: ``[E]`` block-robust t of each expert.
        correlation: ``[E]`` of each expert's forecast and the target.
        combined_t: T of the combination; 0 without an expert.
        weights: ``[E]`` of the experts, shrunk; 0 without evidence.
        slopes: ``[A]`` factor of each asset's forecast, from 0 to 2.
    """

    t: Floats
    correlation: Floats
    combined_t: float
    weights: Floats
    slopes: Floats


def block_length(rows: int, horizon: Horizon) -> int:
    """Bars of a block: a 120th of the rows, from 10 to 96, and at least twice the segment's last bar."""
    return max(int(np.clip(rows / BLOCKS, SHORTEST, LONGEST)), 2 * horizon.last)


def weigh(forecasts: Floats, targets: Floats, blocks: np.ndarray, assets: np.ndarray, count: int) -> Evidence:
    """Weigh the experts of one segment by their out-of-fold forecasts.

    Experts with t above ``MIN_T`` enter a non-negative least squares of the target; the combination's t must exceed it,
    too. Weights shrink by 1 - 1 / t^2 (the positive-part James-Stein factor) and are at most ``MAX_WEIGHT``.

    Args:
        forecasts: ``[n, E]`` in order of time.
        targets: ``[n]``.
        blocks: ``[n]`` block of time of each example.
        assets: ``[n]`` asset of each example.
        count: Number of assets A.
    """
    experts = forecasts.shape[1]
    t = np.array([block_t(forecasts[:, e] * targets, blocks) for e in range(experts)])
    scale = np.sqrt((forecasts**2).sum(axis=0) * (targets**2).sum())
    correlation = np.where(scale > 0.0, (forecasts * targets[:, None]).sum(axis=0) / np.maximum(scale, 1e-12), 0.0)
    weights, slopes, combined_t = np.zeros(experts), np.ones(count), 0.0
    chosen = np.flatnonzero(t > MIN_T)
    if chosen.size:
        from scipy.optimize import nnls  # noqa: PLC0415 - a third of a second, which a saved rule does not need

        raw, _ = nnls(forecasts[:, chosen], targets)
        combined = forecasts[:, chosen] @ raw
        combined_t = block_t(combined * targets, blocks)
        if combined_t > MIN_T:
            weights[chosen] = np.minimum(raw * (1.0 - combined_t**-2), MAX_WEIGHT)
            slopes = asset_slopes(combined, targets, blocks, assets, count)
    return Evidence(t, correlation, combined_t, weights, slopes)


def supported(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Evidence of a sleeve's segments; without weights where no combination exceeds ``SLEEVE_MIN_T``."""
    if max(part.combined_t for part in evidence) > SLEEVE_MIN_T:
        return list(evidence)
    return [part._replace(weights=np.zeros_like(part.weights)) for part in evidence]


def asset_slopes(forecasts: Floats, targets: Floats, blocks: np.ndarray, assets: np.ndarray, count: int) -> Floats:
    """Slope of the targets on the forecasts by asset ``[A]``, shrunk to the pooled one, from 0 to ``MAX_SLOPE``.

    Empirical Bayes with the variance between assets of DerSimonian and Laird, Meta-Analysis in Clinical Trials
    (Controlled Clinical Trials, 1986).
    """
    slopes, variances = np.zeros(count), np.full(count, np.inf)
    for asset in range(count):
        own = assets == asset
        square = float((forecasts[own] ** 2).sum())
        if square <= 0.0:
            continue
        slopes[asset] = float((forecasts[own] * targets[own]).sum()) / square
        errors = block_sums(forecasts[own] * (targets[own] - slopes[asset] * forecasts[own]), blocks[own])
        variances[asset] = max(float((errors**2).sum()) / square**2, 1e-12)
    precision = 1.0 / variances
    if not precision.any():
        return np.ones(count)
    pooled = float((precision * slopes).sum() / precision.sum())
    excess = float((precision * (slopes - pooled) ** 2).sum()) - (np.count_nonzero(precision) - 1)
    spread = precision.sum() - (precision**2).sum() / precision.sum()
    between = max(excess / spread, 0.0) if spread > 0.0 else 0.0
    shrunk = (slopes * precision * between + pooled) / (precision * between + 1.0)
    return np.asarray(np.clip(shrunk, 0.0, MAX_SLOPE))


def filled(forecasts: Floats, supported: Sequence[bool], segments: Sequence[Horizon]) -> Floats:
    """Forecasts per bar ``[..., segments]`` in volatilities, from those of the sums over segments.

    Segments without evidence are 0, but those before the first with evidence borrow its forecast per bar: else a rule
    would wait for ever for what lies a few bars ahead.
    """
    per_bar = forecasts / np.sqrt([part.bars for part in segments])
    first = int(np.argmax(supported)) if any(supported) else 0
    per_bar[..., :first] = per_bar[..., first : first + 1]
    return np.asarray(per_bar)
