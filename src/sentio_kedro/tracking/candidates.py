"""Challenger and champion, read back from MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import PromotionParameters
from sentio_kedro.evaluation.comparison.compare import TestedRun
from sentio_kedro.tracking import registry
from sentio_kedro.tracking.runs import StoreError, get_run, tested_run
from sentio_kedro.tracking.trials import TRIAL_TAG

AGENTS_FOLDER = "artifacts/agents"  # in the files of a logged model


@dataclass(frozen=True, eq=False)
class Challenger:
    """A registered version and how it was judged.

    Attributes:
        number: The version.
        agents: Digest of its agents.
        run: The run that judged it.
        trial: What that run is as a trial; empty if it does not say.
    """

    number: str
    agents: str
    run: TestedRun
    trial: str = ""


@dataclass(frozen=True, eq=False)
class Champion:
    """The version that is champion, as far as it was asked about.

    Attributes:
        number: The version.
        run: The run that judged it; None where no gate asks for it or it cannot be compared with.
        reason: Why it cannot be compared with, one sentence; empty where it can or nothing was asked.
    """

    number: str
    run: TestedRun | None
    reason: str


@dataclass(frozen=True, eq=False)
class Candidates:
    """Who wants to be champion, and who is.

    Attributes:
        model: Name of the registered model.
        challenger: Who wants to be.
        champion: Who is; None before the first promotion.
    """

    model: str
    challenger: Challenger
    champion: Champion | None


def find_candidates(model: str, wanted: PromotionParameters, logged_model: Mapping[str, Any] | None) -> Candidates:
    """Read challenger and champion from the registry.

    Args:
        model: Name of the registered model.
        wanted: Names the challenger.
        logged_model: What this environment's training logged.

    Raises:
        StoreError: If one of them is not there, or the challenger was not judged.
    """
    known = registry.aliases(model)
    number = _challenger(model, wanted, logged_model, known)
    champion = known.get(registry.CHAMPION)
    asked = wanted.min_sharpe_gain is not None and champion != number
    return Candidates(
        model,
        _candidate(registry.version(model, number)),
        None if champion is None else _champion(registry.version(model, champion), asked),
    )


def _challenger(
    model: str, wanted: PromotionParameters, logged_model: Mapping[str, Any] | None, known: Mapping[str, str]
) -> str:
    if isinstance(wanted.challenger, int):
        return str(wanted.challenger)
    if wanted.challenger == "newest":
        number = known.get(registry.CHALLENGER)
    else:
        logged = logged_model or {}
        number = logged.get("version") if logged.get("model") == model else None
    if number is None:
        raise StoreError(
            f"`promotion.challenger: {wanted.challenger}` names no version of model `{model}`; train with MLflow on "
            "(`kedro run --pipelines training,backtest,reporting`), or name a version's number."
        )
    return str(number)


def _candidate(found: ModelVersion) -> Challenger:
    run, reason = _testing_run(found)
    if run is None:
        raise StoreError(reason)
    agents, trial = found.tags.get("sentio.agents", ""), run.data.tags.get(TRIAL_TAG, "")
    return Challenger(str(found.version), agents, tested_run(run), trial)


def _champion(found: ModelVersion, asked: bool) -> Champion:
    number = str(found.version)
    run, reason = _testing_run(found) if asked else (None, "")
    if run is not None:
        return Champion(number, tested_run(run), "")
    without = " Or set `promotion.min_sharpe_gain: null`, which goes without the comparison with the champion."
    return Champion(number, None, f"The champion cannot be compared with. {reason}{without}" if asked else "")


def _testing_run(found: ModelVersion) -> tuple[Run | None, str]:
    """Return the run whose figures are those of a version, or None and why there is none."""
    who = f"ersion {found.version} of model `{found.name}`"
    remedy = "run `kedro run --pipelines backtest,reporting` in its environment."
    tested_by = found.tags.get(registry.TESTED_BY_TAG)
    if tested_by is None:
        return None, f"V{who} was not judged out of sample since it was trained; {remedy}"
    run = get_run(tested_by)
    if run is None:
        return None, f"The run {tested_by} that judged v{who} was deleted from MLflow; {remedy}"
    told_of = run.data.tags.get(registry.TESTS_TAG)
    if told_of != registry.version_name(found.name, str(found.version)):
        return None, (
            f"The run that judged v{who} holds the figures of {told_of} now, which was trained later from the same "
            "bars, parameters and code; name that version."
        )
    if run.info.status != "FINISHED":
        return None, f"The run {tested_by} of v{who} is {run.info.status}; let it finish, or {remedy}"
    if "out_of_sample.agent.sharpe" not in run.data.metrics:
        return None, f"The run {tested_by} of v{who} has no Sharpe ratio out of sample; {remedy}"
    return run, ""


def load_agents(model: str, number: str) -> list[AgentBundle]:
    """Load the agents of a version."""
    with TemporaryDirectory() as scratch:
        files = Path(mlflow.artifacts.download_artifacts(f"models:/{model}/{number}", dst_path=scratch))
        folders = sorted(path.parent for path in (files / AGENTS_FOLDER).rglob("agent.json"))
        return [AgentBundle.load(folder) for folder in folders]
