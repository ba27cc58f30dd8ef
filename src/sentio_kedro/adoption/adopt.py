"""Write the environment that files of bars need, or say what is lacking and the command that says it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentio_kedro.adoption import environment
from sentio_kedro.adoption.calendars import ENDLESS, EXCHANGES, inside_sessions
from sentio_kedro.adoption.costs import Figures, figures
from sentio_kedro.adoption.description import Answers, Description, describe
from sentio_kedro.adoption.markets import AssetClass
from sentio_kedro.adoption.plan import ENOUGH_TO_LEARN, Market, SizedPlan, plan, typed_sections
from sentio_kedro.adoption.rendering import questions_text, settled_lines
from sentio_kedro.market.formats import Reading
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.problems import BarsError
from sentio_kedro.market.ingestion.sessions import market_clock, session_schedule
from sentio_kedro.market.trailing import SessionRows

_LEAST_CASH = 100_000.0
_ORDERS = 200  # of a lot that an asset's share of the cash must hold


class AdoptionError(ValueError):
    """The files cannot be adopted as they are: with what must be chosen or corrected."""


@dataclass(frozen=True)
class Request:
    """What a person asks for.

    Attributes:
        paths: Files, folders or globs.
        name: Name of the environment.
        reading: What is said of the reading.
        answers: What is said of the market.
        small: Networks and tests of seconds.
        force: Replace an environment of that name.
    """

    paths: tuple[str, ...]
    name: str
    reading: Reading
    answers: Answers
    small: bool = False
    force: bool = False


def adopt(request: Request, project: Path) -> str:
    """Describe the files, settle or ask what they do not say, and write the environment.

    Args:
        request: What a person asks for.
        project: Folder of the project.

    Returns:
        What was written and why, and the next command.

    Raises:
        BarFileError: If the files cannot be read.
        BarsError: If the bars cannot be used, with symbol, stamp and remedy.
        AdoptionError: If the name cannot be used, or something must be chosen. Nothing is written then.
    """
    problem = environment.name_problem(request.name, project, request.force)
    if problem is not None:
        raise AdoptionError(problem)
    described = describe(request.paths, request.reading, request.answers)
    refused = tuple(problem for problem in described.problems if problem.severity == "refused")
    if refused:
        raise BarsError(refused)
    if described.questions:
        raise AdoptionError(questions_text(described, command(request, described)))
    settled = {key: told.value for key, told in described.settled.items()}
    calendar, names = settled["calendar"], _names(described, settled["calendar"], settled["asset class"])
    zone = None if isinstance(described.frame["timestamp"].dtype, pd.DatetimeTZDtype) else settled["zone"]
    base = environment.base_sections(project)
    reason = described.settled["bar label"].evidence
    ingestion = environment.ingestion_text(settled["bar label"], zone, calendar, names, reason)
    bars = _aligned(described.frame, base, ingestion)
    inside = _inside(bars, calendar, names)
    outside = int((~inside).sum())
    ingestion = environment.ingestion_text(settled["bar label"], zone, calendar, names, reason, outside)
    market = _market(bars.rows(inside), calendar, described, settled["asset class"], names)
    sized = plan(market, base, request.small)
    costs = figures(cast("AssetClass", settled["asset class"]), calendar, market.volume)
    head = amount_text(market, sized, request.small)
    paths = [environment.file_path(path, project) for path in request.paths]
    texts = {
        "catalog.yml": environment.catalog_text(paths, _explicit(described)),
        "globals.yml": environment.globals_text(request.name, names),
        "parameters_ingestion.yml": ingestion,
        **environment.parameter_texts(sized, costs, calendar, _cash(described, costs), head),
    }
    environment.write_environment(project, request.name, texts)
    lost = f"outside: {outside:,} bars end outside the sessions of {calendar}; a run drops them\n" if outside else ""
    return lost + _report(request, described, texts, paths, market, sized, head)


def command(request: Request, described: Description) -> str:
    """Return the command that answers every question by its most plausible candidate."""
    words = ["kedro", "bars", "adopt", *request.paths, "--env", request.name]
    for field in ("format", "symbol", "symbol_pattern", "timezone", "date_order", "table", "query"):
        if getattr(request.reading, field):
            words += [f"--{field.replace('_', '-')}", getattr(request.reading, field)]
    words += ["--prices", "adjusted"] if request.reading.prices == "adjusted" else []
    for pairs, option in ((request.reading.symbols, "--symbol"), (request.reading.columns, "--column")):
        for key, value in (pairs or {}).items():
            words += [option, f"{key}={value}"]
    for field in ("calendar", "asset_class", "bar_label"):
        if getattr(request.answers, field):
            words += [f"--{field.replace('_', '-')}", getattr(request.answers, field)]
    for question in described.questions:
        words += [question.option, question.candidates[0].value if question.candidates else "..."]
    flags = {"--small": request.small, "--force": request.force}
    return shlex.join([*words, *(flag for flag, given in flags.items() if given)])


def _names(described: Description, calendar: str, asset_class: str) -> dict[str, float]:
    """Return what durations are counted in."""
    if described.bar_minutes is None:
        raise AdoptionError("One bar has no length and cannot be traded; give at least some twenty bars.")
    known = EXCHANGES.get(calendar)
    minutes, sessions = (known.minutes, known.sessions) if known else _measured(calendar, described)
    if calendar == ENDLESS and asset_class == "fx":
        sessions = EXCHANGES["24/5"].sessions  # days of hours; Sunday evening is no day
    length = described.bar_minutes
    return {
        "bar_minutes": int(length) if length.is_integer() else length,
        "session_minutes": minutes,
        "sessions_per_year": sessions,
    }


def _measured(calendar: str, described: Description) -> tuple[int, float]:
    """Return median minutes and number a year of the sessions of a calendar that the table lacks."""
    grid = described.grid
    try:
        schedule = session_schedule(np.array([grid[-1] - np.timedelta64(3 * 365, "D"), grid[-1]]), calendar)
    except ValueError as error:
        raise AdoptionError(str(error).replace("`trading.calendar`", "`--calendar`")) from None
    minutes = np.median((schedule.closes - schedule.opens) / np.timedelta64(1, "m"))
    years = (schedule.closes[-1] - schedule.opens[0]) / np.timedelta64(365, "D")
    return int(minutes), round(len(schedule.opens) / float(years), 1)


def _aligned(frame: pd.DataFrame, base: Mapping[str, Any], ingestion: str) -> AlignedBars:
    import yaml  # noqa: PLC0415

    typed = typed_sections(base, yaml.safe_load(ingestion))
    try:
        return align_bars(frame, typed["ingestion"])
    except ValueError as error:
        raise AdoptionError(str(error)) from error


def _inside(bars: AlignedBars, calendar: str, names: Mapping[str, float]) -> NDArray[np.bool_]:
    """Return which rows [T] lie in sessions; the others will be dropped, unless that is all of them."""
    length = np.timedelta64(round(names["bar_minutes"] * 60.0), "s")
    try:
        inside = inside_sessions(bars.timestamps, length, calendar)
    except ValueError as error:
        raise AdoptionError(str(error).replace("`trading.calendar`", "`--calendar`")) from error
    if not inside.any():
        raise AdoptionError(
            f"No bar ends in the sessions of `--calendar` {calendar}: check `--timezone` and `--bar-label`, or name "
            "another calendar; `kedro bars inspect` ranks them."
        )
    return inside


def _market(
    bars: AlignedBars, calendar: str, described: Description, asset_class: str, names: Mapping[str, float]
) -> Market:
    clock = market_clock(bars.timestamps, None if calendar == ENDLESS else calendar)
    longest = max(SessionRows.of(clock.session).longest, math.ceil(clock.bars_per_session))
    volume = described.traded > 0.5 and asset_class != "fx"  # noqa: PLR2004 - brokers of currencies count ticks
    return Market(len(bars.timestamps), longest, len(bars.symbols), volume, names)


def _explicit(described: Description) -> Reading:
    """Return the reading with the format by name, so that later files are read as these were."""
    return replace(described.detection.reading, format=described.detection.format.name)


def _cash(described: Description, costs: Figures) -> float:
    """Return a starting equity, a power of ten, whose share of an asset holds some hundred lots at its last price."""
    lot = costs.get("orders", {}).get("lot_size")
    if lot is None:
        return _LEAST_CASH
    price = max(facts.last_close for facts in described.symbols.values())
    wanted = _ORDERS * float(lot.value) * price * len(described.symbols)
    return float(max(_LEAST_CASH, 10.0 ** math.ceil(math.log10(wanted))))


def amount_text(market: Market, sized: SizedPlan, small: bool) -> str:
    """Say what the number of bars allows."""
    if sized.needed > market.bars:
        return (
            f"{market.bars:,} bars: too few for a whole run, which needs at least {sized.needed:,} of this length "
            "(three sessions and the rows of folds); ingestion and features run."
        )
    if small:
        return f"{market.bars:,} bars, small networks: to see the pipeline run, not to learn."
    if market.bars < ENOUGH_TO_LEARN:
        return f"{market.bars:,} bars: enough to see the pipeline run, NOT to learn from."
    kind = "forecasts with evidence" if sized.forecasts else "PPO from features; too few for forecasts with evidence"
    return f"{market.bars:,} bars: {kind}."


def _report(
    request: Request,
    described: Description,
    texts: Mapping[str, str],
    paths: Sequence[str],
    market: Market,
    sized: SizedPlan,
    head: str,
) -> str:
    lines = [f"Wrote `conf/{request.name}`: {', '.join(texts)}.", *settled_lines(described)]
    lines += [
        f"note: `{path}` lies outside the project; the catalog names it where it is."
        for path in paths
        if Path(path).is_absolute()
    ]
    lines += [f"read: {sentence}" for sentence in described.told]
    lines += [f"{problem.severity}: {problem.rule} ({problem.count} case(s))" for problem in described.problems]
    lines += [f"hole: no bar between {gap.after} and {gap.until}, {gap.days:,.1f} days" for gap in described.gaps]
    run = f"kedro run --env={request.name}"
    if sized.needed > market.bars:
        run += " --pipelines ingestion,features"
    return "\n".join([*lines, head, f"Check: kedro bars check --env={request.name}", f"Run:   {run}"])
