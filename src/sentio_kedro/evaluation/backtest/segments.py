"""Simulation of agents, the random policy and baselines over the test segments of folds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from sentio_kedro.agent.ensemble import AgentNetworks
from sentio_kedro.evaluation.backtest.baselines import schedules
from sentio_kedro.evaluation.backtest.baselines.by_fold import FoldBaselines
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.ledger_frames import NO_FOLD, Frames, LedgerFrames, LedgerRows
from sentio_kedro.evaluation.backtest.walk import PolicyMaker, simulate_rows
from sentio_kedro.evaluation.run_frames import FORECAST_RULE
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.trading.records import Accounts
from sentio_kedro.trading.step.policies import HEADS, TARGETS, Policies, make_policies, with_heads


def walk_forward(folds: Sequence[Fold]) -> bool:
    """Test that folds follow each other in time and train on the past alone, so that their tests make one path."""
    ordered = all(first.test[-1].stop <= second.test[0].start for first, second in pairwise(folds))
    return ordered and all(
        part.stop <= fold.test[0].start for fold in folds for part in (*fold.train, *fold.validation)
    )


def contiguous(folds: Sequence[Fold]) -> bool:
    """Test that no row lies between the test segments of folds in order."""
    segments = [segment for fold in folds for segment in fold.test]
    return all(first.stop == second.start for first, second in pairwise(segments))


def simulate_folds(
    context: BacktestContext,
    folds: Sequence[Fold],
    span: Segment,
    rules: schedules.Schedules | None,
    fitted: Sequence[FoldBaselines] | None,
) -> list[Frames]:
    """Simulate agents, the random policy and baselines; without ``rules`` and ``fitted`` agents trade alone.

    In walk-forward order accounts continue from fold to fold: the next fold's agents take over what they hold. At the
    last decision before a gap between test rows, or before their end, whose order is still filled, they close their
    positions and pay for it; the ``orders.latency_bars`` decisions after it send nothing. What cannot be sold then (a
    halt, the participation limit) is carried on. Where folds also train on later rows (k-fold, combinatorial), agents
    and the baselines of a fold start flat in each segment and close there.

    Args:
        context: Market and agents; in walk-forward order with the forecast rules on the test rows.
        folds: Folds with the rows to test.
        span: Rows from the first to the last test row.
        rules: Schedules over ``span``, walked along where the folds make one path without gaps.
        fitted: Schedules of each fold's test segments, walked along where the folds make no path.
    """
    if walk_forward(folds):
        return _continuous(context, folds, span, rules)
    return _fold_by_fold(context, folds, fitted)


def _continuous(
    context: BacktestContext, folds: Sequence[Fold], span: Segment, rules: schedules.Schedules | None
) -> list[Frames]:
    """Simulate agents, the random policy and, where the folds leave no gap, the rules as one batch of accounts.

    Without ``rules`` agents trade alone.
    """
    batched = rules if rules is None or contiguous(folds) else {}
    ledger, accounts = _start(context, folds[0].number, batched)
    ends = schedules.run_ends([segment for fold in folds for segment in fold.test])
    for fold in folds:
        for segment in fold.test:
            _simulate_segment(context, fold.number, segment, ends[segment], span, batched, accounts, ledger)
    return [ledger.frames()]


def _fold_by_fold(
    context: BacktestContext, folds: Sequence[Fold], fitted: Sequence[FoldBaselines] | None
) -> list[Frames]:
    """Simulate agents, the random policy and the fold's baselines over each test segment from a fresh start.

    Without baselines ``fitted`` agents trade alone.
    """
    parts = []
    for place, fold in enumerate(folds):
        rules_of = {segment: None for segment in fold.test} if fitted is None else dict(fitted[place])
        ruled = context.with_rules([fold])
        for segment, rules in rules_of.items():
            ledger, accounts = _start(context, fold.number, rules)
            _simulate_segment(ruled, fold.number, segment, segment.stop, segment, rules, accounts, ledger)
            parts.append(ledger.frames())
    return parts


def _start(context: BacktestContext, fold: int, rules: schedules.Schedules | None) -> tuple[LedgerFrames, Accounts]:
    """Open the accounts of a fold's agents, and of the random policy and the rules unless agents trade alone.

    The agents' mask holds for the first two and for the forecast rule, which comes first among the rules. Decisions are
    recorded of agents that do not trade alone.
    """
    agents, others = context.accounts(fold), () if rules is None else (schedules.RANDOM, *rules)
    ledger = LedgerFrames((*agents, *others), 0 if rules is None else len(agents), context.bars, context.trading)
    guarded = len(agents) + sum(name in (schedules.RANDOM, FORECAST_RULE) for name in others)
    return ledger, context.open_accounts(len(agents) + len(others), guarded=guarded)


def _simulate_segment(
    context: BacktestContext,
    fold: int,
    segment: Segment,
    end: int,
    span: Segment,
    rules: schedules.Schedules | None,
    accounts: Accounts,
    ledger: LedgerFrames,
) -> None:
    """Simulate a fold's test segment.

    Agents and the random policy close positions before the row ``end``, ``rules``, schedules over ``span``, at its end.
    """
    agents, posteriors = context.by_fold[fold], context.posteriors(fold)
    models = np.array([*range(len(agents)), *[0] * (accounts.size - len(agents))])
    chunks = simulate_rows(
        context.market,
        segment,
        _policy_maker(context, fold, segment, end, span, rules),
        accounts,
        context.trading,
        posteriors,
        models,
        telemetry=rules is not None,
    )
    likeliest = np.stack([posterior.argmax(-1).numpy() for posterior in posteriors], axis=1)  # [T, agents]
    ledger.begin(fold, segment.start, accounts)
    for rows, market, walked, _ in chunks:
        regimes, folds = likeliest[slice(*rows)][:, models], np.full(rows.stop - rows.start, fold)
        ledger.add(LedgerRows(rows, folds, regimes, posteriors[0].shape[-1]), market, walked)


def _policy_maker(
    context: BacktestContext,
    fold: int,
    segment: Segment,
    end: int,
    span: Segment,
    rules: schedules.Schedules | None,
) -> PolicyMaker:
    """Policies of a fold's agents, and of the random policy and of ``rules`` if there are any, in this order."""
    agents, posteriors, trading = context.by_fold[fold], context.posteriors(fold), context.trading
    count, assets, levels = len(agents), context.market.assets, len(trading.levels)
    own = slice(segment.start - span.start, segment.stop - span.start)
    at_random = schedules.random_positions(segment.stop - segment.start, trading, assets, seed=fold)
    tables = [at_random[:, None]]
    if rules:
        tables.append(schedules.schedule_tables(context, rules, span)[own])
    targets = np.concatenate(tables, axis=1)  # [S, 1 + rules, A]
    others = 0 if rules is None else 1 + len(rules)
    ends = [*[end] * (count + 1), *[span.stop] * len(rules or {})][: count + others]
    closes = [schedules.last_step(segment, stop, trading.orders.latency_bars) for stop in ends]
    policies = make_policies(
        np.array([HEADS] * count + [TARGETS] * others),
        assets,
        levels,
        source=np.array([*range(count), *range(others)]),
        closes=np.array(closes),
    )
    networks = AgentNetworks(agents, torch.float64)

    def of_rows(rows: Segment) -> Policies:
        heads = networks.heads(context.market.features, posteriors, *rows)
        part = targets[rows.start - segment.start : rows.stop - segment.start]
        return with_heads(policies._replace(targets=part), heads)

    return of_rows


def simulate_rules(
    context: BacktestContext, folds: Sequence[Fold], span: Segment, rules: schedules.Schedules
) -> Frames:
    """Simulate the rules alone, over all rows at once."""
    ledger = LedgerFrames(tuple(rules), 0, context.bars, context.trading)
    fold_of, regimes = np.full(context.market.bars, NO_FOLD), np.zeros(context.market.bars, np.int64)
    for fold in reversed(folds):  # of folds that test the same row the first one counts
        likeliest = context.posteriors(fold.number)[0].argmax(-1).numpy()
        for segment in fold.test:
            fold_of[slice(*segment)] = fold.number
            regimes[slice(*segment)] = likeliest[slice(*segment)]
    for rows, market, walked, _ in schedules.simulate_schedules(context, span, rules, telemetry=True):
        by_account = regimes[slice(*rows), None].repeat(len(rules), axis=1)
        ledger.add(LedgerRows(rows, fold_of[slice(*rows)], by_account, 1), market, walked)
    return ledger.frames()
