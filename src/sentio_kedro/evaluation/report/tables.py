"""Tables of the report: number formats, drawdowns, limits, orders, stress tests and data quality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sentio_kedro.evaluation.labels import TITLES, account_title, layer_title, regime_title
from sentio_kedro.evaluation.measures.robustness import MEASURES
from sentio_kedro.evaluation.report.columns import (
    BREACH_COLUMNS,
    DRAWDOWN_COLUMNS,
    LIMIT_COLUMNS,
    ORDER_COLUMNS,
    QUALITY_COLUMNS,
    ROBUSTNESS_COLUMNS,
    SLEEVE_COLUMNS,
    VALUE_AT_RISK_COLUMNS,
    Columns,
    Kind,
)
from sentio_kedro.evaluation.statistics.bootstrap import confidence_percent

Row = list[str]
MISSING = "\u2013"  # an en dash
MAX_BREACHES = 12  # in the report; metrics.json holds all
VARIANTS = {
    "cost": "Trading costs \u00d7 {:g}",
    "latency": "Latency in bars: {:g}",
    "start": "Start after {:.3g} of each fold",
    "without": "Without seed {:g}",
}
SIDES = {"fall": "Falls", "rise": "Rises"}
QUANTILE_TITLES = {"low": "5\u00a0% quantile", "median": "median", "high": "95\u00a0% quantile"}


class Table(NamedTuple):
    """A table of the report.

    Attributes:
        heads: Column titles.
        rows: Cells; the first one names the row.
        title: Heading; empty is none.
        note: Explanation of the columns.
    """

    heads: Row
    rows: list[Row]
    title: str = ""
    note: str = ""


def formatted(value: Any, kind: Kind) -> str:
    """Format a value: percentages and numbers with two decimals, a dash where it is undefined."""
    if value is None:
        return MISSING
    if kind == "text":
        return str(value)
    if kind == "day":
        return str(value)[:10]
    if kind == "minute":
        return str(value)[:16].replace("T", " ")
    if kind == "interval":
        return f"{formatted(value[0], 'number')} to {formatted(value[1], 'number')}"
    texts = {
        "percent": f"{100.0 * value:,.2f}\u00a0%",
        "small_percent": f"{100.0 * value:,.4f}\u00a0%",
        "number": f"{value:,.2f}",
        "count": f"{value:,.0f}",
        "times": f"{value:,.1f}\u00a0\u00d7",
    }
    text = texts[kind]
    if not any(digit in text for digit in "123456789"):
        text = text.removeprefix("-")  # zero has no sign
    return text.replace("-", "\u2212")  # a minus sign, as wide as a digit


def interval_title(confidence: float) -> str:
    """Title of an interval, such as ``95 % interval``."""
    return confidence_percent(confidence).replace("%", "\u00a0% interval")


def table_of(
    head: str, entries: Iterable[tuple[str, Mapping[str, Any]]], columns: Columns, title: str = "", note: str = ""
) -> Table:
    """Make a table with one row per label and entry, and one column per declared key."""
    rows = [[label, *(formatted(entry[key], kind) for key, _, kind in columns)] for label, entry in entries]
    return Table([head, *(name for _, name, _ in columns)], rows, title, note)


def order_table(metrics: Mapping[str, Any]) -> Table:
    """Orders and their reductions by limits, of every agent and baseline."""
    accounts = [(TITLES["agent"], metrics["agent"])]
    accounts += [(f"Seed {entry['seed']}", entry) for entry in metrics["seeds"]]
    accounts += [(TITLES[name], metrics[name]) for name in metrics["baselines"]]
    return table_of("Account", accounts, ORDER_COLUMNS)


def mask_table(masks: Sequence[Mapping[str, Any]]) -> Table:
    """Share of target levels that each layer forbids, by regime; no rows without telemetry."""
    regimes = 1 + max((entry["regime"] for entry in masks), default=0)
    rows: dict[str, Row] = {}
    for entry in masks:
        rows.setdefault(entry["layer"], [layer_title(entry["layer"])]).append(formatted(entry["forbidden"], "percent"))
    return Table(["Layer", *(regime_title(regime, regimes) for regime in range(regimes))], list(rows.values()))


def value_at_risk_table(sides: Sequence[Mapping[str, Any]]) -> Table:
    """Exceedances of the assets' value at risk by side; no rows without sessions."""
    return table_of("Returns", ((SIDES[entry["side"]], entry) for entry in sides), VALUE_AT_RISK_COLUMNS)


