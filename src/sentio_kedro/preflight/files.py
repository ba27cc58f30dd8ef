"""Files that parameters name, and agents that are to trade other bars than they were trained on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sentio_kedro.config import IngestionParameters, SignalParameters, TradingParameters
from sentio_kedro.evaluation.backtest.backtest import agent_fold, load_agent, tested_span
from sentio_kedro.evaluation.backtest.baselines.target_positions import read_targets, target_schedule
from sentio_kedro.market.indicators import own_columns
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import whole_rows
from sentio_kedro.market.ingestion.session_checks import placed_in_sessions
from sentio_kedro.market.ingestion.timestamps import moment
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.preflight.market import Load, MarketPlan, attempt
from sentio_kedro.serving.accounts import ACCOUNT, require_history, row_of
from sentio_kedro.serving.incoming_bars import of_symbols, with_own
from sentio_kedro.serving.newest import choose_agents
from sentio_kedro.serving.newest_bar import require_newest, require_same_feed


def file_problems(plan: MarketPlan, parameters: Mapping[str, Any], load: Load, running: Collection[str]) -> list[str]:
    """List faults of the table of targets, and of agents that are to trade these bars.

    Args:
        plan: The bars and their folds.
        parameters: Typed sections by name.
        load: Loads agents and their accounts.
        running: Pipelines that run.
    """
    problems: list[str] = []
    folds, trading = plan.folds, parameters["trading"]
    if folds is not None and "backtest" in running:
        span = tested_span(folds.folds)
        _check_targets(problems, parameters, plan.bars.rows(folds.open_bars), span, trading)
    if folds is not None and "lockbox" in running:
        rows = attempt(problems, folds.lockbox_rows)
        if rows is not None:
            _check_targets(problems, parameters, plan.bars, rows, trading)
    if "external_test" in running:
        _check_external(problems, plan.bars, parameters)
    if "signals" in running:
        attempt(problems, _check_history, plan.bars, load, parameters["signals"])
    return problems


def _check_targets(
    problems: list[str],
    parameters: Mapping[str, Any],
    bars: AlignedBars,
    rows: Segment,
    trading: TradingParameters,
) -> None:
    path = parameters["backtest"].targets
    frame = None if path is None else attempt(problems, read_targets, Path(path))
    if frame is not None:
        attempt(problems, target_schedule, frame, bars, rows, trading)


def _check_external(problems: list[str], bars: AlignedBars, parameters: Mapping[str, Any]) -> None:
    agent = attempt(problems, load_agent, parameters["external_test"])
    fold = None if agent is None else attempt(problems, agent_fold, bars, agent)
    if agent is not None:
        attempt(problems, with_own, bars, own_columns(agent.spec.features))
        if parameters["ingestion"].outside_session == "refuse":
            attempt(problems, placed_in_sessions, bars, IngestionParameters(bar_label="start"), agent.spec.trading)
    if agent is not None and fold is not None:
        _check_targets(problems, parameters, bars, fold.test[0], agent.spec.trading)


def _check_history(bars: AlignedBars, load: Load, signals: SignalParameters) -> None:
    """Refuse bars on which the chosen agents cannot go on; the manifests say if there are none."""
    agents, states = load("agents"), load("account_states")
    if not agents or not states:
        return
    require_newest(bars.timestamps, moment(datetime.now(UTC)), signals.max_age)
    chosen = choose_agents(agents, signals.fold)
    spec = chosen[0].spec
    own = with_own(of_symbols(bars, spec.symbols), own_columns(spec.features))
    own = whole_rows(own) if spec.missing == "drop_bar" else own
    row = row_of(ACCOUNT.validate_python(states[f"fold_{spec.fold}"]), own.timestamps)
    require_same_feed(own.timestamps, row, signals.longest_gap)
    require_history(spec.required_bars, row, len(own.timestamps))
