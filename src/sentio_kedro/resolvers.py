"""Resolvers of the configuration: values of YAML files that are read from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.utils import find_kedro_project


def symbols_table(path: str) -> dict[str, dict[str, Any]]:
    """Read ``trading.symbols`` from a CSV table: ``symbols: "${symbols_table:data/01_raw/symbols.csv}"``.

    Args:
        path: The file; a relative one lies below the project.

    Raises:
        ValueError: With every line that is wrong.
    """
    from sentio_kedro.config.symbols import read_symbols_table  # noqa: PLC0415 - only tables need pydantic

    return read_symbols_table(Path(find_kedro_project(Path.cwd()) or "") / path)
