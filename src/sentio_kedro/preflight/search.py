"""Folds and space of a search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentio_kedro.config import AgentParameters
from sentio_kedro.manifests import WITHOUT_EFFECT, expected_manifest, flatten_parameters, upstream_stages
from sentio_kedro.market.folds import Folds
from sentio_kedro.search.space import search_distributions
from sentio_kedro.search.trials import searchable_folds


def check_search(folds: Folds, parameters: Mapping[str, Any]) -> None:
    """Refuse folds that cannot be searched on, and a space whose candidates cannot be built.

    Args:
        folds: All folds.
        parameters: Typed sections by name.

    Raises:
        ValueError: With every problem.
    """
    search = parameters["search"]
    searchable_folds(folds.folds, search.folds)
    base = AgentParameters(*(parameters[name] for name in ("network", "training", "trading")))
    search_distributions(search.ranges, base, fixed_names("", flatten_parameters(parameters)))


def fixed_names(bars_hash: str, flat: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters that must not be searched, with the reason: without effect, or shaping earlier stages."""
    fixed = dict.fromkeys(WITHOUT_EFFECT, "it changes how a result is computed, not the result")
    for stage in upstream_stages("training"):
        shaping = expected_manifest(stage, bars_hash, flat).parameters
        fixed |= dict.fromkeys(shaping, f"`{stage}` was made with it, so change it in conf and run that stage again")
    return fixed
