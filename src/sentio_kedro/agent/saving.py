"""What was fitted as arrays and plain data, and back, to the same bits and without pickle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

ARRAY, KIND = "array", "kind"


def packed(value: Any, arrays: dict[str, np.ndarray], name: str) -> Any:
    """Describe ``value`` as plain data; its arrays are added to ``arrays``.

    Args:
        value: Number, text, array, or a dataclass, named tuple, mapping or sequence of such.
        arrays: Receives arrays by name.
        name: Prefix of the names.
    """
    if isinstance(value, np.ndarray):
        arrays[name] = np.ascontiguousarray(value)
        return {ARRAY: name}
    if isinstance(value, np.generic):
        return value.item()
    parts = _parts(value)
    if parts is not None:
        kind = "mapping" if isinstance(value, Mapping) else type(value).__name__
        return {KIND: kind, **{key: packed(part, arrays, f"{name}.{key}") for key, part in parts.items()}}
    if isinstance(value, (list, tuple)):
        return [packed(part, arrays, f"{name}.{place}") for place, part in enumerate(value)]
    return value


def unpacked(value: Any, arrays: Mapping[str, np.ndarray], kinds: Iterable[type]) -> Any:
    """Read what ``packed`` wrote; sequences become tuples.

    Args:
        value: The description.
        arrays: Its arrays.
        kinds: Dataclasses and named tuples that may occur.

    Raises:
        ValueError: If another kind occurs.
    """
    known = {kind.__name__: kind for kind in kinds} | {"mapping": dict}

    def read(part: Any) -> Any:
        if isinstance(part, list):
            return tuple(read(one) for one in part)
        if not isinstance(part, dict):
            return part
        if ARRAY in part:
            return arrays[part[ARRAY]]
        if part[KIND] not in known:
            raise ValueError(f"`{KIND}` must be one of {sorted(known)}, was {part[KIND]!r}; fit and save again.")
        return known[part[KIND]](**{key: read(one) for key, one in part.items() if key != KIND})

    return read(value)


def _parts(value: Any) -> dict[str, Any] | None:
    """Return the named parts of a value; none if it has no names."""
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    return None
