"""Every public name is documented, as the API pages show it."""

from collections.abc import Iterator
from pathlib import Path

import griffe
import pytest

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def package() -> griffe.Object | griffe.Alias:
    return griffe.load("sentio_kedro", search_paths=[str(SOURCE)])


def described(cls: griffe.Object | griffe.Alias) -> set[str]:
    """Names in the class's section of attributes."""
    sections = griffe.Docstring(cls.docstring.value if cls.docstring else "").parse("google", warnings=False)
    return {
        attribute.name
        for section in sections
        if section.kind is griffe.DocstringSectionKind.attributes
        for attribute in section.value
        if attribute.description
    }


def is_record(cls: griffe.Object | griffe.Alias) -> bool:
    """Whether the class's body lists its fields: a dataclass, a section of parameters, or a named tuple."""
    decorators = {str(decorator.value).partition("(")[0] for decorator in cls.decorators}
    return bool(decorators & {"dataclass", "parameters"}) or "NamedTuple" in {str(base) for base in cls.bases}


def public_names(parent: griffe.Object | griffe.Alias) -> Iterator[tuple[str, bool]]:
    """Modules, classes, functions, methods and fields of records, each with whether it is documented."""
    fields = described(parent) if parent.is_class else set()
    for name, member in parent.members.items():
        if member.is_alias or name.startswith("_"):
            continue
        if member.is_attribute:
            if parent.is_class and is_record(parent) and member.annotation is not None:
                yield member.path, bool(member.docstring) or name in fields
            continue
        yield member.path, bool(member.docstring and member.docstring.value.strip())
        if not member.is_function:
            yield from public_names(member)


def test_every_public_name_is_documented(package: griffe.Object | griffe.Alias) -> None:
    names = dict(public_names(package))
    assert {"sentio_kedro.market.folds", "sentio_kedro.trading.step.trades.trade_costs"} <= names.keys()
    assert "sentio_kedro.config.training.TrainingParameters.entropy" in names
    assert [name for name, documented in names.items() if not documented] == []


def test_the_check_sees_what_is_missing() -> None:
    code = (
        'from typing import NamedTuple\n\nclass Pair(NamedTuple):\n    """2.\n\n    Attributes:\n        first: One.\n'
        '    """\n\n    first: int\n    second: int\n\ndef told():\n    """Tell."""\n\ndef untold(): ...\n'
    )
    module = griffe.visit("sample", filepath=Path("sample.py"), code=code)
    assert dict(public_names(module)) == {
        "sample.Pair": True,
        "sample.Pair.first": True,
        "sample.Pair.second": False,
        "sample.told": True,
        "sample.untold": False,
    }
