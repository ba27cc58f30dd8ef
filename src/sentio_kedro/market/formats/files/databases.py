"""Tables of DuckDB databases."""

from __future__ import annotations

from pathlib import Path

from sentio_kedro.market.formats.files.columnar import frame_sheet
from sentio_kedro.market.formats.files.contents import Source, stem_of
from sentio_kedro.market.formats.files.sheets import Sheet
from sentio_kedro.market.formats.records import BarFileError, Reading

_MAGIC = slice(8, 12)


def is_database(path: Path) -> bool:
    """Return whether a file is a DuckDB database."""
    with path.open("rb") as file:
        return file.read(12)[_MAGIC] == b"DUCK" and path.suffix.lower() not in (".csv", ".txt")


def database_sheet(path: Path, reading: Reading) -> Sheet:
    """Return a table or the result of a query.

    Raises:
        BarFileError: If DuckDB is not installed, neither table nor query is named, or the query fails.
    """
    try:
        import duckdb  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise BarFileError(
            path, "is a DuckDB database, and DuckDB is not installed", "run `pip install sentio_kedro[data]`"
        ) from error
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            names = [
                str(row[0]) for row in connection.execute("select table_name from information_schema.tables").fetchall()
            ]
            table = reading.table or (names[0] if len(names) == 1 else None)
            if reading.query is None and table not in names:
                asked = f"has no table {table!r}" if table else "does not say which table has the bars"
                raise BarFileError(path, f"{asked}; it has {sorted(names)}", "set `table` or `query`")
            query = reading.query or f'select * from "{table}"'  # noqa: S608 - the name is one of the database's
            frame = connection.execute(query).df()
    except duckdb.Error as error:
        raise BarFileError(
            path, f"cannot be read ({str(error).splitlines()[0]})", "correct `table` or `query`"
        ) from error
    return frame_sheet(Source(path, str(path), stem_of(path), lambda size: b""), frame)
