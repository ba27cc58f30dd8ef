"""How the pages of docs/ write parameters down."""

from dataclasses import fields, is_dataclass
from typing import Any


def leaves(parameters: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(parameters):
        value = getattr(parameters, field.name)
        found |= leaves(value, f"{prefix}{field.name}.") if is_dataclass(value) else {prefix + field.name: value}
    return found


def written(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
