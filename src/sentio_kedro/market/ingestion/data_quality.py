"""Description of aligned bars: their gaps, holes and extremes, and what was found in the delivered ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.adjustment import adjusted
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.checks.holes import Holes, find_holes, trades_daily
from sentio_kedro.market.ingestion.checks.moves import find_breaks
from sentio_kedro.market.ingestion.problems import Problem, listed
from sentio_kedro.market.ingestion.sessions import Schedule
from sentio_kedro.market.ingestion.timestamps import most_common_gap

TOLD_SHARE, TOLD_SHARE_OF_HOLES = 0.05, 0.01  # of the expected bars missing, any and with a hole of ``TOLD_BARS``
TOLD_HOLE = np.timedelta64(5, "D")  # longer than any weekend
TOLD_BARS = 5


def data_quality(
    frame: pd.DataFrame,
    bars: AlignedBars,
    parameters: IngestionParameters,
    findings: Sequence[Problem] = (),
    schedule: Schedule | None = None,
) -> dict[str, Any]:
    """Describe the bars, their gaps and their holes.

    Args:
        frame: The bars as delivered.
        bars: The same bars aligned.
        parameters: How they were read.
        findings: What was repaired in them or is only told.
        schedule: Sessions of ``trading.calendar`` around the bars; null is without calendar.

    Returns:
        Plain values for the grid and per symbol. A gap is a run of grid bars that a symbol lacks between its first and
        its last bar. A hole is a run of bars that are missing against the calendar or the usual pattern (see
        ``find_holes``), of one symbol or of the grid. ``findings`` has those given and what is found here;
        ``price_breaks`` has the moves that may be splits, with the end of their bar. ``source`` is there if all bars
        name the same.
    """
    adjusted_bars = adjusted(bars)  # a split is no return
    length = most_common_gap(bars.timestamps) if len(bars.timestamps) > 1 else None
    unit = np.timedelta64(1, "D") if length is None else length
    grid, open_ = find_holes(bars.timestamps, unit, schedule), _never_closes(bars, unit)
    present = bars.present
    holes = [
        find_holes(bars.timestamps[present[:, asset]], unit, schedule, never_closes=open_)
        for asset in range(len(bars.symbols))
    ]
    told = [*findings, *_hole_findings(bars.symbols, holes, grid, schedule)]
    quality = {
        "rows": len(frame),
        "grid_bars": len(bars.timestamps),
        "symbols": len(bars.symbols),
        "bar_minutes": None if length is None else float(length / np.timedelta64(1, "m")),
        "first": _iso(bars.timestamps[0]),
        "last": _iso(bars.timestamps[-1]),
        "bar_label": parameters.bar_label,
        "missing": parameters.missing,
        "universe": parameters.universe,
        **grid.to_dict(),
        "findings": [asdict(finding) | {"cases": list(finding.cases)} for finding in told],
        "price_breaks": [],
        "per_symbol": {},
    }
    sources = frame["source"].unique().tolist() if "source" in frame else []
    if len(sources) == 1 and isinstance(sources[0], str):
        quality["source"] = sources[0]
    for asset, symbol in enumerate(bars.symbols):
        entry, breaks = _symbol_quality(adjusted_bars, asset)
        quality["per_symbol"][symbol] = entry | holes[asset].to_dict()
        quality["price_breaks"] += breaks
    return quality


def _never_closes(bars: AlignedBars, length: np.timedelta64) -> bool:
    full = max(1, round(np.timedelta64(1, "D") / length))
    return full > 1 and trades_daily(bars.timestamps, full)


def _symbol_quality(bars: AlignedBars, asset: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rows = np.flatnonzero(bars.present[:, asset])
    if not rows.size:
        return {"bars": 0}, []
    gaps = np.diff(rows) - 1  # grid bars missing between two bars
    returns = np.diff(np.log(bars.close[rows, asset]))
    breaks = find_breaks(np.concatenate([[np.nan], returns]), np.array([0, len(rows)]))
    entry = {
        "bars": int(rows.size),
        "first": _iso(bars.timestamps[rows[0]]),
        "last": _iso(bars.timestamps[rows[-1]]),
        "missing_bars": int(gaps.sum()),
        "gaps": int((gaps > 0).sum()),
        "longest_gap_bars": int(gaps.max(initial=0)),
        "zero_volume_bars": int((bars.volume[rows, asset] == 0.0).sum()),
        "biggest_log_return": float(np.abs(returns).max(initial=0.0)),
    }
    return entry, [
        {"symbol": bars.symbols[asset], "timestamp": _iso(bars.timestamps[rows[place]]), "ratio": float(ratio)}
        for place, ratio in zip(*breaks, strict=True)
    ]


def _hole_findings(
    symbols: Sequence[str], holes: Sequence[Holes], grid: Holes, schedule: Schedule | None
) -> list[Problem]:
    against = f"the sessions of {schedule.calendar}" if schedule else "the days and hours that usually have bars"
    holidays = "" if schedule else " (so holidays count, without `trading.calendar`)"
    cases = []
    for name, one in (("all symbols", grid), *zip(symbols, holes, strict=True)):
        if one.after is None or one.before is None or (one is not grid and one[1:] == grid[1:]):
            continue
        share = one.missing / one.expected
        long = one.longest >= TOLD_BARS and (share >= TOLD_SHARE_OF_HOLES or one.before - one.after > TOLD_HOLE)
        if long or (share >= TOLD_SHARE and one.missing >= TOLD_BARS):
            cases.append(
                f"{name}: {one.missing:,} of {one.expected:,} bars are missing, {one.longest:,} of them between "
                f"{_iso(one.after)} and {_iso(one.before)}"
            )
    return listed(f"bars are missing against {against}{holidays}; nothing was filled in", cases, "told")


def _iso(timestamp: np.datetime64) -> str:
    return f"{pd.Timestamp(timestamp).isoformat()}Z"
