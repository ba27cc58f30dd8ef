"""What a source of a store holds: its parts with their hashes, and how far each symbol has come."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from sentio_kedro.damage import reading
from sentio_kedro.market.ingestion.timestamps import Timestamps


@dataclass(frozen=True)
class Part:
    """A Parquet file of bars; times are texts in UTC with microseconds, which sort as the times do.

    Attributes:
        path: Name below the source's folder.
        symbol: The only symbol in it; None where there are several.
        rows: Number of bars.
        first: Earliest bar end.
        last: Latest bar end.
        known_at: When its bars became known.
        own: Columns of the vendor's own, sorted.
        sha256: Hash of the file.
    """

    path: str
    symbol: str | None
    rows: int
    first: str
    last: str
    known_at: str
    own: list[str]
    sha256: str


@dataclass(frozen=True)
class Watermark:
    """How far a symbol has come.

    Attributes:
        bars: Number of bars, each counted once however often it was revised.
        revisions: Number of rows that replaced earlier ones.
        first: Earliest bar end.
        last: Latest bar end.
        known_from: When its first rows became known.
        known_at: When its last rows became known.
    """

    bars: int
    revisions: int
    first: str
    last: str
    known_from: str
    known_at: str


@dataclass(frozen=True)
class Manifest:
    """What a source holds; a part that is not named here does not exist for readers.

    Attributes:
        format: Of this file.
        bar_label: Timestamps are bar ends, in UTC.
        known_at: When the last part became known; empty if there is none.
        symbols: Watermark of each symbol.
        parts: The parts in the order in which they were appended.
    """

    format: Literal[1] = 1
    bar_label: Literal["end"] = "end"
    known_at: str = ""
    symbols: dict[str, Watermark] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)

    def to_json(self) -> bytes:
        """Return the content of the file."""
        return _MANIFEST.dump_json(self) + b"\n"


_MANIFEST = TypeAdapter(Manifest)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def read_manifest(content: bytes | None, path: str) -> Manifest:
    """Read a manifest; ``content`` None is that of a source without bars.

    Raises:
        DamagedFileError: If it is none, with its ``path``.
    """
    if content is None:
        return Manifest()
    with reading(
        Path(path), "restore it from a copy, or move the folder of its source away and download the source again"
    ):
        return _MANIFEST.validate_json(content)


def iso(time: np.datetime64) -> str:
    """Return a time as the text that manifests hold."""
    return f"{np.datetime_as_string(time, unit='us')}Z"


def moment_text(time: object, name: str, *, end_of_day: bool = False) -> str:
    """Return a point of time as the text that manifests hold; UTC if it names no zone.

    Args:
        time: Text, date or timestamp.
        name: Of the argument, for the refusal.
        end_of_day: Whether a day without a time means its last microsecond, not its first.

    Raises:
        ValueError: If it cannot be read.
    """
    text = str(time).strip()
    try:
        if not _DATE.match(text):
            raise ValueError("it does not begin with a date")
        stamp = pd.Timestamp(time)  # type: ignore[arg-type]
        stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be a date or a time, is {time!r} ({error}); write 2026-01-31.") from None
    if end_of_day and _DATE.fullmatch(text):
        stamp += pd.Timedelta(days=1) - pd.Timedelta(microseconds=1)
    return iso(stamp.tz_localize(None).to_datetime64())


def advanced(
    manifest: Manifest,
    known_at: str,
    parts: list[Part],
    marks: dict[str, tuple[int, int, np.datetime64, np.datetime64]],
) -> Manifest:
    """Return the manifest after an append.

    Args:
        manifest: That before it.
        known_at: Of the append.
        parts: What was written.
        marks: New bars, revisions, first and last bar end of each symbol that was written.
    """
    symbols = dict(manifest.symbols)
    for symbol, (new, revised, first, last) in marks.items():
        old = symbols.get(symbol)
        before = (0, 0, iso(first), iso(last)) if old is None else (old.bars, old.revisions, old.first, old.last)
        symbols[symbol] = Watermark(
            before[0] + new,
            before[1] + revised,
            min(before[2], iso(first)),
            max(before[3], iso(last)),
            known_at if old is None else old.known_from,
            known_at,
        )
    return Manifest(known_at=known_at, symbols=dict(sorted(symbols.items())), parts=[*manifest.parts, *parts])


def times(texts: list[str]) -> Timestamps:
    """Return texts of manifests as times [n]."""
    return np.array([text.removesuffix("Z") for text in texts], dtype="datetime64[us]")
