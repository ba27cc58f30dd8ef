"""The agents' model in MLflow's registry: versions and aliases.

``champion`` is served, ``previous`` was champion before it, ``challenger`` is the version that was trained last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sentio_kedro.serving.model import SignalModel
from sentio_kedro.tracking.client import log_tags, optional_tracking
from sentio_kedro.tracking.descriptions import describe_model, serving_command, with_test
from sentio_kedro.tracking.model import CONTENT_TAG
from sentio_kedro.tracking.runs import MISSING, StoreError

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
TESTED_BY_TAG, TESTS_TAG = "sentio.tested_by", "sentio.tests"
"""Tag of a version: the run that tested it. Tag of a run: the version that it tested last."""

MOVERS = {"promoted": "version", "rolled_back": "restored"}
"""Decisions that change the champion, and the key of their record that names the new one."""

LOGGED = "models:/"  # before the id of a logged model
METRICS, SKILL = ("sharpe", "max_drawdown"), ("deflated_sharpe", "pbo")


def registered_version(model: str, content: str) -> str | None:
    """Return the newest version of the agents with this digest, or None."""
    number: str | None = None
    with optional_tracking():
        found = MlflowClient().search_model_versions(f"tags.`{CONTENT_TAG}` = '{content}'")
        numbers = [int(one.version) for one in found if one.name == model and one.status == "READY"]
        number = str(max(numbers)) if numbers else None
    return number


def register(uri: str, model: str, tags: Mapping[str, str], description: str = "") -> str | None:
    """Register a logged model as the newest version.

    Args:
        uri: Address of the logged model.
        model: Name of the registered model, made and described if there is none.
        tags: Tags of the version.
        description: What the version is, in Markdown.

    Returns:
        The version's number, or None, with a warning in the log, where the registry fails.
    """
    number: str | None = None
    with optional_tracking():
        client = MlflowClient()
        made = str(mlflow.register_model(uri, model, tags=dict(tags)).version)
        if not client.get_registered_model(model).description:
            client.update_registered_model(model, describe_model(model))
        client.update_model_version(model, made, f"{description}\n- Serve: {serving_command(f'{model}/{made}')}")
        number = made
    return number


def model_id(model: str, number: str) -> str | None:
    """Return the id of the logged model of a version; null, with a warning, where the registry fails."""
    found: str | None = None
    with optional_tracking():
        source = str(MlflowClient().get_model_version(model, number).source)  # its `model_id` stays null
        found = source.removeprefix(LOGGED) if source.startswith(LOGGED) else None
    return found


def challenge(model: str, number: str) -> None:
    """Make a version the challenger; a failing registry costs a warning."""
    with optional_tracking():
        MlflowClient().set_registered_model_alias(model, CHALLENGER, number)


def describe_tested(model: str, number: str, metrics: Mapping[str, Any]) -> None:
    """Add the result of its test to a version's description; a failing registry costs a warning."""
    with optional_tracking():
        client = MlflowClient()
        client.update_model_version(
            model, number, with_test(client.get_model_version(model, number).description, metrics)
        )


def tag_version(model: str, number: str, tags: Mapping[str, str]) -> None:
    """Tag a version; a failing registry costs a warning."""
    with optional_tracking():
        _tag(model, number, tags)


def tag_tested_version(model: str, number: str) -> None:
    """Tag a version and the active run with each other: the run's metrics are those of this version alone."""
    run = mlflow.active_run()
    if run is not None:
        log_tags({TESTS_TAG: version_name(model, number)})
        tag_version(model, number, {TESTED_BY_TAG: str(run.info.run_id)})


def version_name(model: str, number: str) -> str:
    """Return the name of a version in the tags of the run that tested it."""
    return f"{model}/{number}"


def _tag(model: str, number: str, tags: Mapping[str, str]) -> None:
    for name, value in tags.items():
        MlflowClient().set_model_version_tag(model, number, name, value)


