"""Columns of a frame of bars: which there must be, and what those of a feed may have meant."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd

from sentio_kedro.market.ingestion.problems import BarsError, Problem

PRICE_COLUMNS = ("open", "high", "low", "close")
VALUE_COLUMNS = (*PRICE_COLUMNS, "volume")
COLUMNS = ("timestamp", "symbol", *VALUE_COLUMNS)
OPTIONAL_COLUMNS = ("dividend", "split", "spread", "funding")

OTHER_NAMES = {
    "timestamp": ("date", "time", "datetime", "date time", "open time", "opentime", "unix", "gmt time", "ts", "t"),
    "symbol": ("ticker", "tic", "code", "instrument", "pair", "asset", "name", "s"),
    **{name: (name[0], f"{name} price", f"{name}_price") for name in ("open", "high", "low")},
    "close": ("c", "close price", "close_price", "last", "price", "adj close", "adj_close", "adjclose"),
    "volume": ("vol", "vol.", "v", "tick volume", "tick_volume", "tickvol", "basevolume", "quantity", "shares"),
    "dividend": ("dividends",),
    "split": ("splits", "stock splits", "stock_splits"),
}
"""Names that feeds give to the columns, in lower case, the likeliest first."""

VOLUME_REMEDY = (
    "orders are filled as a share of `volume`: take a feed that has it, or add a column with the shares or coins that "
    "can be traded in a bar"
)


def named_columns(delivered: Any) -> pd.DataFrame:
    """Return bars with columns under the project's names, whatever their case; index levels count as columns.

    Args:
        delivered: What a dataset of the catalog returned.

    Returns:
        The same frame if nothing needs another name.

    Raises:
        BarsError: If it is no table, a column is missing or occurs twice, or there are no rows.
    """
    if not isinstance(delivered, pd.DataFrame):
        raise BarsError((_no_table(delivered),))
    frame = _without_index(delivered)
    known = (*COLUMNS, *OPTIONAL_COLUMNS)
    spelt: dict[str, list[Hashable]] = {name: [] for name in known}
    for column in frame.columns:
        if isinstance(column, str) and (name := column.strip().casefold()) in spelt:
            spelt[name].append(column)
    exact = set(frame.columns) & set(known)
    renamed = {found[0]: name for name, found in spelt.items() if name not in exact and len(set(found)) == 1}
    twice = [name for name in exact if (frame.columns == name).sum() > 1]
    twice += [name for name, found in spelt.items() if name not in exact and len(found) > 1]
    frame = frame.rename(columns=renamed) if renamed else frame
    missing = [name for name in COLUMNS if name not in frame.columns and name not in twice]
    problems = [_missing(frame, missing)] if missing else []
    if twice:
        cases = tuple(f"column `{name}`" for name in known if name in twice)
        problems.append(Problem("columns occur more than once: keep one of each", len(cases), cases))
    if not problems and frame.empty:
        problems.append(Problem("there must be bars: point `bars` in the catalog at a feed", 1, ("0 rows",)))
    if problems:
        raise BarsError(tuple(problems))
    return frame


def _without_index(frame: pd.DataFrame) -> pd.DataFrame:
    keys = [
        level
        for level, name in enumerate(frame.index.names)
        if isinstance(name, str) and name not in frame.columns and not isinstance(frame.columns, pd.MultiIndex)
    ]
    return frame.reset_index(level=keys) if keys else frame


def _no_table(delivered: Any) -> Problem:
    if not isinstance(delivered, dict):
        return Problem("bars must be a table with a row per bar and symbol", 1, (f"a {type(delivered).__name__}",))
    names = ", ".join(map(str, list(delivered)[:3]))
    rule = (
        "bars must be one table, but these are several files, a table each: read them into one by "
        "`type: sentio_kedro.datasets.BarFiles`, or join them and write the symbol of each file into a column `symbol`"
    )
    return Problem(rule, 1, (f"{len(delivered)} partition(s): {names}",))


def _missing(frame: pd.DataFrame, missing: Sequence[str]) -> Problem:
    """Name the missing columns with those that are there, what they may have meant, and the line that renames."""
    found = [str(column) for column in frame.columns]
    if any(isinstance(column, tuple) for column in frame.columns):
        rule = "columns have several levels of names, a wide table: give one row per bar and symbol"
        return Problem(rule, len(missing), tuple(f"column `{name}`" for name in missing))
    likely: dict[str, str] = {}
    for name in missing:
        plain = {column.strip().casefold(): column for column in reversed(found) if column not in likely}
        match = next((plain[other] for other in OTHER_NAMES.get(name, ()) if other in plain), None)
        if match is not None:
            likely[match] = name
    meant = {name: column for column, name in likely.items()}
    cases = tuple(f"column `{name}`" + (f": is it `{meant[name]}`?" if name in meant else "") for name in missing)
    listed = ", ".join(found[:20]) + (f" and {len(found) - 20} more" if len(found) > 20 else "")  # noqa: PLR2004
    rule = f"columns are missing: rename the feed's columns, or add them; there are: {listed}"
    if likely:
        names = ", ".join(likely.get(column, column.strip().casefold()) for column in found)
        rule += f"; of a CSV file `load_args: {{header: 0, names: [{names}]}}` in the catalog renames them"
    if "volume" in missing and "volume" not in meant:
        rule += f"; {VOLUME_REMEDY}"
    if "symbol" in missing and "symbol" not in meant:
        rule += "; a file of one symbol needs a column that names it"
    return Problem(rule, len(missing), cases)
