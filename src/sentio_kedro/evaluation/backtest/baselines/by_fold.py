"""Baselines of a fold: signals fitted on its train rows, and the rule that follows its regimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sentio_kedro.config import BacktestParameters, TradingParameters
from sentio_kedro.evaluation.backtest.baselines.schedules import (
    Schedules,
    every,
    full_share,
    scheduled,
    simulate_schedules,
)
from sentio_kedro.evaluation.backtest.baselines.signal_rule import ForecastSignal, signal_schedule
from sentio_kedro.evaluation.backtest.baselines.supervised import LEARNERS, Examples, fold_forecasts
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.walk import final_accounts
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Fold, Segment

REGIME_RULE = "regime_rule"
MIN_GROWTH = 1e-300  # equity over starting equity below which a logarithm is cut off

FoldBaselines = list[tuple[Segment, Schedules]]
"""Schedules of each test segment of a fold, over that segment."""


def fold_baselines(
    context: BacktestContext, folds: Sequence[Fold], parameters: BacktestParameters
) -> list[FoldBaselines]:
    """Make the baselines of every fold, the same names in all.

    Signals are left out if a fold has no train or no validation rows (an agent trained elsewhere).
    """
    fits = all(fold.train and fold.validation for fold in folds)
    signals = validated_signals(context, folds, [name for name in LEARNERS if name in parameters.baselines and fits])
    return [
        [(rows, _schedules(context, fold, rows, of_fold, parameters)) for rows in fold.test]
        for fold, of_fold in zip(folds, signals, strict=True)
    ]


def _schedules(
    context: BacktestContext,
    fold: Fold,
    rows: Segment,
    signals: Mapping[str, ForecastSignal],
    parameters: BacktestParameters,
) -> Schedules:
    schedules = {name: signal_schedule(context, signal, rows) for name, signal in signals.items()}
    if REGIME_RULE in parameters.baselines:
        posterior, timestamps = context.posteriors(fold.number)[0], context.bars.timestamps
        part, assets = slice(*rows), context.market.assets
        schedules[REGIME_RULE] = regime_rule(posterior[part], timestamps[part], assets, parameters, context.trading)
    return schedules


def validated_signals(
    context: BacktestContext, folds: Sequence[Fold], names: Sequence[str]
) -> list[dict[str, ForecastSignal]]:
    """Fit the signals ``names`` of every fold; one that does not earn on its fold's validation rows stays flat.

    Returns:
        Signals by name, one entry per fold; a signal that some fold cannot fit is left out of all.
    """
    fitted = [fitted_signals(context, fold, names) for fold in folds]
    shared = [name for name in names if all(name in of_fold for of_fold in fitted)]
    validated = []
    for fold, of_fold in zip(folds, fitted, strict=True):
        signals = {name: of_fold[name] for name in shared}
        earned = _validation_growth(context, signals, fold.validation)
        validated.append({name: x if earned[name] > 0.0 else x.flat() for name, x in signals.items()})
    return validated


def _validation_growth(
    context: BacktestContext, signals: Mapping[str, ForecastSignal], validation: Sequence[Segment]
) -> dict[str, float]:
    """Log growth of each signal over the validation rows, a fresh account in each segment."""
    growth = np.zeros(len(signals))
    for rows in validation if signals else ():
        schedules = {name: signal_schedule(context, signal, rows) for name, signal in signals.items()}
        equity = final_accounts(simulate_schedules(context, rows, schedules)).account.equity
        growth += np.log(np.maximum(equity / context.trading.initial_cash, MIN_GROWTH))
    return dict(zip(signals, growth.tolist(), strict=True))


def fitted_signals(context: BacktestContext, fold: Fold, names: Sequence[str]) -> dict[str, ForecastSignal]:
    """Fit the signals ``names`` of one fold; those without an example to fit on or to choose on are left out."""
    if not names:
        return {}
    examples = Examples.of(context.market, context.posteriors(fold.number)[0], context.trading.orders.latency_bars)
    forecasts = {name: fold_forecasts(name, examples, fold) for name in names}
    return {name: ForecastSignal.of(values, fold.train) for name, values in forecasts.items() if values is not None}


def regime_rule(
    posterior: Tensor,
    timestamps: NDArray[np.datetime64],
    assets: int,
    parameters: BacktestParameters,
    trading: TradingParameters,
) -> Floats:
    """Hold all assets at their share unless the likeliest regime is the most volatile one, checked once a day.

    Args:
        posterior: ``[S, K]`` filtered regimes of the decision rows, calm to volatile; a single regime is calm.
        timestamps: ``[S]`` ends of the bars.
        assets: Number of assets A.
        parameters: Days between two rebalances.
        trading: Allocation and gross limit.
    """
    states = posterior.shape[-1]
    crisis = (posterior.argmax(-1) == states - 1).numpy() & (states > 1)
    daily = every(timestamps, 1.0)
    checked = np.maximum.accumulate(np.where(daily, np.arange(len(daily)), 0))  # row of the day's check
    calm = ~crisis[checked]
    changed = np.diff(calm, prepend=False)
    return scheduled(
        calm[:, None] * full_share(trading, assets), changed | every(timestamps, parameters.rebalance_days), assets
    )


def concatenate_schedules(folds: Sequence[FoldBaselines], span: Segment) -> dict[str, Floats]:
    """Join the baselines of consecutive folds to one account each over ``span``, flat between test segments."""
    parts = [part for fold in folds for part in fold]
    joint = {}
    for name in parts[0][1] if parts else {}:
        targets = np.full((span.stop - span.start, parts[0][1][name].shape[1]), np.nan)
        targets[[rows.stop - span.start for rows, _ in parts if rows.stop < span.stop]] = 0.0
        for rows, schedules in parts:
            targets[rows.start - span.start : rows.stop - span.start] = schedules[name]
        joint[name] = targets
    return joint
