"""Train agents, fold by fold and seed by seed, each with a nested MLflow run."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import sentio_kedro
from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.data.training_set import TrainingSet, visible_bars
from sentio_kedro.agent.forecasting.frames import out_of_fold_forecasts
from sentio_kedro.agent.forecasting.rule import ForecastRule
from sentio_kedro.agent.forecasting.rule_inputs import rule_inputs, training_path
from sentio_kedro.agent.training.lifecycle import Checkpoints
from sentio_kedro.agent.training.population import train_population
from sentio_kedro.agent.training.schedules import count_updates
from sentio_kedro.config import (
    AgentParameters,
    FeatureParameters,
    IngestionParameters,
    NetworkParameters,
    RegistryParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.config.trading import is_mixed
from sentio_kedro.evaluation.measures.targets import machine_metrics
from sentio_kedro.evaluation.run_frames import COLUMNS
from sentio_kedro.manifests import LEARNER, WITHOUT_EFFECT, code_hash, flatten_parameters
from sentio_kedro.market.features import Features
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.sessions import market_clock
from sentio_kedro.market.ingestion.timestamps import periods_per_year
from sentio_kedro.market.purged_folds import count_rows
from sentio_kedro.market.regimes import RegimeModel, market_return
from sentio_kedro.pipelines.training.progress import TrainingProgress
from sentio_kedro.tracking import client as tracking
from sentio_kedro.tracking.descriptions import NOTE_TAG, describe_agents, log_bars
from sentio_kedro.tracking.model import CONTENT_TAG, agents_content, log_model, logged_model
from sentio_kedro.tracking.registry import challenge, register, registered_version
from sentio_kedro.tracking.tags import VERSION_TAGS
from sentio_kedro.trading.accounts import for_symbols, unaffordable

UPDATE = ["fold", "seed", "member", "update"]
PHASES = ("seconds_paths", "seconds_rollout", "seconds_advantages", "seconds_update", "peak_gigabytes")
TIMED = ("steps_per_second", *PHASES)
"""Columns of an update that a repeated training does not repeat."""

logger = logging.getLogger(__name__)


def prepare_training_sets(
    aligned_bars: AlignedBars,
    features: Features,
    folds: Folds,
    regime_models: dict[int, RegimeModel],
    forecasts: pd.DataFrame,
    forecast_rules: Mapping[str, ForecastRule],
    columns: FeatureParameters,
    ingestion: IngestionParameters,
    trading: TradingParameters,
) -> list[TrainingSet]:
    """Cut out the bars and features that the training of each fold may read: neither test rows nor the lockbox.

    Where levels are multiples of the rule's position, its forecasts take the place of the features.
    """
    trading = for_symbols(trading, aligned_bars.symbols)
    warn_of_lots(aligned_bars, trading)
    values = features.on(aligned_bars)
    per_year = periods_per_year(
        aligned_bars.timestamps[folds.open_bars], ingestion.sessions_per_year, mixed=is_mixed(trading)
    )
    training_sets = []
    for fold in folds.folds:
        visible, visible_values = visible_bars(aligned_bars, values, fold, folds.spans)
        training_set = TrainingSet(
            fold,
            visible,
            visible_values,
            columns.columns,
            regime_models[fold.number],
            per_year,
            trading,
            ingestion.missing,
            outside_session=ingestion.outside_session,
        )
        if trading.unit == "rule":
            training_set = of_rule(training_set, forecast_rules[f"fold_{fold.number}"], forecasts)
        training_sets.append(training_set)
    return training_sets


def of_rule(training_set: TrainingSet, rule: ForecastRule, forecasts: pd.DataFrame) -> TrainingSet:
    """Put a rule's inputs in the place of a training set's features, out-of-fold forecasts on its train rows."""
    bars, trading = training_set.bars, training_set.trading
    posterior = training_set.regimes.filter(market_return(bars))
    by_sleeve, rows = out_of_fold_forecasts(forecasts, bars, training_set.fold.number)
    path = training_path(rule, bars, posterior, trading, by_sleeve, rows)
    inputs = rule_inputs(path, rule.segments, market_clock(bars.timestamps, trading.calendar))
    return replace(training_set, features=inputs, columns=(), rule=rule, units=path.units, forecast_rows=rows)


def warn_of_lots(bars: AlignedBars, trading: TradingParameters) -> None:
    """Warn of symbols of which an account cannot buy one lot, at their median price."""
    prices = np.nanmedian(bars.close, axis=0)
    symbols = [symbol for symbol, out in zip(bars.symbols, unaffordable(prices, trading), strict=True) if out]
    if symbols:
        logger.warning(
            "`trading.initial_cash` = %g cannot buy one lot (`trading.orders.lot_size`, or of `trading.symbols`) of %s "
            "within its allocation, so it will never be traded; raise the cash or the allocation, or leave it out.",
            trading.initial_cash,
            ", ".join(symbols),
        )


def train_agents(
    training_sets: list[TrainingSet],
    folds: Folds,
    data_quality: dict[str, Any],
    checkpoints: Checkpoints,
    network: NetworkParameters,
    training: TrainingParameters,
    trading: TradingParameters,
) -> tuple[dict[str, AgentBundle], pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Train ``training.seeds`` agents per fold, continuing from checkpoints.

    Returns:
        Agents by name, a row per member and update, a row per agent, and the time and memory of each update: all but
        the last are the same when the training is repeated.
    """
    parameters = AgentParameters(network, training, for_symbols(trading, training_sets[0].bars.symbols))
    hashes = training_hashes(parameters, data_quality["bars_hash"])
    log_bars(data_quality, "training")
    agents, curves, table = {}, [], []
    updates = training.seeds * training.members * count_updates(parameters)
    with TrainingProgress(len(training_sets), updates) as progress:
        for agent, curve, record in train_population(
            training_sets, folds.spans, parameters, checkpoints, progress, hashes
        ):
            tags = {"fold": str(agent.spec.fold), "seed": str(agent.spec.seed)}
            with tracking.nested_run(f"fold {agent.spec.fold} seed {agent.spec.seed}", tags):
                _log_agent(curve, record)
            if source := data_quality.get("source"):
                agent = replace(agent, spec=replace(agent.spec, source=source))  # noqa: PLW2901 - the same one, told
            agents[agent.name] = agent
            curves += curve
            table.append(record)
    columns = [*COLUMNS["training_curves"], *TIMED]
    rows = pd.DataFrame(curves) if curves else pd.DataFrame(columns=columns, dtype=float)
    rows, about = rows.astype({"fold": int, "seed": int, "member": int}), pd.DataFrame(table)
    timings = rows[[*UPDATE, *TIMED]]
    longest = max([training.episode_bars, *(count_rows(one.fold.train) for one in training_sets)])
    peak = about.pop("peak_device_bytes").max()
    tracking.log_metrics(machine_metrics(timings, None if pd.isna(peak) else peak, longest), prefix="training.")
    return agents, rows.drop(columns=list(TIMED)), about.drop(columns="train_seconds"), timings


