"""The page of live trading: one self-contained HTML file in the style of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from sentio_kedro.evaluation.live.figures import CAPTIONS, TITLES
from sentio_kedro.evaluation.live.split import NEGLIGIBLE, PARTS
from sentio_kedro.evaluation.report.columns import Columns, Kind
from sentio_kedro.evaluation.report.report import UNITS, figure_entry, packed_plotly, page_template, target_row
from sentio_kedro.evaluation.report.tables import MISSING, Table, formatted, interval_title, table_of

TEMPLATE = "live.html.jinja"
SECTIONS = {  # section of the page that shows each figure
    **{"live_equity": "band", "live_parts": "difference", "live_days": "difference"},
    "live_actions": "behaviour",
}
MEANINGS = {
    "bars_revised": "Bars that the dataset has with other values than were seen live.",
    "missed_bars": "Bars of the dataset that did not come, or at which nobody decided.",
    "decisions": "Other trades than the backtest's on the same bars: other actions, orders that were denied, refused "
    "or dropped, halts, sizes.",
    "slippage": "Fills at other prices than the model's, beyond the spread and the impact that it expects.",
    "fees": "Fees other than the commission of the model.",
    "cash": "Dividends, interest, borrow fees, funding and transfers other than the model's.",
    "unexplained": "What no fill and no cash accounts for, such as positions that a person adopted.",
}
KINDS = {
    "action": "The agents chose another level.",
    "size": "The same level, but another position: an order filled in part, or an account worth more or less.",
    "denied": "The limit named, or the trader's state, forbade the order.",
    "refused": "The venue did not take it.",
    "dropped": "It never reached the venue.",
    "unknown": "The venue gave no definite answer.",
}
BEHAVIOUR: Columns = (
    ("total_return", "Return", "percent"),
    ("gross_exposure", "Gross exposure", "percent"),
    ("net_exposure", "Net exposure", "percent"),
    ("turnover_per_bar", "Turnover per bar", "small_percent"),
    ("trades", "Round trips", "count"),
    ("win_rate", "Win rate", "percent"),
    ("holding_bars", "Holding, mean bars", "number"),
    ("median_holding_bars", "Holding, median bars", "number"),
)
POSITIONS: Columns = (
    ("live", "Mean position, live", "percent"),
    ("backtest", "Backtest", "percent"),
    ("live_gross", "Mean size, live", "percent"),
    ("backtest_gross", "Backtest", "percent"),
    ("live_shares", "Shares at the end, live", "number"),
    ("backtest_shares", "Backtest", "number"),
)


def render_live(metrics: Mapping[str, Any], figures: Mapping[str, go.Figure]) -> str:
    """Render the page without external resources.

    Args:
        metrics: Result of ``live_metrics``.
        figures: Result of ``live_figures``.
    """
    return page_template(TEMPLATE).render(
        metrics=metrics,
        headline=_headline(metrics),
        verdict=live_sentences(metrics),
        alarms=_alarms(metrics),
        tables={
            "parts": _parts_table(metrics["difference"]),
            "kinds": _kinds_table(metrics["decisions"]),
            "band": _band_table(metrics),
            "behaviour": table_of(
                "Account", ((name.capitalize(), metrics[name]) for name in ("live", "backtest")), BEHAVIOUR,
                note="Means over bars, fractions of equity. The backtest is that on the journal's bars. What the first "
                "account holds counts as bought at its close.",
            ),
            "positions": table_of("Symbol", ((p["symbol"], p) for p in metrics["positions"]), POSITIONS, "By symbol"),
        },
        targets=[_target(target) for target in metrics["targets"]],
        figures=[figure_entry(name, figure, SECTIONS[name], CAPTIONS[name]) for name, figure in figures.items()],
        plotly=packed_plotly(),
    )  # fmt: skip


def live_sentences(metrics: Mapping[str, Any]) -> list[str]:
    """Say in words how live and backtest differ, what causes most of it, and where the live return stands."""
    fraction, decisions, band = metrics["difference"]["fraction"], metrics["decisions"], metrics["band"]
    difference = fraction["difference"]
    share = formatted(abs(difference), "small_percent")
    same = abs(difference) <= NEGLIGIBLE and not decisions["differing"]
    if same:
        first = "Live trading repeats the backtest: the same decisions and the same money."
    else:
        largest = max(PARTS, key=lambda part: abs(fraction[part]))
        first = (
            f"The live account earned {share} of its first equity {'more' if difference > 0.0 else 'less'} than the "
            f"backtest; the largest part is {TITLES[largest].lower()} "
            f"({formatted(fraction[largest], 'small_percent')})."
        )
    second = f"{decisions['differing']:,} of {decisions['compared']:,} decisions differ."
    place = (
        f"The live return of {formatted(metrics['live']['total_return'], 'percent')} is larger than "
        f"{formatted(band['percentile'], 'percent')} of the returns that the out-of-sample record gives over as many "
        "bars."
    )
    return [f"{first} {second}", place, metrics["note"]]


def _headline(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    fraction, band, bps = metrics["difference"]["fraction"], metrics["band"], metrics["slippage"]
    below = metrics["live"]["total_return"] < band["low"]
    tiles = (
        ("Live return", formatted(metrics["live"]["total_return"], "percent"), "without cash that was moved in", ""),
        ("Backtest", formatted(fraction["backtest"], "percent"), "of the first equity, on the dataset's bars", ""),
        ("Difference", formatted(fraction["difference"], "small_percent"), "of the first equity", ""),
        (
            "Place in the record",
            formatted(band["percentile"], "percent"),
            "of resampled returns are lower",
            "bad" if below else "",
        ),
        (
            "Decisions that differ",
            f"{metrics['decisions']['differing']:,}",
            f"of {metrics['decisions']['compared']:,} on the same bars",
            "",
        ),
        (
            "Costs of fills",
            MISSING if bps["realised_bps"] is None else f"{formatted(bps['realised_bps'], 'number')} bps",
            "model: " + (MISSING if bps["model_bps"] is None else f"{formatted(bps['model_bps'], 'number')} bps"),
            "",
        ),
    )
    return [dict(zip(("title", "value", "note", "tone"), tile, strict=True)) for tile in tiles]


def _alarms(metrics: Mapping[str, Any]) -> list[str]:
    found = []
    if abs(metrics["difference"]["fraction"]["unexplained"]) > 1e-6:  # noqa: PLR2004 - of equity, as reconciliation
        found.append(
            "A part of the difference is unexplained: cash or positions changed without a fill. Look for `adopted` in "
            "`kedro trader journal`."
        )
    if metrics["live"]["total_return"] < metrics["band"]["low"]:
        found.append("The live return lies below the range of the out-of-sample record.")
    return found


def _parts_table(difference: Mapping[str, Any]) -> Table:
    money, fraction = difference["money"], difference["fraction"]
    lines = [("backtest", "Backtest", "Profit on the dataset's bars, from the journal's first account.")]
    lines += [(part, TITLES[part], MEANINGS[part]) for part in PARTS]
    lines += [("live", "Live", "Profit of the live account.")]
    rows = [
        [title, formatted(money[name], "number"), formatted(fraction[name], "small_percent"), meaning]
        for name, title, meaning in lines
    ]
    note = "In quote currency, and as fractions of the first equity. The lines from the backtest on add up to live."
    return Table(["Part", "Money", "Fraction", "What it is"], rows, note=note)


def _kinds_table(decisions: Mapping[str, Any]) -> Table:
    rows = [[kind, f"{count:,}", KINDS.get(kind.partition(":")[0], "")] for kind, count in decisions["kinds"].items()]
    return Table(["Kind", "Decisions", "What happened"], rows, "Decisions that differ")


def _band_table(metrics: Mapping[str, Any]) -> Table:
    band = metrics["band"]
    heads = ["", "Live return", "Lower", "Median", "Higher", "Lower returns"]
    values = (metrics["live"]["total_return"], band["low"], band["median"], band["high"], band["percentile"])
    row = [interval_title(band["confidence"]), *(formatted(value, "percent") for value in values)]
    note = (
        f"Returns over {metrics['bars']:,} bars of {band['samples']:,} paths that are resampled from the out-of-sample "
        f"returns in blocks of {band['mean_block_bars']:,.0f} bars on average. Where the journal is of tested bars, "
        "they are part of the record."
    )
    return Table(heads, [row], note=note)


def _target(target: Mapping[str, Any]) -> dict[str, Any]:
    kind: Kind = UNITS[target["unit"]]

    def between(ends: Any) -> str:
        if not ends or None in ends:
            return MISSING
        return f"{formatted(ends[0], kind)} to {formatted(ends[1], kind)}"

    return target_row(target) | {
        "interval": between(target["interval"]),
        "tested": target_row({**target, "measured": target["tested"]})["measured"],
        "tested_interval": between(target["tested_interval"]),
    }
