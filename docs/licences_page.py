"""The licences of the locked packages: ``.venv/bin/python docs/licences_page.py`` writes docs/licences.md.

What a package states comes from its installed metadata. Rows of packages that are not installed here are kept, so that
the page can be renewed in an environment without every extra.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Collection
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
CONSTRAINTS = ROOT / "constraints.txt"
PROJECT = ROOT / "pyproject.toml"
RUN = "run"
SPELLINGS = {
    r"MIT( License| license)?|Expat license": "MIT",
    r"Apache( |-)2\.0|Apache License, Version 2\.0|Apache Software License( \(Apache 2\.0\))?": "Apache-2.0",
    r"(BSD[ -]3-Clause|3-Clause BSD)( License)?": "BSD-3-Clause",
    r"(BSD[ -]2-Clause|2-clause BSD)( License)?|Simplified BSD": "BSD-2-Clause",
    r"BSD( License)?": "BSD",
    r"Python Software Foundation License|PSFL": "PSF-2.0",
    r"ISC license|ISC License \(ISCL\)": "ISC",
    r"GNU General Public License \(GPL\)": "GPL",
    r"GNU General Public License v2 or later \(GPLv2\+\)": "GPL-2.0-or-later",
    r"Mozilla Public License 2\.0 \(MPL 2\.0\)": "MPL-2.0",
}
"""Other spellings of a licence, whole, and the usual one."""
COPYLEFT = re.compile("GPL|MPL|Artistic|EPL|CDDL|General Public|Mozilla")
NO_NAME = re.compile("|UNKNOWN|Dual License|=+|.*([Cc]opyright|agreement).*")
HEAD = """# Licences

Sentio Kedro is under the MIT licence, see `LICENSE`; the shipped bars are, too, see `data/01_raw/LICENSES.md`. It
contains no code of other packages, but for plotly.js (MIT), which each report carries.

This page lists the packages of `constraints.txt` with the licence that their metadata or licence file states, and who
installs them: every run, or an extra alone. It is no legal advice. `.venv/bin/python docs/licences_page.py` writes it.
`constraints.txt` locks none of NVIDIA's libraries for CUDA (`nvidia-*`), so none of them is listed here.

"""
ABOUT_COPYLEFT = """## Copyleft

Of what every run installs, certifi, orjson, pathspec and tqdm are under MPL-2.0, in whole or in part. It covers changes
to their own files and, as they are dependencies, asks nothing of this project's code. text-unidecode may be taken under
the Artistic License instead of the GPL. Other packages under the GPL, LGPL or AGPL come with extras alone: what is
shared or served together with one can fall under its licence. Nothing in `src` imports one, tests and checks do.

"""


class Row(NamedTuple):
    """One package as the page shows it."""

    name: str
    version: str
    licence: str
    needed_by: str
    home: str


def locked() -> dict[str, str]:
    """Versions of the locked packages by name, in the order of the file."""
    lines = (line.split("#")[0].strip() for line in CONSTRAINTS.read_text().splitlines())
    return dict(line.split("==") for line in lines if line)


def rows() -> list[Row]:
    """A row per locked package.

    Raises:
        LookupError: If a package is neither installed nor on the present page.
    """
    present, needed, found = {row.name: row for row in page_rows()}, needed_by(), []
    for name, version in locked().items():
        package, before = installed(name), present.get(name)
        if package is not None and package.version.split("+")[0] == version:
            who = needed.get(canonicalize_name(name), set())
            who |= set(before.needed_by.split(", ")) if before and RUN not in who else set()  # of extras not installed
            found.append(Row(name, version, licence(package), ", ".join(sorted(who)), home_page(package)))
        elif before is not None and before.version == version:
            found.append(before)
        else:
            raise LookupError(f"`{name}` must be installed in version {version}, was not; install its extra.")
    return found


def page_rows() -> list[Row]:
    """Rows of the page as it is."""
    text = PAGE.read_text() if PAGE.exists() else ""
    listed = text.partition("## Every package")[2]
    pattern = r"^\| \[?([^]|]+?)\]?(?:\((.+)\))? \| (.+) \| (.+) \| (.+) \|$"
    found = re.findall(pattern, listed, re.MULTILINE)
    return [Row(name, version, stated, who, home) for name, home, version, stated, who in found if version != "version"]


def needed_by() -> dict[str, set[str]]:
    """What installs a package: ``run``, or the extras that do; as far as their packages are installed here."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    run = closure(project["dependencies"])
    found = {name: {RUN} for name in run}
    for extra, requirements in project["optional-dependencies"].items():
        for name in closure(requirements) - run:
            found.setdefault(name, set()).add(extra)
    return found


