"""What was fitted as arrays and plain data, and back, to the same bits and without pickle.

A description holds the SHA-256 of the files beside it, an index those of the descriptions: damage is seen when they are
read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sentio_kedro.damage import DamagedFileError, reading, sha256

ARRAY, KIND = "array", "kind"
FILES, INDEX = "files", "index.json"


def packed(value: Any, arrays: dict[str, np.ndarray], name: str) -> Any:
    """Describe ``value`` as plain data; its arrays are added to ``arrays``.

    Args:
        value: Number, text, array, or a dataclass, named tuple, mapping or sequence of such.
        arrays: Receives arrays by name.
        name: Prefix of the names.
    """
    if isinstance(value, np.ndarray):
        arrays[name] = np.ascontiguousarray(value)
        return {ARRAY: name}
    if isinstance(value, np.generic):
        return value.item()
    parts = _parts(value)
    if parts is not None:
        kind = "mapping" if isinstance(value, Mapping) else type(value).__name__
        return {KIND: kind, **{key: packed(part, arrays, f"{name}.{key}") for key, part in parts.items()}}
    if isinstance(value, (list, tuple)):
        return [packed(part, arrays, f"{name}.{place}") for place, part in enumerate(value)]
    return value


def unpacked(value: Any, arrays: Mapping[str, np.ndarray], kinds: Iterable[type]) -> Any:
    """Read what ``packed`` wrote; sequences become tuples.

    Args:
        value: The description.
        arrays: Its arrays.
        kinds: Dataclasses and named tuples that may occur.

    Raises:
        ValueError: If another kind occurs.
    """
    known = {kind.__name__: kind for kind in kinds} | {"mapping": dict}

    def read(part: Any) -> Any:
        if isinstance(part, list):
            return tuple(read(one) for one in part)
        if not isinstance(part, dict):
            return part
        if ARRAY in part:
            return arrays[part[ARRAY]]
        if part[KIND] not in known:
            raise ValueError(f"`{KIND}` must be one of {sorted(known)}, was {part[KIND]!r}; fit and save again.")
        return known[part[KIND]](**{key: read(one) for key, one in part.items() if key != KIND})

    return read(value)


def _parts(value: Any) -> dict[str, Any] | None:
    """Return the named parts of a value; none if it has no names."""
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    return None


def write_description(path: Path, description: Mapping[str, Any], files: Iterable[str]) -> None:
    """Write a description as JSON.

    Args:
        path: File of the description.
        description: Plain data with the entry ``format``.
        files: Names of the files beside it, whose SHA-256 it holds.
    """
    hashes = {name: sha256(path.parent / name) for name in files}
    path.write_text(json.dumps({**description, FILES: hashes}, indent=2) + "\n")


def read_description(path: Path, version: int, files: Collection[str], remedy: str) -> dict[str, Any]:
    """Read what ``write_description`` wrote, and compare the files.

    Args:
        path: File of the description.
        version: Its ``format``.
        files: Files that it must name, such as the weights.
        remedy: Clause such as "train the agent again".

    Raises:
        DamagedFileError: If it is no description of that format, or a file is not the one that was saved.
    """
    with reading(path, remedy):
        description = dict(json.loads(path.read_text()))
        if description.get("format") != version:
            raise DamagedFileError(
                f"`{path}` has format {description.get('format')}, this version reads {version}; {remedy}."
            )
        hashes = dict(description.pop(FILES))
        for name in {*files, *hashes}:
            saved = hashes[name]
            with reading(path.parent / name, remedy):
                found = sha256(path.parent / name)
            if found != saved:
                raise DamagedFileError(
                    f"`{path.parent / name}` is not the file that was saved: its SHA-256 is {found[:8]}..., "
                    f"`{path.name}` has {str(saved)[:8]}...; {remedy}."
                )
    return description


def refuse_non_finite(where: str, names: Collection[str], remedy: str) -> None:
    """Refuse arrays that are no numbers.

    Args:
        where: What holds them.
        names: Names of those that are not finite; may be empty.
        remedy: Clause that ends the sentence.

    Raises:
        DamagedFileError: If there are any.
    """
    if names:
        listed = ", ".join(sorted(names)[:3])
        raise DamagedFileError(
            f"{where} must hold finite numbers, had others in {len(names)} arrays ({listed}); {remedy}."
        )


def write_index(root: Path, description: str) -> None:
    """Write which folders below ``root`` have a ``description``, and its SHA-256."""
    found = {path.parent.relative_to(root).as_posix(): sha256(path) for path in sorted(root.rglob(description))}
    (root / INDEX).write_text(json.dumps(found, indent=2) + "\n")


def indexed_folders(root: Path, description: str, remedy: str) -> dict[str, Path]:
    """Return the folders below ``root`` that have a ``description``, by name in order.

    Args:
        root: Folder of ``write_index``.
        description: Name of the file that each has.
        remedy: Clause that ends the sentence.

    Raises:
        DamagedFileError: If a folder of the index is missing, was changed, or is not in the index.
    """
    with reading(root / INDEX, remedy):
        saved = dict(json.loads((root / INDEX).read_text()))
    found = {path.parent.relative_to(root).as_posix(): path for path in sorted(root.rglob(description))}
    problems = [f"`{name}` is missing" for name in sorted(saved.keys() - found.keys())]
    problems += [f"`{name}` was added" for name in sorted(found.keys() - saved.keys())]
    problems += [f"`{name}` was changed" for name in found if name in saved and sha256(found[name]) != saved[name]]
    if problems:
        raise DamagedFileError(
            f"`{root}` is not what was saved and `{INDEX}` names: {'; '.join(problems)}. Restore it, or {remedy}."
        )
    return {name: path.parent for name, path in found.items()}
