"""Presets: where the sections ``trading``, ``network`` and ``training`` start; single keys override them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

from pydantic_core import ArgsKwargs

PresetName = Literal["none", "proportional", "realistic", "perpetual"]

REALISTIC: dict[str, Any] = {
    "net_limit": 0.75,
    "var_limit": 0.0125,
    "max_drawdown": 0.08,
    "costs": {"impact": 1.0},
    "carry": {"borrow_rate": 0.03, "financing_rate": 0.06, "interest_rate": 0.0, "funding": True},
    "margin": {"initial": 0.5, "maintenance": 0.25, "intrabar": True},
    "orders": {"participation": 0.1, "min_notional": 10.0},
    "masks": {
        "daily_loss": 0.01,
        "position_var": 0.0125,
        "target_volatility": 0.0035,
        "regime_exposure": [1.0, 1.0, 0.5],
        "crisis_probability": 0.99,
        "liquidity": 0.05,
        "kelly_fraction": 0.5,
    },
}
PERPETUAL: dict[str, Any] = {
    **REALISTIC,
    "costs": {"impact": 1.0, "commission_bps": 5.0, "half_spread_bps": 0.5},
    "carry": {"funding": True},
    "margin": {"initial": 0.1, "maintenance": 0.05, "intrabar": True, "liquidation_fee": 0.005},
}
OF_RULE: dict[str, Any] = {"levels": [0.0, 0.5, 1.0, 1.5]}
PRESETS: dict[str, dict[str, Any]] = {
    "none": {"costs": {"commission_bps": 0.0, "half_spread_bps": 0.0}},
    "proportional": {},
    "realistic": REALISTIC,
    "perpetual": PERPETUAL,
}


def with_preset(given: dict[str, Any]) -> dict[str, Any]:
    """Put the keys of ``given`` over those of its preset and unit; sections that are objects replace them."""
    preset = PRESETS.get(str(given.get("preset", "proportional")), {})
    unit = OF_RULE if given.get("unit") == "rule" else {}
    return merged(copy.deepcopy(preset | unit), given)


def merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Put ``above`` over ``below``, section by section; ``below`` is changed."""
    for key, value in above.items():
        section = below.get(key)
        below[key] = merged(section, value) if isinstance(section, dict) and isinstance(value, Mapping) else value
    return below


VariantName = Literal["standard", "maskable", "enhanced", "forecasts"]

PLAIN: dict[str, Any] = {
    "advantages": "sampled",
    "path_baseline": False,
    "selection_margin": 0.0,
}
OF_FORECASTS: dict[str, Any] = {
    **{"members": 2, "total_steps": 200_000, "episode_bars": 128, "gamma": 0.995, "learning_rate": 3e-3},
    **{"price_of_risk": 1.0, "entropy": 0.1},
    "block_bars": None,
    "abstention": 2.0,
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "standard": {"network": {"masked": False, "quantiles": 1, "regime_experts": False}, "training": PLAIN},
    "maskable": {"network": {"quantiles": 1, "regime_experts": False}, "training": PLAIN},
    "enhanced": {"network": {}, "training": {}},
    "forecasts": {"network": {"encoder": "mlp", "width": 32}, "training": OF_FORECASTS},
}


def with_variant(section: str, given: Any) -> Any:
    """Put the keys of ``given`` over those of its ``variant`` in ``section``; objects pass as they are.

    Args:
        section: ``network`` or ``training``.
        given: Input of pydantic: a mapping, or arguments.
    """
    if isinstance(given, ArgsKwargs):
        return ArgsKwargs(given.args, with_variant(section, dict(given.kwargs or {})))
    if not isinstance(given, dict):
        return given
    start = VARIANTS.get(str(given.get("variant", "enhanced")), {}).get(section, {})
    return merged(copy.deepcopy(start), given)
