"""Descriptions for people, in Markdown: of the bars, a run, a version and the registered model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.evaluation.report.tables import formatted, interval_title
from sentio_kedro.evaluation.report.verdict import skill_sentences
from sentio_kedro.market.ingestion.bar_checks import VALUE_COLUMNS
from sentio_kedro.tracking.client import optional_tracking
from sentio_kedro.tracking.tags import SHORT

NOTE_TAG = "mlflow.note.content"
"""Tag of a run that MLflow shows as its description."""

NAMED = 12  # symbols by name; the others are counted
MINUTES_PER_DAY = 1_440
_TEST = "\n\n**Out of sample**\n\n"


def log_bars(data_quality: Mapping[str, Any], context: str) -> None:
    """Log the bars as an input of the active run: their name, hash, span and symbols, not the bars themselves.

    Logging the same bars again changes nothing.

    Args:
        data_quality: Data quality from ingestion.
        context: ``training`` or ``test``.
    """
    run = mlflow.active_run()
    if run is None:
        return
    names = ("rows", "grid_bars", "bar_minutes", "first", "last", "universe")
    profile = {name: data_quality[name] for name in names} | {"symbols": list(data_quality["per_symbol"])}
    types = {"timestamp": "datetime", "symbol": "string", **dict.fromkeys(VALUE_COLUMNS, "double")}
    columns = [{"name": name, "type": kind, "required": True} for name, kind in types.items()]
    bars = Dataset(
        name=f"{_listed(profile['symbols'])}, {bar_length(data_quality['bar_minutes'])}",
        digest=data_quality["bars_hash"][:SHORT],
        source_type="kedro",
        source=json.dumps({"catalog": "bars"}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps(profile | {"sha256": data_quality["bars_hash"]}),
    )
    with optional_tracking():
        MlflowClient().log_inputs(run.info.run_id, [DatasetInput(bars, [InputTag(MLFLOW_DATASET_CONTEXT, context)])])


def describe_agents(agents: Mapping[str, AgentBundle], data_quality: Mapping[str, Any]) -> str:
    """Describe agents of one fold: what they trade, on which bars, and what they answer.

    Args:
        agents: Agents by name.
        data_quality: Data quality of the bars that they were trained on.
    """
    spec = next(iter(agents.values())).spec
    levels = ", ".join(f"{level:g}" for level in spec.trading.levels)
    unit = "of an asset's allocation" if spec.trading.unit == "allocation" else "of the forecast rule's position"
    length = bar_length(data_quality["bar_minutes"])
    rows = {
        "Trades": _listed(spec.symbols),
        "Bars": f"{length}, {data_quality['first'][:10]} to {data_quality['last'][:10]}, hash "
        f"`{data_quality['bars_hash'][:SHORT]}`",
        "Trained on": f"{spec.train_start[:10]} to {spec.train_end[:10]}, fold {spec.fold}",
        "Needs": f"{spec.required_bars:,} bars before a decision",
        "Levels": f"{levels}: multiples {unit}",
    }
    count = f"{len(agents)} agents that decide as one" if len(agents) > 1 else "One agent"
    intro = f"{count}, {spec.members} network{'s' if spec.members > 1 else ''} each. From the bars up to a close they "
    return f"{intro}answer the position of every symbol from the next open on.\n\n{_list(rows)}"


def describe_test(metrics: Mapping[str, Any]) -> str:
    """Describe what the agents earned out of sample, and whether skill was shown."""
    agent, interval = metrics["agent"], interval_title(metrics["confidence"])
    ends = formatted((agent["sharpe_low"], agent["sharpe_high"]), "interval") if agent["sharpe_low"] is not None else ""
    span = f"{agent['first_timestamp'][:10]} to {agent['last_timestamp'][:10]}"
    rows = {
        "Tested on": f"{agent['bars']:,} bars, {span}, {agent['folds']} folds ({metrics['scheme'].replace('_', ' ')})",
        "Sharpe ratio": f"{formatted(agent['sharpe'], 'number')} ({interval} {ends}), net of all costs",
        "Annual return": formatted(agent["annual_return"], "percent"),
        "Maximum drawdown": formatted(agent["max_drawdown"], "percent"),
        "Costs": f"{formatted(agent['cost_share'], 'percent')} of the gross profit; turnover "
        f"{formatted(agent['turnover_per_year'], 'number')} times equity a year",
        "Buy and hold": f"Sharpe ratio {formatted(metrics['buy_and_hold']['sharpe'], 'number')}",
    }
    told = " ".join(skill_sentences(metrics["skill"]))
    return "\n\n".join([_list(rows), told, *(f"**Alarm:** {_plain(alarm)}" for alarm in metrics["alarms"])])


def with_test(description: str | None, metrics: Mapping[str, Any]) -> str:
    """Return ``description`` with the result of a test in the place of that of an earlier one."""
    return f"{(description or '').partition(_TEST)[0]}{_TEST}{describe_test(metrics)}"


def describe_model(model: str) -> str:
    """Describe the registered model: what its versions are, and how the champion is served."""
    return (
        "Trading agents that turn raw bars into target positions. Each version is one training, tested out of sample. "
        "`champion` is in use, `previous` was the champion before it, `challenger` was trained last. "
        f"`kedro run --pipeline promotion` moves them.\n\n{serving_command(f'{model}@champion')}"
    )


def serving_command(name: str) -> str:
    """Return the command that serves a version, such as ``model/3`` or ``model@champion``, as code."""
    return f"`mlflow models serve -m 'models:/{name}' --env-manager local -p 5001`"


def bar_length(minutes: float) -> str:
    """Name the length of a bar, such as ``30-minute bars`` or ``daily bars``."""
    return "daily bars" if minutes == MINUTES_PER_DAY else f"{minutes:g}-minute bars"


def _listed(symbols: Sequence[str]) -> str:
    more = f" and {len(symbols) - NAMED} more" if len(symbols) > NAMED else ""
    return f"{', '.join(_plain(symbol) for symbol in symbols[:NAMED])}{more}"


def _list(rows: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in rows.items())


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return "".join(f"&#{ord(letter)};" if letter in "|<>&*_`[]\\~$" else letter for letter in text)
