"""Challenger and champion, read back from MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion

from sentio_kedro.agent import bundle
from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import PromotionParameters
from sentio_kedro.damage import DamagedFileError
from sentio_kedro.evaluation.comparison.compare import TestedRun
from sentio_kedro.tracking import registry
from sentio_kedro.tracking.runs import StoreError, get_run, tested_run
from sentio_kedro.tracking.trials import TRIAL_TAG

AGENTS_FOLDER = "artifacts/agents"  # in the files of a logged model


@dataclass(frozen=True, eq=False)
class TestedVersion:
    """A registered version and the run that tested it.

    Attributes:
        number: Number of the version.
        agents: Digest of its agents.
        run: The run; None where no gate needs it or it is missing.
        trial: Identity of the run's trial; empty if it has none.
        reason: Reason for a missing run, one sentence; empty where no gate needs it.
    """

    __test__ = False  # no test of pytest

    number: str
    agents: str
    run: TestedRun | None
    trial: str = ""
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Challenger and champion.

    Attributes:
        model: Name of the registered model.
        challenger: The challenger.
        run: The run that tested the challenger.
        champion: The champion; None before the first promotion.
    """

    model: str
    challenger: TestedVersion
    run: TestedRun
    champion: TestedVersion | None


def find_candidates(model: str, parameters: PromotionParameters, logged_model: Mapping[str, Any] | None) -> Candidates:
    """Read challenger and champion from the registry.

    Args:
        model: Name of the registered model.
        parameters: Name of the challenger, and the gates.
        logged_model: Model that this environment's training logged.

    Raises:
        StoreError: If one of them does not exist, or the challenger was not tested.
    """
    aliases = registry.aliases(model)
    number, champion = _challenger_number(model, parameters, logged_model, aliases), aliases.get(registry.CHAMPION)
    challenger = _tested_version(registry.version(model, number))
    if challenger.run is None:
        raise StoreError(challenger.reason)
    if champion is None:
        return Candidates(model, challenger, challenger.run, None)
    version = registry.version(model, champion)
    if parameters.min_sharpe_gain is None or champion == number:
        untested = TestedVersion(champion, version.tags.get("sentio.agents", ""), None)
        return Candidates(model, challenger, challenger.run, untested)
    return Candidates(model, challenger, challenger.run, _tested_version(version))


def _challenger_number(
    model: str, parameters: PromotionParameters, logged_model: Mapping[str, Any] | None, aliases: Mapping[str, str]
) -> str:
    if isinstance(parameters.challenger, int):
        return str(parameters.challenger)
    if parameters.challenger == "newest":
        number = aliases.get(registry.CHALLENGER)
    else:
        logged = logged_model or {}
        number = logged.get("version") if logged.get("model") == model else None
    if number is None:
        raise StoreError(
            f"`promotion.challenger: {parameters.challenger}` names no version of model `{model}`; train with MLflow "
            "on (`kedro run --pipelines training,backtest,reporting`), or name a version's number."
        )
    return str(number)


def _tested_version(version: ModelVersion) -> TestedVersion:
    number, agents = str(version.version), version.tags.get("sentio.agents", "")
    name, remedy = f"model `{version.name}`", "run `kedro run --pipelines backtest,reporting` in its environment."
    run_id = version.tags.get(registry.TESTED_BY_TAG)
    run = None if run_id is None else get_run(run_id)
    reason = ""
    if run_id is None:
        reason = f"Version {number} of {name} was not tested out of sample since it was trained; {remedy}"
    elif run is None:
        reason = f"The run {run_id} that tested version {number} of {name} was deleted from MLflow; {remedy}"
    elif (tested := run.data.tags.get(registry.TESTS_TAG)) != registry.version_name(version.name, number):
        reason = (
            f"The run that tested version {number} of {name} holds the metrics of {tested} now, which was trained "
            "later from the same bars, parameters and code; name that version."
        )
    elif run.info.status != "FINISHED":
        reason = f"The run {run_id} of version {number} of {name} is {run.info.status}; let it finish, or {remedy}"
    elif "out_of_sample.agent.sharpe" not in run.data.metrics:
        reason = f"The run {run_id} of version {number} of {name} has no Sharpe ratio out of sample; {remedy}"
    if run is None or reason:
        return TestedVersion(number, agents, None, reason=reason)
    return TestedVersion(number, agents, tested_run(run), run.data.tags.get(TRIAL_TAG, ""))


def load_agents(model: str, number: str) -> list[AgentBundle]:
    """Load the agents of a version.

    Raises:
        StoreError: If it holds none, or they are not those that were logged.
    """
    with TemporaryDirectory() as scratch:
        files = Path(mlflow.artifacts.download_artifacts(f"models:/{model}/{number}", dst_path=scratch))
        try:
            return list(bundle.load_agents(files / AGENTS_FOLDER).values())
        except DamagedFileError as error:
            reason = str(error).replace(f"{files.as_posix()}/", "")
            raise StoreError(f"Version {number} of model `{model}` cannot be read: {reason}") from error