def metric_tags(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a version's out-of-sample metrics, from ``metrics.json``, without undefined ones.

    They are few, as the page of the model lists them all beside each version; the description has more.
    """
    agent, skill = metrics["agent"], metrics.get("skill") or {}
    values = {name: agent.get(name) for name in METRICS} | {name: skill.get(name) for name in SKILL}
    verdict = {"sentio.verdict": str(skill["verdict"])} if "verdict" in skill else {}
    return {f"sentio.{name}": f"{value:.4g}" for name, value in values.items() if value is not None} | verdict


def aliases(model: str) -> dict[str, str]:
    """Return the version of each alias.

    Raises:
        StoreError: If the model is not registered.
    """
    try:
        numbers = MlflowClient().get_registered_model(model).aliases
    except MlflowException as error:
        if error.error_code != MISSING:
            raise
        raise StoreError(
            f"No model `{model}` is registered in MLflow; `kedro run --pipeline training` registers one."
        ) from error
    return {alias: str(number) for alias, number in numbers.items()}


def version(model: str, number: str) -> ModelVersion:
    """Return a version.

    Raises:
        StoreError: If the model has no such version.
    """
    try:
        return MlflowClient().get_model_version(model, number)
    except MlflowException as error:
        if error.error_code != MISSING:
            raise
        raise StoreError(f"Model `{model}` has no version {number}.") from error


def require_current(record: Mapping[str, Any]) -> None:
    """Refuse a decision about a champion that was replaced since; one that took effect in part may be completed.

    Args:
        record: A decision, as in ``take_effect``.

    Raises:
        StoreError: If another version is champion now; no alias was changed.
    """
    new_champion = MOVERS.get(record["decision"])
    now = aliases(record["model"]).get(CHAMPION)
    if new_champion is None or now in (record["champion"], record[new_champion]):
        return
    compared, present = (f"version {number}" if number else "no version" for number in (record["champion"], now))
    command = "promotion" if new_champion == "version" else "rollback"
    raise StoreError(
        f"The decision of {record['time']} was made when {compared} of `{record['model']}` was champion, and now "
        f"{present} is; it does not take effect. Decide anew with `kedro run --pipeline {command}`."
    )


def line_of_champions(ledger: Sequence[Mapping[str, Any]], model: str) -> list[str]:
    """Return the champions that promotions made and no rollback took back, the present one last.

    A version that was promoted twice occurs twice. Each record names the champion at its time: where that is another
    one, the decision before it never took effect, or an alias was moved by hand.

    Args:
        ledger: Decisions in order, of any model.
        model: Name of the registered model.
    """
    line: list[str] = []
    for record in (entry for entry in ledger if entry["model"] == model):
        line = _ending_with(record["champion"], line)
        if record["decision"] == "promoted":
            line = [*line, record["version"]]
        elif record["decision"] == "rolled_back":
            line = _ending_with(record["restored"], line[:-1])
    return line


def _ending_with(champion: str | None, line: list[str]) -> list[str]:
    if champion is None:
        return []
    places = [place for place, number in enumerate(line) if number == champion]
    return line[: places[-1] + 1] if places else [*line, champion]


def take_effect(record: Mapping[str, Any], ledger: Sequence[Mapping[str, Any]]) -> None:
    """Move aliases and tag the version of a decision; doing so twice changes nothing.

    The alias ``previous`` moves before ``champion``, so that an interrupted process does not lose the old champion.

    Args:
        record: A decision: ``decision`` (``promoted``, ``refused``, ``kept`` or ``rolled_back``), ``time``, ``model``,
            ``version``, ``champion`` (before it) and ``reasons``.
        ledger: All decisions up to this one.

    Raises:
        StoreError: If the champion was replaced since the decision.
    """
    require_current(record)
    client, model, number, before = MlflowClient(), record["model"], record["version"], record["champion"]
    tags = {"decision": record["decision"], "decided": record["time"], "reasons": " ".join(record["reasons"])}
    _tag(model, number, {f"sentio.{name}": value for name, value in tags.items()})
    if record["decision"] == "promoted":
        if before is not None:
            client.set_registered_model_alias(model, PREVIOUS, before)
        client.set_registered_model_alias(model, CHAMPION, number)
    elif record["decision"] == "rolled_back":
        client.set_registered_model_alias(model, CHAMPION, record["restored"])
        line = line_of_champions(ledger, model)
        if len(line) > 1:
            client.set_registered_model_alias(model, PREVIOUS, line[-2])
        else:
            client.delete_registered_model_alias(model, PREVIOUS)


def load_model(model: str, number: str) -> SignalModel:
    """Load a registered version as a server would."""
    loaded: SignalModel = mlflow.pyfunc.load_model(f"models:/{model}/{number}").unwrap_python_model()
    return loaded
