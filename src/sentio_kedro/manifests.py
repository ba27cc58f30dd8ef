"""Manifests: the bars, parameters and earlier stages that shaped a stage's artifacts.

The manifest that a run needs is computed and compared with the one that was saved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from sentio_kedro.config import (
    BacktestParameters,
    CrossValidationParameters,
    ExternalTestParameters,
    FeatureParameters,
    ForecastingParameters,
    IngestionParameters,
    NetworkParameters,
    RegimeParameters,
    ReportingParameters,
    TradingParameters,
    TrainingParameters,
    UniverseParameters,
)
from sentio_kedro.config.market import SESSION_INDICATORS

STAGES = ("ingestion", "features", "cross_validation", "regimes", "forecasting", "training", "backtest", "reporting")
"""The pipelines that write a manifest, in the order in which they run."""

SECTIONS: dict[str, Any] = {
    "ingestion": IngestionParameters,
    "universe": UniverseParameters,
    "features": FeatureParameters,
    "cross_validation": CrossValidationParameters,
    "regimes": RegimeParameters,
    "forecasting": ForecastingParameters,
    "trading": TradingParameters,
    "network": NetworkParameters,
    "training": TrainingParameters,
    "backtest": BacktestParameters,
    "external_test": ExternalTestParameters,
    "reporting": ReportingParameters,
}
"""The parameter sections and their types."""

_SHAPED_BY: dict[str, tuple[str, ...]] = {
    "ingestion": ("ingestion", "universe", "trading.calendar"),  # whose sessions bars lie in
    "features": ("features",),
    # The spans of a row depend on the network, the filter's memory, the episode's length, the look-backs of masks and
    # costs, and the latency of orders.
    "cross_validation": (
        "cross_validation",
        "network.encoder",
        "network.layers",
        "network.window",
        "network.convolution",
        "regimes.memory",
        "training.episode_bars",
        "trading.calendar",
        "trading.memory_sessions",
        "trading.symbols",
        "trading.costs.half_spread",
        "trading.costs.spread_bars",
        "trading.masks.kelly_bars",
        "trading.masks.kelly_fraction",
        "trading.orders.latency_bars",
    ),
    "regimes": ("regimes",),
    "forecasting": ("forecasting", "trading.costs", "trading.symbols", "trading.orders.latency_bars"),
    "training": ("trading", "network", "training"),
    "backtest": ("trading", "backtest"),
    "reporting": ("reporting",),
    "external_test": ("backtest", "external_test"),  # leaves no manifest, but names the run
}
_UPSTREAM: dict[str, tuple[str, ...]] = {
    "ingestion": (),
    "features": ("ingestion",),
    "cross_validation": ("ingestion", "features"),
    "regimes": ("ingestion", "cross_validation"),
    "forecasting": ("ingestion", "cross_validation", "regimes"),
    "training": ("ingestion", "features", "cross_validation", "regimes", "forecasting"),
    "backtest": ("ingestion", "features", "cross_validation", "regimes", "forecasting", "training"),
    "reporting": ("backtest",),
    "external_test": ("ingestion",),
}
WITHOUT_EFFECT = frozenset(
    {
        "forecasting.workers",
        "network.checkpoint_layers",
        "training.checkpoint_updates",
        "training.compile",
        "training.device",
        "training.threads",
        "training.workers",
    }
)
"""Parameters of speed and memory: changing them keeps the artifacts."""

LEARNER = ("config", "market", "trading", "agent")
"""Sub-packages whose code shapes agents; the others test and report them."""


class StaleArtifactsError(ValueError):
    """Artifacts of an earlier stage are missing, or were made from other bars or parameters."""


@dataclass(frozen=True)
class Manifest:
    """Bars, parameters and earlier stages of a stage's artifacts.

    Attributes:
        stage: Name of the pipeline.
        bars_hash: Hash of the raw bars.
        parameters: Parameters that shaped the stage, flattened: ``{"network.width": 16}``.
        upstream: Digest of each stage whose artifacts were read.
    """

    stage: str
    bars_hash: str
    parameters: Mapping[str, Any]
    upstream: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of the content: equal manifests, and no others, have equal digests."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the content as plain data."""
        return {
            "stage": self.stage,
            "bars_hash": self.bars_hash,
            "parameters": dict(self.parameters),
            "upstream": dict(self.upstream),
        }


