"""Named learners: where the sections ``network`` and ``training`` start, and single keys override."""

from __future__ import annotations

import copy
from typing import Any, Literal

from pydantic_core import ArgsKwargs

from sentio_kedro.config.presets import merged

VariantName = Literal["standard", "maskable", "enhanced"]

PLAIN: dict[str, Any] = {
    "advantages": "sampled",
    "path_baseline": False,
    "screening": "none",
    "selection_margin": 0.0,
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "standard": {"network": {"masked": False, "quantiles": 1, "regime_experts": False}, "training": PLAIN},
    "maskable": {"network": {"quantiles": 1, "regime_experts": False}, "training": PLAIN},
    "enhanced": {"network": {}, "training": {}},
}


def with_variant(section: str, given: Any) -> Any:
    """Put the keys of ``given`` over those of its ``variant`` in ``section``; objects pass as they are.

    Args:
        section: ``network`` or ``training``.
        given: What pydantic was given: a mapping, or arguments.
    """
    if isinstance(given, ArgsKwargs):
        return ArgsKwargs(given.args, with_variant(section, dict(given.kwargs or {})))
    if not isinstance(given, dict):
        return given
    start = VARIANTS.get(str(given.get("variant", "enhanced")), {}).get(section, {})
    return merged(copy.deepcopy(start), given)
