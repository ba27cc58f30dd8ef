"""The page of licences lists what is locked, as the packages themselves state it."""

from __future__ import annotations

import tomllib
from importlib.metadata import PathDistribution
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import licences_page as page


def stated(folder: Path, metadata: str, text: str = "") -> PathDistribution:
    """A package with these lines of metadata and this licence file."""
    folder = folder / "some-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: some\nVersion: 1.0\n{metadata}\n")
    (folder / "LICENSE").write_text(text)
    (folder / "RECORD").write_text("some-1.0.dist-info/LICENSE,,\n")
    return PathDistribution(folder)


def test_every_locked_package_is_on_the_page_in_its_version() -> None:
    assert {row.name: row.version for row in page.page_rows()} == page.locked()


def test_what_is_installed_states_the_licence_that_the_page_tells() -> None:
    packages = {row.name: (row.licence, page.installed(row.name)) for row in page.page_rows()}
    told = {name: licence for name, (licence, package) in packages.items() if package}
    assert len(told) > 200
    assert told == {name: page.licence(package) for name, (_, package) in packages.items() if package}


def test_a_run_installs_no_copyleft_but_of_single_files_or_by_choice() -> None:
    strict = [row.name for row in page.page_rows() if row.needed_by == page.RUN and "GPL" in row.licence]
    assert strict == ["text-unidecode"]  # or the Artistic License
    told = {row.name for row in page.page_rows() if row.needed_by == page.RUN and page.COPYLEFT.search(row.licence)}
    assert all(name in page.ABOUT_COPYLEFT for name in told), told


OSI = "Classifier: License :: OSI Approved :: "


@pytest.mark.parametrize(
    ("metadata", "text", "licence"),
    [
        ("License-Expression: MPL-2.0 AND MIT\nLicense: MIT", "", "MPL-2.0 AND MIT"),
        ("License: Apache Software License (Apache 2.0)", "", "Apache-2.0"),
        (f"License: Copyright 2018 Some Firm\n{OSI}BSD License", "", "BSD"),
        (
            f"License: Artistic License\n{OSI}Artistic License\n{OSI}GNU General Public License v2 or later (GPLv2+)",
            "",
            "Artistic License or GPL-2.0-or-later",
        ),
        ("License: UNKNOWN", "Permission is hereby granted, free of\ncharge, to any person", "MIT"),
        ("", "", "not stated"),
    ],
)
def test_the_licence_is_what_the_package_states_first(tmp_path: Path, metadata: str, text: str, licence: str) -> None:
    assert page.licence(stated(tmp_path, metadata, text)) == licence


def test_a_package_that_is_neither_installed_nor_on_the_page_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "constraints.txt").write_text("no-such-package==1.0\n")
    monkeypatch.setattr(page, "CONSTRAINTS", tmp_path / "constraints.txt")
    with pytest.raises(LookupError, match="no-such-package"):
        page.rows()


def test_every_package_that_the_project_names_is_locked() -> None:
    project = tomllib.loads(page.PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    named = {Requirement(text).name for text in chain(project["dependencies"], *extras.values())} - {project["name"]}
    assert "jupyterlab" in named
    assert {canonicalize_name(name) for name in named} <= {canonicalize_name(name) for name in page.locked()}
