"""Pages name only files, functions and tests that exist."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest
from tests.conftest import ROOT

DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "sentio_kedro"
BASES = (ROOT, SOURCE, ROOT / "tests")
ARCHITECTURE = (DOCS / "architecture.md").read_text()


def named(text: str) -> Iterator[tuple[str, str]]:
    """Files with each name that stands behind them, as in "`file.py`: `name`, `other_name`"."""
    for file, names in re.findall(r"`([\w/]+\.py)`: ((?:`\w+`(?:, )?)+)", text):
        yield from ((file, name) for name in re.findall(r"`(\w+)`", names))


def section(title: str) -> str:
    return ARCHITECTURE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_map_answers_seven_questions_with_files_and_functions_that_exist() -> None:
    rows = section("Where is ...").splitlines()
    rows = [row for row in rows if row.startswith("| Where")]
    assert len(rows) == 7
    for row in rows:
        pairs = list(named(row))
        assert pairs, row
        for file, name in pairs:
            code = (SOURCE / file).read_text()
            assert re.search(rf"^(def|class) {name}\b|^{name}\b.* = ", code, re.MULTILINE), f"{file}: {name}"


def test_the_folders_stand_in_the_order_of_the_import_contract() -> None:
    folders = re.findall(r"^\| `(\w+)` \|", section("Folders"), re.MULTILINE)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [layer.removeprefix("sentio_kedro.") for layer in contracts[0]["layers"]]
    assert folders == [layer for layer in reversed(layers) if (SOURCE / layer).is_dir()]


def test_every_module_and_test_that_a_page_names_exists() -> None:
    missing = [
        f"{page.name}: {path}"
        for page in sorted(DOCS.glob("*.md"))
        for path in re.findall(r"`([\w/]+/\w+\.py)(?=[`\s])", page.read_text())
        if not any((base / path).is_file() for base in BASES)
    ]
    assert missing == []


@pytest.mark.parametrize("row", [line for line in (DOCS / "traps.md").read_text().splitlines() if "test_" in line])
def test_every_trap_names_tests_that_exist(row: str) -> None:
    pairs = list(named(row))
    assert len(pairs) == len(re.findall(r"`test_\w+`", row)), row
    for file, name in pairs:
        assert re.search(rf"^\s*(async )?def {name}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE), (
            f"{file}: {name}"
        )
