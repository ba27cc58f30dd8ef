"""The lockbox: the last bars, which no fold touches, traded by agents for which everything was chosen before.

Looking is what uses a lockbox up, so the ledger learns of an opening before anything is computed: a record ``opened``,
and a record ``result`` with its key once there are figures. An opening without a result was looked at all the same, or
may have been.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import BacktestParameters, ReportingParameters, RobustnessParameters, TradingParameters
from sentio_kedro.evaluation.backtest.backtest import backtest_folds, timestamp
from sentio_kedro.evaluation.backtest.ledger_frames import Frames
from sentio_kedro.evaluation.metrics import build_metrics, json_ready
from sentio_kedro.evaluation.run_frames import COLUMNS, RunFacts, RunFrames, account_table
from sentio_kedro.evaluation.statistics.bootstrap import percentile_interval, sharpe_samples
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.fold_shapes import Fold, Segment
from sentio_kedro.market.timestamps import Floats

NO_STRESS = RobustnessParameters(cost_multipliers=None, latency_bars=None, start_offsets=None, paths=None)
TRADED = ("accounts", "positions", "trades", "actions", "masks", "robustness")
KEPT = ("agent", "seeds", "baselines", "comparisons", "confidence", "periods_per_year", "bootstrap")
FIGURES = (  # of the median agent, in the ledger
    *("sharpe", "sharpe_low", "sharpe_high", "sharpe_seed_min", "sharpe_seed_max", "annual_return", "total_return"),
    *("max_drawdown", "trades", "seeds", "bars"),
)


def trade_lockbox(
    bars: AlignedBars,
    features: Floats,
    fold: Fold,
    rows: Segment,
    agents: Sequence[AgentBundle],
    trading: TradingParameters,
    parameters: BacktestParameters,
    periods_per_year: float,
) -> Frames:
    """Let agents of one fold and the baselines trade the lockbox, through the execution of the backtest.

    Accounts open flat at the close of the first bar of the lockbox. What the agents read at it (features, regimes,
    masks) looks back over earlier bars, as in the backtest; the rows in between are traded by nobody.

    Args:
        bars: Aligned bars, those of the lockbox included.
        features: ``[T, A, F]`` features of these bars.
        fold: The agents' fold, on whose train and validation rows baselines are fitted; its test is left out.
        rows: Decision rows of the lockbox.
        agents: Agents of that fold, one per seed.
        trading: Limits, costs and starting equity.
        parameters: Baselines; what would shake the test is left out, as each shake is another look.
        periods_per_year: Bars per year.

    Returns:
        Frames as from ``backtest_folds``.

    Raises:
        ValueError: If an agent trades other symbols or has seen a bar of the lockbox.
    """
    opened = replace(fold, test=(rows,))
    plain = replace(parameters, robustness=NO_STRESS)
    by_name = {agent.name: agent for agent in agents}
    return backtest_folds(bars, features, [opened], by_name, trading, plain, periods_per_year)


def lockbox_metrics(frames: Frames, facts: RunFacts, parameters: ReportingParameters) -> dict[str, Any]:
    """Judge the accounts of the lockbox as the report judges those of the backtest.

    Args:
        frames: What ``trade_lockbox`` returned.
        facts: Facts of the run.
        parameters: Bootstrap and confidence.

    Returns:
        What JSON can hold: the entries ``KEPT`` of ``build_metrics`` and one per baseline; each of ``seeds`` has its
        own interval, ``sharpe_low`` and ``sharpe_high``, of the same resampled rows.
    """
    unknown = {name: pd.DataFrame(columns=list(columns)) for name, columns in COLUMNS.items() if name not in TRADED}
    run = RunFrames(**{name: frames[name] for name in TRADED}, **unknown)
    judged = build_metrics(run, facts, parameters)
    kept = {name: judged[name] for name in (*KEPT, *judged["baselines"])}
    samples = sharpe_samples(
        account_table(run, "return")[run.seeds].to_numpy(dtype=np.float64),
        facts.periods_per_year,
        parameters.bootstrap_samples,
        parameters.bootstrap_block,
        np.random.default_rng(parameters.seed),
    )
    spans = [percentile_interval(ratios, parameters.confidence) for ratios in samples.T]
    own = [json_ready({"sharpe_low": span.low, "sharpe_high": span.high}) for span in spans]
    return kept | {"seeds": [entry | found for entry, found in zip(kept["seeds"], own, strict=True)]}


def opening_record(
    time: datetime, model: str, agents: Sequence[AgentBundle], bars: AlignedBars, rows: Segment, bars_hash: str
) -> dict[str, Any]:
    """Return what is put on record before the lockbox is looked at.

    Args:
        time: When, with its zone.
        model: Identity of the agents (``manifests.agents_identity``).
        agents: The agents.
        bars: Aligned bars.
        rows: Decision rows of the lockbox.
        bars_hash: Hash of the raw bars.

    Returns:
        ``event`` (opened), ``opening`` (its key), ``time``, ``model``, ``agents`` (names), ``code`` (hash of the code
        that trained them), ``bars_hash``, ``symbols``, ``first`` and ``last`` (stamps of the first decision and of the
        last bar).
    """
    moment = time.isoformat(timespec="microseconds")
    return {
        "event": "opened",
        "opening": f"{model[:8]} {moment}",
        "time": moment,
        "model": model,
        "agents": [agent.name for agent in agents],
        "code": agents[0].spec.hashes.get("code"),
        "bars_hash": bars_hash,
        "symbols": list(bars.symbols),
        "first": timestamp(bars, rows.start),
        "last": timestamp(bars, len(bars.timestamps) - 1),
    }


def result_record(time: datetime, opening: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is put on record once the lockbox has been looked at.

    Args:
        time: When, with its zone.
        opening: What ``opening_record`` returned.
        metrics: What ``lockbox_metrics`` returned.

    Returns:
        ``event`` (result), ``opening`` (the key), ``time`` and the figures of the median agent: ``FIGURES``.
    """
    figures = {name: metrics["agent"][name] for name in FIGURES}
    moment = time.isoformat(timespec="microseconds")
    return {"event": "result", "opening": opening["opening"], "time": moment, **figures}


