"""Bodies as they are kept: short ones as text, long ones compressed, most against an earlier body of their kind.

One decision is much like the one before: compressed alone, those of a bar take twice the space of the whole journal.
"""

from __future__ import annotations

import sqlite3
import zlib

from sentio_kedro.trader.journal.chain import ChangedError

READABLE = 256  # characters up to which a body is kept as text, for those who look with SQL
PERIOD = 32  # bodies compressed against one: more grow too different, fewer leave more that stand alone
_CACHED = 64  # bodies that a reader remembers

Kept = tuple[str | bytes, int | None]
"""Columns ``body`` and ``basis``: the place of the event against whose body it is compressed."""


class Bodies:
    """Packs and unpacks the bodies of a journal."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._bases: dict[str, tuple[int, bytes, int]] = {}
        self._cache: dict[int, bytes] = {}

    def pack(self, seq: int, kind: str, text: str) -> Kept:
        """Return the body of an event that is appended."""
        if len(text) <= READABLE:
            return text, None
        content = text.encode()
        basis, dictionary, used = self._bases.get(kind, (0, b"", PERIOD))
        if used >= PERIOD:
            self._bases[kind] = seq, content, 0
            return compressed(content), None
        self._bases[kind] = basis, dictionary, used + 1
        packer = zlib.compressobj(9, zdict=dictionary)
        return packer.compress(content) + packer.flush(), basis

    def forget(self) -> None:
        """Compress against nothing that was packed before: it was not appended."""
        self._bases.clear()

    def unpack(self, kept: str | bytes, basis: int | None) -> str:
        """Return a body.

        Raises:
            ChangedError: If it is not what was written.
        """
        if isinstance(kept, str):
            return kept
        return decompressed(kept, None if basis is None else self._dictionary(basis))

    def _dictionary(self, basis: int) -> bytes:
        if basis not in self._cache:
            row = self._connection.execute("SELECT body FROM events WHERE seq = ?", (basis,)).fetchone()
            if row is None or isinstance(row[0], str):
                raise ChangedError(f"event {basis}, which others are compressed against, is missing")
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            self._cache[basis] = decompressed(row[0]).encode()
        return self._cache[basis]


def compressed(content: bytes) -> bytes:
    """Return bytes compressed by themselves."""
    return zlib.compress(content, 9)


def decompressed(content: bytes, dictionary: bytes | None = None) -> str:
    """Return the text that was compressed.

    Raises:
        ChangedError: If it is not what was written.
    """
    try:
        unpacker = zlib.decompressobj() if dictionary is None else zlib.decompressobj(zdict=dictionary)
        text = (unpacker.decompress(content) + unpacker.flush()).decode()
    except (zlib.error, UnicodeDecodeError) as error:
        raise ChangedError(f"a body cannot be unpacked: {error}") from error
    if not unpacker.eof:
        raise ChangedError("a body cannot be unpacked: its end is missing")
    return text
