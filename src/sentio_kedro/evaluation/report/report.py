"""The report: one self-contained HTML file."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2
import plotly.graph_objects as go

from sentio_kedro.evaluation.plots.draw import CAPTIONS
from sentio_kedro.evaluation.report.account_tables import (
    account_tables,
    comparison_table,
    cost_table,
    fold_table,
    regime_tables,
    seed_table,
    sharpe_path_table,
    symbol_table,
    year_tables,
)
from sentio_kedro.evaluation.report.columns import Kind
from sentio_kedro.evaluation.report.headline_metrics import behaviour, headline_metrics, opening_table, skill_table
from sentio_kedro.evaluation.report.tables import (
    MISSING,
    breach_table,
    drawdown_table,
    finding_table,
    formatted,
    limit_table,
    mask_table,
    order_table,
    quality_table,
    robustness_table,
    sleeve_table,
    value_at_risk_table,
)
from sentio_kedro.evaluation.report.verdict import verdict

TEMPLATE = "report.html.jinja"
BARE_MARGIN, PANEL_MARGIN, LEGEND_MARGIN = 16, 34, 56  # pixels above a plot without its title
SECTIONS = {  # section of the page that shows each figure
    **{"equity": "equity", "monthly_returns": "equity", "drawdown": "drawdowns", "daily_returns": "drawdowns"},
    **{"sharpe_paths": "distribution", "rolling_sharpe": "distribution", "regimes": "regimes"},
    **{"exposure": "exposures", "positions": "exposures", "actions": "exposures", "round_trips": "exposures"},
    **{"ledger": "costs", "costs": "costs", "robustness": "robustness", "masks": "limits"},
    **{"folds": "folds", "evidence": "forecasts", "generalisation": "learning", "training": "learning"},
}
MANY_ROWS = 24  # of the table of folds and seeds; a longer table is collapsed
NO_RECORD = {  # schemes whose curves are no track record: title and reason
    "combinatorial": (
        "Combinatorial folds.",
        "Agents also train on bars after those that test them, and bars are tested more than once. Read the folds as a "
        "distribution. The curves and intervals are no track record that anybody could have earned.",
    ),
    "k_fold": (
        "K-fold.",
        "Agents also train on bars after those that test them, and accounts start flat in each block. Every bar is "
        "tested once, each block with other agents. The curves and intervals are no track record that anybody could "
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
    """Render the report as one HTML page without external resources.

    Args:
        metrics: Result of ``build_metrics``.
        figures: Result of ``draw_figures``.
        data_quality: Data quality from ingestion; None leaves the section out.
        context: Parameters and hashes by dotted name, in the order of the page; values are shown as JSON.
    """
    return page_template(TEMPLATE).render(
        metrics=metrics,
        behaviour=behaviour(metrics["agent"], metrics["robustness"]["start_dates"]),
        headline=headline_metrics(metrics, data_quality),
        verdict=verdict(metrics),
        biased=metrics["universe"] == "survivorship_biased",
        no_record=NO_RECORD.get(metrics["scheme"]),
        targets=[target_row(target) for target in metrics["targets"]],
        tables=_tables(metrics),
        limit=metrics["drawdown_limit"]["limit"],
        many_rows=MANY_ROWS,
        sharpes=_mean_sharpes(metrics["folds"]),
        figures=[figure_entry(name, figure, SECTIONS[name], CAPTIONS[name]) for name, figure in figures.items()],
        quality=data_quality,
        quality_table=quality_table(data_quality) if data_quality else None,
        findings=finding_table(data_quality) if data_quality else None,
        context_rows=[row for name, value in (context or {}).items() for row in _context_rows(name, value)],
        plotly=packed_plotly(),
    )


def page_template(name: str) -> jinja2.Template:
    """Return a template of a page; its filters ``number`` and ``percent`` format values as tables do."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sentio_kedro.evaluation.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = lambda value: formatted(value, "number")
    environment.filters["percent"] = lambda value: formatted(value, "percent")
    return environment.get_template(name)


@cache
def packed_plotly() -> str:
    """Return plotly.js compressed, as text; the page's script decompresses it."""
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 - imports IPython

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)).decode("ascii")


