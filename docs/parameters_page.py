"""The page that names every parameter, made from the typed classes and their descriptions."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import operator
import pkgutil
import re
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import annotated_types
import griffe
from pydantic.fields import FieldInfo

from sentio_kedro import config
from sentio_kedro.config.fields import LARGEST
from sentio_kedro.config.presets import PRESETS, VARIANTS
from sentio_kedro.pipeline_registry import register_pipelines

BOUNDS = {
    annotated_types.Ge: "at least",
    annotated_types.Gt: "above",
    annotated_types.Le: "at most",
    annotated_types.Lt: "below",
    annotated_types.MinLen: "length at least",
    annotated_types.MaxLen: "length at most",
}
NAMES = {
    bool: "`true`, `false`",
    int: "whole number",
    float: "number",
    str: "text",
    type(None): "`null`",
}
# Units by patterns of the description. The first match counts; where the unit is None, the matched words are the unit.
UNITS_OF_FRACTIONS = (
    (r"^(Coefficient|Factor|Power|Decay)", "number"),
    (
        r"quote currency( per share)?|bps of traded notional|fraction a year|log return\b|log of peak over trough|nats",
        None,
    ),
    (r"fraction of (short notional a year|the allocation|the daily volume|equity|`+[\w.]+`+)", None),
    (r"per unit of gross exposure", "fraction of gross exposure"),
    (r"^Annual volatility", "fraction a year"),
    (r"[Ss]hare of|[Ff]raction|Filtered probability|^Coverage|^Confidence|^Drawdown", "fraction"),
    (r"^Shares", "shares"),
    (r"days a year", "sessions a year"),
)
UNITS = (
    (r"^\w+_minutes:|^\w+: Minutes", "minutes"),
    (r"^\w+_days:", "days"),
    (r"^\w+_bars:|: Bars |\bin bars\b|over this many bars", "bars"),
)
STARTS: dict[str, tuple[type, str, tuple[str, ...]]] = {
    "trading": (config.TradingParameters, "preset", tuple(PRESETS)),
    "network": (config.NetworkParameters, "variant", tuple(VARIANTS)),
    "training": (config.TrainingParameters, "variant", tuple(VARIANTS)),
}
HEAD = """# Every parameter

Made from the typed classes in `sentio_kedro.config` when these pages are built, so it cannot lag behind them. The
default holds where no file sets the key; `conf/base/parameters_*.yml` and the files of an environment override it.
Where `trading.preset`, `network.variant` or `training.variant` sets another default, it stands behind, in brackets. A
value of the wrong type or out of its bounds, or a key that is not here, stops a run before any work.

Set a key in a file of the environment, or for one run: `.venv/bin/kedro run --params "training.total_steps=800000"`.

"""


class Parameter(NamedTuple):
    """One key as the page shows it."""

    key: str
    kind: str
    unit: str
    default: str
    meaning: str


class Section(NamedTuple):
    """One class of parameters: where its keys begin, what it is, and its rows."""

    name: str
    cls: type
    about: str
    rows: list[Parameter]


def parameter_classes() -> list[type]:
    """Every class of parameters that the package defines, in the order of modules and lines."""
    names = [f"{config.__name__}.{module.name}" for module in pkgutil.iter_modules(config.__path__)]
    modules = [importlib.import_module(name) for name in names]
    return [
        member
        for module in modules
        for member in vars(module).values()
        if dataclasses.is_dataclass(member) and isinstance(member, type) and member.__module__ == module.__name__
    ]


def sections() -> list[Section]:
    """Sections that nodes read, each followed by what lies below it; then classes that no section holds."""
    classes: dict[str, type] = {}
    for name, cls in sorted(_roots().items()):
        classes |= dict(_below(name, cls))
    nested = set(classes.values())
    classes |= {cls.__name__: cls for cls in parameter_classes() if cls not in nested and not cls.__subclasses__()}
    return [Section(name, cls, *_described(name, cls)) for name, cls in classes.items()]


def parameters_page() -> str:
    """The page that names every key with its type, bound, unit, default and meaning."""
    parts = [HEAD]
    for section in sections():
        parts.append(f"## `{section.name}`\n\n{section.about}\n\n")
        parts.append("| key | type and bound | unit | default | meaning |\n|---|---|---|---|---|\n")
        parts += [f"| `{r.key}` | {r.kind} | {r.unit} | {r.default} | {r.meaning} |\n" for r in section.rows]
        parts.append("\n")
    return "".join(parts)


def _roots() -> dict[str, type]:
    """Sections by name, from what the nodes of all pipelines read and how they annotate it."""
    classes = set(parameter_classes())
    roots = {}
    for pipeline in register_pipelines().values():
        for node in pipeline.nodes:
            function = inspect.unwrap(node.func)
            hints = typing.get_type_hints(function)
            arguments = inspect.signature(function).bind(*node._inputs) if isinstance(node._inputs, list) else None
            given = arguments.arguments if arguments else _named_inputs(function, node._inputs)
            for argument, source in given.items():
                for name, kind in _parts(source, hints.get(argument)):
                    if isinstance(name, str) and name.startswith("params:") and kind in classes:
                        roots[name.removeprefix("params:")] = kind
    return roots


def _named_inputs(function: Any, inputs: Any) -> dict[str, Any]:
    if isinstance(inputs, dict):
        return inputs
    return dict(zip(inspect.signature(function).parameters, [inputs] if inputs else [], strict=False))


def _parts(source: Any, hint: Any) -> Iterator[tuple[Any, Any]]:
    """Names with their types; ``*sources`` arrive as a tuple of names."""
    yield from ((name, hint) for name in (source if isinstance(source, tuple) else (source,)))


def _below(name: str, cls: type) -> Iterator[tuple[str, type]]:
    yield name, cls
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        for kind in _inside(hints[field.name]):
            listed = {dict: ".NAME", list: "[]"}.get(get_origin(hints[field.name]), "")
            yield from _below(f"{name}.{field.name}{listed}", kind)


def _inside(hint: Any) -> list[type]:
    """Classes of parameters within a type."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return [hint]
    return [cls for part in get_args(hint) for cls in _inside(part)]


