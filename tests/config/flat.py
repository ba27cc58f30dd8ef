"""Nested parameters as a flat mapping."""

from dataclasses import fields, is_dataclass
from typing import Any


def leaves(parameters: Any, prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in fields(parameters):
        value = getattr(parameters, field.name)
        values |= leaves(value, f"{prefix}{field.name}.") if is_dataclass(value) else {prefix + field.name: value}
    return values