def flatten_parameters(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return the project's parameters by dotted name, defaults filled in.

    Args:
        sections: Parameters by section, as plain values or as the typed classes; unknown sections are ignored.

    Returns:
        Plain values by name, such as ``{"trading.costs.commission_bps": 10.0}``. A list stays one value.

    Raises:
        pydantic.ValidationError: If a section has an unknown key or a wrong value.
    """
    flat: dict[str, Any] = {}
    for name, kind in SECTIONS.items():
        if name in sections:
            adapter = TypeAdapter(kind)
            section = adapter.dump_python(adapter.validate_python(sections[name]), mode="json")
            flat.update(dotted_values(name, section))
    return flat


def dotted_values(name: str, value: Any) -> dict[str, Any]:
    """Return the leaves of nested dictionaries by dotted name, each beginning with ``name``."""
    if not isinstance(value, dict):
        return {name: value}
    return {key: leaf for field, item in value.items() for key, leaf in dotted_values(f"{name}.{field}", item).items()}


def upstream_stages(stage: str) -> tuple[str, ...]:
    """Return the stages, in order, whose artifacts ``stage`` reads directly or through another one.

    Args:
        stage: One of ``STAGES``, or ``external_test``.
    """
    direct = _UPSTREAM[stage]
    indirect = {far for near in direct for far in upstream_stages(near)}
    return tuple(name for name in STAGES if name in indirect or name in direct)


def expected_manifest(stage: str, bars_hash: str, parameters: Mapping[str, Any]) -> Manifest:
    """Return the manifest of ``stage`` for these bars and parameters.

    Args:
        stage: One of ``STAGES``, or ``external_test``.
        bars_hash: Hash of the raw bars.
        parameters: Flattened parameters of all sections.
    """
    shaping = {
        name: value
        for name, value in parameters.items()
        if name not in WITHOUT_EFFECT and any(_within(name, section) for section in _SHAPED_BY[stage])
    }
    if stage == "features" and any(
        column["indicator"] in SESSION_INDICATORS for column in parameters.get("features.columns", ())
    ):
        shaping["trading.calendar"] = parameters.get("trading.calendar")
    upstream = {name: expected_manifest(name, bars_hash, parameters).digest for name in upstream_stages(stage)}
    return Manifest(stage, bars_hash, shaping, upstream)


def _within(name: str, section: str) -> bool:
    return name == section or name.startswith(f"{section}.")


def agents_identity(bars_hash: str, parameters: Mapping[str, Any]) -> str:
    """Return the digest that names this project's agents: that of their training."""
    return expected_manifest("training", bars_hash, parameters).digest


def tracked_identity(identity: str) -> str:
    """Return the digest that names a tracked run: of the agents and of the code that trains them.

    Args:
        identity: Digest such as ``agents_identity``.
    """
    learner = code_hash(Path(__file__).parent, LEARNER)
    return hashlib.sha256(f"{identity} {learner}".encode()).hexdigest()


def explain_difference(saved: Mapping[str, Any] | None, expected: Manifest) -> str | None:
    """Return the clause that explains why a stage must run again, or None if its artifacts fit.

    Args:
        saved: The manifest that was saved, or None if there is none.
        expected: The manifest that the run needs.
    """
    name = f"`{expected.stage}`"
    if saved is None:
        return f"{name} has not been run to its end"
    if saved.get("bars_hash") != expected.bars_hash:
        return f"{name} was made from other bars"
    before, now = dict(saved.get("parameters", {})), expected.parameters
    changed = [
        f"`{key}` was {_value_text(before, key)}, is now {_value_text(now, key)}"
        for key in sorted(before.keys() | now.keys())
        if _value_text(before, key) != _value_text(now, key)
    ]
    if changed:
        return f"{name} was made with other parameters: " + "; ".join(changed)
    earlier = dict(saved.get("upstream", {}))
    stale = [key for key, digest in expected.upstream.items() if earlier.get(key) != digest]
    if stale or earlier.keys() != expected.upstream.keys():
        listed = ", ".join(f"`{key}`" for key in stale) or "other stages"
        return f"{name} was made from an earlier result of {listed}"
    return None


def _value_text(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "not set"


def require_manifests(
    saved: Mapping[str, Mapping[str, Any] | None],
    expected: Mapping[str, Manifest],
    *,
    present: Collection[str] = (),
    damaged: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> None:
    """Stop if a stage that a run builds on is missing, was made from something else or was changed.

    Args:
        saved: Manifests that were saved, by stage.
        expected: Manifests that the run needs.
        present: Stages of which any manifest will do.
        damaged: Clause by stage whose artifacts were changed since, or were made from earlier ones.
        options: Options of the command line to repeat in the remedy, such as ``--env=equities``.

    Raises:
        StaleArtifactsError: With every problem and the pipelines to rerun.
    """
    problems = {stage: explain_difference(saved.get(stage), manifest) for stage, manifest in expected.items()}
    problems |= {stage: f"`{stage}` has not been run to its end" for stage in present if saved.get(stage) is None}
    problems = {**(damaged or {}), **{stage: problem for stage, problem in problems.items() if problem}}
    stale = [stage for stage in STAGES if problems.get(stage)]
    if stale:
        option = f"--pipeline {stale[0]}" if len(stale) == 1 else f"--pipelines {','.join(stale)}"
        command = " ".join(["kedro run", option, *options])
        lines = "\n".join(f"- {problems[stage]}" for stage in stale)
        raise StaleArtifactsError(f"This run builds on artifacts that are missing or stale:\n{lines}\nRun `{command}`.")


def code_hash(folder: Path, packages: Collection[str] = ()) -> str:
    """SHA-256 of a package's source files, names included.

    Args:
        folder: Folder of the package.
        packages: Its sub-packages that count, such as ``LEARNER``; empty is all files.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if not packages or name.parts[0] in packages:
            digest.update(name.as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