def _tables(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Tables by the names of the template."""
    return {
        "skill": skill_table(metrics["skill"]),
        "openings": opening_table(metrics["skill"]),
        "accounts": account_tables(metrics),
        "comparison": comparison_table(metrics),
        "drawdowns": drawdown_table(metrics["drawdowns"]),
        "limits": limit_table(metrics["drawdown_limit"]),
        "breaches": breach_table(metrics["drawdown_limit"]),
        "paths": sharpe_path_table(metrics),
        "regimes": regime_tables(metrics),
        "symbols": symbol_table(metrics),
        "costs": cost_table(metrics),
        "robustness": robustness_table(metrics["robustness"]),
        "orders": order_table(metrics),
        "masks": mask_table(metrics["masks"]),
        "value_at_risk": value_at_risk_table(metrics["value_at_risk_test"]),
        "seeds": seed_table(metrics),
        "folds": fold_table(metrics["folds"]),
        "years": year_tables(metrics),
        "sleeves": sleeve_table(metrics["sleeves"]),
    }


def target_row(target: Mapping[str, Any]) -> dict[str, Any]:
    """Texts of a target: ``title``, ``target``, ``baseline``, ``measured``, ``met`` and ``note``."""
    kind, suffix = UNITS[target["unit"]], {"hours": " h", "GB": " GB"}.get(target["unit"], "")
    bound = "at least" if target["direction"] == "at_least" else "under"

    def with_unit(value: float | None) -> str:
        return MISSING if value is None else f"{formatted(value, kind)}{suffix}"

    return {
        "title": target["title"],
        "target": f"{bound} {with_unit(target['target'])}",
        "baseline": with_unit(target["baseline"]),
        "measured": with_unit(target["measured"]),
        "met": {True: "met", False: "not met", None: "not judged"}[target["met"]],
        "note": target["note"],
    }


def _mean_sharpes(folds: list[Mapping[str, Any]]) -> list[float] | None:
    """Mean train, validation and test Sharpe ratio over the folds and seeds that have all three."""
    ratios = [[entry[name] for name in ("train_sharpe", "validation_sharpe", "sharpe")] for entry in folds]
    complete = [row for row in ratios if None not in row]
    return [sum(side) / len(complete) for side in zip(*complete, strict=True)] if complete else None


def figure_entry(name: str, figure: go.Figure, section: str, caption: str) -> dict[str, Any]:
    """Split a figure into heading, caption and plot; a figure without data has a note instead of a plot.

    Args:
        name: Name of the figure, unique on its page.
        figure: The figure.
        section: Section of the page that shows it.
        caption: What it shows.
    """
    plain = json.loads(figure.to_json())
    plain["layout"].pop("template", None)
    notes = plain["layout"].get("annotations", [])
    title = plain["layout"].pop("title", {}).get("text", name)
    bare = PANEL_MARGIN if notes else BARE_MARGIN
    plain["layout"]["margin"]["t"] = bare if plain["layout"].get("showlegend") is False else LEGEND_MARGIN
    _share_x(plain["data"])
    text = json.dumps(plain, separators=(",", ":"), allow_nan=False)
    return {
        "name": name,
        "section": section,
        "title": title,
        "caption": caption,
        "note": notes[0]["text"] if notes and not plain["data"] else None,
        "height": figure.layout.height,
        "json": text.replace("<", "\\u003c"),  # "</script>" and "<!--<script>" mean something to the page
    }


def _share_x(traces: list[dict[str, Any]]) -> None:
    """Replace ``x`` by the number of an earlier trace with equal ``x``: most lines share their times."""
    first: dict[str, int] = {}
    for index, trace in enumerate(traces):
        if "x" in trace:
            place = first.setdefault(json.dumps(trace["x"]), index)
            if place < index:
                trace["x"] = place


def _context_rows(name: str, value: object) -> list[tuple[str, str]]:
    """Name and text of a value; a list of records, such as the feature columns, has a row each."""
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return [(f"{name}[{place}]", json.dumps(item)) for place, item in enumerate(value)]
    return [(name, value if isinstance(value, str) else json.dumps(value))]
