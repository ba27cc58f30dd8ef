"""One run up to its first node: was the input accepted or refused, in which words, and what did it change?"""

from __future__ import annotations

import copy
import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.framework.session import KedroSession

from sentio_kedro.refusals import refusal_text

LIMIT = 10.0  # seconds before the first node
LONGEST = 6_000  # characters of a readable text
KEPT = ("data", "mlflow.db", "mlartifacts")
"""What a refusal must leave as it is: artifacts, ledgers, the tracking store."""

LIBRARY_TEXTS = ("errors.pydantic.dev", "Failed to instantiate", "Failed while loading data from dataset")
REMEDIES = (
    *("add", "change", "check", "choose", "convert", "correct", "delete", "drop", "free", "give", "keep", "leave"),
    *("lower", "make", "name", "point", "raise", "remove", "rename", "rerun", "restore", "run", "set", "shorten"),
    *("sort", "start", "switch", "take", "use", "write", "must", "did you mean"),
)


class AcceptedError(Exception):
    """The run reached its first node."""


class StopBeforeWork:
    """Ends a run after all checks: hooks that are not `tryfirst` come after it."""

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Stop.

        Raises:
            AcceptedError: Always.
        """
        raise AcceptedError


@dataclass(frozen=True)
class Expected:
    """What a run must make of an input.

    Attributes:
        input: The input, short, for reports.
        must_refuse: Whether there is no right result; else it may be accepted.
        names: Texts of which a refusal must hold one, such as the name of the parameter.
        value: Text of the value that a refusal must hold; empty where there is none.
    """

    input: str
    must_refuse: bool
    names: tuple[str, ...]
    value: str = ""


@dataclass(frozen=True)
class Trial:
    """What a run made of an input.

    Attributes:
        error: The exception; None if the input was accepted.
        seconds: Until then.
        changed: Files that a refusal changed.
        text: What the command line shows; None for a fault of the code, and for accepted inputs.
    """

    error: BaseException | None
    seconds: float
    changed: list[str] = field(default_factory=list)
    text: str | None = None


def attempt(project: Path, env: str, pipelines: Sequence[str] | None, configuration: Mapping[str, Any] | None) -> Trial:
    """Run up to the first node.

    Args:
        project: Folder of the project.
        env: Environment.
        pipelines: Their names; None is the default run.
        configuration: ``parameters``, ``catalog``, ``mlflow`` and ``globals`` as loaded; None reads the files.
    """
    logging.disable(logging.CRITICAL)
    before, began = contents(project), time.perf_counter()
    error: BaseException | None = None
    try:
        with KedroSession.create(project_path=project, env=env) as session:
            if configuration is not None:
                given = LoadedConfiguration(session._get_config_loader(), configuration)
                session._get_config_loader = lambda: given
            session._hook_manager.register(StopBeforeWork())
            session.run(pipeline_names=None if pipelines is None else list(pipelines))
    except AcceptedError:
        pass
    except Exception as refused:  # whatever it is, it is judged below
        error = refused
    finally:
        logging.disable(logging.NOTSET)
    text = None if error is None else refusal_text(error)
    return Trial(error, time.perf_counter() - began, changes(before, contents(project)), text)


class LoadedConfiguration(dict[str, Any]):
    """Stands for Kedro's configuration loader, whose reading of all files takes most of a short run."""

    def __init__(self, loader: Any, values: Mapping[str, Any]) -> None:
        """Answer with copies of ``values``; anything else is that of ``loader``."""
        super().__init__(copy.deepcopy(dict(values)))
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __missing__(self, name: str) -> Any:
        return self._loader[name]


def contents(project: Path) -> dict[str, tuple[int, str]]:
    """Return mode and digest of every file that a refusal must leave; locks are no part of what is saved."""
    found = [path for name in KEPT for path in [project / name, *(project / name).rglob("*")]]
    paths = [path for path in found if path.is_file() and path.suffix != ".lock"]
    return {
        path.relative_to(project).as_posix(): (path.stat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in paths
    }


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the names of files that were added, changed or deleted."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def faults(trial: Trial, expected: Expected) -> list[str]:
    """Return what is wrong with a trial; empty if the input was refused as it must be, or rightly accepted."""
    found = [f"changed {name}" for name in trial.changed]
    found += [f"took {trial.seconds:.0f} s"] if trial.seconds > LIMIT else []
    if trial.error is None:
        return [*found, "accepted"] if expected.must_refuse else found
    return [*found, *unreadable(trial.error, trial.text, expected)]


def unreadable(error: BaseException, text: str | None, expected: Expected) -> list[str]:
    """Return what a refusal lacks to be read: a text at all, name, value, remedy, length."""
    kind = type(error).__name__
    if text is None:
        return [f"{kind} without a text"]
    lower = text.lower()
    found = [f"words of a library: {one}" for one in LIBRARY_TEXTS if one in text]
    found += [] if any(name.lower() in lower for name in expected.names) else [f"{kind} without a name"]
    found += [] if expected.value.lower() in lower else [f"{kind} without the value"]
    words = " ".join("".join(letter if letter.isalpha() else " " for letter in lower).split())
    found += [] if any(f" {remedy} " in f" {words} " for remedy in REMEDIES) else [f"{kind} without a remedy"]
    found += [] if len(text) <= LONGEST else [f"{kind} of {len(text)} characters"]
    return found
