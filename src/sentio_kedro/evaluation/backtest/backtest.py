"""The out-of-sample test: agents and baselines on rows that no training saw, through the one execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sentio_kedro.agent.bundle import AgentBundle, refuse_seen_bars, same_symbols
from sentio_kedro.agent.ensemble import BatchedPolicies, agents_policy
from sentio_kedro.config import BacktestParameters, TradingParameters
from sentio_kedro.evaluation.backtest.baselines import portfolios
from sentio_kedro.evaluation.backtest.baselines import schedules as baselines
from sentio_kedro.evaluation.backtest.baselines.by_fold import FoldRules, concatenate_rules, fold_rules
from sentio_kedro.evaluation.backtest.baselines.target_positions import TARGETS, read_targets, target_policy
from sentio_kedro.evaluation.backtest.baselines.walk import Rules, scheduled, simulate_schedules
from sentio_kedro.evaluation.backtest.context import BacktestContext, closing
from sentio_kedro.evaluation.backtest.ledger_frames import NO_FOLD, Frames, LedgerFrames, Piece, concatenated
from sentio_kedro.evaluation.backtest.robustness import no_robustness, robustness_frame
from sentio_kedro.evaluation.backtest.walk import simulate_rows
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.fold_shapes import Fold, Segment
from sentio_kedro.market.timestamps import Floats
from sentio_kedro.trading.accounts import AccountState, Variation


def backtest_folds(
    bars: AlignedBars,
    features: Floats,
    folds: Sequence[Fold],
    agents: Mapping[str, AgentBundle],
    trading: TradingParameters,
    parameters: BacktestParameters,
    periods_per_year: float,
) -> Frames:
    """Test every fold's agents on its test rows.

    Agents and the random policy leave their positions at the last decision of each segment whose order is filled in
    it, paying for it; the last ``orders.latency_bars`` decisions send nothing. What cannot be sold then (a halt, the
    cap on participation) is carried on. In walk-forward order accounts go on from fold to fold, so that the joined
    path is one account's history; where folds also train on later rows (k-fold, combinatorial), agents start flat in
    each segment, and so do the baselines that belong to a fold.
    The other baselines, and a table of targets if one is given, walk all rows once. Baselines pay all costs and carry,
    and the limits on positions, gross exposure and margin hold for them; the layers of the agents' mask and the limits
    on net exposure and value at risk do not.

    Args:
        bars: Aligned bars, all of them.
        features: ``[T, A, F]`` features of these bars, of the agents' columns.
        folds: Folds with the rows to test.
        agents: Agents by name ``fold_<f>/seed_<s>``.
        trading: Limits, costs and starting equity.
        parameters: Baselines, a table of targets, and how the test is shaken.
        periods_per_year: Bars per year.

    Returns:
        Frames ``accounts``, ``positions``, ``trades``, ``actions``, ``masks`` and ``robustness``; the last one is empty
        for folds that train on later rows, which make no path to shake.

    Raises:
        ValueError: If an agent trades other symbols or has seen the rows, folds that join have other seeds, or targets
            cannot be followed.
    """
    by_fold = {fold.number: _agents_of(fold.number, agents) for fold in folds}
    same_symbols(list(agents.values()), bars.symbols)
    together = walk_forward(folds)
    if together:
        _refuse_seen(by_fold, folds, bars)
        _same_seeds(by_fold)
    context = BacktestContext.of(bars, features, by_fold, trading)
    span = Segment(min(s.start for f in folds for s in f.test), max(s.stop for f in folds for s in f.test))
    fitted = fold_rules(context, folds, parameters)
    rules = _rules(context, span, parameters, periods_per_year) | (concatenate_rules(fitted, span) if together else {})
    parts = _together(context, folds, span, rules) if together else _apart(context, folds, fitted)
    if not together or not contiguous(folds):
        parts.append(_simulate_rules(context, folds, span, rules))
    frames = concatenated(parts)
    frames["robustness"] = (
        robustness_frame(context, folds, parameters.robustness, frames["accounts"], periods_per_year)
        if together
        else no_robustness()
    )
    return frames


def walk_forward(folds: Sequence[Fold]) -> bool:
    """Whether folds follow each other in time and train on the past alone, so that their tests join to one path."""
    ordered = all(first.test[-1].stop <= second.test[0].start for first, second in pairwise(folds))
    return ordered and all(
        part.stop <= fold.test[0].start for fold in folds for part in (*fold.train, *fold.validation)
    )


def contiguous(folds: Sequence[Fold]) -> bool:
    """Whether no row lies between the test segments of folds in order."""
    segments = [segment for fold in folds for segment in fold.test]
    return all(first.stop == second.start for first, second in pairwise(segments))


def _together(context: BacktestContext, folds: Sequence[Fold], span: Segment, rules: Rules) -> list[Frames]:
    """Walk agents, the random policy and, where the folds leave no gap, the rules as one batch of accounts."""
    beside = rules if contiguous(folds) else {}
    collected: LedgerFrames | None = None
    account: AccountState | None = None
    for fold in folds:
        for segment in fold.test:
            if collected is None or account is None:
                collected, account = _start(context, fold.number, beside)
            account = _simulate_segment(context, fold.number, segment, span, beside, account, collected)
    return [] if collected is None else [collected.frames()]


def _apart(context: BacktestContext, folds: Sequence[Fold], fitted: Sequence[FoldRules]) -> list[Frames]:
    """Walk agents, the random policy and the fold's own rules along each test segment from a fresh start."""
    parts = []
    for fold, of_fold in zip(folds, fitted, strict=True):
        for segment, rules in of_fold:
            collected, account = _start(context, fold.number, rules)
            _simulate_segment(context, fold.number, segment, segment, rules, account, collected)
            parts.append(collected.frames())
    return parts


