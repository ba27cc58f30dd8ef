"""What commands leave: bytes of artifacts, records of ledgers, runs, versions and models of MLflow."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from mlflow.entities import LoggedModelStatus
from mlflow.tracking import MlflowClient

ID = "MLflow draws ids of runs and models at random"
NOW = "time at which the command ran"
SPEED = "speed and memory of this machine"

COLUMNS = (
    ("training_timings.parquet", r".*", SPEED),
    ("search_trials.csv", r"seconds", SPEED),
    ("comparison.csv", r"run|started", f"{ID}; {NOW}"),
)
"""Columns that differ between two uninterrupted runs: file, pattern, reason."""

TEXTS = (
    ("training_manifest.json", r'"training_timings.parquet": "[^"]*"', f"{SPEED}, by its hash"),
    ("metrics.json", r'"time": "[^"]*"', f"{NOW}, of openings of the lockbox"),
    ("report.html", r"\d{4}-\d\d-\d\d \d\d:\d\d</td>", f"{NOW}, of openings of the lockbox"),
    ("lockbox_metrics.json", r'"(time|opening)": "[^"]*"', NOW),
    ("registry_decision.json", r'"(time|run)": "[^"]*"', f"{ID}; {NOW}"),
)
"""Texts that differ between two uninterrupted runs: file, pattern, reason."""

RECORD_KEYS = ("time", "run", "opening", "study")
"""Keys of ledger records that differ between two uninterrupted runs: times, MLflow's ids and what holds them."""


class Store(NamedTuple):
    """What MLflow holds, each with its number of occurrences.

    Attributes:
        runs: Name, status and the name of the parent run.
        versions: Versions of registered models: fold and decision.
        aliases: Number of the version of each alias.
        models: Logged models by status, without those that the command after a kill has closed as failed.
    """

    runs: Counter[str]
    versions: Counter[str]
    aliases: Counter[str]
    models: Counter[str]


def artifacts(root: Path) -> dict[str, str]:
    """Return the digest of every file below ``root`` without what ``COLUMNS`` and ``TEXTS`` name, by relative path."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(_comparable(path)).hexdigest() for path in paths}


def _comparable(path: Path) -> bytes:
    columns = [pattern for file, pattern, _ in COLUMNS if fnmatch(path.name, file)]
    if columns:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        dropped = [name for name in frame if re.fullmatch("|".join(columns), str(name))]
        return frame.drop(columns=dropped).to_csv().encode()
    if path.name == "studies.db":
        return b""  # Optuna's database holds the time of each trial; search_trials.csv is its content
    texts = [pattern for file, pattern, _ in TEXTS if fnmatch(path.name, file)]
    return re.sub("|".join(texts), "", path.read_text()).encode() if texts else path.read_bytes()


def differences(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Return the names of files that differ, are missing (``-``) or are there too (``+``)."""
    changed = [name for name in found.keys() & wanted.keys() if found[name] != wanted[name]]
    missing = [f"-{name}" for name in wanted.keys() - found.keys()]
    return sorted([*changed, *missing, *(f"+{name}" for name in found.keys() - wanted.keys())])


def ledgers(registry: Path) -> Counter[str]:
    """Return every record of every ledger in ``registry``, without ``RECORD_KEYS``, and how often it is there."""
    records: Counter[str] = Counter()
    for path in sorted(registry.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            records[f"{path.name} {_record_text(line)}"] += 1
    return records


def _record_text(line: str) -> str:
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError:
        return "torn line"
    return json.dumps({name: value for name, value in record.items() if name not in RECORD_KEYS}, sort_keys=True)


def short(records: Counter[str]) -> dict[str, int]:
    """Return the beginning of records and a digest of each with their number."""
    digest = {text: hashlib.sha256(text.encode()).hexdigest()[:8] for text in records}
    return {f"{text[:120]} ({digest[text]})": count for text, count in sorted(records.items())}


def store(database: Path) -> Store:
    """Read the tracking store and the registry."""
    client = MlflowClient(f"sqlite:///{database}")
    experiments = [one.experiment_id for one in client.search_experiments()]
    runs = {run.info.run_id: run for run in client.search_runs(experiments)}

    def name(run_id: str | None) -> str:
        return runs[run_id].info.run_name if run_id in runs else "-"

    described = [
        f"{run.info.run_name} {run.info.status} {name(run.data.tags.get('mlflow.parentRunId'))}"
        for run in runs.values()
    ]
    versions = list(client.search_model_versions())
    numbers = {
        f"{alias} {number}" for model in client.search_registered_models() for alias, number in model.aliases.items()
    }
    models = client.search_logged_models(experiments) if experiments else []
    return Store(
        Counter(described),
        Counter(f"fold {one.tags.get('sentio.fold')} {one.tags.get('sentio.decision')}" for one in versions),
        Counter(numbers),
        Counter(str(model.status) for model in models if model.status != LoggedModelStatus.FAILED),
    )
