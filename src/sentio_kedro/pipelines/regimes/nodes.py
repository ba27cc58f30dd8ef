"""Fit regimes on each fold's train rows and filter them forward over all rows."""

from __future__ import annotations

import pandas as pd

from sentio_kedro.config import RegimeParameters
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.regimes import RegimeModel, market_return
from sentio_kedro.market.regimes import fit_regimes as fit


def fit_regimes(aligned_bars: AlignedBars, folds: Folds, parameters: RegimeParameters) -> dict[int, RegimeModel]:
    """Fit one hidden Markov model per fold, by its number, on the market's returns at its train rows."""
    returns = market_return(aligned_bars)
    return {
        fold.number: fit([returns[slice(*rows)] for rows in fold.train], parameters, seed=fold.number)
        for fold in folds.folds
    }


def filter_regimes(aligned_bars: AlignedBars, regime_models: dict[int, RegimeModel]) -> pd.DataFrame:
    """Compute the filtered regime probabilities of each fold's model at each bar, from that bar and earlier ones.

    Returns:
        ``timestamp``, ``fold`` and a probability per state; a state that a fold merged away has probability 0.
    """
    returns = market_return(aligned_bars)
    timestamps = pd.to_datetime(aligned_bars.timestamps, utc=True)
    frames = []
    for number, model in regime_models.items():
        posterior = model.filter(returns)  # [T, K]
        states = {f"state_{state}": posterior[:, state] for state in range(posterior.shape[1])}
        frames.append(pd.DataFrame({"timestamp": timestamps, "fold": number, **states}))
    return pd.concat(frames, ignore_index=True).fillna(0.0)
