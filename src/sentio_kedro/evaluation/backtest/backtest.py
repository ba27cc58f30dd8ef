"""The backtest: agents and baselines on test rows, through the one execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sentio_kedro.agent.bundle import AgentBundle, refuse_seen_bars, same_symbols
from sentio_kedro.agent.ensemble import AgentNetworks
from sentio_kedro.config import BacktestParameters, TradingParameters
from sentio_kedro.evaluation.backtest.baselines import portfolios, schedules
from sentio_kedro.evaluation.backtest.baselines.by_fold import FoldBaselines, concatenate_schedules, fold_baselines
from sentio_kedro.evaluation.backtest.baselines.target_positions import read_targets, target_schedule
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.ledger_frames import NO_FOLD, Frames, LedgerFrames, LedgerRows, concatenate_frames
from sentio_kedro.evaluation.backtest.robustness import no_robustness, stress_frame
from sentio_kedro.evaluation.backtest.value_at_risk import value_at_risk_frame
from sentio_kedro.evaluation.backtest.walk import PolicyMaker, simulate_rows
from sentio_kedro.evaluation.run_frames import FORECAST_RULE
from sentio_kedro.evaluation.run_frames import TARGETS as TARGETS_ACCOUNT
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.timestamps import Floats
from sentio_kedro.trading.policies import HEADS, TARGETS, Policies, make_policies, with_heads
from sentio_kedro.trading.records import Accounts


def backtest_folds(
    bars: AlignedBars,
    features: Floats,
    folds: Sequence[Fold],
    agents: Mapping[str, AgentBundle],
    trading: TradingParameters,
    parameters: BacktestParameters,
    periods_per_year: float,
    units: Mapping[int, Floats] | None = None,
) -> Frames:
    """Test every fold's agents on its test rows: as one (``ensemble``), and each on its own if there are several.

    In walk-forward order accounts continue from fold to fold: the next fold's agents take over what they hold. At the
    last decision before a gap between test rows, or before their end, whose order is still filled, they close their
    positions and pay for it; the ``orders.latency_bars`` decisions after it send nothing. What cannot be sold then (a
    halt, the participation limit) is carried on. Where folds also train on later rows (k-fold, combinatorial), agents
    and the baselines of a fold start flat in each segment and close there. The other baselines, and a table of targets
    if given, are simulated over all rows at once.

    Args:
        bars: Aligned bars, all of them.
        features: ``[T, A, F]`` features of these bars, of the agents' columns.
        folds: Folds with the rows to test.
        agents: Agents by name ``fold_<f>/seed_<s>``.
        trading: Limits, costs and starting equity.
        parameters: Baselines, a table of targets, and stress tests.
        periods_per_year: Bars per year.
        units: Positions ``[T, A]`` of each fold's forecast rule, in units of risk; null leaves its account out.

    Returns:
        Frames ``accounts``, ``positions``, ``trades``, ``actions``, ``masks``, ``states`` (whole records ``Accounts``
        of the account ``ensemble`` at the close of the first row of each test segment), ``value_at_risk`` and
        ``robustness``, of which the last is empty for folds that train on later rows.

    Raises:
        ValueError: If an agent trades other symbols or has seen the rows, folds in order have other seeds, or targets
            are refused.
    """
    by_fold = {fold.number: _agents_of(fold.number, agents) for fold in folds}
    same_symbols(list(agents.values()), bars.symbols)
    continuous = walk_forward(folds)
    if continuous:
        _refuse_seen(by_fold, folds, bars)
        _same_seeds(by_fold)
    alone = BacktestContext.of(bars, features, by_fold, trading)
    several = any(len(of_fold) > 1 for of_fold in by_fold.values())
    context = alone.ensembles() if several else alone
    of_rule = trading.unit == "rule"
    span = Segment(min(s.start for f in folds for s in f.test), max(s.stop for f in folds for s in f.test))
    fitted = fold_baselines(context, folds, parameters)
    rules = {} if units is None else {FORECAST_RULE: schedules.forecast_rule(context, folds, span, units)}
    rules |= _rules(context, span, parameters, periods_per_year)
    rules |= concatenate_schedules(fitted, span) if continuous else {}
    parts = _walked(context, folds, span, rules, fitted)
    for others in (*[alone] * several, *[alone.networks()] * of_rule):
        parts += _walked(others, folds, span, None, None)
    if not continuous or not contiguous(folds):
        parts.append(_simulate_rules(context, folds, span, rules))
    frames = concatenate_frames(parts)
    frames["robustness"] = no_robustness()
    if continuous:
        ruled, merged = alone.with_rules(folds), context.with_rules(folds)
        frames["robustness"] = stress_frame(ruled, merged, folds, parameters.robustness, periods_per_year)
    frames["value_at_risk"] = value_at_risk_frame(context, [segment for fold in folds for segment in fold.test])
    return frames


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


def _walked(
    context: BacktestContext,
    folds: Sequence[Fold],
    span: Segment,
    rules: schedules.Schedules | None,
    fitted: Sequence[FoldBaselines] | None,
) -> list[Frames]:
    """Simulate agents, the random policy and baselines; without ``rules`` and ``fitted`` agents trade alone."""
    if walk_forward(folds):
        return _continuous(context.with_rules(folds), folds, span, rules)
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
        for segment, rules in rules_of.items():
            ledger, accounts = _start(context, fold.number, rules)
            ruled = context.with_rules([fold])
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


def _simulate_rules(
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


def _rules(
    context: BacktestContext, span: Segment, parameters: BacktestParameters, periods_per_year: float
) -> dict[str, Floats]:
    """Schedules over ``span`` that do not depend on the folds."""
    market, timestamps, trading = context.market, context.bars.timestamps, context.trading
    tested = timestamps[slice(*span)]
    rules = {
        schedules.BUY_AND_HOLD: schedules.buy_and_hold(market, *span, trading),
        schedules.EQUAL_WEIGHT: schedules.equal_weight(tested, market.assets, parameters, trading),
        schedules.MOMENTUM: schedules.momentum(market, timestamps, *span, parameters, trading, periods_per_year),
    }
    for name in (portfolios.MINIMUM_VARIANCE, portfolios.RISK_PARITY):
        if name in parameters.baselines:
            rules[name] = portfolios.trailing_portfolio(name, market, timestamps, *span, parameters, trading)
    if parameters.targets is not None:
        rules[TARGETS_ACCOUNT] = target_schedule(read_targets(Path(parameters.targets)), context.bars, span, trading)
    return rules


def backtest_agent(
    bars: AlignedBars, features: Floats, agent: AgentBundle, parameters: BacktestParameters, periods_per_year: float
) -> Frames:
    """Test one agent, trained elsewhere, on all rows that its features allow, without baselines fitted on train rows.

    Returns:
        Frames as from ``backtest_folds``.

    Raises:
        ValueError: If the agent has seen a row, trades other symbols, or there are too few bars.
    """
    first, stop = agent.spec.required_bars - 1, len(bars.timestamps) - 1
    if stop - first < 2:  # noqa: PLR2004 - a return needs two rows
        raise ValueError(
            f"The agent needs {agent.spec.required_bars} bars before its first decision and two rows to trade, the "
            f"bars are {len(bars.timestamps)}; give at least {agent.spec.required_bars + 2}."
        )
    fold = Fold(agent.spec.fold, (), (), (Segment(first, stop),))
    return backtest_folds(bars, features, [fold], {agent.name: agent}, agent.spec.trading, parameters, periods_per_year)


def _agents_of(fold: int, agents: Mapping[str, AgentBundle]) -> list[AgentBundle]:
    of_fold = sorted((agent for agent in agents.values() if agent.spec.fold == fold), key=lambda agent: agent.spec.seed)
    if not of_fold:
        raise ValueError(f"No agent of fold {fold} among {sorted(agents)}; run `kedro run --pipeline training`.")
    return of_fold


def _refuse_seen(by_fold: Mapping[int, Sequence[AgentBundle]], folds: Sequence[Fold], bars: AlignedBars) -> None:
    """Refuse agents that saw the rows. Other folds train on both sides of a test block, which were purged."""
    for fold in folds:
        for rows in fold.test:
            for agent in by_fold[fold.number]:
                refuse_seen_bars(agent.spec, timestamp(bars, rows.start + 1), timestamp(bars, rows.stop))


def _same_seeds(by_fold: Mapping[int, Sequence[AgentBundle]]) -> None:
    seeds = {fold: [agent.spec.seed for agent in agents] for fold, agents in by_fold.items()}
    if len({tuple(of_fold) for of_fold in seeds.values()}) > 1:
        raise ValueError(
            f"Folds that make one path need agents of the same seeds, had {seeds}; run `kedro run --pipeline "
            "training` again."
        )


def timestamp(bars: AlignedBars, row: int) -> str:
    """Timestamp of a row, ISO 8601 in UTC."""
    return str(pd.Timestamp(bars.timestamps[row]).tz_localize("UTC").isoformat())
