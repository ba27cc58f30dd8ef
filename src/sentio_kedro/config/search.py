"""A search over parameters of network and training."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

from sentio_kedro.config.fields import NonNegativeCount, Seed, parameters
from sentio_kedro.config.network import NetworkParameters
from sentio_kedro.config.training import TrainingParameters

SECTIONS: dict[str, Any] = {"network": NetworkParameters, "training": TrainingParameters}
"""Sections that can be searched; costs and limits of trading cannot."""

Scalar = bool | int | float | str | None
"""Type of a searched parameter."""

_TOLERANCE = 1e-9  # a step fits a range if their ratio is this close to a whole number


@parameters
class SearchRange:
    """Values that a search may propose: a range (``low`` and ``high``) or ``choices``.

    Attributes:
        low: Smallest value, in the unit of the parameter.
        high: Largest value.
        log: Spread proposals evenly over the logarithm of the value.
        step: Distance between two values; null is any value between, or 1 for whole numbers.
        choices: Values to choose from.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: int | float | None = None
    choices: list[Scalar] | None = None


@parameters
class SearchParameters:
    """A search over parameters of network and training, scored on validation rows alone.

    Attributes:
        trials: Number of candidates, those of earlier runs of the same search and failed ones included.
        space: Searched parameters: dotted names such as ``training.entropy`` with their ranges. A name with null is not
            searched, so that an environment can remove one of ``conf/base``.
        folds: Folds to train on; null takes those whose train and validation rows are no test rows of any fold (the
            first one, in a walk forward), so that all test rows stay out of sample.
        objective: Objective to maximise, of the annualised net Sharpe ratio on validation rows, mean over seeds: the
            ``mean`` over folds or that of the worst fold (``lowest``).
        pruning: Stop a candidate whose best score is below the median of the earlier ones after as many validations.
        seed: Seed of the proposals.
    """

    trials: Annotated[int, Field(ge=1, le=100_000)] = 20
    space: dict[str, SearchRange | None] = Field(default_factory=dict)
    folds: list[NonNegativeCount] | None = None
    objective: Literal["mean", "lowest"] = "mean"
    pruning: bool = True
    seed: Seed = 0

    @property
    def ranges(self) -> dict[str, SearchRange]:
        """The space without names that are null."""
        return {name: values for name, values in self.space.items() if values is not None}

    @model_validator(mode="after")
    def _ranges_make_sense(self) -> SearchParameters:
        problems = [text for name, values in self.ranges.items() for text in _range_problems(name, values)]
        problems += dict.fromkeys(
            text for name, values in self.ranges.items() for text in _value_problems(name, values)
        )
        if self.folds is not None and (not self.folds or len(set(self.folds)) != len(self.folds)):
            problems.append(
                f"`search.folds` must name each fold once, was {self.folds}; set it to null for the folds whose rows "
                "are no test rows"
            )
        if problems:
            raise ValueError("; ".join(problems) + ".")
        return self


def _range_problems(name: str, values: SearchRange) -> list[str]:
    path = f"search.space.{name}"
    if values.choices is not None:
        return _choice_problems(path, values, values.choices)
    if values.low is None or values.high is None:
        return [
            f"`{path}` must have `low` and `high`, or `choices`, was low {values.low}, high {values.high}; give both"
        ]
    if values.low >= values.high:
        return [f"`{path}.low` must be below `high` = {values.high:g}, was {values.low:g}; swap or widen them"]
    return _spacing_problems(path, values.low, values.high, values)


def _value_problems(name: str, values: SearchRange) -> Iterator[str]:
    for value in values.choices or [bound for bound in (values.low, values.high) if bound is not None]:
        try:
            typed_value(name, value)
        except ValueError as error:
            yield str(error).rstrip(".")


def _choice_problems(path: str, values: SearchRange, choices: Sequence[Scalar]) -> list[str]:
    problems = []
    if values.low is not None or values.high is not None or values.step is not None or values.log:
        problems.append(f"`{path}` must have `choices` or a range, had both; remove `low`, `high`, `step` and `log`")
    if len(choices) < 2 or len({(type(choice), choice) for choice in choices}) != len(choices):  # noqa: PLR2004 - a choice
        problems.append(f"`{path}.choices` must be two or more different values, was {choices}; add or remove some")
    return problems


def _spacing_problems(path: str, low: float, high: float, values: SearchRange) -> list[str]:
    if values.log and low <= 0:
        return [f"`{path}.low` must be above 0 where `log` is true, was {low:g}; raise it or set `log: false`"]
    step = values.step
    if step is None:
        return []
    if values.log:
        return [f"`{path}.step` must be null where `log` is true, was {step:g}; remove one of them"]
    steps = (high - low) / step if step > 0 else 0.0
    if steps < 1 or abs(steps - round(steps)) > _TOLERANCE * steps:
        return [f"`{path}.step` must be above 0 and divide `high` - `low` = {high - low:g}, was {step:g}; change one"]
    return []


def typed_value(name: str, value: Scalar) -> Any:
    """Return ``value`` as the type of the parameter ``name``.

    Raises:
        ValueError: If there is no such parameter, or it cannot have that value.
    """
    field = _field(name)
    # Annotated needs at least one metadatum.
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
    fields = {f"{section}.{rest}": field for section, kind in SECTIONS.items() for rest, field in _fields(kind)}
    if name in fields:
        return fields[name]
    inside = [other for other in fields if other.startswith(f"{name}.")]
    if inside:
        raise ValueError(f"`search.space` must name single parameters, had `{name}`; name one such as `{inside[0]}`.")
    if name.partition(".")[0] not in SECTIONS:
        raise ValueError(
            f"`search.space` must name parameters of {' and '.join(SECTIONS)}, had `{name}`; use names such as "
            "`training.entropy`."
        )
    close = difflib.get_close_matches(name, fields, n=1) or list(fields)
    raise ValueError(f"`search.space` must name parameters that exist, had `{name}`; did you mean `{close[0]}`?")


def _fields(kind: Any) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in kind.__pydantic_fields__.items():
        if is_dataclass(field.annotation):
            yield from ((f"{name}.{rest}", inner) for rest, inner in _fields(field.annotation))
        else:
            yield name, field
