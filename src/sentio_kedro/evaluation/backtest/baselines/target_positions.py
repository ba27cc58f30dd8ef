"""A table of target positions, read from a file, as a schedule for the execution that agents use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.config import TradingParameters
from sentio_kedro.config.symbols import unknown_symbols
from sentio_kedro.damage import reading
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import RANGE, Floats, localize_timestamps, parse_timestamps
from sentio_kedro.market.purged_folds import Segment

COLUMNS = ("timestamp", "symbol", "target")
ROUNDING = 1e-9
EXAMPLES = 5  # rows that an error message shows of a problem


class TargetsError(ValueError):
    """All problems of a table of targets."""


def read_targets(path: Path) -> pd.DataFrame:
    """Read a CSV with the columns ``timestamp``, ``symbol`` and ``target``.

    Raises:
        TargetsError: If there is no such file or a column is missing.
        DamagedFileError: If it is no CSV file.
    """
    if not path.is_file():
        raise TargetsError(f"`backtest.targets` must name a CSV file, `{path}` is none; correct the path, or set null.")
    empty = {"target": ["", "NaN", "nan", "null"]}  # and nothing else: NA may be a symbol
    with reading(path, "correct the file, or set `backtest.targets` to null"):
        return pd.read_csv(path, dtype={"symbol": str}, keep_default_na=False, na_values=empty)


def target_schedule(frame: pd.DataFrame, bars: AlignedBars, rows: Segment, trading: TradingParameters) -> Floats:
    """Make a schedule of targets.

    Args:
        frame: ``timestamp`` (end of the bar of the decision, with a zone), ``symbol``, ``target`` (fraction of equity,
            negative is short). A target that is empty or has no row sends no order.
        bars: Aligned bars.
        rows: Decision rows of the schedule; targets at other bars are left out.
        trading: Limits on one target (``max_position``, ``gross_limit``) and on those of one timestamp together
            (``gross_limit``).

    Raises:
        TargetsError: With all problems of columns, symbols, timestamps and targets, or if there is no target at
            ``rows``.
    """
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise TargetsError(f"Targets lack the columns {missing}, had {list(frame.columns)}; add them.")
    frame = frame.assign(symbol=frame["symbol"].astype(str)).reset_index(drop=True)
    timestamps, problems = _parsed(frame["timestamp"])
    row = pd.DatetimeIndex(bars.timestamps).get_indexer(pd.DatetimeIndex(timestamps))  # -1 off the grid
    off_grid = timestamps.notna().to_numpy() & (row < 0)
    problems += _listed(off_grid, frame, "timestamps that are no bar's end", "shift them to ends of bars in UTC")
    unknown = ~frame["symbol"].isin(bars.symbols).to_numpy()
    problem = f"symbols other than {list(bars.symbols)}"
    named = unknown_symbols(frame["symbol"][unknown].unique(), bars.symbols)
    problems += _listed(unknown, frame, problem, f"correct or remove {named}")
    repeated = frame.assign(timestamp=timestamps).duplicated(["timestamp", "symbol"]) & timestamps.notna()
    problems += _listed(repeated.to_numpy(), frame, "repeated rows of one timestamp and symbol", "keep one")
    target = pd.to_numeric(frame["target"], errors="coerce").to_numpy(dtype=np.float64)
    given = frame["target"].notna().to_numpy()
    problems += _listed(given & ~np.isfinite(target), frame, "targets that are no finite number", "correct them")
    problems += _beyond_limits(frame, timestamps, np.where(np.isfinite(target), target, 0.0), trading)
    ordered = np.isfinite(target) & (row >= rows.start) & (row < rows.stop)
    if not problems and not ordered.any():
        first, last = (str(pd.Timestamp(bars.timestamps[edge])) for edge in (rows.start, rows.stop - 1))
        problems.append(f"no target at the tested bars, which run from {first} to {last} UTC; give targets there")
    if problems:
        raise TargetsError("Targets cannot be followed: " + "; ".join(problems) + ".")
    positions = np.full((rows.stop - rows.start, len(bars.symbols)), np.nan)
    asset = np.searchsorted(np.array(bars.symbols), frame["symbol"].to_numpy()[ordered])
    positions[row[ordered] - rows.start, asset] = target[ordered]
    return positions


def _parsed(column: pd.Series) -> tuple[pd.Series, list[str]]:
    """Timestamps in UTC without their zone, missing where they cannot be read, and their problems."""
    timestamps = localize_timestamps(parse_timestamps(column), None)
    wrong = timestamps.isna().to_numpy(dtype=np.bool_)
    problem = f"timestamps that cannot be read, have no zone or lie outside {RANGE}"
    problems = _listed(wrong, column.to_frame(), problem, "write ISO 8601 with Z")
    return timestamps.dt.tz_localize(None), problems


def _beyond_limits(
    frame: pd.DataFrame, timestamps: pd.Series, target: NDArray[np.float64], trading: TradingParameters
) -> list[str]:
    limit = min(trading.max_position, trading.gross_limit)
    single = np.abs(target) > limit * (1.0 + ROUNDING)
    remedy = "lower them, or raise `trading.max_position` and `trading.gross_limit`"
    problems = _listed(single, frame, f"targets beyond {limit:g} of equity", remedy)
    gross = pd.Series(np.abs(target)).groupby(timestamps.to_numpy()).transform("sum").to_numpy()
    together = gross > trading.gross_limit * (1.0 + ROUNDING)
    bound = f"targets of one timestamp that add up to more than `trading.gross_limit` = {trading.gross_limit:g}"
    return problems + _listed(together & ~single, frame, bound, "lower them, or raise the limit")


def _listed(wrong: NDArray[np.bool_], frame: pd.DataFrame, problem: str, remedy: str) -> list[str]:
    """Message with the number of wrong rows, examples and the remedy; none if no row is wrong."""
    if not wrong.any():
        return []
    some = frame[wrong].head(EXAMPLES)
    columns = [column for column in COLUMNS if column in some.columns]
    examples = "; ".join(" ".join(str(value) for value in row) for row in some[columns].itertuples(index=False))
    return [f"{int(wrong.sum())} {problem} ({examples}); {remedy}"]
