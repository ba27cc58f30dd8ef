"""The bytes and texts of files of bars: folders and archives opened, and what is no file of bars refused."""

from __future__ import annotations

import glob
import gzip
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sentio_kedro.market.formats.records import BarFileError

SUFFIXES: Final = (".csv", ".txt", ".tsv", ".prn", ".json", ".jsonl", ".ndjson", ".parquet", ".feather", ".arrow")
ARCHIVES: Final = (".zip", ".gz")
DATABASES: Final = (".duckdb", ".db")
HEAD: Final = 2**18  # bytes that tell what a file is
_OPENING = re.compile(rb"^\s*(?:<!doctype html|<html|<\?xml|<!--)", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_NO_TABLES = (
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook", "export the sheet as CSV"),
    (b"SQLite format 3", "is an SQLite database", "read it with `type: pandas.SQLTableDataset`"),
    (b"%PDF", "is a PDF", "download the table as CSV"),
    (b"\x89HDF", "is an HDF5 file", "save the table as Parquet"),
    (b"\x80\x04", "is a pickle, which may run any code and is not opened", "save the table as Parquet"),
    (b"\x80\x05", "is a pickle, which may run any code and is not opened", "save the table as Parquet"),
    *(
        (magic, "is an archive of a kind that is not opened", "unpack it")
        for magic in (b"BZh", b"\xfd7zXZ", b"7z\xbc", b"Rar!")
    ),
)
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


@dataclass(frozen=True)
class Source:
    """One table's bytes: a file, or a member of an archive.

    Attributes:
        path: The file.
        place: The file, and the member in it, for people.
        stem: Name of the member or file without folders and endings.
        read: Returns all bytes, or the first so many.
    """

    path: Path
    place: str
    stem: str
    read: Callable[[int | None], bytes]


def files_of(paths: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    """Return the files below ``paths``, sorted by name; folders give all files with an ending that is known.

    Raises:
        BarFileError: If there is none.
    """
    found: dict[Path, None] = {}
    for one in [paths] if isinstance(paths, str | Path) else paths:
        path = Path(one)
        if path.is_dir():
            known = (*SUFFIXES, *ARCHIVES)
            inside = [file for file in sorted(path.rglob("*")) if file.is_file() and file.suffix.lower() in known]
        else:
            inside = [path] if path.is_file() else [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        if not inside:
            kind = "has no file of bars in it" if path.is_dir() else "is missing"
            raise BarFileError(path, kind, f"name files, a folder or a pattern; endings are {', '.join(SUFFIXES)}")
        found.update(dict.fromkeys(file for file in inside if file.is_file()))
    if not found:
        raise BarFileError(str(paths), "names no file", "name files, a folder or a pattern")
    return tuple(found)


def stem_of(name: str | Path) -> str:
    """Return a file's name without the endings that are known."""
    stem = Path(name).name
    while Path(stem).suffix.lower() in (*SUFFIXES, *ARCHIVES, *DATABASES):
        stem = Path(stem).stem
    return stem


def sources_of(path: Path) -> list[Source]:
    """Return the tables of one file: itself, or the members of an archive.

    Raises:
        BarFileError: If it is empty, cut off, a web page or a workbook.
    """
    with path.open("rb") as file:
        start = file.read(4096)
    if not start:
        raise BarFileError(path, "is empty", "download it again")
    if start.startswith(b"PK\x03\x04") or path.suffix.lower() == ".zip":
        return _members(path)
    if start.startswith(b"\x1f\x8b"):
        return [_checked(Source(path, str(path), stem_of(path), lambda size: _unzipped(path, size)))]
    return [_checked(Source(path, str(path), stem_of(path), lambda size: _plain(path, size)))]


def _plain(path: Path, size: int | None) -> bytes:
    with path.open("rb") as file:
        return file.read() if size is None else file.read(size)


def _unzipped(path: Path, size: int | None) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read() if size is None else file.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _cut_off(path, str(error)) from error


def _cut_off(path: Path | str, why: str) -> BarFileError:
    return BarFileError(path, f"is a damaged archive, perhaps cut off ({why})", "download it again")


def _members(path: Path) -> list[Source]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [item.filename for item in archive.infolist() if not item.is_dir()]
    except zipfile.BadZipFile as error:
        raise _cut_off(path, f"{error}; {path.stat().st_size:,} bytes") from error
    if "xl/workbook.xml" in names:
        raise BarFileError(path, "is an Excel workbook", "export the sheet as CSV, with dates as yyyy-mm-dd")
    bare = len(names) == 1 and not Path(names[0]).suffix  # as pandas writes one
    wanted = [
        name
        for name in sorted(names)
        if (bare or Path(name).suffix.lower() in SUFFIXES) and not name.startswith("__MACOSX")
    ]
    if not wanted:
        raise BarFileError(path, f"has no table in it, but {names[:5]}", f"endings are {', '.join(SUFFIXES)}")

    def reader(name: str) -> Callable[[int | None], bytes]:
        def read(size: int | None) -> bytes:
            try:
                with zipfile.ZipFile(path) as archive, archive.open(name) as file:
                    return file.read() if size is None else file.read(size)
            except (zipfile.BadZipFile, EOFError, OSError, zlib.error, RuntimeError) as error:  # the last: a password
                raise _cut_off(f"{path}: {name}", str(error)) from error

        return read

    return [_checked(Source(path, f"{path}: {name}", stem_of(name), reader(name))) for name in wanted]


def _checked(source: Source) -> Source:
    """Return the source.

    Raises:
        BarFileError: If it is empty or no table.
    """
    start = source.read(65536)
    if not start.strip():
        raise BarFileError(source.place, "is empty", "download it again")
    for magic, fault, remedy in _NO_TABLES:
        if start.startswith(magic):
            raise BarFileError(source.place, fault, remedy)
    if _OPENING.match(start.removeprefix(b"\xef\xbb\xbf")):
        title = _TITLE.search(start.decode("utf-8", "replace"))
        words = " ".join(title[1].split()) if title else "without title"
        raise BarFileError(
            source.place,
            f"is a web page and no table: {words!r}",
            "download the data itself; a vendor answers with a page when a login, a limit or a wrong address is met",
        )
    return source


def encoding_of(source: Source, encodings: Sequence[str], words: frozenset[str]) -> str:
    """Return how the head of a text is encoded.

    Args:
        source: The text.
        encodings: Encodings other than UTF-8 to try, best first.
        words: Names of columns, in lower case, which a right encoding shows.

    Raises:
        BarFileError: If none fits, or zero bytes are in it.
    """
    head = source.read(HEAD)
    bom = next((name for mark, name in _BOMS if head.startswith(mark)), None)
    if bom:
        return bom
    if head[:400:2].count(0) > len(head[:400]) // 4 or head[1:400:2].count(0) > len(head[:400]) // 4:
        return "utf-16-be" if head[0] == 0 else "utf-16-le"
    refuse_zero_bytes(source, head)
    whole = head[: head.rfind(b"\n") + 1] or head
    try:
        whole.decode("utf-8")
    except UnicodeDecodeError as error:
        for name in encodings:
            try:
                text = whole.decode(name)
            except UnicodeDecodeError:
                continue
            if any(word in text[:4096].lower() for word in words):
                return name
        if whole[:4096].splitlines()[0].isascii():
            return "cp1252"
        line = whole[: error.start].count(b"\n") + 1
        raise BarFileError(
            source.place, f"is not UTF-8 text (byte {whole[error.start]:#x})", "save it as UTF-8", line
        ) from error
    return "utf-8"


def refuse_zero_bytes(source: Source, data: bytes) -> None:
    """Refuse zero bytes in a text.

    Raises:
        BarFileError: With the line of the first.
    """
    if (place := data.find(b"\0")) >= 0:
        line = data[:place].count(b"\n") + 1
        raise BarFileError(
            source.place,
            f"has a zero byte (byte {place:,}), so that it is damaged or no text",
            "download it again, or delete the line",
            line,
        )
