"""Test a challenger at the gates, and promote it or record the gates that it failed."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from sentio_kedro.config import PromotionParameters, RegistryParameters, ReportingParameters
from sentio_kedro.datasets.trials import TrialLedger
from sentio_kedro.evaluation.comparison.champion import ChampionComparison, compare_with_champion, incomparable
from sentio_kedro.evaluation.comparison.gates import apply_gates, failures, switched_off
from sentio_kedro.evaluation.lockbox import earned_in_lockbox
from sentio_kedro.evaluation.skill.skill import choice_metrics
from sentio_kedro.evaluation.skill.trials import recall, recorded_trials
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.pipelines.promotion.measures import decision_latency, example_bars, market_drift
from sentio_kedro.tracking import registry
from sentio_kedro.tracking.candidates import Candidates, find_candidates, load_agents
from sentio_kedro.tracking.registry import load_model
from sentio_kedro.tracking.runs import StoreError, read_trial_returns, readable_store

FROM_METRICS = {
    "drawdown": "agent.max_drawdown",
    "tail_loss": "agent.daily_conditional_value_at_risk",
    "turnover": "agent.turnover_per_year",
}
"""Metrics of the gates, and their names in the challenger's run."""

FROM_TRIALS = {"deflated_sharpe": "deflated_sharpe", "overfitting": "pbo", "trials": "trials"}
"""Metrics of the gates that count later trials too, and their names in ``choice_metrics``."""

UNKNOWN_TRIAL = (
    "The ledger of trials does not hold the run that tested it: promote in the environment that did, with its ledger, "
    "or run `kedro run --pipeline reporting` there with `reporting.trials.record: true`."
)

logger = logging.getLogger(__name__)


def read_candidates(
    parameters: PromotionParameters, registered: RegistryParameters, logged_model: dict[str, Any]
) -> Candidates:
    """Find challenger and champion in MLflow, with the runs that tested them."""
    with readable_store():
        return find_candidates(_model(registered), parameters, logged_model)


def _model(registered: RegistryParameters) -> str:
    if registered.model is None:
        raise StoreError("`registry.model` is null, so that no model is registered; name one, then train.")
    return registered.model


def measure_choice(
    candidates: Candidates, trials: TrialLedger, lockbox_records: list[dict[str, Any]], reporting: ReportingParameters
) -> dict[str, float | None]:
    """Compare the challenger with all trials on its symbols and dates, those made since it was tested included.

    Returns:
        Metrics by name; empty if the ledger does not hold the challenger's trial. The trials are those on the test
        rows, or the one on the lockbox's if the challenger was the first to open it and earned there.
    """
    run_id, records = candidates.run.run_id, trials.records()
    with readable_store():
        returns = read_trial_returns(run_id)
    if returns is None or (trial := recall(candidates.challenger.trial, run_id, returns, records)) is None:
        return {}
    recorded = recorded_trials(trial, records, trials.returns)
    logger.info("The challenger is one of %d trials on its symbols and dates.", recorded.count)
    metrics = choice_metrics(returns["return"].to_numpy(dtype=np.float64), recorded, reporting)
    metrics["trials"] = 1 if earned_in_lockbox(lockbox_records, candidates.challenger.agents) else recorded.on_test_rows
    return {name: metrics[key] for name, key in FROM_TRIALS.items()}


def measure(
    candidates: Candidates,
    aligned_bars: AlignedBars,
    folds: Folds,
    parameters: PromotionParameters,
    choice: dict[str, float | None],
) -> tuple[dict[str, float | None], ChampionComparison | None]:
    """Compute the metrics of the gates that are on; the lockbox stays closed.

    Returns:
        Metrics by name, None where undefined, and the comparison with the champion on the same rows (None where no
        gate needs it).
    """
    challenger, champion = candidates.challenger, candidates.champion
    metrics: dict[str, float | None] = {name: candidates.run.metrics.get(key) for name, key in FROM_METRICS.items()}
    metrics |= choice
    with readable_store():
        agents = load_agents(candidates.model, challenger.number)
        has_latency_gate = parameters.max_latency_ms is not None
        served = load_model(candidates.model, challenger.number) if has_latency_gate else None
    lockbox = folds.locate_lockbox(aligned_bars.timestamps)
    if served is not None:
        example = example_bars(agents, aligned_bars.rows(slice(0, None if lockbox is None else lockbox.start)))
        metrics["latency_ms"] = decision_latency(served, example, parameters.latency_calls)
    if parameters.max_drift is not None:
        metrics["drift"] = market_drift(agents, aligned_bars, parameters.drift_bars, lockbox)
    if champion is None or champion.number == challenger.number or parameters.min_sharpe_gain is None:
        return metrics, None
    if champion.run is None:
        refusal = f"The champion cannot be compared with. {champion.reason} Or set `promotion.min_sharpe_gain: null`, "
        comparison = incomparable(f"{refusal}which goes without the comparison with the champion.")
    else:
        comparison = compare_with_champion(candidates.run, champion.run, parameters)
    return metrics | {"sharpe_gain": comparison.gain}, comparison


