"""A table of vendors for people."""

from __future__ import annotations

from typing import NamedTuple

from sentio_kedro.market.formats.records import BarFormat
from sentio_kedro.market.formats.registry.general import FORMATS


class Vendor(NamedTuple):
    """One row of the table.

    Attributes:
        vendor: Who exports such files.
        format: Our name of the format.
        named: What files do not say and a person must.
        command: What makes an environment of such files.
    """

    vendor: str
    format: str
    named: str
    command: str


def vendor_table() -> tuple[Vendor, ...]:
    """Return a row per format of the registry, in its order."""
    return tuple(Vendor(one.vendor, one.name, _named(one), _command(one)) for one in FORMATS.values())


def _named(kind: BarFormat) -> str:
    if kind.name == "wide":
        return "cannot be read: closes only"
    symbol = kind.symbol == "named"
    zone = kind.zone is None and kind.stamps != ("epoch",)
    where = "symbol, unless the file name has it" if kind.file_pattern else "symbol, unless the file is called by it"
    names = (
        [where] * symbol + ["zone, unless timestamps have one"] * zone + ["table or query"] * (kind.name == "duckdb")
    )
    return "; ".join(names) or "nothing"


def _command(kind: BarFormat) -> str:
    return "" if kind.name == "wide" else "kedro bars adopt FILE... --env mine"
