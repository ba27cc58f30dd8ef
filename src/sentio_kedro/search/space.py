"""What a search may propose: ranges of typed parameters, checked before any work by building what they propose."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Annotated, Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from sentio_kedro.config import AgentParameters, NetworkParameters, TrainingParameters
from sentio_kedro.config.search import Scalar, SearchRange

SECTIONS: dict[str, Any] = {"network": NetworkParameters, "training": TrainingParameters}
"""Sections that can be searched. What trading costs and allows is not the search's to choose."""

NOT_SEARCHED = {
    "training.seed": "the best of several seeds is luck",
    "training.seeds": "every candidate must be measured with as many seeds",
    "training.validations": "every candidate must be chosen from as many judgements",
    "training.members": "candidates are pruned member by member and must have as many",
    "training.variant": "it only says where other keys start, and they are all given",
    "network.variant": "it only says where other keys start, and they are all given",
    "training.abstention.threshold": "candidates are scored before the gate",
    "training.abstention.holdout_share": "every candidate must be chosen on the same rows",
}
"""Parameters that a search must leave alone, and why."""

_MAX_PROBES = 2_000  # combinations that are built before work; a larger space is sampled


def search_distributions(
    space: Mapping[str, SearchRange], base: AgentParameters, fixed: Mapping[str, str]
) -> dict[str, BaseDistribution]:
    """Turn ranges into distributions, typed as the parameters that they are for.

    Whether a parameter is a whole number, a fraction or a name follows from its section's class. Spaces of up to 2,000
    combinations (a continuous range counts with its bounds) are built whole; of larger ones all values of each
    parameter, and combinations drawn at random.

    Args:
        space: Ranges by dotted name.
        base: Parameters that are searched around.
        fixed: Further names that must not be searched, with the reason.

    Returns:
        Distributions in the order of ``space``.

    Raises:
        ValueError: With every problem: unknown names, wrong types, combinations that the sections refuse.
    """
    if not space:
        raise ValueError(
            "`search.space` must name at least one parameter, was empty; for example "
            "`training.entropy: {low: 0.05, high: 1.0, log: true}`."
        )
    problems: list[str] = []
    made: dict[str, BaseDistribution] = {}
    for name, values in space.items():
        try:
            _refuse_fixed(name, fixed)
            made[name] = _distribution(name, values)
        except ValueError as error:
            problems.append(str(error))
    if not problems:
        problems = list(itertools.islice(_combination_problems(made, base), 3))
    if problems:
        raise ValueError("\n".join(problems))
    return made


def candidate_parameters(base: AgentParameters, values: Mapping[str, Scalar]) -> AgentParameters:
    """Put values into parameters and validate the sections that they change.

    Args:
        base: Parameters that stay.
        values: New values by dotted name.

    Raises:
        ValueError: If a name is unknown or a section refuses its values.
    """
    changed = {}
    for section, kind in SECTIONS.items():
        mine = {name: value for name, value in values.items() if name.partition(".")[0] == section}
        if mine:
            adapter = TypeAdapter(kind)
            plain = adapter.dump_python(getattr(base, section))
            for name, value in mine.items():
                *path, last = name.split(".")[1:]
                _leaf(plain, path)[last] = value
            try:
                changed[section] = adapter.validate_python(plain)
            except ValidationError as error:
                shown = ", ".join(f"`{name}` = {value!r}" for name, value in mine.items())
                raise ValueError(f"{shown} is refused: {_reasons(section, error)}") from error
    return replace(base, **changed)


def base_values(base: AgentParameters, distributions: Mapping[str, BaseDistribution]) -> dict[str, Scalar] | None:
    """Return the searched parameters' own values, or None if one of them lies outside its range."""
    values = {name: _value(base, name) for name in distributions}
    inside = all(_holds(distribution, values[name]) for name, distribution in distributions.items())
    return values if inside else None


def _refuse_fixed(name: str, fixed: Mapping[str, str]) -> None:
    reason = {**NOT_SEARCHED, **fixed}.get(name)
    if reason:
        raise ValueError(f"`search.space` must not name `{name}`: {reason}; remove it.")


