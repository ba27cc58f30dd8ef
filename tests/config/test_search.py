"""A search whose ranges make no sense is refused, all problems at once."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from sentio_kedro.config import SearchParameters, SearchRange

SEARCH = TypeAdapter(SearchParameters)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"low": 0.5, "high": 0.1}, r"`search.space.training.gamma.low` must be below `high` = 0.1, was 0.5; swap"),
        ({"low": 0.1}, "must have `low` and `high`, or `choices`, was low 0.1, high None; give both"),
        ({}, "must have `low` and `high`, or `choices`"),
        ({"low": 0.0, "high": 1.0, "log": True}, "must be above 0 where `log` is true, was 0; raise it"),
        ({"low": 0.1, "high": 1.0, "log": True, "step": 0.1}, "must be null where `log` is true, was 0.1"),
        ({"low": 0.1, "high": 1.0, "step": 0.4}, r"must be above 0 and divide `high` - `low` = 0.9, was 0.4"),
        ({"low": 0.1, "high": 1.0, "step": -0.1}, "must be above 0 and divide"),
        ({"low": 0.1, "high": float("inf")}, "should be a finite number"),
        ({"choices": [0.9]}, r"must be two or more different values, was \[0.9\]"),
        ({"choices": [0.9, 0.9]}, "must be two or more different values"),
        ({"choices": [0.9, 0.5], "low": 0.1}, "must have `choices` or a range, had both"),
        ({"low": "small", "high": 1.0}, "valid number"),
        ({"lowest": 0.1}, "lowest"),
        ({"low": -1.0, "high": 0.5}, r"`search.space.training.gamma` must hold values that .*had -1.0: .*; change it"),
        ({"choices": [0.5, "a"]}, r"`search.space.training.gamma` must hold .*, had 'a': .*; change it"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SEARCH.validate_python({"space": {"training.gamma": values}})


def test_a_name_that_is_no_parameter_is_refused_once() -> None:
    with pytest.raises(ValidationError) as refused:
        SEARCH.validate_python({"space": {"trainign.gamma": {"low": 0.1, "high": 0.2}}})
    text = "`search.space` must name parameters of network and training, had `trainign.gamma`; use names such as "
    assert str(refused.value).count(text) == 1


def test_all_problems_are_told_at_once() -> None:
    wrong = {"low": 2.0, "high": 1.0}
    with pytest.raises(ValidationError, match=r"(?s)training\.gamma.*training\.entropy.*`search.folds` must name each"):
        SEARCH.validate_python({"space": {"training.gamma": wrong, "training.entropy": wrong}, "folds": [0, 0]})


@pytest.mark.parametrize(
    "values",
    [
        {"low": 0.1, "high": 0.7, "step": 0.2},
        {"low": 1, "high": 9, "step": 4},
        {"low": 1e-5, "high": 1.0, "log": True},
        {"choices": [True, False]},
        {"choices": [1, True]},
        {"choices": [None, "a"]},
    ],
)
def test_values_keep_their_types(values: dict[str, Any]) -> None:
    made = TypeAdapter(SearchRange).validate_python(values)
    kept = {name: value for name, value in vars(made).items() if name in values}
    assert kept == values
    for name, value in kept.items():
        assert type(value) is type(values[name])
    assert [type(choice) for choice in made.choices or []] == [type(choice) for choice in values.get("choices", [])]


def test_a_name_with_null_is_not_searched() -> None:
    made = SEARCH.validate_python({"space": {"training.gamma": None, "network.width": {"low": 4, "high": 9}}})
    assert list(made.ranges) == ["network.width"]
