"""Baselines that belong to a fold: signals fitted on its train rows, and the rule that follows its regimes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentio_kedro.config import BacktestParameters
from sentio_kedro.evaluation.backtest.baselines.schedules import ScheduledPolicy, every
from sentio_kedro.evaluation.backtest.baselines.signal_rule import RuleTrial, Signal, signal_schedule, trial_growth
from sentio_kedro.evaluation.backtest.baselines.supervised import LEARNERS, Examples, can_learn, fold_edges
from sentio_kedro.evaluation.backtest.baselines.walk import Rules
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.market.fold_shapes import Fold, Segment

REGIME_RULE = "regime_rule"

FoldRules = list[tuple[Segment, Rules]]
"""Rules of each test segment of a fold, over that segment."""


def fold_rules(context: BacktestContext, folds: Sequence[Fold], parameters: BacktestParameters) -> list[FoldRules]:
    """Make the baselines of every fold.

    Signals are left out where a fold has nothing to fit on or to choose on (an agent trained elsewhere), so that every
    fold has the same accounts.

    Args:
        context: Market, regimes and costs.
        folds: Folds with all their rows.
        parameters: Which baselines, and days between two rebalances.

    Returns:
        One entry per fold.
    """
    names = [name for name in LEARNERS if name in parameters.baselines and all(map(can_learn, folds))]
    found = []
    for fold, signals in zip(folds, trusted_signals(context, folds, names), strict=True):
        of_fold: FoldRules = []
        for rows in fold.test:
            rules = {name: signal_schedule(context, signal, rows) for name, signal in signals.items()}
            if REGIME_RULE in parameters.baselines:
                posterior, timestamps = context.posteriors(fold.number)[0], context.bars.timestamps
                part = slice(*rows)
                rules[REGIME_RULE] = regime_rule(posterior[part], timestamps[part], context.market.assets, parameters)
            of_fold.append((rows, rules))
        found.append(of_fold)
    return found


def trusted_signals(context: BacktestContext, folds: Sequence[Fold], names: Sequence[str]) -> list[dict[str, Signal]]:
    """Fit the signals of every fold, and silence those that earn nothing on their fold's validation rows.

    Args:
        context: Market, regimes and costs.
        folds: Folds with train and validation rows.
        names: Keys of ``LEARNERS``.

    Returns:
        Signals by name, one entry per fold; a signal that some fold cannot fit is left out of all.
    """
    if not names:
        return [{} for _ in folds]
    fitted = [fitted_signals(context, fold, names) for fold in folds]
    kept = [name for name in names if all(name in of_fold for of_fold in fitted)]
    tried = [(place, name, rows) for place, fold in enumerate(folds) for name in kept for rows in fold.validation]
    trials = [RuleTrial(rows, signal_schedule(context, fitted[place][name], rows)) for place, name, rows in tried]
    earned = dict.fromkeys(((place, name) for place, name, _ in tried), 0.0)
    for (place, name, _), growth in zip(tried, trial_growth(context, trials), strict=True):
        earned[place, name] += growth
    return [
        {name: of_fold[name] if earned[place, name] > 0.0 else of_fold[name].silent() for name in kept}
        for place, of_fold in enumerate(fitted)
    ]


def fitted_signals(context: BacktestContext, fold: Fold, names: Sequence[str]) -> dict[str, Signal]:
    """Fit the signals of one fold; those without an example to fit on or to choose on are left out."""
    examples = Examples.of(context.market, context.posteriors(fold.number)[0], context.trading.orders.latency_bars)
    edges = {name: fold_edges(name, examples, fold) for name in names}
    return {name: Signal.of(edge, fold.train) for name, edge in edges.items() if edge is not None}


def regime_rule(
    posterior: Tensor, timestamps: NDArray[np.datetime64], assets: int, parameters: BacktestParameters
) -> ScheduledPolicy:
    """Hold all assets alike but where the likeliest regime is the most volatile one, as seen once a day.

    Args:
        posterior: ``[S, K]`` filtered regimes of the decision rows, calm to volatile; one regime is a calm one.
        timestamps: ``[S]`` ends of the bars.
        assets: Number of assets A.
        parameters: Days between two rebalances to equal weights.
    """
    states = posterior.shape[-1]
    crisis = posterior.argmax(-1) == states - 1 if states > 1 else torch.zeros(len(posterior), dtype=torch.bool)
    daily = every(timestamps, 1.0)
    looked = torch.where(daily, torch.arange(len(daily)), 0).cummax(0).values  # row of the day's look
    level = torch.where(crisis[looked], 0.0, 1.0).double()
    changed = level.diff(prepend=level.new_zeros(1)) != 0.0
    due = changed | every(timestamps, parameters.rebalance_days)
    return ScheduledPolicy(level[:, None].expand(-1, assets).contiguous(), due)


def concatenate_rules(folds: Sequence[FoldRules], span: Segment) -> dict[str, ScheduledPolicy]:
    """Lay the rules of folds that follow each other over ``span``: one account for all, flat between test segments."""
    pieces = [piece for fold in folds for piece in fold]
    schedules = {}
    for name in pieces[0][1] if pieces else {}:
        like = pieces[0][1][name].levels
        levels = like.new_zeros((span.stop - span.start, like.shape[1]))
        due = torch.zeros_like(levels, dtype=torch.bool)
        due[[rows.stop - span.start for rows, _ in pieces if rows.stop < span.stop]] = True
        for rows, rules in pieces:
            part = slice(rows.start - span.start, rows.stop - span.start)
            levels[part], due[part] = rules[name].levels, ~rules[name].hold
        schedules[name] = ScheduledPolicy(levels, due)
    return schedules
