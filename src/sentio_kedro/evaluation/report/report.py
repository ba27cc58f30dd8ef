"""The report: one HTML file that a person reads, with everything it needs inside."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from sentio_kedro.evaluation.plots.draw import CAPTIONS
from sentio_kedro.evaluation.report.account_tables import (
    account_tables,
    combinatorial_path_table,
    comparison_table,
    cost_table,
    fold_table,
    regime_tables,
    seed_table,
    selected_feature_table,
    symbol_table,
    year_tables,
)
from sentio_kedro.evaluation.report.headline import headline_metrics, lockbox_table_rows, skill_rows
from sentio_kedro.evaluation.report.tables import (
    MAX_BREACHES,
    MISSING,
    ORDER_COLUMNS,
    ROBUSTNESS_COLUMNS,
    Kind,
    breach_rows,
    drawdown_rows,
    formatted,
    limit_rows,
    mask_table,
    order_rows,
    robustness_rows,
)
from sentio_kedro.evaluation.report.verdict import verdict

TEMPLATE = "report.html.jinja"
BARE_MARGIN, PANEL_MARGIN, LEGEND_MARGIN = 16, 34, 56  # pixels above a plot without its title
SECTIONS = {  # of the page in which each figure stands; others stand at the end of the results
    **{"equity": "equity", "monthly_returns": "equity", "drawdown": "drawdowns", "daily_returns": "drawdowns"},
    **{"sharpe_paths": "distribution", "rolling_sharpe": "distribution", "regimes": "regimes"},
    **{"exposure": "exposures", "positions": "exposures", "actions": "exposures", "round_trips": "exposures"},
    **{"ledger": "costs", "costs": "costs", "robustness": "robustness", "masks": "limits"},
    **{"folds": "folds", "generalisation": "learning", "training": "learning"},
}
OTHERS = "others"
MANY_ROWS = 24  # of the table of folds and seeds; more are folded away
NO_RECORD = {  # schemes whose curves nobody could have earned: title and reason
    "combinatorial": (
        "Combinatorial folds.",
        "Agents also learnt from bars after those that they were tested on, and bars were tested more than once. Read "
        "the folds as a distribution; the curves and intervals are no record that anybody could have earned.",
    ),
    "k_fold": (
        "K-fold.",
        "Agents also learnt from bars after those that they were tested on, and accounts start flat in each block. "
        "Every bar is tested once, each block by other agents; the curves and intervals are no record that anybody "
        "could have earned.",
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
        The page; plotly.js is in it once, compressed.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sentio_kedro.evaluation.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = lambda value: formatted(value, "number")
    skill = metrics.get("skill")
    return environment.get_template(TEMPLATE).render(
        metrics=metrics,
        headline=headline_metrics(metrics, data_quality),
        verdict=verdict(metrics),
        skill=skill,
        skill_rows=skill_rows(skill) if skill else [],
        lockbox_rows=lockbox_table_rows(skill) if skill else [],
        biased=metrics["universe"] == "survivorship_biased",
        no_record=NO_RECORD.get(metrics["scheme"]),
        targets=[_target_row(target) for target in metrics["targets"]],
        **_account_sections(metrics),
        **_section_tables(metrics),
        gap=None if metrics["generalisation_gap"] is None else formatted(metrics["generalisation_gap"], "number"),
        sides=_three_sides(metrics["folds"]),
        figures=[_figure_entry(name, figure) for name, figure in figures.items()],
        quality=data_quality,
        quality_rows=_quality_rows(data_quality or {}),
        context_rows=list(_flat(context or {})),
        plotly=packed_plotly(),
    )


@cache
def packed_plotly() -> str:
    """Return plotly.js compressed, as text: a third of its size; the page's script unpacks it."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)).decode("ascii")


def _account_sections(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of accounts, paths, regimes, symbols, folds, seeds and years, by the template's names."""
    return {
        "account_tables": account_tables(metrics),
        "comparison": comparison_table(metrics),
        "costs": cost_table(metrics),
        "paths": combinatorial_path_table(metrics),
        "regime_tables": regime_tables(metrics),
        "symbols": symbol_table(metrics),
        "folds": fold_table(metrics["folds"]),
        "many_rows": MANY_ROWS,
        "seeds": seed_table(metrics),
        "year_tables": year_tables(metrics),
        "selected_features": selected_feature_table(metrics["selected_features"]),
    }


def _section_tables(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of the sections on robustness, drawdowns and limits, by the template's names."""
    limit = metrics["drawdown_limit"]
    mask_titles, mask_rows = mask_table(metrics["masks"])
    return {
        "robustness_titles": [title for _, title, _ in ROBUSTNESS_COLUMNS],
        "robustness_rows": robustness_rows(metrics["robustness"]),
        "resampled": metrics["robustness"]["path"],
        "drawdown_rows": drawdown_rows(metrics["drawdowns"]),
        "limit": None if limit["limit"] is None else formatted(limit["limit"], "percent"),
        "limit_rows": limit_rows(limit),
        "breaches": sum(len(entry["breaches"]) for entry in limit["agents"]),
        "max_breaches": MAX_BREACHES,
        "breach_rows": breach_rows(limit),
        "order_titles": [title for _, title, _ in ORDER_COLUMNS],
        "order_rows": order_rows(metrics),
        "mask_titles": mask_titles,
        "mask_rows": mask_rows,
    }


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
    plain = json.loads(figure.to_json())
    plain["layout"].pop("template", None)
    notes = plain["layout"].get("annotations", [])
    title = plain["layout"].pop("title", {}).get("text", name)
    bare = PANEL_MARGIN if notes else BARE_MARGIN
    plain["layout"]["margin"]["t"] = bare if plain["layout"].get("showlegend") is False else LEGEND_MARGIN
    _share_x(plain["data"])
    text = json.dumps(plain, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return {
        "name": name,
        "section": SECTIONS.get(name, OTHERS),
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