def decide(
    candidates: Candidates,
    measured: tuple[dict[str, float | None], ChampionComparison | None],
    parameters: PromotionParameters,
    earlier: list[dict[str, Any]],
) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Any]]:
    """Apply the gates; a decision that is the last one on record is that one.

    Returns:
        A row per gate, and the decision's record twice: for the environment, and for the ledger of all decisions.
    """
    metrics, comparison = measured
    challenger, champion = candidates.challenger, candidates.champion
    before = None if champion is None else champion.number
    causes = {name: UNKNOWN_TRIAL for name in FROM_TRIALS if name not in metrics}
    gate_results = apply_gates(metrics, parameters, champion=comparison is not None, causes=causes)
    reasons = [*(() if comparison is None else comparison.refusals), *failures(gate_results)]
    decision = "refused" if reasons else "promoted"
    reasons = reasons or [f"It passed {len(gate_results)} gates."]
    if challenger.number == before:
        decision, reasons = "kept", [f"Version {challenger.number} is the champion already."]
    record = {
        **_record(decision, candidates.model, challenger.number, before, reasons),
        "run": candidates.run.run_id,
        "agents": challenger.agents,
        "gates": [result._asdict() for result in gate_results],
        "switched_off": switched_off(parameters),
        "against_champion": None if comparison is None else comparison._asdict(),
    }
    if record["switched_off"]:
        logger.warning("Gates that are switched off: %s.", ", ".join(record["switched_off"]))
    record = _or_last(record, earlier)
    _log(record)
    return pd.DataFrame([result._asdict() for result in gate_results]), record, record


def decide_rollback(
    registered: RegistryParameters, earlier: list[dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Decide to make the previous champion champion again; a rollback that was killed on its way is finished.

    Returns:
        The decision's record twice, as in ``decide``.

    Raises:
        StoreError: If there is no champion, or none before it.
    """
    model = _model(registered)
    with readable_store():
        aliases = registry.aliases(model)
    champion, previous = aliases.get(registry.CHAMPION), aliases.get(registry.PREVIOUS)
    if champion is None or previous is None:
        lacking = "champion" if champion is None else "previous champion"
        raise StoreError(f"Model `{model}` has no {lacking}, so that there is nothing to roll back to.")
    last: dict[str, Any] = next((entry for entry in reversed(earlier) if entry["model"] == model), {})
    if champion == previous == last.get("restored"):  # killed between the two aliases
        record = last
    else:
        reasons = [f"Rolled back to version {previous}."]
        record = {**_record("rolled_back", model, champion, champion, reasons), "restored": previous}
        record = _or_last(record, earlier)
    _log(record)
    return record, record


def _or_last(record: dict[str, Any], earlier: list[dict[str, Any]]) -> dict[str, Any]:
    """Give a decision the time of the last one in the ledger if they are equal: that was killed, or came to the same.

    Another champion since then would be another record.
    """
    last = earlier[-1] if earlier else {}
    same = record | {"time": last.get("time")}
    return same if json.loads(json.dumps(same)) == last else record


def _record(decision: str, model: str, number: str, champion: str | None, reasons: Sequence[str]) -> dict[str, Any]:
    time = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"time": time, "decision": decision, "model": model, "version": number, "champion": champion}
    return record | {"reasons": list(reasons)}


def _log(record: dict[str, Any]) -> None:
    level = logging.WARNING if record["decision"] == "refused" else logging.INFO
    text = " ".join(record["reasons"])
    logger.log(level, "Version %s of %s: %s. %s", record["version"], record["model"], record["decision"], text)


def apply_decision(record: dict[str, Any], ledger: list[dict[str, Any]]) -> None:
    """Move aliases and tag the version, once the decision is in the ledger."""
    if record not in ledger:
        raise StoreError("The decision is not in the ledger of promotions, so that it does not take effect; run again.")
    movers = [entry for entry in ledger if entry["model"] == record["model"] and entry["decision"] in registry.MOVERS]
    if record["decision"] in registry.MOVERS and record != movers[-1]:
        raise StoreError(
            f"The decision of {record['time']} is not the last one on the champion of `{record['model']}`, so that it "
            "does not take effect; decide anew with `kedro run --pipeline promotion`."
        )
    node = (
        "rollback --nodes rollback.roll_back"
        if record["decision"] == "rolled_back"
        else "promotion --nodes promotion.promote"
    )
    unfinished = (
        f"the decision is on record, but may have taken effect in part: finish it with `kedro run --pipeline {node}`"
    )
    with readable_store(f"{unfinished} in the same environment"):
        registry.take_effect(record, ledger)