def _start(context: BacktestContext, fold: int, rules: Rules) -> tuple[LedgerFrames, AccountState]:
    """Open the accounts of a fold's agents, of the random policy and of the rules."""
    agents = context.by_fold[fold]
    names = (*(f"seed_{agent.spec.seed}" for agent in agents), baselines.RANDOM, *rules)
    return _collector(context, names, len(agents)), context.open_accounts((len(names),))


def _collector(context: BacktestContext, names: Sequence[str], agents: int) -> LedgerFrames:
    return LedgerFrames(names, agents, context.trading.initial_cash, context.bars, context.trading.levels)


def _simulate_segment(
    context: BacktestContext,
    fold: int,
    segment: Segment,
    span: Segment,
    rules: Rules,
    account: AccountState,
    collected: LedgerFrames,
) -> AccountState:
    """Walk a fold's test segment; ``rules`` are schedules over ``span``, whose end they leave their positions at."""
    agents, latency = context.by_fold[fold], context.trading.orders.latency_bars
    guarded = len(agents) + 1  # the random policy obeys the agents' mandate
    chance = baselines.RandomPolicy.drawn(
        segment.stop - segment.start, context.trading, context.market.close, seed=fold
    )
    posteriors = context.posteriors(fold)
    seen = [*posteriors, *[posteriors[0]] * (1 + len(rules))]  # [rows, K] of every account
    ends = [segment.stop] * guarded + [span.stop] * len(rules)

    def policy(piece: Segment) -> BatchedPolicies:
        rows = Segment(piece.start - segment.start, piece.stop - segment.start)
        decide = agents_policy(agents, context.market, posteriors, *piece)
        ruled = scheduled(rules, piece, span)
        return BatchedPolicies([(decide, len(agents)), (chance.part(*rows), 1), *ruled], *closing(piece, ends, latency))

    walk = simulate_rows(
        context.market,
        segment,
        policy,
        account,
        context.trading,
        posterior=torch.stack([known[slice(*segment)] for known in seen], dim=1),
        variation=Variation(guarded=(torch.arange(len(seen)) < guarded)[:, None]),
        telemetry=True,
    )
    for piece, step_data, step in walk:
        regimes = torch.stack([known[slice(*piece)].argmax(-1) for known in seen], dim=1)
        leave, rest = closing(piece, ends, latency)
        decided = ~(leave | rest)[:, 0]
        folds = np.full(piece.stop - piece.start, fold)
        collected.add(Piece(piece, folds, regimes, posteriors[0].shape[-1], decided), step_data, step)
    return walk.account


def _simulate_rules(context: BacktestContext, folds: Sequence[Fold], span: Segment, rules: Rules) -> Frames:
    """Walk the rules alone, over all rows at once."""
    collected = _collector(context, tuple(rules), 0)
    fold_of = np.full(context.market.bars, NO_FOLD)
    regimes = torch.zeros(context.market.bars, dtype=torch.long)
    for fold in reversed(folds):  # of folds that test the same row the first one counts
        likeliest = context.posteriors(fold.number)[0].argmax(-1)
        for segment in fold.test:
            fold_of[slice(*segment)] = fold.number
            regimes[slice(*segment)] = likeliest[slice(*segment)]

    walk = simulate_schedules(context, span, rules, telemetry=True)
    for piece, step_data, step in walk:
        likely = regimes[slice(*piece), None].expand(-1, len(rules))
        everywhere = torch.ones(piece.stop - piece.start, dtype=torch.bool)
        collected.add(Piece(piece, fold_of[slice(*piece)], likely, 1, everywhere), step_data, step)
    return collected.frames()


def _rules(
    context: BacktestContext, span: Segment, parameters: BacktestParameters, periods_per_year: float
) -> dict[str, baselines.ScheduledPolicy]:
    """Schedules over ``span`` that are the same whatever the folds."""
    market, timestamps = context.market, context.bars.timestamps
    rules = {
        baselines.BUY_AND_HOLD: baselines.buy_and_hold(market, *span),
        baselines.EQUAL_WEIGHT: baselines.equal_weight(market, timestamps, *span, parameters),
        baselines.MOMENTUM: baselines.momentum(market, timestamps, *span, parameters, periods_per_year),
    }
    for name in (portfolios.MINIMUM_VARIANCE, portfolios.RISK_PARITY):
        if name in parameters.baselines:
            rules[name] = portfolios.trailing_portfolio(name, market, timestamps, *span, parameters, context.trading)
    if parameters.targets is not None:
        rules[TARGETS] = target_policy(read_targets(Path(parameters.targets)), context.bars, span, context.trading)
    return rules


def backtest_agent(
    bars: AlignedBars, features: Floats, agent: AgentBundle, parameters: BacktestParameters, periods_per_year: float
) -> Frames:
    """Test one agent, trained elsewhere, on all rows that its features allow.

    Baselines that are fitted on train rows are left out: there are none.

    Args:
        bars: Aligned bars that the agent has not seen.
        features: ``[T, A, F]`` of the agent's own columns.
        agent: The agent.
        parameters: Baselines and capital.
        periods_per_year: Bars per year.

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
    found = sorted((agent for agent in agents.values() if agent.spec.fold == fold), key=lambda agent: agent.spec.seed)
    if not found:
        raise ValueError(f"No agent of fold {fold} among {sorted(agents)}; run `kedro run --pipeline training`.")
    return found


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
            f"Folds that join to one path need agents of the same seeds, had {seeds}; run `kedro run --pipeline "
            "training` again."
        )


def timestamp(bars: AlignedBars, row: int) -> str:
    """Return the stamp of a row as ISO 8601 in UTC."""
    return str(pd.Timestamp(bars.timestamps[row]).tz_localize("UTC").isoformat())