def _described(name: str, cls: type) -> tuple[str, list[Parameter]]:
    docstring = griffe.Docstring(inspect.getdoc(cls) or "").parse("google", warnings=False)
    about = "\n\n".join(part.value for part in docstring if part.kind is griffe.DocstringSectionKind.text)
    meanings = {
        attribute.name: " ".join(str(attribute.description).split())
        for part in docstring
        if part.kind is griffe.DocstringSectionKind.attributes
        for attribute in part.value
    }
    hints = typing.get_type_hints(cls, include_extras=True)
    rows = []
    for field in dataclasses.fields(cls):
        key, hint, meaning = f"{name}.{field.name}", hints[field.name], meanings.get(field.name, "")
        unit, default = _unit(field.name, hint, meaning), _default(field) + _other_starts(key)
        rows.append(Parameter(key, _kind(hint), unit, default, meaning.replace("``", "`").replace("|", "\\|")))
    return about, rows


def _kind(hint: Any) -> str:  # noqa: PLR0911 - one line for each kind of type
    """A type with its bounds in words."""
    if get_origin(hint) is Annotated:
        base, *marks = get_args(hint)
        return _kind(base) + _bounds(marks)
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_kind(part) for part in get_args(hint))
    if get_origin(hint) in (list, tuple):
        return f"list of {_kind(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return f"names, each with {_kind(get_args(hint)[1])}"
    if dataclasses.is_dataclass(hint):
        return "section"
    return NAMES.get(hint, getattr(hint, "__name__", str(hint)))


def _bounds(marks: list[Any]) -> str:
    single = [inner for mark in marks for inner in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]
    bounds = [(type(mark), dataclasses.astuple(mark)[0]) for mark in single if type(mark) in BOUNDS]
    parts = [f"{BOUNDS[kind]} {bound:g}" for kind, bound in bounds if bound < LARGEST]  # what none reaches is noise
    return " " + ", ".join(parts) if parts else ""


def _unit(name: str, hint: Any, meaning: str) -> str:
    """The unit that a key's description or name gives; a dash for names and switches."""
    numbers = _leaves(hint) & {int, float}
    if not numbers or name == "seed":
        return "-"
    for pattern, unit in UNITS_OF_FRACTIONS if float in numbers else ():
        words = re.search(pattern, meaning)
        if words:
            return (unit or words[0]).replace("``", "`")
    for pattern, unit in UNITS:
        if re.search(pattern, f"{name}: {meaning}"):
            return unit
    return "number" if float in numbers else "count"


def _leaves(hint: Any) -> set[Any]:
    if get_origin(hint) is Literal:
        return {str}
    if get_origin(hint) is Annotated:
        return _leaves(get_args(hint)[0])
    return set().union(*(_leaves(part) for part in get_args(hint))) if get_args(hint) else {hint}


def _default(field: dataclasses.Field[Any]) -> str:
    """The default as YAML would have it, or that there is none."""
    value = field.default
    if isinstance(value, FieldInfo):
        value = value.get_default(call_default_factory=True)
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value is dataclasses.MISSING:
        return "required"
    if dataclasses.is_dataclass(value):
        return "see its keys"
    return _written(value)


def _other_starts(key: str) -> str:
    """Defaults of presets and variants that differ from the class's, in brackets; nothing if none does."""
    root, *path = key.split(".")
    if root not in STARTS or "NAME" in path:
        return ""
    cls, switch, names = STARTS[root]
    read = operator.attrgetter(".".join(path))
    base = read(cls())
    others = {name: read(cls(**{switch: name})) for name in names}
    if path == [switch] or dataclasses.is_dataclass(base):
        return ""
    differing = [f"{name} {_written(value)}" for name, value in others.items() if value != base]
    return f" ({', '.join(differing)})" if differing else ""


def _written(value: Any) -> str:
    """A value as YAML would have it."""
    if isinstance(value, float):
        return f"`{value:.10g}`"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"
