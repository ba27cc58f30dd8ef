"""A description as text and as plain data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sentio_kedro.adoption.description import CANDIDATES, Description
from sentio_kedro.adoption.measures import stamp_text

_SYMBOLS = 20  # listed
_UNITS = ((525_600.0, "year"), (10_080.0, "week"), (1_440.0, "day"), (60.0, "hour"), (1.0, "minute"))


def description_text(described: Description) -> str:
    """Return what files of bars are, for people."""
    detection, grid = described.detection, described.grid
    names = list(described.symbols)
    lines = [
        f"format: {detection.format.name} ({detection.format.vendor})",
        *(f"    {sentence}" for sentence in detection.evidence),
        f"bars: {len(described.frame):,} rows of {len(names)} symbols, {len(grid):,} stamps",
        f"span: {stamp_text(grid[0])} to {stamp_text(grid[-1])}",
        f"interval: {length_text(described.bar_minutes)}",
        *_symbol_lines(described),
        *settled_lines(described),
        f"sessions: stamps from {described.hours['first']} to {described.hours['last']}, {described.hours['weekdays']}",
        *(f"    {fit.calendar}: {fit.text}" for fit in described.fits[:CANDIDATES]),
        *_fault_lines(described),
        *(f"read: {sentence}" for sentence in described.told),
    ]
    if described.questions:
        lines.append("You must say: " + "; ".join(f"{one.option}: {one.text}" for one in described.questions))
    return "\n".join(lines)


def _symbol_lines(described: Description) -> list[str]:
    lines = [
        f"    {symbol}: {facts.rows:,} bars from {facts.first} to {facts.last}, {length_text(facts.bar_minutes)}"
        for symbol, facts in list(described.symbols.items())[:_SYMBOLS]
    ]
    more = len(described.symbols) - _SYMBOLS
    return [*lines, f"    and {more} more"] if more > 0 else lines


def _fault_lines(described: Description) -> list[str]:
    order = described.order
    gaps = "; ".join(f"{gap.after} to {gap.until}, {gap.days:.1f} days" for gap in described.gaps) or "none"
    lines = [
        f"longest gaps: {gaps}",
        *(f"adjusted: {sentence}" for sentence in described.adjusted),
        f"duplicates: {described.duplicates}",
        f"open or close outside [low, high]: {order['rounding']} by rounding, {order['larger']} by more"
        + (f"; the worst: {order['worst']}" if order["worst"] else ""),
        f"volume: above 0 in {described.traded:.0%} of the bars",
    ]
    for problem in described.problems:
        first, *rest = problem.lines()
        lines += [f"{problem.severity}: {first.removeprefix('- ')}", *rest]
    return lines


def settled_lines(described: Description) -> list[str]:
    """Return what was settled, a line each with its evidence."""
    return [f"{name}: {told.value} ({told.evidence})" for name, told in described.settled.items()]


def questions_text(described: Description, command: str) -> str:
    """Return what a person must say, with the candidates, and a command that says the most plausible."""
    lines = ["The files do not say everything. Choose:"]
    for question in described.questions:
        lines.append(f"- {question.option}: {question.text}")
        lines += [f"    {told.value}  {told.evidence}" for told in question.candidates]
    return "\n".join(
        [*lines, *settled_lines(described), "With the most plausible of each (check it):", f"    {command}"]
    )


def length_text(minutes: float | None) -> str:
    """Return the length of a bar as people say it."""
    if minutes is None:
        return "one bar"
    for size, unit in _UNITS:
        if minutes >= size and (minutes / size).is_integer():
            count = int(minutes / size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{minutes:g} minutes"


def description_data(described: Description) -> dict[str, Any]:
    """Return what files of bars are as plain data for JSON."""
    detection, grid = described.detection, described.grid
    return {
        "files": [str(path) for path in detection.files],
        "format": detection.format.name,
        "vendor": detection.format.vendor,
        "evidence": list(detection.evidence),
        "columns": dict(detection.columns),
        "extra_columns": list(detection.extra_columns),
        "rows": len(described.frame),
        "first": stamp_text(grid[0]),
        "last": stamp_text(grid[-1]),
        "bar_minutes": described.bar_minutes,
        "symbols": {symbol: asdict(facts) for symbol, facts in described.symbols.items()},
        **{
            name.replace(" ", "_"): {"value": told.value, "evidence": told.evidence}
            for name, told in described.settled.items()
        },
        "calendars": [
            {"calendar": fit.calendar, "zone": fit.zone, "bars": fit.bars, "inside": fit.inside, "lacking": fit.lacking}
            for fit in described.fits
        ],
        "gaps": [asdict(gap) for gap in described.gaps],
        "hours": described.hours,
        "adjusted": list(described.adjusted),
        "order": described.order,
        "duplicates": described.duplicates,
        "volume_share": described.traded,
        "told": list(described.told),
        "problems": [asdict(one) for one in described.problems],
        "questions": [
            {
                "option": one.option,
                "text": one.text,
                "candidates": [{"value": told.value, "evidence": told.evidence} for told in one.candidates],
            }
            for one in described.questions
        ],
    }
