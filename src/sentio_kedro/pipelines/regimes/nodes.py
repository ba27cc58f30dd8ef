"""Regimes are fitted on each fold's train rows and filtered forward over all rows."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sentio_kedro.config import RegimeParameters
from sentio_kedro.market.bars import aligned_from_frame
from sentio_kedro.market.regimes import RegimeModel, market_return
from sentio_kedro.market.regimes import fit_regimes as fit
from sentio_kedro.market.splits import folds_from_dict


def fit_regimes(aligned_bars: pd.DataFrame, folds: dict[str, Any], parameters: RegimeParameters) -> dict[str, Any]:
    """Fit one hidden Markov model per fold on the market's returns at its train rows.

    Args:
        aligned_bars: Long bars on one grid.
        folds: The folds.
        parameters: States and effort.

    Returns:
        The model of each fold as plain data, by fold number.
    """
    returns = market_return(aligned_from_frame(aligned_bars))
    models = {}
    for fold in folds_from_dict(folds):
        train = [returns[rows.start : rows.stop] for rows in fold.train]
        models[str(fold.number)] = fit(train, parameters, seed=fold.number).to_dict()
    return models


def filter_regimes(aligned_bars: pd.DataFrame, regime_models: dict[str, Any]) -> pd.DataFrame:
    """Compute what each fold's model believes at each bar, from that bar and earlier ones alone.

    Args:
        aligned_bars: Long bars on one grid.
        regime_models: The model of each fold.

    Returns:
        ``timestamp``, ``fold`` and a probability per state; a state that a fold merged away has probability 0.
    """
    bars = aligned_from_frame(aligned_bars)
    returns = market_return(bars)
    timestamps = pd.to_datetime(bars.timestamps, utc=True)
    frames = []
    for number, model in regime_models.items():
        posterior = RegimeModel.from_dict(model).filter(returns)  # [T, K]
        states = {f"state_{state}": posterior[:, state] for state in range(posterior.shape[1])}
        frames.append(pd.DataFrame({"timestamp": timestamps, "fold": int(number), **states}))
    return pd.concat(frames, ignore_index=True).fillna(0.0)
