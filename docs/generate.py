"""Pages that follow from the code: every parameter, every module, and the navigation.

mkdocs runs this file while it builds. What it writes exists in the build alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mkdocs_gen_files

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))  # mkdocs-gen-files runs this file by its path
SOURCE = DOCS.parent / "src"
NAVIGATION: dict[str, list[tuple[str, str]]] = {
    "Tutorial": [
        ("Your own bars in ten minutes", "tutorial.md"),
        ("From a run to paper trading", "paper_trading.md"),
    ],
    "Concepts": [
        ("Architecture", "architecture.md"),
        ("Trading", "trading.md"),
        ("Training", "training.md"),
        ("Forecasts, and what they earn", "learning.md"),
    ],
    "How-to": [
        ("Bring your own bars", "your_own_bars.md"),
        ("What is checked in bars", "data_checks.md"),
        ("Check before a run", "preflight.md"),
        ("Read the report", "reading_the_report.md"),
        ("Compare runs", "comparison.md"),
        ("Promote a model", "registry.md"),
        ("Serve a model", "serving.md"),
        ("Search parameters", "search.md"),
        ("Let agents trade", "trader.md"),
        ("Runbook", "runbook.md"),
    ],
    "Reference": [
        ("Every parameter", "parameters.md"),
        ("Artifacts", "artifacts.md"),
        ("Mistakes and their tests", "traps.md"),
        ("Scaling", "scaling.md"),
        ("Licences", "licences.md"),
    ],
}
GENERATED = ("parameters.md",)


def public_modules() -> list[str]:
    """Dotted names of all modules without an underscore in front."""
    names = [".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in sorted(SOURCE.rglob("*.py"))]
    return [name.removesuffix(".__init__") for name in names if not name.endswith(".__main__")]


def navigation(present: set[str]) -> str:
    """The list that the navigation is made of; a page that no section names goes below How-to, by its heading."""
    named = {page for pages in NAVIGATION.values() for _, page in pages}
    lines = ["* [Home](index.md)"]
    for section, pages in NAVIGATION.items():
        lines.append(f"* {section}")
        lines += [f"    * [{title}]({page})" for title, page in pages if page in present]
        if section == "How-to":
            others = sorted(present - named - {"index.md"})
            lines += [f"    * [{_heading(page)}]({page})" for page in others]
    return "\n".join([*lines, "* [API](api/)"]) + "\n"


def _heading(page: str) -> str:
    first = (DOCS / page).read_text().splitlines()[0]
    return first.removeprefix("# ")


def write() -> None:
    """Write the pages into the build."""
    from parameters_page import parameters_page  # noqa: PLC0415 - found only once the path is set

    present = {path.name for path in DOCS.glob("*.md")} | set(GENERATED)
    pages = {"parameters.md": parameters_page(), "SUMMARY.md": navigation(present)}
    nav, packages = mkdocs_gen_files.Nav(), {name.rpartition(".")[0] for name in public_modules()}
    for module in public_modules():
        parts = module.split(".")
        page = "/".join([*parts[1:], "index"] if module in packages else parts[1:]) + ".md"
        nav[tuple(parts[1:]) or ("sentio_kedro",)] = page
        pages[f"api/{page}"] = f"# {parts[-1]}\n\n`{module}`\n\n::: {module}\n"
    pages["api/SUMMARY.md"] = "".join(nav.build_literate_nav())
    for name, text in pages.items():
        with mkdocs_gen_files.open(name, "w") as page_file:
            page_file.write(text)


if __name__ == "<run_path>":  # the name that mkdocs-gen-files runs scripts by
    write()
