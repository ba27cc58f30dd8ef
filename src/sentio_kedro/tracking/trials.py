"""Identity and context of runs and search candidates in the ledger of trials."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow

import sentio_kedro
from sentio_kedro.agent.bundle import SPEC, AgentBundle
from sentio_kedro.evaluation.skill.trials import universe_name
from sentio_kedro.manifests import LEARNER, code_hash, expected_manifest, upstream_stages

TRIAL_TAG, TRIAL_FILE = "sentio.trial_identity", "trial_returns.csv"
"""Tag of a run with its trial's identity, and file of the trial's returns."""

PACKAGE = Path(sentio_kedro.__file__).parent


def shaping_parameters(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that shape agents, from the bars on: not those that only test, report or speed up.

    Args:
        flat: Flattened parameters of all sections.
    """
    stages = (*upstream_stages("training", flat), "training")
    return {name: value for stage in stages for name, value in expected_manifest(stage, "", flat).parameters.items()}


def agents_origin(flat: Mapping[str, Any], agents: Mapping[str, AgentBundle] | None) -> tuple[dict[str, Any], str]:
    """Return the parameters that shaped the agents under test, and the hash of the code that trained them.

    Args:
        flat: Flattened parameters of all sections. An external agent (``backtest.agent``) brings its own.
        agents: Agents of this project; None for an external one.
    """
    folder = flat.get("backtest.agent")
    if folder is None:
        bundle = next(iter(agents.values())) if agents else None
        return shaping_parameters(flat), learner_hash() if bundle is None else bundle.spec.hashes["learner"]
    bundle = AgentBundle.load(Path(folder))
    spec = SPEC.dump_python(bundle.spec, mode="json")
    about = {name: spec[name] for name in ("features", "network", "trading", "members")}
    return {"agent": bundle.spec.hashes["parameters"], **about}, bundle.spec.hashes["learner"]


def learner_hash() -> str:
    """Hash the code that decides what agents become; another report or another test makes no other trial."""
    return code_hash(PACKAGE, LEARNER)


def universe_of(data_quality: Mapping[str, Any]) -> str:
    """Name the universe of the bars that ``data_quality`` describes."""
    return universe_name(list(data_quality["per_symbol"]), data_quality["bar_minutes"])


def record_context(**more: Any) -> dict[str, Any]:
    """Return the time and the active MLflow run for a trial's record, with ``more`` fields."""
    run = mlflow.active_run()
    return {"time": datetime.now(UTC).isoformat(), "run": None if run is None else run.info.run_id, **more}
