"""Identity and context of runs and search candidates in the ledger of trials."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import mlflow

import sentio_kedro
from sentio_kedro.agent.bundle import SPEC, AgentBundle
from sentio_kedro.evaluation.skill.trials import universe_name
from sentio_kedro.manifests import LEARNER, agents_identity, code_hash, expected_manifest, upstream_stages

TRIAL_TAG, TRIAL_FILE = "sentio.trial_identity", "trial_returns.csv"
"""Tag of a run with its trial's identity, and file of the trial's returns."""

PACKAGE = Path(sentio_kedro.__file__).parent


def shaping_parameters(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that shape agents, from the bars on: not those that only test, report or speed up.

    Args:
        flat: Flattened parameters of all sections.
    """
    stages = (*upstream_stages("training"), "training")
    return {name: value for stage in stages for name, value in expected_manifest(stage, "", flat).parameters.items()}


class AgentsOrigin(NamedTuple):
    """Origin of the agents under test.

    Attributes:
        parameters: Parameters that shaped them.
        code: Hash of the code that trained them.
        identity: Digest that names them (``manifests.agents_identity``).
    """

    parameters: dict[str, Any]
    code: str
    identity: str


def agents_origin(bars_hash: str, flat: Mapping[str, Any], agents: Mapping[str, AgentBundle]) -> AgentsOrigin:
    """Return the origin of this project's agents, from the flattened parameters of all sections."""
    agent = next(iter(agents.values()))
    return AgentsOrigin(shaping_parameters(flat), _learner_of(agent), agents_identity(bars_hash, flat))


def external_origin(bars_hash: str, flat: Mapping[str, Any], agent: AgentBundle) -> AgentsOrigin:
    """Return the origin of an agent trained elsewhere, which brings its own parameters."""
    spec = SPEC.dump_python(agent.spec, mode="json")
    parameters = {name: spec[name] for name in ("features", "network", "trading", "members")}
    identity = expected_manifest("external_test", bars_hash, flat).digest
    return AgentsOrigin({"agent": agent.spec.hashes.get("parameters", ""), **parameters}, _learner_of(agent), identity)


def _learner_of(agent: AgentBundle) -> str:
    """Return the hash of the code that trained an agent; one that does not state it counts as trained by this code."""
    return agent.spec.hashes.get("learner") or learner_hash()


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
