"""What a run or a candidate of a search is as a trial."""

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
"""Tag of a run, which trial it is, and the file of the returns that it is judged by as one."""

PACKAGE = Path(sentio_kedro.__file__).parent


def shaping_parameters(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that shape agents, from the bars on: not those that only test, report or speed up.

    Args:
        flat: Flattened parameters of all sections.
    """
    stages = (*upstream_stages("training", flat), "training")
    return {name: value for stage in stages for name, value in expected_manifest(stage, "", flat).parameters.items()}


def made_of(flat: Mapping[str, Any], agents: Mapping[str, AgentBundle] | None) -> tuple[dict[str, Any], str]:
    """Return what shaped the agents under test: parameters, and the hash of the code that trained them.

    Args:
        flat: Flattened parameters of all sections. An agent from elsewhere (``backtest.agent``) brings its own.
        agents: Agents of this project; not needed for one from elsewhere.
    """
    folder = flat.get("backtest.agent")
    if folder is None:
        bundle = next(iter((agents or {}).values()), None)
        return shaping_parameters(flat), learner_hash() if bundle is None else _trained_by(bundle)
    bundle = AgentBundle.load(Path(folder))
    spec = SPEC.dump_python(bundle.spec, mode="json")
    about = {name: spec[name] for name in ("features", "network", "trading", "members")}
    return {"agent": spec["hashes"].get("parameters", "")} | about, _trained_by(bundle)


def learner_hash() -> str:
    """Hash the code that decides what agents become; another report or another test makes no other trial."""
    return code_hash(PACKAGE, LEARNER)


def _trained_by(bundle: AgentBundle) -> str:
    """Hash of the code that trained an agent; of the present code for one that does not know."""
    return bundle.spec.hashes.get("learner") or learner_hash()


def universe_of(data_quality: Mapping[str, Any]) -> str:
    """Name the universe of the bars that ``data_quality`` describes."""
    return universe_name(list(data_quality["per_symbol"]), data_quality["bar_minutes"])


def about_now(**more: Any) -> dict[str, Any]:
    """Say when a trial was judged and in which MLflow run."""
    run = mlflow.active_run()
    return {"time": datetime.now(UTC).isoformat(), "run": None if run is None else run.info.run_id, **more}
