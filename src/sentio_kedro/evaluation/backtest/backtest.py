"""The backtest: agents and baselines on test rows, through the one execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle, refuse_seen_bars, same_symbols
from sentio_kedro.config import BacktestParameters, ExternalTestParameters, TradingParameters
from sentio_kedro.evaluation.backtest.baselines import portfolios, schedules
from sentio_kedro.evaluation.backtest.baselines.by_fold import concatenate_schedules, fold_baselines
from sentio_kedro.evaluation.backtest.baselines.target_positions import read_targets, target_schedule
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.ledger_frames import Frames, concatenate_frames
from sentio_kedro.evaluation.backtest.robustness import no_robustness, stress_frame
from sentio_kedro.evaluation.backtest.segments import contiguous, simulate_folds, simulate_rules, walk_forward
from sentio_kedro.evaluation.backtest.value_at_risk import value_at_risk_frame
from sentio_kedro.evaluation.run_frames import FORECAST_RULE
from sentio_kedro.evaluation.run_frames import TARGETS as TARGETS_ACCOUNT
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Fold, Segment


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

    ``simulate_folds`` says how accounts go from fold to fold. Baselines that no fold fits, and a table of targets if
    given, are simulated over all rows at once.

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
    by_fold, continuous = _agents_by_fold(folds, agents, bars), walk_forward(folds)
    alone = BacktestContext.of(bars, features, by_fold, trading)
    fitted = fold_baselines(alone, folds, parameters)  # on the features, which inputs of the rule replace below
    alone = alone.with_rules(folds) if continuous else alone
    several = any(len(of_fold) > 1 for of_fold in by_fold.values())
    context = alone.ensembles() if several else alone
    span = tested_span(folds)
    rules = {} if units is None else {FORECAST_RULE: schedules.forecast_rule(context, folds, span, units)}
    rules |= _rules(context, span, parameters, periods_per_year)
    rules |= concatenate_schedules(fitted, span) if continuous else {}
    parts = simulate_folds(context, folds, span, rules, fitted)
    for others in (*[alone] * several, *[alone.networks()] * (trading.unit == "rule")):
        parts += simulate_folds(others, folds, span, None, None)
    if not continuous or not contiguous(folds):
        parts.append(simulate_rules(context, folds, span, rules))
    frames = concatenate_frames(parts)
    frames["robustness"] = no_robustness()
    if continuous:
        frames["robustness"] = stress_frame(alone, context, folds, parameters.robustness, periods_per_year)
    frames["value_at_risk"] = value_at_risk_frame(context, [segment for fold in folds for segment in fold.test])
    return frames


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
    fold = agent_fold(bars, agent)
    return backtest_folds(bars, features, [fold], {agent.name: agent}, agent.spec.trading, parameters, periods_per_year)


def load_agent(parameters: ExternalTestParameters) -> AgentBundle:
    """Read the agent trained elsewhere that a section names.

    Raises:
        ValueError: If no folder is named.
        FileNotFoundError: If it is none of an agent.
    """
    if parameters.agent is None:
        raise ValueError(
            "`external_test.agent` must be the folder of an agent, was null; name one, for example with "
            '`--params "external_test.agent=data/smoke/06_models/agents/fold_0/seed_0"`.'
        )
    return AgentBundle.load(Path(parameters.agent))


def agent_fold(bars: AlignedBars, agent: AgentBundle) -> Fold:
    """Return all rows that an agent's features allow as the test rows of one fold.

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
    _agents_by_fold([fold], {agent.name: agent}, bars)
    return fold


def tested_span(folds: Sequence[Fold]) -> Segment:
    """Return the rows from the first to the last test row of any fold."""
    return Segment(min(s.start for f in folds for s in f.test), max(s.stop for f in folds for s in f.test))


def _agents_by_fold(
    folds: Sequence[Fold], agents: Mapping[str, AgentBundle], bars: AlignedBars
) -> dict[int, list[AgentBundle]]:
    """Agents of each fold in order of their seeds, refused where they do not fit bars and folds."""
    by_fold = {fold.number: _agents_of(fold.number, agents) for fold in folds}
    same_symbols(list(agents.values()), bars.symbols)
    if walk_forward(folds):
        _refuse_seen(by_fold, folds, bars)
        _same_seeds(by_fold)
    return by_fold


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
