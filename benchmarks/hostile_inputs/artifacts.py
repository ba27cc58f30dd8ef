"""Damage to a finished project's artifacts, ledgers and store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from hostile_inputs.trials import Expected

KINDS = ("truncate", "flip", "delete", "empty", "swap", "shape", "append")
LEDGERS = {
    "trials.jsonl": ("search", "reporting", "promotion"),
    "lockbox_openings.jsonl": ("reporting", "lockbox", "promotion"),
    "promotions.jsonl": ("promotion", "rollback"),
}
"""Pipelines that read each ledger."""
SHAPES = (b"[]", b"{}", b"null", b"5", b'{"a": {"b": []}}', b'[{"a": 1}]', b'"text"')


@dataclass(frozen=True)
class Damage:
    """Damage to one file.

    Attributes:
        kind: One of ``KINDS``, or ``line`` for a ledger.
        name: The file, relative to the project.
        place: Where in the file, as a share.
        other: Another file, to swap with.
        pipeline: Pipeline that reads the file.
        dataset: Dataset that the file is, or a part of it.
        line: What a ledger gets as its last line.
    """

    kind: str
    name: str
    place: float
    other: str
    pipeline: str
    dataset: str
    line: bytes = b""

    @property
    def expected(self) -> Expected:
        """A run must refuse a file that is not what its stage saved, and name it."""
        return Expected(
            f"{self.kind} {self.name}{self.line.decode()[:-1]} before {self.pipeline}",
            True,
            (Path(self.name).name, self.dataset),
            "line 1" if self.line else "",
        )

    @contextmanager
    def done(self, project: Path) -> Iterator[bool]:
        """Damage the file, and undo it afterwards.

        Yields:
            Whether that changed anything.
        """
        path, other = project / self.name, project / self.other
        before = {one: one.read_bytes() for one in (path, other) if one.is_file()}
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield self._change(path, other, before.get(path, b""))
        finally:
            if path not in before:
                path.unlink()
            for one, content in before.items():
                one.write_bytes(content)

    def _change(self, path: Path, other: Path, content: bytes) -> bool:
        at = max(min(int(self.place * len(content)), len(content) - 1), 0)
        if self.kind == "delete":
            path.unlink()
            return True
        if self.kind == "swap":
            path.write_bytes(other.read_bytes())
            other.write_bytes(content)
            return path.read_bytes() != content
        changed = {
            "truncate": content[:at],
            "flip": content[:at] + bytes(byte ^ 0x11 for byte in content[at : at + 1]) + content[at + 1 :],
            "empty": b"",
            "append": content + b" ",
            "line": self.line + content,
            "shape": SHAPES[at % len(SHAPES)],
        }[self.kind]
        path.write_bytes(changed)
        return changed != content


def damages(read: dict[str, dict[str, str]]) -> st.SearchStrategy[Damage]:
    """Return damages of files.

    Args:
        read: Of each pipeline the files that it reads, relative to the project, and their datasets.
    """
    reading = [(pipeline, name, files[name]) for pipeline, files in sorted(read.items()) for name in sorted(files)]
    names = sorted({name for _, name, _ in reading})
    lines = st.builds(
        lambda one, line: Damage("line", f"data/registry/{one[0]}", 0.0, "", one[1], one[0], line),
        st.sampled_from([(name, pipeline) for name in LEDGERS for pipeline in LEDGERS[name]]),
        ledger_lines(),
    )
    files = st.builds(
        lambda kind, one, place, other: Damage(kind, one[1], place, other, one[0], one[2]),
        st.sampled_from(KINDS),
        st.sampled_from(reading),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(names),
    ).filter(lambda damage: damage.kind != "swap" or damage.other != damage.name)
    return st.one_of(files, files, files, lines)


def ledger_lines() -> st.SearchStrategy[bytes]:
    """Return lines that are JSON of another shape than a record."""
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )
    return values.map(lambda value: json.dumps(value).encode() + b"\n")
