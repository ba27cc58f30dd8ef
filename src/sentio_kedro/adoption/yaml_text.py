"""Parameters as YAML that people read: blocks, a comment at the end of a line, columns one a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

_WIDTH = 32  # of a line before its comment


def yaml_text(values: Mapping[str, Any], comments: Mapping[str, str], head: str = "") -> str:
    """Return ``values`` as YAML.

    Args:
        values: Names and values, nested.
        comments: Comments by dotted name.
        head: Sentence above all.
    """
    lines = [f"# {line}" for line in head.splitlines()]
    return "\n".join([*lines, *_lines(values, comments, "", 0)]) + "\n"


def _lines(values: Mapping[str, Any], comments: Mapping[str, str], path: str, depth: int) -> list[str]:
    lines = []
    for key, value in values.items():
        name, indent = f"{path}{key}", "  " * depth
        if isinstance(value, Mapping) and value:
            lines.append(_commented(f"{indent}{_flow(key)}:", comments.get(name)))
            lines += _lines(value, comments, f"{name}.", depth + 1)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines.append(_commented(f"{indent}{_flow(key)}:", comments.get(name)))
            lines += [f"{indent}  - {_flow(one)}" for one in value]
        else:
            lines.append(_commented(f"{indent}{_flow(key)}: {_flow(value)}", comments.get(name)))
    return lines


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _commented(line: str, comment: str | None) -> str:
    return line if comment is None else f"{line:<{_WIDTH}}  # {comment}"
