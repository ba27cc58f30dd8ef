"""The report: one HTML file that a person reads, with everything it needs inside."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from sentio_kedro.evaluation.figures import CAPTIONS
from sentio_kedro.evaluation.findings import TITLES, verdict
from sentio_kedro.evaluation.report_tables import (
    MISSING,
    MOST_BREACHES,
    ORDER_COLUMNS,
    REGIME_COLUMNS,
    ROBUSTNESS_COLUMNS,
    Kind,
    breach_rows,
    cost_rows,
    drawdown_rows,
    formatted,
    limit_rows,
    mask_table,
    order_rows,
    regime_rows,
    robustness_rows,
)

TEMPLATE = "report.html.jinja"
BARE_MARGIN, PANEL_MARGIN, LEGEND_MARGIN = 16, 34, 56  # pixels above a plot without its title
SECTIONS = {
    "folds": "folds",
    "ledger": "costs",
    "costs": "costs",
    "masks": "limits",
    "robustness": "robustness",
    "drawdown": "drawdowns",
}

METRIC_ROWS: tuple[tuple[str, str, Kind, str], ...] = (
    ("sharpe", "Sharpe ratio", "number", "Mean over deviation of the returns per bar, annualised; flat bars count."),
    ("annual_return", "Return a year", "percent", "Geometric, net of costs."),
    ("total_return", "Return in all", "percent", "Over all unseen bars, net of costs."),
    ("annual_volatility", "Volatility a year", "percent", "Deviation of the returns per bar, annualised."),
    ("max_drawdown", "Maximum drawdown", "percent", "Largest loss from a peak; the start counts as one."),
    ("trades", "Round trips", "count", "From flat, or a change of sign, to the next."),
    ("win_rate", "Round trips that won", "percent", "Net of costs. Says little without the two rows below."),
    ("expectancy", "Mean result of a round trip", "small_percent", "Fraction of the equity at entry, net of costs."),
    ("trip_cost", "Mean cost of a round trip", "small_percent", "Commission, spread, impact, borrow fee and funding."),
    ("payoff", "Mean win / mean loss", "number", "Below 1 means that losses are larger than wins."),
    ("holding_bars", "Bars held", "number", "Mean length of a round trip."),
    ("turnover_per_bar", "Turnover per bar", "small_percent", "Traded notional / equity."),
    ("gross_exposure", "Gross exposure", "percent", "Mean invested fraction of equity, longs and shorts added."),
    ("cost_share", "Costs / gross profit", "percent", "Above 100 % costs outweigh what prices gave or took."),
)
FOLD_ROWS: tuple[tuple[str, str, Kind], ...] = (
    ("train_sharpe", "Train Sharpe", "number"),
    ("validation_sharpe", "Validation Sharpe", "number"),
    ("generalisation_gap", "Gap", "number"),
    ("evidence", "Evidence t", "number"),
    ("sharpe", "Test Sharpe", "number"),
    ("annual_return", "Return a year", "percent"),
    ("max_drawdown", "Drawdown", "percent"),
    ("trades", "Round trips", "count"),
    ("win_rate", "Won", "percent"),
    ("turnover_per_bar", "Turnover per bar", "small_percent"),
    ("cost_share", "Costs / gross profit", "percent"),
)
EVIDENCE_COLUMN = [key for key, *_ in FOLD_ROWS].index("evidence")
NO_RECORD = {  # schemes whose curves nobody could have earned: title and reason
    "combinatorial": (
        "Combinatorial folds.",
        "Agents also learnt from bars after those that they were tested on, and bars were tested more than once. Read "
        "the folds as a distribution; the curves and intervals are no record that anybody could have earned.",
    ),
    "k_fold": (
        "K-fold.",
        "Agents also learnt from bars after those that they were tested on, and accounts start flat in each block. "
        "Every bar is tested once, by another fold's agents; the curves and intervals are no record that anybody could "
        "have earned.",
    ),
}
UNITS: dict[str, Kind] = {"fraction": "percent", "ratio": "number", "hours": "number", "GB": "number"}


def render_report(
    metrics: Mapping[str, Any],
    figures: Mapping[str, go.Figure],
    *,
    data_quality: Mapping[str, Any] | None = None,
    context: Mapping[str, object] | None = None,
) -> str:
    """Write the report as one HTML page without any outside resource.

    Args:
        metrics: What ``metrics.build_metrics`` returns.
        figures: What ``figures.draw_figures`` returns; the order is kept.
        data_quality: Figures of the bars as written at ingestion: ``grid_bars``, ``bar_minutes``, ``first``, ``last``,
            ``missing`` and ``per_symbol``; None leaves the section out.
        context: What else a reader may ask for, however nested: parameters, hashes, versions. Printed as names with
            dots and values.

    Returns:
        The page; plotly.js is in it once.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(files("sentio_kedro.evaluation").joinpath(TEMPLATE).read_text("utf-8"))
    return template.render(
        metrics=metrics,
        verdict=verdict(metrics),
        biased=metrics["universe"] == "survivorship_biased",
        no_record=NO_RECORD.get(metrics["scheme"]),
        targets=[_target_row(target) for target in metrics["targets"]],
        account_titles=[TITLES[name] for name in _accounts(metrics)],
        metric_rows=_metric_rows(metrics),
        comparison_rows=_comparison_rows(metrics),
        **_section_tables(metrics),
        fold_titles=[title for _, title, _ in FOLD_ROWS],
        fold_rows=[_fold_row(entry) for entry in metrics["folds"]],
        gap=None if metrics["generalisation_gap"] is None else formatted(metrics["generalisation_gap"], "number"),
        sides=_three_sides(metrics["folds"]),
        figures=[_figure_entry(name, figure) for name, figure in figures.items()],
        quality=data_quality,
        quality_rows=_quality_rows(data_quality or {}),
        context_rows=list(_flat(context or {})),
        plotly_js=get_plotlyjs(),
    )


