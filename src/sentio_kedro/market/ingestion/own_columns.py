"""Own columns of bars: what was known of them at the end of each bar."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.config import IngestionParameters, OwnColumn
from sentio_kedro.config.market import KNOWN_AT
from sentio_kedro.market.ingestion.bar_checks import numbers
from sentio_kedro.market.ingestion.problems import EXAMPLES, BarsError, Problem, shown
from sentio_kedro.market.ingestion.timestamps import (
    Floats,
    Timestamps,
    localize_timestamps,
    parse_timestamps,
    utc_timestamps,
)


def known_columns(frame: pd.DataFrame, ends: Timestamps, parameters: IngestionParameters) -> dict[str, Floats]:
    """Return what was known of each own column at the end of each bar.

    Each value may be used from some time on: its bar's end, a delay after it, or the time of its publication, which
    counts as its bar's end if it is earlier, since the feed delivers both together. Known at a bar is the value of its
    symbol with the latest such time up to the bar's end; of several at one time the one of the latest bar. An empty
    cell brings nothing new.

    Args:
        frame: Long bars [n], in order of time within each symbol.
        ends: Ends of the bars [n], UTC.
        parameters: Own columns and their ``known_at``, and the zone of naive times of publication.

    Returns:
        Values [n] by name; NaN before a symbol's first value.

    Raises:
        BarsError: If a column is missing or none of numbers, or a value lacks its time of publication.
    """
    columns: Mapping[str, OwnColumn] = parameters.columns
    problems = _missing_columns(frame, columns)
    if problems:
        raise BarsError(tuple(problems))
    known: dict[str, Floats] = {}
    for name, column in columns.items():
        values, wrong = _values(frame[name])
        problems += _problem(
            f"`{name}` must hold finite numbers, or nothing where nothing is new: correct or empty the cell",
            *(frame, ends, wrong, name),
        )
        usable, unread = _usable(frame, ends, column, parameters.timezone)
        problems += _problem(
            f"`{column.known_at}` must be a time wherever `{name}` has a value, with a zone or in "
            "`ingestion.timezone`: fill it in, or empty the value",
            *(frame, ends, unread & ~np.isnan(values), str(column.known_at)),
        )
        if not problems:
            known[name] = _as_known(frame["symbol"].astype(str), ends, usable, values)
    if problems:
        raise BarsError(tuple(problems))
    return known


def feed_columns(parameters: IngestionParameters) -> list[str]:
    """Return the columns of a feed that own columns are made from: their values, and times of publication."""
    published = {str(column.known_at) for column in parameters.columns.values() if column.delay is None}
    return sorted({*parameters.columns, *published})


def _missing_columns(frame: pd.DataFrame, columns: Mapping[str, OwnColumn]) -> list[Problem]:
    def listed(rule: str, cases: list[str]) -> list[Problem]:
        return [Problem(rule, len(cases), tuple(cases[:EXAMPLES]))] if cases else []

    present = [str(name) for name in frame.columns]
    return [
        *listed(
            "columns of `ingestion.columns` must occur once in the bars: correct the name, or add it to the feed",
            [f"`{name}`, the bars have {present}" for name in columns if present.count(name) != 1],
        ),
        *listed(
            f"`known_at` of `ingestion.columns` must be {KNOWN_AT}: correct it",
            [
                f"`{name}`: was `{column.known_at}`, the bars have {present}"
                for name, column in columns.items()
                if column.delay is None and present.count(str(column.known_at)) != 1
            ],
        ),
    ]


def _values(column: pd.Series) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the numbers of a column [n], NaN where a cell is empty, and where it holds none [n]."""
    values = numbers(column)
    texts = not pd.api.types.is_numeric_dtype(column.dtype)
    empty = (column.isna() | (column == "") if texts else column.isna()).to_numpy(dtype=bool, na_value=True)
    return values, np.asarray(~np.isfinite(values) & ~empty)


def _usable(
    frame: pd.DataFrame, ends: Timestamps, column: OwnColumn, timezone: str | None
) -> tuple[Timestamps, NDArray[np.bool_]]:
    """Return from when the values of bars [n] may be used, and where that is unknown [n]."""
    if column.delay is not None:
        return ends + np.timedelta64(round(column.delay * 1e9), "ns"), np.zeros(len(ends), dtype=bool)
    published = localize_timestamps(parse_timestamps(frame[column.known_at]), timezone)
    unread = published.isna().to_numpy(dtype=bool)
    return np.where(unread, ends, np.maximum(utc_timestamps(published), ends)), unread


def _as_known(symbols: pd.Series, ends: Timestamps, usable: Timestamps, values: Floats) -> Floats:
    told = ~np.isnan(values)
    given = pd.DataFrame({"time": usable, "end": ends, "symbol": symbols, "value": values})[told]
    wanted = pd.DataFrame({"time": ends, "symbol": symbols, "row": np.arange(len(ends))})
    known = pd.merge_asof(
        wanted.sort_values("time", kind="stable"), given.sort_values(["time", "end"]).drop(columns="end"),
        on="time", by="symbol",
    )  # fmt: skip
    result = np.full(len(ends), np.nan)
    result[known["row"]] = known["value"]
    return result


def _problem(rule: str, frame: pd.DataFrame, ends: Timestamps, wrong: NDArray[np.bool_], name: str) -> list[Problem]:
    rows = np.flatnonzero(wrong)
    times = np.datetime_as_string(ends[rows[:EXAMPLES]], unit="s")
    cases = tuple(
        f"{frame['symbol'].iloc[row]} {time}Z {name}={shown(frame[name].iloc[row])}"
        for row, time in zip(rows.tolist(), times.tolist(), strict=False)
    )
    return [Problem(rule, rows.size, cases)] if rows.size else []
