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
        close: ``[T, A]`` prices, held where a bar is missing, so that a missing bar counts as a return of 0.
        memory: Returns averaged; fewer at the start.

    Returns:
        ``[T, A]`` volatility per bar, at least ``LEAST_VOLATILITY``.
    """
    squares = np.zeros_like(close)
    squares[1:] = np.diff(np.log(close), axis=0) ** 2
    padded = np.concatenate([np.zeros((memory - 1, close.shape[1])), squares])
    sums = np.lib.stride_tricks.sliding_window_view(padded, memory, axis=0).sum(-1)
    counts = np.minimum(np.maximum(np.arange(len(close)), 1), memory)[:, None]
    volatility: Floats = np.maximum(np.sqrt(sums / counts), LEAST_VOLATILITY)
    return volatility


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
        volatility=torch.from_numpy(trailing_volatility(close)),
        posterior=torch.from_numpy(np.ascontiguousarray(posterior)),
    )
