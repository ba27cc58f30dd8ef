"""A search over parameters of network and training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sentio_kedro.config.fields import NonNegativeCount, Seed, parameters

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
