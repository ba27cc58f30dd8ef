"""Tables of the report: what it cost, regimes, limits, drawdowns and robustness, written for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sentio_kedro.evaluation.labels import TITLES, layer_title, regime_title

Kind = Literal["percent", "small_percent", "number", "count", "times"]
Row = list[str]
MISSING = "\u2013"  # an en dash stands for a figure that is undefined
MAX_BREACHES = 12  # printed; all of them are in metrics.json

ORDER_COLUMNS: tuple[tuple[str, str, Kind], ...] = (
    ("ordered", "Ordered", "percent"),
    ("capped_orders", "Cut by any limit", "percent"),
    ("projected_orders", "Cut by a joint limit", "percent"),
    ("margin_calls", "Margin calls", "count"),
    ("bankruptcies", "Bankruptcies", "count"),
)
ROBUSTNESS_COLUMNS: tuple[tuple[str, str, Kind], ...] = (
    ("sharpe", "Sharpe ratio", "number"),
    ("annual_return", "Return a year", "percent"),
    ("total_return", "Return in all", "percent"),
    ("max_drawdown", "Maximum drawdown", "percent"),
    ("turnover", "Turnover per bar", "small_percent"),
)
QUANTILE_TITLES = {"low": "5\u00a0% quantile", "median": "median", "high": "95\u00a0% quantile"}


def formatted(value: float | None, kind: Kind) -> str:
    """Write a number for people: percentages and numbers with two decimals, a dash where it is undefined."""
    if value is None:
        return MISSING
    texts = {
        "percent": f"{100.0 * value:,.2f}\u00a0%",
        "small_percent": f"{100.0 * value:,.4f}\u00a0%",
        "number": f"{value:,.2f}",
        "count": f"{value:,.0f}",
        "times": f"{value:,.1f}\u00a0\u00d7",
    }
    text = texts[kind]
    if not any(digit in text for digit in "123456789"):
        text = text.removeprefix("-")  # nothing is left of the number, so it has no sign
    return text.replace("-", "\u2212")  # a minus sign, which is as wide as a digit


def order_rows(metrics: Mapping[str, Any]) -> list[Row]:
    """Orders and what cut them down: every agent, then the baselines."""
    accounts = [(f"Seed {entry['seed']}", entry) for entry in metrics["seeds"]]
    accounts += [(TITLES[name], metrics[name]) for name in metrics["baselines"]]
    return [[title, *(formatted(found[key], kind) for key, _, kind in ORDER_COLUMNS)] for title, found in accounts]


def mask_table(masks: Sequence[Mapping[str, Any]]) -> tuple[Row, list[Row]]:
    """Titles and rows of the share of target levels that each layer forbade, by regime; no rows without telemetry."""
    regimes = 1 + max((entry["regime"] for entry in masks), default=0)
    rows: dict[str, Row] = {}
    for entry in masks:
        rows.setdefault(entry["layer"], [layer_title(entry["layer"])]).append(formatted(entry["forbidden"], "percent"))
    return ["Layer", *(regime_title(regime, regimes) for regime in range(regimes))], list(rows.values())


def drawdown_rows(drawdowns: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Worst drawdowns, deepest first."""
    return [
        [
            f"{place}",
            formatted(entry["depth"], "percent"),
            _day(entry["start"]),
            _day(entry["bottom"]),
            "not recovered" if entry["recovery"] is None else _day(entry["recovery"]),
            formatted(entry["bars_down"], "count"),
            formatted(entry["bars_to_recover"], "count"),
        ]
        for place, entry in enumerate(drawdowns, start=1)
    ]


def limit_rows(found: Mapping[str, Any]) -> list[Row]:
    """How each agent lived with the drawdown limit."""
    return [
        [
            f"Seed {entry['seed']}",
            formatted(entry["deepest"], "percent"),
            formatted(len(entry["breaches"]), "count"),
            formatted(entry["bars_without_headroom"], "percent"),
        ]
        for entry in found["agents"]
    ]


def breach_rows(found: Mapping[str, Any]) -> list[Row]:
    """The breaches with the largest losses, in order of time."""
    breaches = [(entry["seed"], breach) for entry in found["agents"] for breach in entry["breaches"]]
    worst = sorted(breaches, key=lambda item: -item[1]["loss"])[:MAX_BREACHES]
    keys = ("drawdown_before", "drawdown", "loss", "gross_exposure", "market_move", "move_to_limit")
    return [
        [f"Seed {seed}", _minute(breach["timestamp"]), *(formatted(breach[key], "percent") for key in keys)]
        for seed, breach in sorted(worst, key=lambda item: str(item[1]["timestamp"]))
    ]


def robustness_rows(found: Mapping[str, Any]) -> list[Row]:
    """Figures under changed conditions: medians over agents; for resampled markets quantiles over paths."""
    rows = [
        [title.format(entry["value"]), *(formatted(entry[key], kind) for key, _, kind in ROBUSTNESS_COLUMNS)]
        for variant, title in (
            ("cost", "Trading costs \u00d7 {:g}"),
            ("latency", "Latency in bars: {:g}"),
            ("start", "Start delayed by bars: {:g}"),
        )
        for entry in found[variant]
    ]
    if found["path"] is not None:
        rows += [
            [
                f"Resampled markets, {title}",
                *(formatted(found["path"][key][side], kind) for key, _, kind in ROBUSTNESS_COLUMNS),
            ]
            for side, title in QUANTILE_TITLES.items()
        ]
    return rows


def _day(timestamp: object) -> str:
    return str(timestamp)[:10]


def _minute(timestamp: object) -> str:
    return str(timestamp)[:16].replace("T", " ")