def drawdown_table(drawdowns: Sequence[Mapping[str, Any]]) -> Table:
    """Worst drawdowns, deepest first."""
    entries = (
        (str(place), {**entry, "recovery": "not recovered" if entry["recovery"] is None else entry["recovery"][:10]})
        for place, entry in enumerate(drawdowns, start=1)
    )
    return table_of("", entries, DRAWDOWN_COLUMNS)


def limit_table(limit: Mapping[str, Any]) -> Table:
    """Deepest drawdown and breaches of the drawdown limit, of the agent and of each seed alone."""
    entries = (
        (account_title(entry["account"]), {**entry, "breaches": len(entry["breaches"])}) for entry in limit["agents"]
    )
    return table_of("Agent", entries, LIMIT_COLUMNS)


def breach_table(limit: Mapping[str, Any]) -> Table:
    """The breaches of the drawdown limit with the largest losses, in order of time."""
    breaches = [(account_title(entry["account"]), breach) for entry in limit["agents"] for breach in entry["breaches"]]
    worst = sorted(breaches, key=lambda item: -item[1]["loss"])[:MAX_BREACHES]
    worst.sort(key=lambda item: str(item[1]["timestamp"]))
    selection = "All" if len(worst) == len(breaches) else f"The {len(worst)} worst of {len(breaches)}"
    note = (
        f"{selection} breaches. The market move is the absolute price profit of the bar over gross exposure. The move "
        "to the limit is the adverse move that suffices to reach it. Where the market move is smaller, costs make up "
        "the difference."
    )
    return table_of("Agent", worst, BREACH_COLUMNS, note=note)


def robustness_table(robustness: Mapping[str, Any]) -> Table:
    """Metrics under stress; for resampled markets quantiles over markets."""
    entries = [
        (title.format(entry["value"]), entry) for variant, title in VARIANTS.items() for entry in robustness[variant]
    ]
    if robustness["path"] is not None:
        entries += [
            (
                f"Resampled markets, {title}",
                {"correlation": None} | {key: robustness["path"][key][side] for key in MEASURES},
            )
            for side, title in QUANTILE_TITLES.items()
        ]
    return table_of("Condition", entries, ROBUSTNESS_COLUMNS)


def sleeve_table(sleeves: Sequence[Mapping[str, Any]]) -> Table:
    """Gate of each fold's sleeves; no rows without forecasts."""
    entries = ((f"Fold {one['fold']}", {**one, "state": "open" if one["open"] else "closed"}) for one in sleeves)
    return table_of("Fold", entries, SLEEVE_COLUMNS)


def quality_table(quality: Mapping[str, Any]) -> Table:
    """Data quality by symbol."""
    empty = dict.fromkeys(key for key, *_ in QUALITY_COLUMNS)
    entries = (
        (name, empty | entry | {"longest_hole": (entry.get("longest_hole") or {}).get("bars")})
        for name, entry in quality["per_symbol"].items()
    )
    return table_of("Symbol", entries, QUALITY_COLUMNS)


def finding_table(quality: Mapping[str, Any]) -> Table:
    """What was repaired in the bars, or is only told; no rows if nothing was found."""
    rows = [
        [one["severity"], f"{one['count']:,}", one["rule"], "; ".join(one["cases"])]
        for one in quality.get("findings", ())
    ]
    note = "Repaired bars move no return by more than rounding. The first cases are shown."
    return Table(["Bars are", "Cases", "Finding", "Such as"], rows, "Findings", note)