def openings(
    records: Iterable[Mapping[str, Any]],
    agents_identity: str,
    symbols: Collection[str],
    lockbox: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    """List the openings that looked at bars of a lockbox, whichever model and environment they were for.

    Any look has used the bars up. One at some of the symbols counts, at some of the time, in bars of any length.

    Args:
        records: Records of the ledger, in order.
        agents_identity: Identity of the agents that are asked about (``manifests.agents_identity``).
        symbols: Symbols that are traded.
        lockbox: ``first`` and ``last`` stamp of the lockbox; None counts the openings of all times.

    Returns:
        One entry per opening, in order: ``time``, ``model``, ``this_model``, ``agents``, ``bars_hash``, ``first``,
        ``last``, ``finished`` (whether there is a result) and ``FIGURES``, each None without a result.
    """
    found = list(records)
    results = {record["opening"]: record for record in found if record["event"] == "result"}
    told = ("time", "model", "agents", "bars_hash", "first", "last")
    return [
        {name: record[name] for name in told}
        | {"this_model": record["model"] == agents_identity, "finished": record["opening"] in results}
        | {name: results.get(record["opening"], {}).get(name) for name in FIGURES}
        for record in found
        if record["event"] == "opened" and _looked_at(record, symbols, lockbox)
    ]


def _looked_at(record: Mapping[str, Any], symbols: Collection[str], lockbox: Mapping[str, Any] | None) -> bool:
    if not set(symbols) & set(record["symbols"]):
        return False
    return lockbox is None or (_moment(record["first"]) <= _moment(lockbox["last"])
                               and _moment(lockbox["first"]) <= _moment(record["last"]))  # fmt: skip


def _moment(text: str) -> pd.Timestamp:
    return pd.to_datetime(text, utc=True)
