"""Figure and Markdown page of a comparison of runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sentio_kedro.evaluation.plots.style import (
    BLUE,
    GREY,
    ORANGE,
    RULE,
    TITLE_MARGIN,
    VERMILLION,
    drawn,
    plain_text,
    style,
)
from sentio_kedro.evaluation.statistics.bootstrap import confidence_percent

SHARPE, LOW, HIGH = "agent.sharpe", "agent.sharpe_low", "agent.sharpe_high"
PERCENT = ("return", "drawdown", "rate", "share", "turnover_per_bar", "exposure", "volatility")
ROW_PIXELS = 46  # height of a run's line
BOTTOM = 44  # pixels below the plot
MISSING = "\u2013"


def comparison_figure(table: pd.DataFrame) -> go.Figure:
    """Draw one line per run: Sharpe ratio, its difference to the reference, return and drawdown.

    Args:
        table: Table of ``compare_runs``; missing columns are left out. Runs that cannot be compared are grey.
    """
    titles = ("Sharpe ratio", "Sharpe difference", "Return, drawdown")
    figure = make_subplots(rows=1, cols=3, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles)
    labels = [plain_text(label).replace(" (", "<br>(") for label in run_labels(table)]
    colours = [BLUE if comparable else GREY for comparable in table["comparable"]]
    opacity = [1.0 if comparable else 0.35 for comparable in table["comparable"]]
    _dots(figure, 1, labels, table, (SHARPE, LOW, HIGH), colours)
    _dots(figure, 2, labels, table, ("sharpe_difference", "difference_low", "difference_high"), colours)
    for name, title, colour, symbol, sign in (
        ("agent.annual_return", "Return a year", ORANGE, "circle", 1.0),
        ("agent.max_drawdown", "Deepest drawdown", VERMILLION, "diamond", -1.0),
    ):
        if name in table:
            figure.add_scatter(
                x=drawn(sign * table[name]), y=labels, mode="markers", name=title,
                marker={"color": colour, "symbol": symbol, "size": 10, "opacity": opacity},
                hovertemplate=f"{title} %{{x:.1%}}<extra>%{{y}}</extra>", row=1, col=3,
            )  # fmt: skip
    plot = ROW_PIXELS * (len(table) + 1)
    style(figure, "Runs compared", TITLE_MARGIN + plot + BOTTOM)
    figure.update_layout(hovermode="closest", margin={"l": 12, "b": BOTTOM})
    figure.update_layout(legend={"y": 1.0 + ROW_PIXELS / plot, "x": 1.0, "xanchor": "right"})
    figure.update_annotations(font={"size": 13})
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(zeroline=True, zerolinecolor=GREY, gridcolor=RULE)
    figure.update_xaxes(tickformat=".0%", row=1, col=3)
    return figure


def _dots(
    figure: go.Figure, column: int, labels: list[str], table: pd.DataFrame, names: Sequence[str], colours: list[str]
) -> None:
    """Draw estimates with their intervals, one line per run."""
    if not set(names) <= set(table.columns):
        return
    value, low, high = (table[name].astype(float) for name in names)
    for index, (label, colour) in enumerate(zip(labels, colours, strict=True)):
        above, below = high.iloc[index] - value.iloc[index], value.iloc[index] - low.iloc[index]
        figure.add_scatter(
            x=drawn([value.iloc[index]]), y=[label], mode="markers", marker={"color": colour, "size": 10},
            error_x={"type": "data", "symmetric": False, "array": drawn([above]), "arrayminus": drawn([below])},
            hovertemplate="%{x:.2f} (+%{error_x.array:.2f} / -%{error_x.arrayminus:.2f})<extra>%{y}</extra>",
            showlegend=False, row=1, col=column,
        )  # fmt: skip


def run_labels(table: pd.DataFrame) -> list[str]:
    """Distinct labels of the runs, which mark the reference and those that cannot be compared."""
    names = [str(name) for name in table["name"]]
    labels: list[str] = []
    for name, run, comparable in zip(names, table["run"], table["comparable"], strict=True):
        label = f"{name} {run[:6]}" if names.count(name) > 1 else name
        mark = " (reference)" if not labels else "" if comparable else " (not comparable)"
        labels.append(f"{label}{mark}")
    return labels


def comparison_text(table: pd.DataFrame, metrics: Sequence[str], confidence: float) -> str:
    """Write the comparison as Markdown: sentences, then the table.

    Args:
        table: Table of ``compare_runs``.
        metrics: Metrics of the table.
        confidence: Coverage of the intervals.
    """
    labels, rows = run_labels(table), table.to_dict("records")
    head = ["run", *metrics, "Sharpe difference"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for label, row in zip(labels, rows, strict=True):
        cells = [label, *(_formatted(name, row[name]) for name in metrics), _interval(row)]
        lines.append(f"| {' | '.join(cells)} |")
    sentences = "\n".join(f"- {line}" for line in comparison_sentences(table, confidence))
    return f"# Runs compared\n\n{sentences}\n\n" + "\n".join(lines) + "\n"


def comparison_sentences(table: pd.DataFrame, confidence: float) -> list[str]:
    """One sentence per run: better or worse than the reference, or why that is unknown."""
    labels, rows = run_labels(table), table.to_dict("records")
    sentences = [f"{labels[0]}: tested on {rows[0]['rows'] or 'rows that it did not store'}."]
    sentences += [_sentence(label, row, confidence) for label, row in zip(labels[1:], rows[1:], strict=True)]
    if len(rows) == 1:
        sentences.append("There is no other run to compare it with.")
    return sentences


def _sentence(label: str, row: Mapping[Any, Any], confidence: float) -> str:
    if not row["comparable"]:
        return f"{label}: {row['differs_in']}. Its metrics do not show which agents are better."
    low, high = row["difference_low"], row["difference_high"]
    result = "better" if low > 0.0 else "worse" if high < 0.0 else "cannot be told apart"
    interval = f"{_interval(row)}, {confidence_percent(confidence)} interval"
    return f"{label}: {result}; Sharpe difference {interval}, on the same bars."


def _interval(row: Mapping[Any, Any]) -> str:
    value, low, high = row["sharpe_difference"], row["difference_low"], row["difference_high"]
    return MISSING if math.isnan(value) else f"{value:.2f} ({low:.2f} to {high:.2f})"


def _formatted(name: str, value: float) -> str:
    if value is None or math.isnan(value):
        return MISSING
    return f"{value:.2%}" if name.rpartition(".")[2].endswith(PERCENT) else f"{value:,.2f}"