def _accounts(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    return ("agent", *metrics["baselines"])


def _section_tables(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of the sections on costs, robustness, drawdowns, regimes and limits, by the template's names."""
    limit = metrics["drawdown_limit"]
    mask_titles, mask_rows = mask_table(metrics["masks"])
    return {
        "cost_rows": cost_rows(metrics),
        "robustness_titles": [title for _, title, _ in ROBUSTNESS_COLUMNS],
        "robustness_rows": robustness_rows(metrics["robustness"]),
        "paths": metrics["robustness"]["path"],
        "drawdown_rows": drawdown_rows(metrics["drawdowns"]),
        "limit": None if limit["limit"] is None else formatted(limit["limit"], "percent"),
        "limit_rows": limit_rows(limit),
        "breaches": sum(len(entry["breaches"]) for entry in limit["agents"]),
        "most_breaches": MOST_BREACHES,
        "breach_rows": breach_rows(limit),
        "regime_titles": [title for _, title, _ in REGIME_COLUMNS],
        "regime_rows": regime_rows(metrics),
        "order_titles": [title for _, title, _ in ORDER_COLUMNS],
        "order_rows": order_rows(metrics),
        "mask_titles": mask_titles,
        "mask_rows": mask_rows,
    }


def _metric_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = _accounts(metrics)
    rows: list[dict[str, Any]] = []
    for key, title, kind, note in METRIC_ROWS:
        rows.append({"title": title, "note": note, "values": [formatted(metrics[name][key], kind) for name in names]})
        if key == "sharpe":
            rows += _interval_rows(metrics)
    return rows


def _interval_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = _accounts(metrics)
    share = f"{metrics['confidence']:.0%}".replace("%", "\u00a0%")
    intervals = [_span(metrics[name], "sharpe_low", "sharpe_high") for name in names]
    seeds = [_span(metrics["agent"], "sharpe_seed_min", "sharpe_seed_max"), *([MISSING] * len(metrics["baselines"]))]
    note = "Stationary block bootstrap; the luck of these bars, not of other years."
    return [
        {"title": f"{share} interval", "note": note, "values": intervals},
        {"title": "Range of seeds", "note": "Lowest and highest Sharpe ratio.", "values": seeds},
    ]


def _span(figures: Mapping[str, Any], low: str, high: str) -> str:
    return f"{formatted(figures[low], 'number')} to {formatted(figures[high], 'number')}"


def _comparison_rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name in metrics["baselines"]:
        compared = metrics["comparisons"][name]
        interval = _span(compared, "low", "high")
        judged = "better" if compared["low"] > 0.0 else "worse" if compared["high"] < 0.0 else "cannot be told apart"
        difference = formatted(compared["sharpe_difference"], "number")
        annual = formatted(compared["annual_return_difference"], "percent")
        rows.append([TITLES[name], difference, interval, annual, judged])
    return rows


def _target_row(target: Mapping[str, Any]) -> dict[str, Any]:
    kind, suffix = UNITS[target["unit"]], {"hours": " h", "GB": " GB"}.get(target["unit"], "")
    sign = "at least" if target["direction"] == "at_least" else "under"

    def written(value: float | None) -> str:
        return MISSING if value is None else f"{formatted(value, kind)}{suffix}"

    return {
        "title": target["title"],
        "target": f"{sign} {written(target['target'])}",
        "baseline": written(target["baseline"]),
        "measured": written(target["measured"]),
        "extrapolated": target["extrapolated"],
        "met": {True: "met", False: "not met", None: "not measured"}[target["met"]],
        "note": target["note"],
    }


def _fold_row(entry: Mapping[str, Any]) -> list[str]:
    span = f"{str(entry['first_timestamp'])[:10]} to {str(entry['last_timestamp'])[:10]}"
    values = [formatted(entry[key], kind) for key, _, kind in FOLD_ROWS]
    if entry["abstains"]:
        values[EVIDENCE_COLUMN] += " (stayed flat)"
    return [f"{entry['fold']}", f"{entry['seed']}", span, formatted(entry["bars"], "count"), *values]


def _three_sides(folds: list[Mapping[str, Any]]) -> str | None:
    """Say what was left of the train Sharpe ratio on validation and test rows, on average over folds and seeds."""
    names = ("train_sharpe", "validation_sharpe", "sharpe")
    known = [[entry[name] for name in names] for entry in folds if None not in [entry[name] for name in names]]
    if not known:
        return None
    train, validation, test = (formatted(sum(side) / len(known), "number") for side in zip(*known, strict=True))
    return (
        f"Averaged over folds and seeds, the Sharpe ratio was {train} on the rows that the agents learnt from, "
        f"{validation} on those that chose them, and {test} on unseen ones."
    )


def _quality_rows(quality: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for symbol, found in quality.get("per_symbol", {}).items():
        counts = ("bars", "missing_bars", "gaps", "longest_gap_bars", "zero_volume_bars")
        numbers = [formatted(found.get(name), "count") for name in counts]
        span = [str(found.get(name, MISSING))[:10] for name in ("first", "last")]
        rows.append([str(symbol), *span, *numbers, formatted(found.get("biggest_log_return"), "percent")])
    return rows


def _figure_entry(name: str, figure: go.Figure) -> dict[str, Any]:
    """Take the title out of the figure: the page prints it as a heading, above the caption.

    Of a figure without data the page prints the note that says why.
    """
    plain = json.loads(copy.copy(figure).to_json())
    plain["layout"].pop("template", None)
    notes = plain["layout"].get("annotations", [])
    title = plain["layout"].pop("title", {}).get("text", name)
    bare = PANEL_MARGIN if notes else BARE_MARGIN
    plain["layout"]["margin"]["t"] = bare if plain["layout"].get("showlegend") is False else LEGEND_MARGIN
    _share_x(plain["data"])
    text = json.dumps(plain, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return {
        "name": name,
        "section": SECTIONS.get(name, "figures"),
        "title": title,
        "caption": CAPTIONS.get(name, ""),
        "note": notes[0]["text"] if notes and not plain["data"] else None,
        "height": figure.layout.height,
        "json": text,
    }


def _share_x(traces: list[dict[str, Any]]) -> None:
    """Put the number of an earlier trace in the place of its equal ``x``: most lines share their times."""
    first: dict[str, int] = {}
    for index, trace in enumerate(traces):
        if "x" in trace:
            place = first.setdefault(json.dumps(trace["x"]), index)
            if place < index:
                trace["x"] = place


def _flat(value: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(item)
