"""Bars and features as tensors: the facts that accounts trade on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.market.bars import AlignedBars, Floats

VOLATILITY_MEMORY = 96  # bars of the trailing volatility that rewards are measured in
LEAST_VOLATILITY = 1e-5  # per bar; keeps rewards finite where a price stands still


class MarketTensors(NamedTuple):
    """What happened, bar by bar; nothing in it depends on an account.

    Attributes:
        features: ``[T, A, F]`` causal features; 0 where the warm-up has not ended.
        open: ``[T, A]`` opening prices; the last close where the asset has no bar.
        close: ``[T, A]`` closing prices; the last close where the asset has no bar.
        tradable: ``[T, A]`` whether the asset has a bar and a whole row of features.
        volatility: ``[T, A]`` trailing standard deviation of log returns per bar, known at the close of the bar.
        posterior: ``[T, K]`` forward-filtered regime probabilities, known at the close of the bar.
    """

    features: Tensor
    open: Tensor
    close: Tensor
    tradable: Tensor
    volatility: Tensor
    posterior: Tensor

    @property
    def assets(self) -> int:
        """Number of assets A."""
        return int(self.close.shape[1])

    @property
    def bars(self) -> int:
        """Number of bars T."""
        return int(self.close.shape[0])

    def to(self, device: torch.device, dtype: torch.dtype) -> MarketTensors:
        """Move to ``device``; floating tensors become ``dtype``."""
        return MarketTensors(*(x.to(device, dtype if x.is_floating_point() else x.dtype) for x in self))


def trailing_volatility(close: Floats, memory: int = VOLATILITY_MEMORY) -> Floats:
    """Root mean square of the last ``memory`` log returns.

    Args:
        close: ``[T, A]`` prices, held where a bar is missing, so that a missing bar counts as a return of 0; NaN
            before an asset begins, which does not count.
        memory: Returns averaged; fewer after the beginning.

    Returns:
        ``[T, A]`` volatility per bar, at least ``LEAST_VOLATILITY``.
    """
    returns = np.diff(np.log(close), axis=0, prepend=np.nan)
    known = np.isfinite(returns)
    sums = _trailing_sum(np.where(known, returns, 0.0) ** 2, memory)
    counts = np.maximum(_trailing_sum(known.astype(np.float64), memory), 1.0)
    volatility: Floats = np.maximum(np.sqrt(sums / counts), LEAST_VOLATILITY)
    return volatility


def _trailing_sum(values: Floats, length: int) -> Floats:
    padded = np.concatenate([np.zeros((length - 1, values.shape[1])), values])
    sums: Floats = np.lib.stride_tricks.sliding_window_view(padded, length, axis=0).sum(-1)
    return sums


def market_tensors(bars: AlignedBars, features: Floats, posterior: Floats) -> MarketTensors:
    """Assemble the tensors of a market in float64 on the CPU.

    Args:
        bars: Aligned bars, T x A.
        features: ``[T, A, F]``, NaN in warm-up.
        posterior: ``[T, K]`` regime probabilities.

    Returns:
        The market. An asset that has not begun is priced 1 and cannot be traded.
    """
    held = bars.held_close()
    close = np.where(np.isnan(held), 1.0, held)
    previous = np.concatenate([close[:1], close[:-1]])
    opening = np.where(bars.present, bars.open, previous)
    complete = np.asarray(np.isfinite(features).all(-1))
    return MarketTensors(
        features=torch.from_numpy(np.where(complete[..., None], features, 0.0)),
        open=torch.from_numpy(np.ascontiguousarray(opening)),
        close=torch.from_numpy(close),
        tradable=torch.from_numpy(bars.present & complete),
        volatility=torch.from_numpy(trailing_volatility(held)),
        posterior=torch.from_numpy(np.ascontiguousarray(posterior)),
    )
