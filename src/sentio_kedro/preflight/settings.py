"""Settings alone, before any data is read: sections, their keys, and the names of ``globals.yml``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from sentio_kedro.config import (
    ComparisonParameters,
    DownloadParameters,
    PromotionParameters,
    RegistryParameters,
    SearchParameters,
    SignalParameters,
)
from sentio_kedro.config.live.trader import TraderParameters
from sentio_kedro.manifests import SECTIONS

KINDS: dict[str, Any] = {
    **SECTIONS,
    "download": DownloadParameters,
    "signals": SignalParameters,
    "search": SearchParameters,
    "registry": RegistryParameters,
    "promotion": PromotionParameters,
    "comparison": ComparisonParameters,
    "trader": TraderParameters,
}
"""All sections of the project and their types; ``SECTIONS`` are those that shape artifacts."""

KEPT = ("data/01_raw", "conf", "src")
"""Folders of the project that no run may write into: raw data, configuration, code."""

FOLDERS = ("artifacts", "trials", "registry")
"""Names of ``globals.yml`` that are folders, into which runs write."""

LONGEST_PATH = 255  # bytes of a folder in ``globals.yml``; systems take no longer name

SHARED_ENVIRONMENTS = ("base", "local")
"""Environments that may leave out ``artifacts``."""

_OF_UNION = re.compile(r"int|float|str|bool|.*[\[-].*")  # alternatives that pydantic names beside the keys
_REFERENCE = re.compile(r"\$\{globals:\s*(\w+)")


def section_problems(sections: Mapping[str, Any], own_sections: Callable[[], Collection[str]]) -> list[str]:
    """List unknown sections and what the types of the known ones refuse.

    Args:
        sections: Parameters by section, as plain values or as the typed classes.
        own_sections: Returns further sections that some pipeline reads; called only if a section is not of ``KINDS``.
    """
    problems = []
    unknown = [name for name in sections if name not in KINDS]
    known = {*KINDS, *(own_sections() if unknown else ())}
    for name in unknown:
        if name not in known:
            problems.append(f"`{name}` is no section of the parameters{nearest(name, known)}")
    for name, kind in KINDS.items():
        if name in sections:
            try:
                TypeAdapter(kind).validate_python(sections[name])
            except ValidationError as error:
                problems += validation_texts(error, name, kind)
    return problems


def validation_texts(error: ValidationError, section: str, kind: Any) -> list[str]:
    """Return a sentence per problem of a section: dotted name, what is wrong, value.

    Args:
        error: What pydantic found.
        section: Name of the section.
        kind: Its type; null if it is none of ``KINDS``.
    """
    return list(dict.fromkeys(_refusal(section, kind, detail) for detail in error.errors(include_url=False)))


def _refusal(section: str, kind: Any, detail: ErrorDetails) -> str:
    path = [str(part) for part in detail["loc"]]
    symbol = path[1:2] if path[:1] == ["symbols"] else []  # may look like an alternative
    name = ".".join([section, *(part for part in path if part in symbol or not _OF_UNION.fullmatch(part))])
    if detail["type"] == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "unexpected_keyword_argument":
        keys = [] if kind is None else [f"{section}.{key}" for key in _keys(kind)]
        return f"`{name}` is no parameter{nearest(name, keys)}"
    if detail["type"] == "missing":
        return f"`{name}` is missing; give it a value."
    remedy = "change it"
    if detail["type"] == "string_type" and isinstance(detail["input"], bool):
        remedy = "quote it, since YAML reads ON, NO and Y without quotes as true or false"
    return f"`{name}` {detail['msg'].removeprefix('Input ')}, was {detail['input']!r}; {remedy}."


def _keys(kind: Any) -> Iterator[str]:
    """Yield the dotted names of a section's keys, those of sections inside it included."""
    for name, field in kind.__pydantic_fields__.items():
        yield name
        inner = next((one for one in (field.annotation, *get_args(field.annotation)) if is_dataclass(one)), None)
        if inner is not None:
            yield from (f"{name}.{key}" for key in _keys(inner))


def nearest(name: str, known: Collection[str]) -> str:
    """Return a clause that names what may have been meant: the closest dotted name, or one with the same last part."""
    plain = re.sub(r"\.\d+\.", ".", name)
    last = plain.rpartition(".")[2]
    same = [other for other in known if other.rpartition(".")[2] == last]
    close = same or difflib.get_close_matches(plain, known, n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else f"; remove it, or take one of {', '.join(sorted(known))}."


def own_names(folder: Path) -> set[str]:
    """Return the names that an environment's own ``globals.yml`` sets; none without such a file."""
    file = folder / "globals.yml"
    return set(yaml.safe_load(file.read_text(encoding="utf-8")) or ()) if file.is_file() else set()


def referred_globals(configuration: Path) -> set[str]:
    """Return the names that files below ``configuration`` refer to as ``${globals:name}``."""
    files = [path for path in configuration.rglob("*") if path.suffix in (".yml", ".yaml", ".json")]
    return {name for path in files for name in _REFERENCE.findall(path.read_text("utf-8", errors="replace"))}


def global_problems(
    names: Mapping[str, Any], own: Collection[str], known: Collection[str], environment: str, project: Path
) -> list[str]:
    """List the faults of ``globals.yml``.

    Args:
        names: Names that hold in the environment, those of ``conf/base`` included.
        own: Names that the environment's own file sets.
        known: Names that may be set.
        environment: The environment.
        project: Folder of the project.
    """
    place = f"`conf/{environment}/globals.yml`"
    problems = [f"`{name}` is no name of {place}{nearest(name, known)}" for name in names if name not in known]
    if environment not in SHARED_ENVIRONMENTS and "artifacts" not in own:
        problems.append(
            f"{place} must name the folder of the environment's `artifacts`, or it would write over those in "
            f"`{names.get('artifacts')}`; add `artifacts: data/{environment}`."
        )
    for name in ("experiment", *FOLDERS):
        value = names.get(name)
        if not isinstance(value, str) or not value.strip():
            problems.append(f"`{name}` of {place} must be a text that is not empty, was {value!r}; name one.")
        elif name in FOLDERS:
            problems += _folder_problems(name, value, place, project)
    return problems


def _folder_problems(name: str, value: str, place: str, project: Path) -> list[str]:
    plain = value.isprintable() and value == value.strip() and not set("{}~") & set(value)
    if not plain or len(value.encode()) > LONGEST_PATH or ("://" in value and name != "artifacts"):
        return [
            f"`{name}` of {place} must be the path of a folder: printable, without blanks at its ends, `{{`, `}}` and "
            f"`~`, at most {LONGEST_PATH} bytes{'' if name == 'artifacts' else ', on this machine'}; was "
            f"{value[:LONGEST_PATH]!r}; name another one."
        ]
    folder, root = (project / value).resolve(), project.resolve()
    if folder in (root, *root.parents) or any((root / kept).resolve() in (folder, *folder.parents) for kept in KEPT):
        return [
            f"`{name}` of {place} must lie outside {', '.join(f'`{kept}`' for kept in KEPT)} and not hold the project "
            f"itself, was {value!r}; name another folder, such as `data/mine`."
        ]
    blocking = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    if blocking is not None:
        return [f"`{name}` of {place} must be a folder, but `{blocking}` is a file; name another folder."]
    return []
