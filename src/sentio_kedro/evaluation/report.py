"""The report: one HTML file that a person reads, with everything it needs inside."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any, Literal

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from sentio_kedro.evaluation.figures import CAPTIONS
from sentio_kedro.evaluation.findings import TITLES, verdict
from sentio_kedro.evaluation.frames import BASELINES

TEMPLATE = "report.html.jinja"
MISSING = "\u2013"  # an en dash stands for a figure that is undefined
BARE_MARGIN, LEGEND_MARGIN = 16, 56  # pixels above a plot without its title
Kind = Literal["percent", "small_percent", "number", "count"]

METRIC_ROWS: tuple[tuple[str, str, Kind, str], ...] = (
    ("sharpe", "Sharpe ratio", "number", "Mean over deviation of the returns per bar, annualised; flat bars count."),
    ("annual_return", "Return a year", "percent", "Geometric, net of costs."),
    ("total_return", "Return in all", "percent", "Over all unseen bars, net of costs."),
    ("annual_volatility", "Volatility a year", "percent", "Deviation of the returns per bar, annualised."),
    ("max_drawdown", "Maximum drawdown", "percent", "Largest loss from a peak; the start counts as one."),
    ("trades", "Round trips", "count", "From flat, or a change of sign, to the next."),
    ("win_rate", "Round trips that won", "percent", "Net of costs. Says little without the two rows below."),
    ("expectancy", "Mean result of a round trip", "small_percent", "Fraction of the equity at entry, net of costs."),
    ("payoff", "Mean win / mean loss", "number", "Below 1 means that losses are larger than wins."),
    ("holding_bars", "Bars held", "number", "Mean length of a round trip."),
    ("turnover_per_bar", "Turnover per bar", "small_percent", "Traded notional / equity."),
    ("gross_exposure", "Gross exposure", "percent", "Mean invested fraction of equity, longs and shorts added."),
    ("cost_share", "Costs / price profit", "percent", "Above 100 % costs outweigh what prices gave or took."),
)
FOLD_ROWS: tuple[tuple[str, str, Kind], ...] = (
    ("train_sharpe", "Train Sharpe", "number"),
    ("validation_sharpe", "Validation Sharpe", "number"),
    ("sharpe", "Test Sharpe", "number"),
    ("annual_return", "Return a year", "percent"),
    ("max_drawdown", "Drawdown", "percent"),
    ("trades", "Round trips", "count"),
    ("win_rate", "Won", "percent"),
    ("turnover_per_bar", "Turnover per bar", "small_percent"),
    ("cost_share", "Costs / price profit", "percent"),
)
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
        combinatorial=metrics["scheme"] == "combinatorial",
        targets=[_target_row(target) for target in metrics["targets"]],
        metric_titles=[TITLES[name] for name in ("agent", *BASELINES)],
        metric_rows=_metric_rows(metrics),
        comparison_rows=_comparison_rows(metrics),
        fold_titles=[title for _, title, _ in FOLD_ROWS],
        fold_rows=[_fold_row(entry) for entry in metrics["folds"]],
        gap=_generalisation_gap(metrics["folds"]),
        figures=[_figure_entry(name, figure) for name, figure in figures.items()],
        quality=data_quality,
        quality_rows=_quality_rows(data_quality or {}),
        context_rows=list(_flat(context or {})),
        plotly_js=get_plotlyjs(),
    )


def formatted(value: float | None, kind: Kind) -> str:
    """Write a number for people: percentages and numbers with two decimals, a dash where it is undefined."""
    if value is None:
        return MISSING
    texts = {
        "percent": f"{100.0 * value:,.2f}\u00a0%",
        "small_percent": f"{100.0 * value:,.4f}\u00a0%",
        "number": f"{value:,.2f}",
        "count": f"{value:,.0f}",
    }
    return texts[kind].replace("-", "\u2212")  # a minus sign, which is as wide as a digit


def _metric_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = ("agent", *BASELINES)
    rows: list[dict[str, Any]] = []
    for key, title, kind, note in METRIC_ROWS:
        rows.append({"title": title, "note": note, "values": [formatted(metrics[name][key], kind) for name in names]})
        if key == "sharpe":
            rows += _interval_rows(metrics)
    return rows


def _interval_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = ("agent", *BASELINES)
    share = f"{metrics['confidence']:.0%}".replace("%", "\u00a0%")
    intervals = [_span(metrics[name], "sharpe_low", "sharpe_high") for name in names]
    seeds = [_span(metrics["agent"], "sharpe_seed_min", "sharpe_seed_max"), *([MISSING] * len(BASELINES))]
    note = "Stationary block bootstrap; the luck of these bars, not of other years."
    return [
        {"title": f"{share} interval", "note": note, "values": intervals},
        {"title": "Range of seeds", "note": "Lowest and highest Sharpe ratio.", "values": seeds},
    ]


def _span(figures: Mapping[str, Any], low: str, high: str) -> str:
    return f"{formatted(figures[low], 'number')} to {formatted(figures[high], 'number')}"


def _comparison_rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name in BASELINES:
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
    return [f"{entry['fold']}", f"{entry['seed']}", span, formatted(entry["bars"], "count"), *values]


def _generalisation_gap(folds: list[Mapping[str, Any]]) -> str | None:
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
    """Take the title out of the figure: the page prints it as a heading, above the caption."""
    plain = json.loads(copy.copy(figure).to_json())
    plain["layout"].pop("template", None)
    title = plain["layout"].pop("title", {}).get("text", name)
    plain["layout"]["margin"]["t"] = BARE_MARGIN if plain["layout"].get("showlegend") is False else LEGEND_MARGIN
    text = json.dumps(plain, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return {
        "name": name,
        "title": title,
        "caption": CAPTIONS.get(name, ""),
        "height": figure.layout.height,
        "json": text,
    }


def _flat(value: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(item)
