"""Files of a store on any file system that fsspec knows: whole or absent, one writer a source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import fsspec
from filelock import FileLock, Timeout
from fsspec.implementations.local import LocalFileSystem

from sentio_kedro.atomic import replaced_file
from sentio_kedro.damage import DamagedFileError

MANIFEST = "manifest.json"


class StoreFiles:
    """Files below the root of a store, by names relative to it.

    Attributes:
        local: Whether the root is a folder of this machine.
    """

    def __init__(self, root: str, options: Mapping[str, Any]) -> None:
        """Take the ``root``, a folder or an fsspec URL, and the ``options`` of its file system."""
        self._system, self._root = fsspec.core.url_to_fs(root, **options)
        self.local = isinstance(self._system, LocalFileSystem)

    def path(self, name: str) -> str:
        """Return where a file is: a path on a local root, else a URL."""
        path = f"{self._root}/{name}"
        return path if self.local else self._system.unstrip_protocol(path)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none."""
        try:
            content: bytes = self._system.cat_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return None
        return content

    def read_checked(self, name: str, sha256: str) -> bytes:
        """Return the content of a part.

        Raises:
            DamagedFileError: If it is missing or its hash differs.
        """
        content = self.read(name)
        if content is None or hashlib.sha256(content).hexdigest() != sha256:
            fault = "is missing" if content is None else f"differs from what `{MANIFEST}` of its source names"
            raise DamagedFileError(
                f"`{self.path(name)}` {fault}; restore it from a copy, or move the folder of its source away and "
                "download the source again."
            )
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a file that others see whole or not at all; on an object store one PUT does that."""
        if self.local:
            with replaced_file(Path(self._root) / name) as partial:
                partial.write_bytes(content)
        else:
            self._system.pipe_file(f"{self._root}/{name}", content)

    def remove(self, name: str) -> None:
        """Delete a file if it is there, and what a killed process has left of writing it."""
        folder, _, last = f"{self._root}/{name}".rpartition("/")
        for path in (f"{folder}/.partial.{last}", f"{folder}/{last}"):
            if self._system.exists(path):
                self._system.rm_file(path)

    def sources(self) -> list[str]:
        """Return the names of the sources that hold bars, sorted."""
        self._system.invalidate_cache(self._root)
        if not self._system.isdir(self._root):
            return []
        folders = [path.rstrip("/").rpartition("/")[2] for path in self._system.ls(self._root, detail=False)]
        held = [name for name in folders if self._system.exists(f"{self._root}/{name}/{MANIFEST}")]
        return sorted(map(unquote, held))

    @contextmanager
    def locked(self, source: str) -> Iterator[None]:
        """Keep other processes of this machine from appending to a source; on object stores nothing is locked.

        Raises:
            ValueError: If another process appends to it.
        """
        if not self.local:
            yield
            return
        path = Path(self._root) / f".{folder_name(source)}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(path, timeout=0, thread_local=False):
                yield
        except Timeout:
            raise ValueError(
                f"Source `{source}` of the store `{self._root}` must have one writer at a time, and another process "
                "appends to it; wait until it has ended."
            ) from None


def folder_name(name: str) -> str:
    """Return the folder of a symbol or source: percent-encoded, never beginning with a dot or an underscore."""
    encoded = quote(name, safe="")
    return f"%{ord(encoded[0]):02X}{encoded[1:]}" if encoded.startswith((".", "_")) else encoded
