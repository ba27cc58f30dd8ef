"""Which parts of a store hold the rows that a view asks for, and the query of DuckDB over them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from sentio_kedro.config.symbols import unknown_symbols
from sentio_kedro.store.manifest import Manifest, Part

BEGIN, END = "0000", "9999"
"""Texts before and after those of all times."""


class Chosen(NamedTuple):
    """A part to read.

    Attributes:
        source: Name of the vendor.
        part: The part.
        symbols: Symbols that are asked for and may be in it, sorted.
    """

    source: str
    part: Part
    symbols: Sequence[str]


def chosen_parts(
    manifests: Mapping[str, Manifest], symbols: Sequence[str] | None, span: tuple[str, str], known: str
) -> list[Chosen]:
    """Return the parts that can hold the rows of a view.

    Args:
        manifests: By source.
        symbols: Symbols of the view; null is all that were held.
        span: First and last bar end.
        known: When rows must have been known.

    Raises:
        ValueError: If a symbol was not held then, or was held from several sources.
    """
    held = {
        source: {name for name, mark in manifest.symbols.items() if mark.known_from <= known}
        for source, manifest in manifests.items()
    }
    asked = set().union(*held.values()) if symbols is None else set(symbols)
    _require_one_source(sorted(asked), held)
    return [
        Chosen(source, part, sorted(asked & held[source]))
        for source, manifest in manifests.items()
        for part in touched(manifest, asked & held[source], span, known)
    ]


def touched(manifest: Manifest, symbols: set[str], span: tuple[str, str], known: str) -> list[Part]:
    """Return the parts of a source that can hold rows of ``symbols`` in a span of bar ends, known by ``known``."""
    return [
        part
        for part in manifest.parts
        if part.known_at <= known
        and part.first <= span[1]
        and part.last >= span[0]
        and (part.symbol in symbols or (part.symbol is None and symbols))
    ]


def _require_one_source(asked: list[str], held: Mapping[str, Collection[str]]) -> None:
    several = {name: [source for source, names in held.items() if name in names] for name in asked}
    unknown = unknown_symbols(asked, {name for names in held.values() for name in names})
    if unknown:
        raise ValueError(f"`symbols` {unknown} are not held at `as_of`; download them, or ask for others.")
    doubled = {name: sources for name, sources in several.items() if len(sources) > 1}
    if doubled:
        name, found = next(iter(doubled.items()))
        raise ValueError(
            f"{len(doubled)} symbol(s) must come from one source: {name} is held from {found}; set `sources`."
        )


def view_query(chosen: Sequence[Chosen], paths: Sequence[str], span: tuple[str, str]) -> str:
    """Return the query of a view over the files ``paths`` of the parts ``chosen``."""
    symbols = sorted({name for one in chosen for name in one.symbols})
    rules = [f"symbol IN ({', '.join(map(_quoted, symbols))})"]
    rules += [] if span[0] == BEGIN else [f"timestamp >= TIMESTAMPTZ {_quoted(span[0])}"]
    rules += [] if span[1] == END else [f"timestamp <= TIMESTAMPTZ {_quoted(span[1])}"]
    alike = len({tuple(one.part.own) for one in chosen}) == 1  # DuckDB need not open every file for its columns
    return (
        "SELECT * EXCLUDE (known_at, source)\n"
        f"FROM read_parquet([{', '.join(map(_quoted, paths))}]{'' if alike else ', union_by_name = true'})\n"
        f"WHERE {' AND '.join(rules)}\n"
        "QUALIFY row_number() OVER (PARTITION BY symbol, timestamp ORDER BY known_at DESC) = 1\n"
        "ORDER BY symbol, timestamp"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
