"""The lockbox: the last bars, which no fold touches, traded by agents for which everything was chosen before.

Every opening uses the lockbox up, so the ledger records it before anything is computed: a record ``opened``, and a
record ``result`` with its key once there are metrics. An opening without a result counts all the same.
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
from sentio_kedro.evaluation.statistics.bootstrap import headline_samples, percentile_interval
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Fold, Segment

NO_STRESS = RobustnessParameters(
    cost_multipliers=None, latency_bars=None, start_shares=None, paths=None, without_seeds=False
)
TRADED = ("accounts", "positions", "trades", "holdings", "actions", "masks", "value_at_risk", "robustness")
REPORTED = ("agent", "seeds", "baselines", "comparisons", "confidence", "periods_per_year", "bootstrap")
FIGURES = (  # of the agent, in the ledger
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
    """Backtest the agents of one fold and the baselines on the lockbox.

    Accounts open flat at the close of the first bar of the lockbox. Features, regimes and masks look back over earlier
    bars, as in the backtest; the rows in between are not traded. Baselines are fitted on the train and validation rows
    of ``fold``, whose test is left out. So are stress tests, as each one is another opening.

    Returns:
        Frames as from ``backtest_folds``.

    Raises:
        ValueError: If an agent trades other symbols or has seen a bar of the lockbox.
    """
    lockbox = replace(fold, test=(rows,))
    plain = replace(parameters, robustness=NO_STRESS)
    by_name = {agent.name: agent for agent in agents}
    return backtest_folds(bars, features, [lockbox], by_name, trading, plain, periods_per_year)


def lockbox_metrics(frames: Frames, facts: RunFacts, parameters: ReportingParameters) -> dict[str, Any]:
    """Measure the accounts of the lockbox as the report measures those of the backtest.

    Returns:
        Plain values: the entries ``REPORTED`` of ``build_metrics`` and one per baseline; each of ``seeds`` has its own
        interval, ``sharpe_low`` and ``sharpe_high``, of the same resampled rows.
    """
    empty = {name: pd.DataFrame(columns=list(columns)) for name, columns in COLUMNS.items() if name not in TRADED}
    run = RunFrames(**{name: frames[name] for name in TRADED}, **empty)
    metrics = build_metrics(run, facts, parameters)
    samples = headline_samples(
        account_table(run, "return")[run.seeds].to_numpy(dtype=np.float64),
        facts.periods_per_year,
        parameters.bootstrap_samples,
        metrics["bootstrap"]["mean_block_bars"],
        np.random.default_rng(parameters.seed),
    )
    intervals = [percentile_interval(ratios, parameters.confidence) for ratios in samples["sharpe"].T]
    ends = [json_ready({"sharpe_low": low, "sharpe_high": high}) for low, high in intervals]
    seeds = [entry | interval for entry, interval in zip(metrics["seeds"], ends, strict=True)]
    return {name: metrics[name] for name in (*REPORTED, *metrics["baselines"])} | {"seeds": seeds}


def opening_record(
    time: datetime, model: str, agents: Sequence[AgentBundle], bars: AlignedBars, rows: Segment, bars_hash: str
) -> dict[str, Any]:
    """Return the record of an opening, for the ledger before anything is computed.

    Returns:
        ``event`` (opened), ``opening`` (its key), ``time``, ``model`` (``manifests.agents_identity``), ``agents``
        (names), ``code`` (hash of the code that trained them), ``bars_hash`` (of the raw bars), ``symbols``, ``first``
        and ``last`` (timestamps of the first decision and of the last bar).
    """
    iso = time.isoformat(timespec="microseconds")
    return {
        "event": "opened",
        "opening": f"{model[:8]} {iso}",
        "time": iso,
        "model": model,
        "agents": [agent.name for agent in agents],
        "code": agents[0].spec.hashes.get("code"),
        "bars_hash": bars_hash,
        "symbols": list(bars.symbols),
        "first": timestamp(bars, rows.start),
        "last": timestamp(bars, len(bars.timestamps) - 1),
    }


def or_unfinished(record: dict[str, Any], earlier: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return ``record`` with key and time of the last one in the ledger, where that is this opening without a result.

    Args:
        record: An opening, as from ``opening_record``.
        earlier: All records of the ledger, in order.
    """
    last = earlier[-1] if earlier else {}
    continued = record | {name: last[name] for name in ("time", "opening") if name in last}
    return continued if continued == last else record


def result_record(time: datetime, opening: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of an opening's result: its key, and ``FIGURES`` of the agent in ``lockbox_metrics``."""
    values = {name: metrics["agent"][name] for name in FIGURES}
    iso = time.isoformat(timespec="microseconds")
    return {"event": "result", "opening": opening["opening"], "time": iso, **values}


def openings(
    records: Iterable[Mapping[str, Any]],
    agents_identity: str,
    symbols: Collection[str],
    lockbox: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    """List the openings of a lockbox, whichever model and environment they were for.

    An opening counts if it shares symbols and time with the lockbox, with bars of any length.

    Args:
        records: Records of the ledger, in order.
        agents_identity: Identity of the agents for ``this_model`` (``manifests.agents_identity``).
        symbols: Symbols that are traded.
        lockbox: ``first`` and ``last`` timestamp of the lockbox; None counts the openings of all times.

    Returns:
        One entry per opening, in order: ``time``, ``model``, ``this_model``, ``agents``, ``bars_hash``, ``first``,
        ``last``, ``finished`` (there is a result) and ``FIGURES``, each None without a result.
    """
    records = list(records)
    results = {record["opening"]: record for record in records if record["event"] == "result"}
    return [
        {name: record[name] for name in ("time", "model", "agents", "bars_hash", "first", "last")}
        | {"this_model": record["model"] == agents_identity, "finished": record["opening"] in results}
        | {name: results.get(record["opening"], {}).get(name) for name in FIGURES}
        for record in records
        if record["event"] == "opened" and set(symbols) & set(record["symbols"]) and _overlaps(record, lockbox)
    ]


def earned_in_lockbox(records: Sequence[Mapping[str, Any]], tracked: str) -> bool:
    """Whether agents earned in a lockbox that no other agents opened before them.

    Args:
        records: Records of the ledger, in order.
        tracked: Digest of the agents and of the code that trained them (``manifests.tracked_identity``), which records
            hold as ``tracked`` and registered versions as the tag ``sentio.agents``.
    """
    own = [record for record in records if record["event"] == "opened" and record.get("tracked") == tracked]
    if not own:
        return False
    keys = {record["time"] for record in own}
    first, *later = openings(records, own[-1]["model"], own[-1]["symbols"], own[-1])
    earned = any(
        one["time"] in keys and one["finished"] and (one["total_return"] or 0.0) > 0.0 for one in (first, *later)
    )
    return first["time"] in keys and earned


def _overlaps(record: Mapping[str, Any], lockbox: Mapping[str, Any] | None) -> bool:
    if lockbox is None:
        return True
    (first, last), (start, stop) = (
        [pd.to_datetime(span[name], utc=True) for name in ("first", "last")] for span in (record, lockbox)
    )
    return bool(first <= stop and start <= last)
