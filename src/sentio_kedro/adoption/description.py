"""What files of bars are: read, measured, and what a person must still say, with candidates ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sentio_kedro.adoption import calendars, markets, measures
from sentio_kedro.adoption.calendars import ENDLESS, EXCHANGES, Fit
from sentio_kedro.adoption.markets import Told
from sentio_kedro.market.formats import Choice, Detection, Reading, detect, read_files
from sentio_kedro.market.formats.files.contents import stem_of
from sentio_kedro.market.ingestion.bar_checks import examine_bars
from sentio_kedro.market.ingestion.problems import Problem
from sentio_kedro.market.ingestion.sessions import DAILY
from sentio_kedro.market.ingestion.timestamps import Timestamps, shortest_common_gap

CLEAR_LEAD = 0.02  # of a calendar's score before that of the next, from which bars alone tell it
GOOD_FIT = 0.95  # least score of such a calendar
CANDIDATES = 5  # told of each question
_WEEKEND = (5, 6)
_LONG_WEEKEND = np.timedelta64(108, "h")  # Friday to Tuesday, and some


@dataclass(frozen=True)
class Answers:
    """What a person says beyond the reading of the files; null is not said.

    Attributes:
        calendar: Name of a calendar, or ``24/7``.
        asset_class: One of ``markets.ASSET_CLASSES``.
        bar_label: ``start`` or ``end``.
    """

    calendar: str | None = None
    asset_class: str | None = None
    bar_label: str | None = None


@dataclass(frozen=True)
class Question:
    """Something that the files do not say.

    Attributes:
        option: The option that answers it.
        text: The question.
        candidates: Values with their evidence, best first.
    """

    option: str
    text: str
    candidates: tuple[Told, ...]


@dataclass(frozen=True)
class Description:
    """What files of bars are.

    Attributes:
        detection: Format and evidence.
        frame: The bars, by symbol and stamp; a question of the reading was answered by its best candidate.
        told: What reading left out or took instead, one sentence each.
        symbols: Facts of each symbol.
        bar_minutes: Most common distance of stamps, minutes; null of a single stamp.
        settled: Zone, label, calendar and asset class as far as they are known, each with its evidence.
        questions: What a person must still say.
        fits: Calendars, best first.
        gaps: Longest holes of all symbols.
        hours: Earliest and latest time of day and weekdays.
        adjusted: What tells whether prices are adjusted, one sentence each.
        order: Closes outside [low, high] by size; see ``measures.order_violations``.
        duplicates: Rows whose symbol and stamp were there before.
        traded: Share of the bars with a volume above 0.
        problems: What ingestion would refuse, repair or tell.
    """

    detection: Detection
    frame: pd.DataFrame
    told: tuple[str, ...]
    symbols: dict[str, measures.SymbolFacts]
    bar_minutes: float | None
    settled: dict[str, Told]
    questions: tuple[Question, ...]
    fits: tuple[Fit, ...]
    gaps: tuple[measures.Gap, ...]
    hours: dict[str, str]
    adjusted: tuple[str, ...]
    order: dict[str, Any]
    duplicates: int
    traded: float
    problems: tuple[Problem, ...]

    @property
    def grid(self) -> Timestamps:
        """Distinct stamps in order."""
        return np.unique(measures.naive_stamps(self.frame))


def describe(paths: Sequence[str | Path], reading: Reading, answers: Answers | None = None) -> Description:
    """Read files of bars and say what they are.

    Args:
        paths: Files, folders or globs.
        reading: What a person says of the reading.
        answers: What a person says of the market.

    Raises:
        BarFileError: If they cannot be read, with file, line and remedy.
    """
    answers = answers or Answers()
    detection = detect(list(paths), reading)
    guessed = _with_guesses(detection)
    bars = read_files(list(paths), guessed)
    examined = examine_bars(bars.frame)
    frame = bars.frame if examined.frame is None else examined.frame
    grid = np.unique(measures.naive_stamps(frame))
    length = shortest_common_gap(np.diff(grid)) if len(grid) > 1 else None
    questions = [one for choice in detection.choices for one in _of_reading(choice, guessed, reading)]
    settled: dict[str, Told] = {}
    fits = _settle(detection, frame, grid, length, answers, settled, questions)
    adjusted = [f"the format: {detection.adjustment}", *measures.known_splits(frame)]
    return Description(
        detection=bars.detection if not detection.choices else detection,
        frame=frame,
        told=bars.told,
        symbols=measures.symbol_facts(frame),
        bar_minutes=None if length is None else float(length / np.timedelta64(1, "m")),
        settled=settled,
        questions=tuple(questions),
        fits=tuple(fits),
        gaps=_gaps(grid, length),
        hours=measures.hours(grid),
        adjusted=tuple(adjusted),
        order=measures.order_violations(bars.frame),
        duplicates=int(bars.frame.duplicated(["symbol", "timestamp"]).sum()),
        traded=measures.volume_share(frame),
        problems=(*examined.problems, *measures.mixed_lengths(frame)),
    )


def _gaps(grid: Timestamps, length: np.timedelta64 | None) -> tuple[measures.Gap, ...]:
    usual = np.timedelta64(1, "ns") if _weekends(grid) else _LONG_WEEKEND
    return () if length is None else tuple(measures.longest_gaps(grid, length, usual))


def _weekends(grid: Timestamps) -> bool:
    """Whether there are bars on Saturdays and on Sundays, about as many as on other days."""
    days = (grid.astype("datetime64[D]").astype(np.int64) + 3) % 7
    share = np.isin(days, _WEEKEND).mean()
    return bool(np.isin(_WEEKEND, days).all() and share > 0.2)  # noqa: PLR2004 - two of seven days


def _with_guesses(detection: Detection) -> Reading:
    """Answer what the reading asks by its first option, to look at the bars; the question stays."""
    guesses: dict[str, Any] = {}
    for choice in detection.choices:
        if choice.key == "symbol":
            guesses["symbol"] = stem_of(detection.files[0])
        elif choice.key == "symbols":
            stems = [stem_of(file) for file in detection.files]
            guesses["symbols"] = {**dict(zip(stems, stems, strict=True)), **(detection.reading.symbols or {})}
        elif choice.key in ("date_order", "format", "table") and choice.options:
            guesses[choice.key] = choice.options[0]
    return replace(detection.reading, **guesses)


def _of_reading(choice: Choice, guessed: Reading, given: Reading) -> list[Question]:
    """Return the questions of one choice, one a file where several lack a symbol; the zone is asked for later."""
    if choice.key == "timezone":
        return []
    if choice.key == "symbols":
        pairs = [(stem, name) for stem, name in (guessed.symbols or {}).items() if stem not in (given.symbols or {})]
        return [
            Question("--symbol", choice.question, (Told(f"{stem}={name}", "the name of the file"),))
            for stem, name in pairs
        ]
    value = getattr(guessed, choice.key)
    values = dict.fromkeys([*([str(value)] if value is not None else []), *choice.options])
    evidence = "the name of the file" if choice.key == "symbol" else "possible"
    option = f"--{choice.key.replace('_', '-')}"
    return [Question(option, choice.question, tuple(Told(one, evidence) for one in values))]


def _settle(
    detection: Detection,
    frame: pd.DataFrame,
    grid: Timestamps,
    length: np.timedelta64 | None,
    answers: Answers,
    settled: dict[str, Told],
    questions: list[Question],
) -> list[Fit]:
    """Find zone, label, calendar and asset class, or ask; returns the calendars, best first."""
    symbols = [str(symbol) for symbol in frame["symbol"].unique()]
    dates = detection.dates_only or bool((grid.astype("datetime64[D]") == grid).all())
    zone = _zone_told(detection, frame, dates)
    starts = (answers.bar_label or detection.bar_label or "start") == "start"
    step = length if length is not None else np.timedelta64(1, "D")
    home = markets.home(symbols, detection.format.name)
    fits = calendars.rank_calendars(grid, step, starts, "UTC" if zone else None, home.value if home else None)
    told = _class(detection, symbols, _weekends(grid) and bool(step < 2 * DAILY), answers, settled, questions)
    _calendar(fits, told, home, answers, settled, questions)
    calendar = settled["calendar"].value if "calendar" in settled else _best(questions)
    fit = next((fit for fit in fits if fit.calendar == calendar), None)
    _zone(zone, fit, fits, settled, questions)
    utc = grid if zone is not None or fit is None else calendars.zoned(grid, fit.zone)
    _label(detection, utc, step, dates, calendar, answers, settled, questions)
    return fits


def _best(questions: Sequence[Question]) -> str:
    return next((one.candidates[0].value for one in questions if one.option == "--calendar"), ENDLESS)


def _zone_told(detection: Detection, frame: pd.DataFrame, dates: bool) -> Told | None:
    if dates:
        return Told("UTC", "dates have none; they end at midnight in UTC")
    if detection.reading.timezone is not None:
        return Told(detection.reading.timezone, "you said so")
    if detection.zone is not None and detection.zone == detection.format.zone:
        return Told(detection.zone, f"the format {detection.format.name}")
    if detection.zone is not None or isinstance(frame["timestamp"].dtype, pd.DatetimeTZDtype):
        return Told(detection.zone or "UTC", "the stamps name it, or are seconds since 1970")
    return None


def _class(
    detection: Detection,
    symbols: list[str],
    weekends: bool,
    answers: Answers,
    settled: dict[str, Told],
    questions: list[Question],
) -> str | None:
    if answers.asset_class:
        settled["asset class"] = Told(answers.asset_class, "you said so")
    elif told := markets.asset_class(symbols, detection.format.name, weekends):
        settled["asset class"] = told
    else:
        questions.append(
            Question(
                "--asset-class",
                "what is traded? It decides commission, spread, lot, borrowing and short sales",
                (
                    Told("stock", f"{symbols[0]} is the name of no fund, pair or contract that is known here"),
                    *(Told(one, "possible") for one in markets.ASSET_CLASSES[1:]),
                ),
            )
        )
        return None
    return settled["asset class"].value


def _calendar(
    fits: list[Fit],
    asset_class: str | None,
    home: Told | None,
    answers: Answers,
    settled: dict[str, Told],
    questions: list[Question],
) -> None:
    """Settle the calendar or ask for it; ``fits`` are put in order of what is plausible."""
    by_name = {fit.calendar: fit for fit in fits}
    if asset_class == "crypto":
        home = Told(ENDLESS, "crypto trades at all times")
    elif asset_class == "fx":
        sunday = by_name.get("24/5")
        home = Told(
            "24/5" if sunday is not None and sunday.outside is None else ENDLESS, "currencies trade day and night"
        )
    if home is not None and home.value in by_name:
        fits.sort(key=lambda fit: (fit.calendar != home.value or fit.score < GOOD_FIT / 2.0, -fit.score))
    if answers.calendar:
        fit = by_name.get(answers.calendar)
        settled["calendar"] = Told(answers.calendar, f"you said so; {fit.text}" if fit else "you said so")
    elif home is not None and (asset_class in ("crypto", "fx") or (home.sure and _fits_well(by_name, home.value))):
        settled["calendar"] = Told(home.value, f"{home.evidence}; {by_name[home.value].text}")
    elif len(fits) > 1 and fits[0].score >= GOOD_FIT and fits[0].score - _next_score(fits) >= CLEAR_LEAD:
        settled["calendar"] = Told(fits[0].calendar, f"{fits[0].text}, and no other fits as well")
    else:
        hint = {} if home is None else {home.value: f"; suggested by {home.evidence}"}
        questions.append(
            Question(
                "--calendar",
                "whose sessions? A name of the package exchange_calendars, or 24/7 for a market that never closes",
                tuple(
                    Told(fit.calendar, f"{EXCHANGES[fit.calendar].market}: {fit.text}{hint.get(fit.calendar, '')}")
                    for fit in fits[:CANDIDATES]
                ),
            )
        )


def _fits_well(by_name: dict[str, Fit], calendar: str) -> bool:
    return calendar in by_name and by_name[calendar].score >= GOOD_FIT


def _next_score(fits: list[Fit]) -> float:
    return max(fit.score for fit in fits[1:])


def _zone(
    zone: Told | None, fit: Fit | None, fits: list[Fit], settled: dict[str, Told], questions: list[Question]
) -> None:
    if zone is not None:
        settled["zone"] = zone
        return
    best = dict.fromkeys([*([fit.zone] if fit else []), *(one.zone for one in fits), "UTC"])
    of_zone = {one.zone: one for one in reversed(fits)}
    questions.append(
        Question(
            "--timezone",
            "in which zone are the stamps written? They name none",
            tuple(
                Told(one, f"so {of_zone[one].text} ({of_zone[one].calendar})" if one in of_zone else "possible")
                for one in list(best)[:CANDIDATES]
            ),
        )
    )


def _label(
    detection: Detection,
    grid: Timestamps,
    length: np.timedelta64,
    dates: bool,
    calendar: str,
    answers: Answers,
    settled: dict[str, Told],
    questions: list[Question],
) -> None:
    if answers.bar_label:
        settled["bar label"] = Told(answers.bar_label, "you said so")
    elif dates and length >= DAILY:
        settled["bar label"] = Told(
            "start", "dates name their session; its bar ends at the midnight that follows, in UTC"
        )
    elif detection.bar_label is not None:
        settled["bar label"] = Told(detection.bar_label, f"the format {detection.format.name}")
    elif label := calendars.session_label(grid, calendar):
        place = "open" if label == "start" else "close"
        settled["bar label"] = Told(label, f"there are stamps at the {place} of the sessions of {calendar}")
    else:
        questions.append(
            Question(
                "--bar-label",
                "is a stamp the start or the end of its bar? A wrong answer lets bars be known before they end",
                (Told("start", "what most exchanges and vendors write"), Told("end", "possible")),
            )
        )