def _distribution(name: str, values: SearchRange) -> BaseDistribution:
    if values.choices is not None:
        return CategoricalDistribution([_typed(name, choice) for choice in values.choices])
    # A validated range has both bounds.
    low, high = (_typed(name, bound) for bound in (values.low, values.high))
    if _is_whole(low) and _is_whole(high):
        step = 1 if values.step is None else values.step
        if step != int(step):
            raise ValueError(
                f"`search.space.{name}.step` must be a whole number as the parameter is, was {step}; round it."
            )
        return IntDistribution(low, high, log=values.log, step=int(step))
    if isinstance(low, float) and isinstance(high, float):
        return FloatDistribution(low, high, log=values.log, step=values.step)
    raise ValueError(
        f"`search.space.{name}` must have `choices`, because the parameter is no number; was low {values.low!r}, high "
        f"{values.high!r}."
    )


def _typed(name: str, value: Scalar) -> Any:
    """Return ``value`` as the parameter's own type, whatever else it may have to go with."""
    field = _field(name)
    # Annotated takes no metadata at all where a field has none.
    kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        bound = error.errors()[0]["msg"].lower()
        raise ValueError(
            f"`search.space.{name}` must hold values that the parameter can have, had {value!r}: {bound}; change it."
        ) from error


def _field(name: str) -> FieldInfo:
    """Find the parameter in the sections' classes."""
    known = {f"{section}.{rest}": field for section, kind in SECTIONS.items() for rest, field in _fields(kind)}
    if name in known:
        return known[name]
    inside = [other for other in known if other.startswith(f"{name}.")]
    if inside:
        raise ValueError(f"`search.space` must name single parameters, had `{name}`; name one such as `{inside[0]}`.")
    if name.partition(".")[0] not in SECTIONS:
        raise ValueError(
            f"`search.space` must name parameters of {' and '.join(SECTIONS)}, had `{name}`; use names such as "
            "`training.entropy`."
        )
    close = difflib.get_close_matches(name, known, n=1) or list(known)
    raise ValueError(f"`search.space` must name parameters that exist, had `{name}`; did you mean `{close[0]}`?")


def _fields(kind: Any) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in kind.__pydantic_fields__.items():
        if is_dataclass(field.annotation):
            yield from ((f"{name}.{rest}", inner) for rest, inner in _fields(field.annotation))
        else:
            yield name, field


def _leaf(here: Any, path: Sequence[str]) -> Any:
    for key in path:
        here = here[key]
    return here


def _value(base: AgentParameters, name: str) -> Any:
    section, *path = name.split(".")
    return _leaf(TypeAdapter(SECTIONS[section]).dump_python(getattr(base, section)), path)


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(type(choice) is type(value) and choice == value for choice in distribution.choices)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and bool(distribution._contains(distribution.to_internal_repr(value)))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _combination_problems(distributions: Mapping[str, BaseDistribution], base: AgentParameters) -> Iterator[str]:
    for values in _probes({name: _representatives(one) for name, one in distributions.items()}):
        try:
            candidate_parameters(base, values)
        except ValueError as error:
            yield f"`search.space` must propose values that go together: {error} Narrow a range or list `choices`."


def _representatives(distribution: BaseDistribution) -> Sequence[Any]:
    """Return all values of a distribution if they are few, else its bounds."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if isinstance(distribution, IntDistribution):
        every = range(distribution.low, distribution.high + 1, distribution.step)
        return every if len(every) <= _MAX_PROBES else (distribution.low, distribution.high)
    if isinstance(distribution, FloatDistribution):
        return (distribution.low, distribution.high)
    raise TypeError(f"{distribution!r} is no distribution of a search.")


def _probes(values: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    names = list(values)
    if math.prod(len(choices) for choices in values.values()) <= _MAX_PROBES:
        for combination in itertools.product(*values.values()):
            yield dict(zip(names, combination, strict=True))
        return
    first = {name: choices[0] for name, choices in values.items()}
    for name in names:
        for choice in values[name]:
            yield first | {name: choice}
    rng = np.random.default_rng(0)
    for _ in range(_MAX_PROBES):
        yield {name: choices[int(rng.integers(len(choices)))] for name, choices in values.items()}


def _reasons(section: str, error: ValidationError) -> str:
    said = []
    for detail in error.errors():
        where = ".".join([section, *(str(part) for part in detail["loc"])])
        text = detail["msg"].removeprefix("Value error, ")
        said.append(text if detail["type"] == "value_error" else f"`{where}`: {text}.")
    return " ".join(said)
