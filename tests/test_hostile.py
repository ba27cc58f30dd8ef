"""Generated parameter files, bars and damaged artifacts: accepted and right, or refused before work and readable.

`benchmarks/hostile.py` tries more examples of the same kinds.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.conftest import Project

from hostile_inputs.artifacts import damages
from hostile_inputs.bars import UNUSUAL, WRONG, hostile_bars
from hostile_inputs.parameters import WRONG_GLOBALS, hostile_parameters
from hostile_inputs.projects import HostileProject, inside, small_bars
from hostile_inputs.trials import Expected, Trial, faults

Trying = Callable[[Any], tuple[str, Trial, list[str]]]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileProject]:
    """A project with bars and without artifacts; tests are in its folder."""
    path = tmp_path_factory.mktemp("hostile") / "project"
    project = HostileProject.made(path)
    with inside(path):
        yield project


@pytest.fixture(scope="module")
def damaged(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileProject]:
    """A copy of the finished run."""
    path = finished.copy(tmp_path_factory.mktemp("damaged")).path
    with inside(path):
        yield HostileProject.of(path, finished.env)


def try_all(strategy: Any, attempt: Trying, examples: int) -> None:
    """Try examples, the same ones each time, and tell all faults at once."""
    told: dict[str, list[str]] = {}

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def one(example: Any) -> None:
        name, trial, found = attempt(example)
        for fault in found:
            told.setdefault(f"{fault}: {trial.text or trial.error}", []).append(name)

    one()
    assert told == {}


def test_parameters(empty: HostileProject) -> None:
    sections = empty.configuration["parameters"]
    try_all(hostile_parameters(sections), lambda one: (one[1].input, *empty.try_parameters(*one)), 110)


@pytest.mark.parametrize("name", WRONG_GLOBALS)
def test_globals(empty: HostileProject, name: str) -> None:
    trial, found = empty.try_globals(name)
    assert found == [], trial.text or trial.error


def test_bars(empty: HostileProject) -> None:
    try_all(hostile_bars(small_bars()), lambda one: (one.name, *empty.try_bars(one)), 50)


def test_damages(damaged: HostileProject) -> None:
    try_all(damages(damaged.files_read()), lambda one: (one.expected.input, *damaged.try_damage(one)), 40)


def refusal(text: str | None, **more: Any) -> Trial:
    return Trial(ValueError(), **{"seconds": 1.0, "text": text, **more})


GOOD = "volume must be 0 or more, was -1; correct it"


@pytest.mark.parametrize(
    ("trial", "fault"),
    [
        (Trial(None, 1.0), "accepted"),
        (refusal(None), "ValueError without a text"),
        (refusal("the value must be 0 or more, was -1; correct it"), "ValueError without a name"),
        (refusal("volume must be 0 or more; correct it"), "ValueError without the value"),
        (refusal("volume was -1"), "ValueError without a remedy"),
        (refusal(GOOD * 1_000), "ValueError of 44000 characters"),
        (refusal("volume -1, correct it: see errors.pydantic.dev"), "words of a library: errors.pydantic.dev"),
        (refusal(GOOD, seconds=11.0), "took 11 s"),
        (refusal(GOOD, changed=["data/a"]), "changed data/a"),
    ],
)
def test_a_refusal_lacks_nothing(trial: Trial, fault: str) -> None:
    expected = Expected("volume=-1", True, ("volume",), "-1")
    assert faults(trial, expected) == [fault]
    assert faults(refusal(GOOD), expected) == faults(refusal("volume -1; did you mean `1`?"), expected) == []


def test_every_change_of_bars_changes_them_or_is_the_plain_one(tmp_path: Path) -> None:
    frame = small_bars(60)
    plain = UNUSUAL["as it is"](frame, 5)
    assert plain.equals(frame)
    assert [name for name, (change, _) in WRONG.items() if change(frame, 5).equals(frame)] == []
