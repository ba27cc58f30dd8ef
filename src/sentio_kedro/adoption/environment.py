"""The files of an environment, written whole or not at all."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from sentio_kedro.adoption.calendars import ENDLESS, EXCHANGES
from sentio_kedro.adoption.costs import Figures
from sentio_kedro.adoption.plan import SizedPlan
from sentio_kedro.adoption.yaml_text import yaml_text
from sentio_kedro.market.formats import Reading

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_RESERVED = ("base", "local")
FILES = {
    "features": ("features",),
    "regimes": ("regimes",),
    "forecasting": ("forecasting",),
    "backtest": ("backtest",),
    "cross_validation": ("cross_validation",),
    "training": ("trading", "network", "training"),
    "reporting": ("reporting",),
}
"""Sections by the file ``parameters_*.yml`` that holds them."""


def name_problem(name: str, project: Path, force: bool) -> str | None:
    """Return why an environment of this name cannot be written, or None."""
    if not _NAME.fullmatch(name) or name in _RESERVED:
        return (
            f"`--env` must be a name of letters, digits, - and _ that begins with a letter, neither base nor local, "
            f"was {name!r}; choose another one."
        )
    if (project / "conf" / name).exists() and not force:
        return f"`conf/{name}` exists already; choose another `--env`, or replace it with `--force`."
    return None


def base_sections(project: Path) -> dict[str, Any]:
    """Return the parameters of ``conf/base`` by section; references to names stay as they are."""
    sections: dict[str, Any] = {}
    for file in sorted((project / "conf" / "base").glob("parameters*.yml")):
        sections |= yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return sections


def file_path(path: str | Path, project: Path) -> str:
    """Return a path as the catalog names it: relative to the project inside of it, else absolute."""
    full = Path(path).absolute()
    return full.relative_to(project).as_posix() if full.is_relative_to(project) else full.as_posix()


def catalog_text(paths: Sequence[str], reading: Reading) -> str:
    """Return ``catalog.yml``: the files and how they are read, nothing left to be found out again."""
    keys = {key: value for key, value in asdict(reading).items() if value is not None and value != "as_traded"}
    entry: dict[str, Any] = {
        "type": "sentio_kedro.datasets.BarFiles",
        "filepath": paths[0] if len(paths) == 1 else list(paths),
        **keys,
        "validator": "sentio_kedro.schemas.Bars",
        "metadata": {"kedro-viz": {"preview_args": {"nrows": 10}}},
    }
    return yaml_text({"bars": entry}, {})


def globals_text(name: str, names: Mapping[str, float]) -> str:
    """Return ``globals.yml``: folder, experiment, and what durations are counted in."""
    comments = {
        "bar_minutes": "length of a bar; ${bars:1d} counts in it",
        "session_minutes": "length of a session, 1440 for a market that never closes",
        "sessions_per_year": "sessions of a year",
    }
    return yaml_text({"artifacts": f"data/{name}", "experiment": name, **names}, comments)


def ingestion_text(
    label: str, zone: str | None, calendar: str, names: Mapping[str, float], reason: str, outside: int = 0
) -> str:
    """Return ``parameters_ingestion.yml``.

    Args:
        label: ``start`` or ``end``.
        zone: Zone of stamps that arrive without one; null if they arrive in UTC.
        calendar: Name of the calendar.
        names: ``bar_minutes``, ``session_minutes``, ``sessions_per_year``.
        reason: Why stamps are labelled so.
        outside: Bars outside of the sessions.
    """
    a_year, minutes = names["sessions_per_year"], names["bar_minutes"]
    periods = round(365.25 * 1_440 / minutes, 2)  # of bars longer than a session, each of which counts as one
    long = periods < a_year / 2
    values = {
        "bar_label": label,
        "bar_minutes": minutes,
        **({} if zone is None else {"timezone": zone}),
        "sessions_per_year": periods if long else a_year,
        **({"outside_session": "drop"} if outside else {}),
    }
    comments = {
        "ingestion.bar_label": reason,
        "ingestion.timezone": "dates end at midnight UTC, after every exchange's close",
        "ingestion.sessions_per_year": "bars of a year" if long else f"sessions of {calendar}",
        "ingestion.outside_session": f"{outside:,} bars outside of sessions; keep, if you trade extended hours",
    }
    return yaml_text({"ingestion": values}, comments)


def parameter_texts(sized: SizedPlan, costs: Figures, calendar: str, cash: float, few: str) -> dict[str, str]:
    """Return the text of each ``parameters_*.yml`` but that of ingestion.

    Args:
        sized: Parameters that fit the bars.
        costs: Costs and rules of the asset class.
        calendar: Name of the calendar.
        cash: Starting equity, quote currency.
        few: What the number of bars allows, a comment.
    """
    sections = {name: dict(values) for name, values in sized.sections.items()}
    comments: dict[str, str] = {"trading.initial_cash": "quote currency; some hundred of the smallest orders"}
    trading = sections["trading"]
    trading["initial_cash"] = cash
    if calendar != ENDLESS:
        trading["calendar"] = calendar
        comments["trading.calendar"] = EXCHANGES[calendar].market if calendar in EXCHANGES else "you said so"
    for section, figures in costs.items():
        trading[section] = {**trading.get(section, {}), **{key: figure.value for key, figure in figures.items()}}
        comments |= {f"trading.{section}.{key}": figure.source for key, figure in figures.items()}
    return {
        f"parameters_{file}.yml": yaml_text({name: sections[name] for name in names if name in sections}, comments, few)
        for file, names in FILES.items()
        if any(name in sections for name in names)
    }


def write_environment(project: Path, name: str, texts: Mapping[str, str]) -> Path:
    """Write the files of ``conf/name`` at once: all of them, or on a fault none. An existing folder is replaced.

    Returns:
        The folder.
    """
    folder = project / "conf" / name
    staged = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    try:
        for file, text in texts.items():
            (staged / file).write_text(text, encoding="utf-8")
        staged.chmod(0o755)
        before = staged.with_name(f"{staged.name}-before")
        if folder.exists():
            folder.rename(before)
        staged.rename(folder)
        shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return folder
