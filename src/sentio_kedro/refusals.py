"""What the command line says about an error: a text for a refusal, nothing for a fault of the code."""

from __future__ import annotations

import dis
import re
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import cast

import click
import yaml
from kedro.config import MissingConfigException
from kedro.framework.cli.utils import KedroCliError
from kedro.framework.project import pipelines
from kedro.io import DatasetError
from kedro.utils import find_kedro_project
from kedro.validation import DataValidationError, ParameterValidationError
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from sentio_kedro.damage import fault_in_words, is_full_disk
from sentio_kedro.preflight.settings import KINDS, nearest, validation_texts

CONTINUES = "Nothing that was saved is lost, and the same command continues"
_OURS = ("sentio_kedro", "kedro")
_REFUSALS = (ValueError, OSError, FloatingPointError, ImportError, AttributeError)
_RAISE = dis.opmap["RAISE_VARARGS"]
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory")
_PATH = re.compile(r"filepath=(?:\w+\()?'([^']+)'")


def refusal_text(error: BaseException) -> str | None:
    """Return the text that stands for a refusal, with paths relative to the project; None for a fault of the code.

    Refusals are what this package or Kedro raise on purpose, parameters and configuration that cannot be read, files
    that cannot be loaded, a full disk, too little memory, and an interrupt.
    """
    text = _text(error)
    return None if text is None else text.replace(f"{_root().as_posix()}/", "")


def _text(error: BaseException) -> str | None:
    rules = (_full_disk, _memory, _command, _parameters, _dataset, _configuration, _raised)
    return next((text for rule in rules if (text := rule(error)) is not None), None)


def _root() -> Path:
    return find_kedro_project(Path.cwd()) or Path.cwd()


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _full_disk(error: BaseException) -> str | None:
    full = [one for one in _causes(error) if is_full_disk(one)]
    if not full:
        return None
    path = Path(str(next((one.filename for one in full if isinstance(one, OSError) and one.filename), Path.cwd())))
    folder = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(folder).free / 2**20
    return f"The disk is full: `{path}` could not be written, {free:,.1f} MiB are free there; free some. {CONTINUES}."


def _memory(error: BaseException) -> str | None:
    for one in _causes(error):
        from_torch = isinstance(one, RuntimeError) and any(text in str(one) for text in _OUT_OF_MEMORY)
        if isinstance(one, MemoryError) or from_torch:
            return (
                f"Memory ran out ({_first_line(one)}). {CONTINUES}. Lower the sizes of the stage, such as "
                "`training.windows`, `network.width`, `training.workers` or `forecasting.workers`, or give fewer "
                "bars."
            )
    return None


def _command(error: BaseException) -> str | None:
    if isinstance(error, KeyboardInterrupt):
        return f"Interrupted. {CONTINUES}."
    return str(error.message) if isinstance(error, KedroCliError) else None  # click shows its own


def _raised(error: BaseException) -> str | None:
    """Return the text of an error that this package or Kedro raised by a statement, not by a call that failed."""
    if isinstance(error, PermissionError) and error.filename:
        return f"`{error.filename}` cannot be opened ({error.strerror}); let your user read and write it."
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or not isinstance(error, _REFUSALS) or _module(last.tb_frame).partition(".")[0] not in _OURS:
        return None
    code = last.tb_frame.f_code
    if code.co_code[last.tb_lasti] != _RAISE and code.co_name != "load_obj":  # which looks up `--runner`
        return None
    unknown = re.match(r"Failed to find the pipeline named '(.*?)'\.", str(error))
    if unknown is None:
        return str(error)
    pipelines.set_requested(None)  # Kedro holds those that were asked for
    return f"There is no pipeline `{unknown[1]}`{nearest(unknown[1], list(pipelines.keys()))}"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _configuration(error: BaseException) -> str | None:
    if isinstance(error, OmegaConfBaseException):
        return _interpolation(error)
    return str(error) if isinstance(error, MissingConfigException) else _file_of_settings(error)


def _file_of_settings(error: BaseException) -> str | None:
    """Return the text of a fault in a file below ``conf`` or the one of ``--config``, which a local variable names."""
    readers = {"_read_dir_configs": "config_filepath", "_config_file_callback": "value"}
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_name in readers]
    if not frames or not isinstance(error, Exception) or _raised(error):
        return None
    known = frames[-1].f_locals
    shapeless = [path for path, read in known.get("config_per_file", {}).items() if not OmegaConf.is_dict(read)]
    if shapeless:
        return f"`{shapeless[0]}` must hold names with values (`name: value`), holds something else; correct it."
    path = known.get(readers[frames[-1].f_code.co_name])
    for one in _causes(error):
        if isinstance(one, yaml.MarkedYAMLError) and one.problem_mark:
            line, column = one.problem_mark.line + 1, one.problem_mark.column + 1
            return f"`{path}`, line {line}, column {column}: {one.problem}. Correct the YAML."
    return f"`{path}` {fault_in_words(error)}; correct the file."


def _interpolation(error: OmegaConfBaseException) -> str:
    """Return the text of a reference `${...}` that leads nowhere, with the lines that hold it."""
    raised, _, reason = _first_line(error).rpartition("resolving interpolation: ")
    key = f" of `{error.full_key}`" if getattr(error, "full_key", None) else ""
    if raised.startswith("ValueError"):  # a resolver of the project has said what is wrong, and the remedy
        return f"The value{key} cannot be resolved: {reason}"
    reason = reason.rstrip(".")
    quoted = re.search(r"'(.+?)'", reason)
    context = click.get_current_context(silent=True)
    environment = (context.params.get("env") if context else None) or "local"
    files = [path for folder in ("base", environment) for path in sorted((_root() / "conf" / folder).rglob("*.yml"))]
    places = [
        f"`{path}`, line {number}"
        for path in files
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if quoted and "${" in line and quoted[1] in line
    ]
    return f"{', '.join(places) or 'The configuration'}: the value{key} cannot be resolved ({reason}); correct it."


def _parameters(error: BaseException) -> str | None:
    if isinstance(error, ValidationError):
        named = {kind.__name__: (name, kind) for name, kind in KINDS.items()}
        return "\n".join(validation_texts(error, *named.get(error.title, (error.title, None))))
    return str(error) if isinstance(error, ParameterValidationError) else None


def _dataset(error: BaseException) -> str | None:
    if not isinstance(error, DatasetError):
        return None
    if isinstance(error, DataValidationError):  # the schema of the bars tells all problems in full
        cause = error.__cause__
        return str(cause if type(cause).__module__.startswith("sentio_kedro") else error)
    cause, name = error, ""
    if isinstance(error.__cause__, DatasetError):  # the catalog puts the name before it
        cause, name = error.__cause__, str(error).removesuffix(f": {error.__cause__}")
    fault = cause.__cause__
    if fault is None or not str(cause).startswith("Failed while"):
        return str(cause)
    if str(cause).startswith("Failed while saving"):
        return _text(fault)
    path = _PATH.search(str(cause))
    text = _raised(fault) or f"`{path[1] if path else name}` {fault_in_words(cast('Exception', fault))}"
    return f"{text.rstrip('.;')}. {_remedy(name)}" if "kedro run" not in text else text


def _remedy(name: str) -> str:
    """Return which pipeline makes a dataset, or that it is the user's own."""
    pipelines.set_requested(None)
    makers = [
        stage
        for stage, nodes in pipelines.items()
        if stage != "__default__" and name in {output.partition("@")[0] for output in nodes.all_outputs()}
    ]
    context = click.get_current_context(silent=True)
    environment = f" --env {context.params['env']}" if context and context.params.get("env") else ""
    if makers:
        return f"Run `kedro run --pipeline {makers[0]}{environment}`, which makes it."
    return "Check the file" + (f", and the entry `{name}` of the catalog." if name else ".")