def _log_agent(curve: list[dict[str, float]], record: dict[str, Any]) -> None:
    if not tracking.is_tracked():
        return
    for member, rows in pd.DataFrame(curve).astype({"update": int}).groupby("member") if curve else ():
        named = rows.drop(columns=["fold", "seed", "member", "selected", "steps", *PHASES]).set_index("update")
        tracking.log_curves(named.add_prefix(f"member_{member}.").reset_index(), "update")
    tracking.log_metrics({name: value for name, value in record.items() if name not in ("fold", "seed")})


def training_hashes(parameters: AgentParameters, bars: str) -> dict[str, str]:
    """Hash the bars, the parameters, the package's code, and that part of the code which trains."""
    sections = flatten_parameters(vars(parameters))
    shaping = {name: value for name, value in sections.items() if name not in WITHOUT_EFFECT}
    return {
        "bars": bars,
        "parameters": hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest(),
        "code": code_hash(Path(sentio_kedro.__file__).parent),
        "learner": code_hash(Path(sentio_kedro.__file__).parent, LEARNER),
    }


def log_agents(
    agents: dict[str, AgentBundle],
    aligned_bars: AlignedBars,
    folds: Folds,
    data_quality: dict[str, Any],
    registered: RegistryParameters,
) -> dict[str, Any]:
    """Log the latest fold's agents to MLflow as one model, of code and safetensors, and register it.

    Agents that are there already, from an interrupted training for example, are logged and registered no second time.

    Returns:
        ``agents`` (their names), ``content`` (their digest), ``model_uri``, ``model`` (registered name) and
        ``version``; null where there is none.
    """
    latest = max(agent.spec.fold for agent in agents.values())
    chosen = {name: agent for name, agent in agents.items() if agent.spec.fold == latest}
    content, model = agents_content(chosen), registered.model
    uri = logged_model(content) or log_model(chosen, aligned_bars.rows(folds.open_bars), content)
    description, version = describe_agents(chosen, data_quality), None
    tracking.log_tags({NOTE_TAG: description})
    if uri is not None and model is not None:
        tags = {name: text for name, text in tracking.run_tags().items() if name in VERSION_TAGS}
        tags |= {CONTENT_TAG: content, "sentio.fold": str(latest)}
        version = registered_version(model, content) or register(uri, model, tags, description)
    if version is not None:
        challenge(str(model), version)
        uri = f"models:/{model}/{version}"  # the same in every store, other than the id of the logged model
    return {"agents": sorted(chosen), "content": content, "model_uri": uri, "model": model, "version": version}
