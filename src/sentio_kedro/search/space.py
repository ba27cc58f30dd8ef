"""Search space: ranges of typed parameters, checked before any work by building candidates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import TypeAdapter, ValidationError

from sentio_kedro.config import AgentParameters
from sentio_kedro.config.search import SECTIONS, Scalar, SearchRange, typed_value

NOT_SEARCHED = {
    "training.seed": "the best of several seeds is chance",
    "training.seeds": "every candidate must be measured with as many seeds",
    "training.validations": "every candidate must be chosen from as many validations",
    "training.members": "candidates are compared after as many validations of as many members",
    "training.variant": "it only says where other keys start, and they are all given",
    "network.variant": "it only says where other keys start, and they are all given",
    "training.abstention": "candidates are scored before the gate",
}
"""Parameters that a search must leave alone, and why."""

_PROBES = 500  # combinations that are built before any work; a larger space is sampled


def search_distributions(
    space: Mapping[str, SearchRange], base: AgentParameters, fixed: Mapping[str, str]
) -> dict[str, BaseDistribution]:
    """Turn ranges into distributions, typed as the parameters that they are for.

    A parameter's type follows from its section's class. Up to 500 combinations are all built; of more, 500 random ones
    are, which finds nearly every range or choice that does not go with the others.

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
    distributions: dict[str, BaseDistribution] = {}
    for name, values in space.items():
        try:
            _refuse_fixed(name, fixed)
            distributions[name] = _distribution(name, values)
        except ValueError as error:
            problems.append(str(error))
    if not problems:
        problems = list(dict.fromkeys(itertools.islice(_combination_problems(distributions, base), 3)))
    if problems:
        raise ValueError("\n".join(problems))
    return distributions


def candidate_parameters(base: AgentParameters, values: Mapping[str, Scalar]) -> AgentParameters:
    """Put values into parameters and validate the sections that they change.

    Args:
        base: Parameters to change.
        values: New values by dotted name.

    Raises:
        ValueError: If a name is unknown or a section refuses its values.
    """
    changed = {}
    for section, kind in SECTIONS.items():
        in_section = {name: value for name, value in values.items() if name.partition(".")[0] == section}
        if in_section:
            adapter = TypeAdapter(kind)
            plain = adapter.dump_python(getattr(base, section))
            for name, value in in_section.items():
                *path, last = name.split(".")[1:]
                _leaf(plain, path)[last] = value
            try:
                changed[section] = adapter.validate_python(plain)
            except ValidationError as error:
                text = ", ".join(f"`{name}` = {value!r}" for name, value in in_section.items())
                raise ValueError(f"{text} is refused: {_reasons(section, error)}") from error
    return replace(base, **changed)


def base_values(base: AgentParameters, distributions: Mapping[str, BaseDistribution]) -> dict[str, Scalar] | None:
    """Return the base's values of the searched parameters, or None if one of them lies outside its range."""
    values = {name: _value(base, name) for name in distributions}
    inside = all(_contains(distribution, values[name]) for name, distribution in distributions.items())
    return values if inside else None


def _refuse_fixed(name: str, fixed: Mapping[str, str]) -> None:
    reason = {**NOT_SEARCHED, **fixed}.get(name)
    if reason:
        raise ValueError(f"`search.space` must not name `{name}`: {reason}; remove it.")


def _distribution(name: str, values: SearchRange) -> BaseDistribution:
    if values.choices is not None:
        return CategoricalDistribution([typed_value(name, choice) for choice in values.choices])
    # A validated range has both bounds.
    low, high = (typed_value(name, bound) for bound in (values.low, values.high))
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


def _leaf(values: Any, path: Sequence[str]) -> Any:
    for key in path:
        values = values[key]
    return values


def _value(base: AgentParameters, name: str) -> Any:
    section, *path = name.split(".")
    return _leaf(TypeAdapter(SECTIONS[section]).dump_python(getattr(base, section)), path)


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(type(choice) is type(value) and choice == value for choice in distribution.choices)
    if isinstance(distribution, IntDistribution | FloatDistribution) and _is_number(value):
        steps = 0.0 if distribution.step is None else (value - distribution.low) / distribution.step
        return distribution.low <= value <= distribution.high and math.isclose(steps, round(steps), abs_tol=1e-8)
    return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _combination_problems(distributions: dict[str, BaseDistribution], base: AgentParameters) -> Iterator[str]:
    for values in _probes(distributions):
        try:
            candidate_parameters(base, values)
        except ValueError as error:
            yield f"`search.space` must propose values that go together: {error} Narrow a range or list `choices`."


def _probes(distributions: dict[str, BaseDistribution]) -> Iterator[dict[str, Any]]:
    values = [_all_values(distribution) for distribution in distributions.values()]
    if math.prod(len(of_one) for of_one in values) in range(1, _PROBES + 1):
        yield from (dict(zip(distributions, combination, strict=True)) for combination in itertools.product(*values))
        return
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(_PROBES):
        yield study.ask(distributions).params


def _all_values(distribution: BaseDistribution) -> Sequence[Any]:
    """Return the values of a distribution; none if they are a continuum."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        steps = round((distribution.high - distribution.low) / distribution.step)
        return [distribution.low + step * distribution.step for step in range(steps + 1)]
    return ()


def _reasons(section: str, error: ValidationError) -> str:
    reasons = []
    for detail in error.errors():
        name = ".".join([section, *(str(part) for part in detail["loc"])])
        text = detail["msg"].removeprefix("Value error, ")
        reasons.append(text if detail["type"] == "value_error" else f"`{name}`: {text}.")
    return " ".join(reasons)
