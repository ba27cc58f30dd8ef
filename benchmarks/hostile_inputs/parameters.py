"""Parameter files with one thing changed: a misspelt or unknown key, or a value of another type, size or shape."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hypothesis import strategies as st

from hostile_inputs.trials import Expected

FREE_TEXTS = ("experiment", "model", "timezone", "targets", "agent", "runs", "name")
"""Last keys of parameters that any text may be the value of."""

NO_NUMBERS = (math.nan, math.inf, -math.inf)
WRONG_GLOBALS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "unknown key": ({"unknown": "x"}, ("unknown",)),
    "misspelt artifacts": ({"artifacts": None, "artefacts": "data/other"}, ("artefacts", "artifacts")),
    "misspelt registry": ({"regsitry": "data/other"}, ("regsitry",)),
    "missing artifacts": ({"artifacts": None}, ("artifacts",)),
    **{f"artifacts: {value!r}": ({"artifacts": value}, ("artifacts",))
       for value in ("null", 5, True, "", [], {"a": 1}, "data/01_raw", "data/01_raw/deep", ".", "data/../data/01_raw",
                     "conf/x", "~/x", "\0", "x" * 300, "{x}")},
    **{f"experiment: {value!r}": ({"experiment": value}, ("experiment",)) for value in ("null", [], "")},
    **{f"{name}: {value!r}": ({name: value}, (name,))
       for name in ("registry", "trials") for value in ("null", 5, [], ".", "..", "src/x", "s3://a/b", "x" * 300)},
}  # fmt: skip
"""Changes of an environment's globals.yml that no run can be right with; None removes a key, "null" is YAML's null."""

SHAPES: tuple[Any, ...] = ("abc", "", "\x00", "1e", [], [[1]], {}, {"a": 1}, [math.nan], ["x" * 500])
NUMBERS = (0, -1, 1, 0.5, -0.5, 2, 1e-300, 1e9, 1e30, 10**30, 2**63, -(2**63), 1e308)


class Leaf(NamedTuple):
    """A parameter: its keys and its present value."""

    keys: tuple[str, ...]
    value: Any

    @property
    def name(self) -> str:
        """Dotted name."""
        return ".".join(self.keys)


def leaves(values: Mapping[str, Any], keys: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Yield the parameters of nested dictionaries; a list is one value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*keys, key))
        else:
            yield Leaf((*keys, key), value)


def branches(values: Mapping[str, Any], keys: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the keys of every dictionary."""
    yield keys
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from branches(value, (*keys, key))


def changed(sections: Mapping[str, Any], keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return a copy of ``sections`` with one value set."""
    copied: dict[str, Any] = copy.deepcopy(dict(sections))
    inner = copied
    for key in keys[:-1]:
        inner = inner.setdefault(key, {})
    inner[keys[-1]] = value
    return copied


def misspelt(key: str, place: int) -> str:
    """Swap two letters, or double the last one where they are equal."""
    at = place % max(len(key) - 1, 1)
    swapped = key[:at] + key[at : at + 2][::-1] + key[at + 2 :]
    return swapped if swapped != key else key + key[-1]


def hostile_parameters(sections: Mapping[str, Any]) -> st.SearchStrategy[tuple[dict[str, Any], Expected]]:
    """Return changed parameters and what a run must make of them.

    Args:
        sections: All parameters of a project, defaults filled in.
    """
    found, places = list(leaves(sections)), list(branches(sections))
    value = st.builds(
        lambda leaf, value: (changed(sections, leaf.keys, value), expected_value(leaf, value)),
        st.sampled_from(found),
        st.one_of(st.sampled_from(NO_NUMBERS), st.sampled_from(SHAPES), st.sampled_from(NUMBERS), st.none()),
    )
    near = st.builds(
        lambda leaf, factor: (
            changed(sections, leaf.keys, leaf.value * factor),
            expected_value(leaf, leaf.value * factor),
        ),
        st.sampled_from([leaf for leaf in found if _is_number(leaf.value)]),
        st.sampled_from((2, 3, 10, 100, 0.5, 1.01)),
    )
    renamed = st.builds(lambda leaf, place: _renamed(sections, leaf, place), st.sampled_from(found), st.integers(0, 30))
    added = st.builds(
        lambda keys, key, value: (
            changed(sections, (*keys, key), value),
            Expected(f"{'.'.join((*keys, key))}={value!r}", keys[:2] != ("search", "space"), (key,)),
        ),
        st.sampled_from([keys for keys in places if "space" not in keys]),
        st.sampled_from(("unknown", "steps_", "Width", "training", "0", "a.b", "größe", "x" * 200)),
        st.sampled_from((1, "abc", {"a": 1}, None)),
    )
    section = st.builds(
        lambda name, value: (
            changed(sections, (name,), value),
            Expected(f"{name}={value!r}", True, (name,)),
        ),
        st.sampled_from(sorted(sections)),
        st.sampled_from((5, "abc", [], [1], math.nan)),
    )
    return st.one_of(value, value, near, renamed, added, section)


def _renamed(sections: Mapping[str, Any], leaf: Leaf, place: int) -> tuple[dict[str, Any], Expected]:
    depth = place % len(leaf.keys)
    keys, key = leaf.keys[:depth], leaf.keys[depth]
    inner: Any = sections
    for one in keys:
        inner = inner[one]
    wrong = misspelt(key, place)
    copied = changed(sections, (*keys, wrong), inner[key])
    inner = copied
    for one in keys:
        inner = inner[one]
    del inner[key]
    return copied, Expected(f"{'.'.join((*keys, wrong))} for {key}", True, (wrong, key))


def expected_value(leaf: Leaf, value: Any) -> Expected:
    """Tell from the present value's type whether ``value`` can be right."""
    is_number = _is_number(leaf.value)
    is_text = isinstance(leaf.value, str) and leaf.keys[-1] not in FREE_TEXTS
    wrong_shape = isinstance(value, str | list | dict) and (is_number or isinstance(leaf.value, bool))
    wrong_text = (isinstance(value, list | dict | int | float) or value in SHAPES) and is_text
    no_number = isinstance(value, float) and not math.isfinite(value)
    must = wrong_shape or wrong_text or (no_number and leaf.value is not None) or value == [math.nan]
    names: tuple[str, ...] = (leaf.name, leaf.keys[-1])
    if leaf.keys[:2] == ("search", "space"):
        names += (".".join(leaf.keys[:-1]),)  # the range, which shows its values
    return Expected(f"{leaf.name}={_short(value)}", must, names, _text(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    return repr(value)[:60]


def _text(value: Any) -> str:
    """Return the part of a value that a refusal can be expected to show."""
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if math.isinf(value) else "nan"
    return value if value in ("abc", "1e") else ""