def closure(requirements: Collection[str]) -> set[str]:
    """Names of all packages that ``requirements`` bring, themselves included."""
    waiting, seen = [Requirement(text) for text in requirements], set()
    while waiting:
        wanted = waiting.pop()
        for extra in ("", *sorted(wanted.extras)):
            if (wanted.name, extra) in seen:
                continue
            seen.add((wanted.name, extra))
            package = installed(wanted.name)
            needs = [Requirement(text) for text in (package.requires if package else None) or []]
            waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {str(canonicalize_name(name)) for name, _ in seen}


def installed(name: str) -> Distribution | None:
    """The installed package of a name."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def licence(package: Distribution) -> str:
    """The licence that a package states: its expression, its name, its classifiers, or the text of its file."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [line for line in metadata.get_all("Classifier") or [] if line.startswith("License :: ")]
    choices = [spelt(line.rpartition(" :: ")[2]) for line in classifiers if line != "License :: OSI Approved"]
    name = next(iter((metadata.get("License") or "").strip().splitlines()), "")
    if len(choices) > 1 or NO_NAME.fullmatch(name):
        name = " or ".join(choices)
    return spelt(name) or _from_file(package) or "not stated"


def spelt(text: str) -> str:
    """A licence in its usual spelling."""
    return next((usual for pattern, usual in SPELLINGS.items() if re.fullmatch(pattern, text)), text)


def _from_file(package: Distribution) -> str:
    files = [file for file in package.files or [] if re.match("(?i)licen[cs]e", file.name)]
    text = " ".join(files[0].read_text().split()) if files else ""
    if "Permission is hereby granted, free of charge" in text:
        return "MIT"
    if "Redistribution and use in source and binary forms" in text:
        return "BSD-3-Clause" if "endorse or promote" in text else "BSD-2-Clause"
    return ""


def home_page(package: Distribution) -> str:
    """The address that a package names as its home or source; empty without one."""
    links = [line.partition(", ") for line in package.metadata.get_all("Project-URL") or []]
    named = {label.lower(): address for label, _, address in links}
    order = ("homepage", "home", "repository", "source", "source code", "github", "code")
    found = (package.metadata.get("Home-page"), *(named.get(label) for label in order), *named.values())
    return next((address for address in found if address and address != "UNKNOWN"), "")


def licences_page() -> str:
    """The page."""
    found = rows()
    copyleft = [row for row in found if COPYLEFT.search(row.licence)]
    in_runs, elsewhere = ([row for row in copyleft if (row.needed_by == RUN) == run] for run in (True, False))
    count = f"{len(found)} packages, {sum(row.needed_by == RUN for row in found)} of them in every run."
    return (
        f"{HEAD}{ABOUT_COPYLEFT}In every run:\n\n{table(in_runs)}\nIn extras alone:\n\n{table(elsewhere)}\n"
        f"## Every package\n\n{count}\n\n{table(found)}"
    )


def table(chosen: Collection[Row]) -> str:
    """Rows as Markdown."""
    lines = ["| package | version | licence | needed by |", "|---|---|---|---|"]
    for row in chosen:
        name = f"[{row.name}]({row.home})" if row.home else row.name
        lines.append(f"| {name} | {row.version} | {row.licence} | {row.needed_by} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(licences_page())
    sys.stdout.write(f"Wrote {PAGE}.\n")
