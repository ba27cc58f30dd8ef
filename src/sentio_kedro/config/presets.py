"""Where the section ``trading`` starts: presets that single keys override."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

PresetName = Literal["none", "proportional", "realistic"]

PRESETS: dict[str, dict[str, Any]] = {
    "none": {"costs": {"commission_bps": 0.0, "half_spread_bps": 0.0}},
    "proportional": {},
    "realistic": {
        "net_limit": 0.75,
        "var_limit": 0.025,
        "max_drawdown": 0.08,
        "costs": {"impact": 1.0},
        "carry": {"borrow_rate": 0.03, "financing_rate": 0.06, "interest_rate": 0.0, "funding": True},
        "margin": {"initial": 0.5, "maintenance": 0.25},
        "orders": {"participation": 0.1, "unfilled": "carry", "minimum_notional": 10.0},
        "masks": {
            "concentration": 0.5,
            "daily_loss": 0.01,
            "position_var": 0.005,
            "target_volatility": 0.0015,
            "regime_exposure": [1.0, 1.0, 0.5],
            "crisis_probability": 0.99,
            "liquidity": 0.05,
            "kelly_fraction": 0.5,
        },
    },
}


def with_preset(given: dict[str, Any]) -> dict[str, Any]:
    """Put the keys of ``given`` over those of its preset; sections that are objects already are taken whole."""
    preset = PRESETS.get(str(given.get("preset", "proportional")), {})
    return merged(copy.deepcopy(preset), given)


def merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Put ``above`` over ``below``, section by section; ``below`` is changed."""
    for key, value in above.items():
        known = below.get(key)
        below[key] = merged(known, value) if isinstance(known, dict) and isinstance(value, Mapping) else value
    return below
