"""A copied project with environments that share MLflow's experiment, the registry and the ledgers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

ROOT = Path(__file__).parents[2]
ENV, OTHER, LATER = "kills", "kills_other", "kills_later"
"""Environments: two that train, and one with later bars alone, on which agents of the first are tested."""

LATER_THAN = "2019-07-01"  # the train rows of the first fold's agents end before
AGENT = "06_models/agents/fold_0/seed_0"

SMALL: dict[str, Any] = {
    "cross_validation": {"folds": 2, "first_test": 0.7},
    "training": {"total_steps": 256, "seeds": 2, "checkpoint_updates": 1},
    "search": {
        "trials": 3,
        "space": {
            "training.learning_rate": {"low": 0.005, "high": 0.03, "log": True},
            **dict.fromkeys(("training.entropy", "training.gamma", "network.width")),
        },
    },
    "reporting": {"trials": {"record": True}},
    "comparison": {"bootstrap_samples": 50},
    "promotion": {
        "latency_calls": 5,
        "bootstrap_samples": 50,
        **dict.fromkeys(("min_deflated_sharpe", "max_overfitting", "max_trials", "max_drawdown", "max_tail_loss")),
        **dict.fromkeys(("max_turnover", "max_latency_ms", "max_drift", "min_sharpe_gain")),
    },
}
"""Changes of the smoke environment: all stages, in seconds, with trials on record and gates that let agents pass."""

OF_RULE: dict[str, Any] = {
    "trading": {"unit": "rule"},
    "network": {"variant": "forecasts"},
    "training": {"variant": "forecasts", "seeds": 1, "block_bars": None},
}
"""Further changes of ``OTHER``: its agents act on a forecast rule, which `final` needs."""


def copied_project(folder: Path) -> Path:
    """Make the project in ``folder``: configuration, daily bars of two symbols, no artifacts.

    Args:
        folder: A folder that does not exist yet.

    Returns:
        ``folder``.
    """
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("credentials*"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "src").mkdir()  # the package is the installed one
    (folder / "data" / "01_raw").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "01_raw" / "equities_daily.parquet", folder / "data" / "01_raw")
    bars = pd.read_parquet(ROOT / "data" / "01_raw" / "equities_daily.parquet")
    bars[bars["timestamp"] > pd.Timestamp(LATER_THAN, tz="UTC")].to_parquet(
        folder / "data" / "01_raw" / "later.parquet"
    )
    for env in (ENV, OTHER, LATER):
        target = folder / "conf" / env
        shutil.copytree(ROOT / "conf" / "smoke", target)
        names = {"artifacts": f"data/{env}", "experiment": "kills"}
        (target / "globals.yml").write_text(yaml.safe_dump(names))
        for name, values in SMALL.items():
            _merge(target, name, values)
        _merge(target, "external_test", {"agent": f"data/{ENV}/{AGENT}"})
    for name, values in OF_RULE.items():
        _merge(folder / "conf" / OTHER, name, values)
    catalog = folder / "conf" / LATER / "catalog.yml"
    catalog.write_text(catalog.read_text().replace("equities_daily", "later"))
    return folder


def _merge(env: Path, section: str, change: dict[str, Any]) -> None:
    """Change keys of ``section`` wherever the environment sets it, or in a file of its own."""
    own = env / f"parameters_{section}.yml"
    path = next((one for one in sorted(env.glob("parameters_*.yml")) if section in _read(one)), own)
    values = _read(path) if path.exists() else {}
    values[section] = {**values.get(section, {}), **change}
    path.write_text(yaml.safe_dump(values))


def _read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded
