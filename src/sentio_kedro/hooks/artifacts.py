"""Hashes of the files of a dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NAMED = 3  # files that a refusal names of each kind


def file_hashes(dataset: Any) -> dict[str, str] | None:
    """Return the SHA-256 of each file of a dataset, by its path in the dataset's folder or its own name.

    Returns:
        Hashes by name, empty where nothing was saved; None if the dataset has no local file, or versions of it.
    """
    location = getattr(dataset, "_filepath", None)
    if location is None or getattr(dataset, "_protocol", "file") != "file" or getattr(dataset, "_version", None):
        return None
    path = Path(location)
    if path.is_file():
        return {path.name: _sha256(path)}
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): _sha256(file) for file in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(hashes: Mapping[str, str] | None) -> str | None:
    """Return one digest of the files of a dataset; None if it has none."""
    return None if hashes is None else hashlib.sha256(json.dumps(dict(hashes), sort_keys=True).encode()).hexdigest()


def explain_files(saved: Mapping[str, str], present: Mapping[str, str]) -> str | None:
    """Return the clause that names missing, changed and added files, or None if there are none.

    Args:
        saved: Hashes when the stage saved them.
        present: Hashes now.
    """
    kinds = {
        "missing": sorted(saved.keys() - present.keys()),
        "changed": sorted(name for name in saved.keys() & present.keys() if saved[name] != present[name]),
        "added": sorted(present.keys() - saved.keys()),
    }
    clauses = [f"{_listed(names)} {kind}" for kind, names in kinds.items() if names]
    return "; ".join(clauses) or None


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(f'`{name}`' for name in names[:_NAMED])}{more}"
