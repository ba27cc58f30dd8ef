"""Decorator of parameter classes, and number types with bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

T = TypeVar("T")

LARGEST = 1_000_000_000_000  # larger numbers overflow in products, or never end

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFraction = Annotated[float, Field(gt=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0, le=LARGEST)]
Positive = Annotated[float, Field(gt=0.0, le=LARGEST)]
Count = Annotated[int, Field(ge=1, le=LARGEST)]
NonNegativeCount = Annotated[int, Field(ge=0, le=LARGEST)]
TwoOrMore = Annotated[int, Field(ge=2, le=LARGEST)]
Resamples = Annotated[int, Field(ge=1, le=1_000_000)]  # beyond, the ends of an interval move by less than they say
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def null_is_off(name: str, off: float | str = 0, bound: str = "above 0") -> BeforeValidator:
    """Refuse the value ``off`` of the parameter ``name``, which is switched off by null, with that remedy."""

    def refuse_off(value: Any) -> Any:
        if value == off:
            raise ValueError(f"`{name}` must be {bound}, was {value}; set it to null to switch it off.")
        return value

    return BeforeValidator(refuse_off)


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def parameters(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen pydantic dataclass that refuses unknown keys, infinity and NaN."""
    make: Callable[[type[Any]], type[Any]] = pydantic_dataclass(
        frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False)
    )
    return make(cls)
