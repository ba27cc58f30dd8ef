"""Style of all figures: colours for colour-blind readers, percent axes, few points."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from sentio_kedro.evaluation.labels import TITLES
from sentio_kedro.evaluation.run_frames import TARGETS_KEY, RunFrames, account_table, metric_key, row_times

MAX_POINTS = 1_200  # of one line
BUCKETS = 400  # of a line or heat map of means
SIGNIFICANT = 6  # digits of a drawn value
TITLE_MARGIN = 112  # pixels above the plot for the title and a legend of three rows
SHADED_SPANS = 160  # time buckets of the regime shading

# Okabe and Ito 2008, Color Universal Design.
BLUE, SKY, GREEN, ORANGE, VERMILLION, PURPLE, GREY = (
    *("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#8A8F98"),
)
BROWN, LAVENDER, OLIVE, TEAL, PINK = "#A6761D", "#7570B3", "#999933", "#44AA99", "#AA4499"  # Brewer 2003, and Tol 2021
COLOURS = {
    "agent": BLUE,
    **{"buy_and_hold": ORANGE, "equal_weight": GREEN, "momentum": PURPLE, "random": GREY},
    **{
        "forecast_rule": PINK,
        "ridge": BROWN,
        "boosted_trees": LAVENDER,
        "minimum_variance": OLIVE,
        "risk_parity": TEAL,
    },
    **{"regime_rule": VERMILLION, TARGETS_KEY: SKY},
}
DASHES = {
    **{"buy_and_hold": "solid", "equal_weight": "dash", "momentum": "dot", "random": "dashdot"},
    **{
        "forecast_rule": "solid",
        "ridge": "solid",
        "boosted_trees": "dash",
        "minimum_variance": "dot",
        "risk_parity": "dashdot",
    },
    **{"regime_rule": "longdashdot", TARGETS_KEY: "longdash"},
}
DIVERGING = [  # translucent, so that text on it is readable on light and dark pages
    [0.0, "rgba(213,94,0,0.8)"],
    [0.5, "rgba(138,143,152,0.10)"],
    [1.0, "rgba(0,114,178,0.8)"],
]
RULE = "rgba(138,143,152,0.25)"
REGIME_COLOURS = (SKY, ORANGE, VERMILLION)  # calm, in between, volatile
AGENT_RANGE = "rgba(0,114,178,0.18)"


def new_figure(title: str, y_title: str = "", *, percent: bool = False, height: int = 420) -> go.Figure:
    """Make an empty figure in the project's style."""
    figure = go.Figure()
    style(figure, title, height)
    figure.update_yaxes(title=y_title, tickformat=".0%" if percent else None)
    return figure


def style(figure: go.Figure, title: str, height: int) -> None:
    """Apply the project's style; the background is transparent, so that it suits light and dark pages."""
    top = {"x": 0.0, "xanchor": "left", "yref": "container", "y": 1.0, "yanchor": "top", "pad": {"t": 8}}
    legend = {"orientation": "h", "traceorder": "normal", "yanchor": "bottom", "y": 1.02, "x": 0.0, "xanchor": "left"}
    figure.update_layout(
        title={"text": title, **top},
        height=height,
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": "#5B616B"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 76, "r": 16, "t": TITLE_MARGIN, "b": 52},
        hovermode="x unified",
        legend=legend,
    )
    figure.update_xaxes(gridcolor=RULE, zerolinecolor=RULE, linecolor=RULE)
    figure.update_yaxes(gridcolor=RULE, zerolinecolor=RULE, linecolor=RULE)


def list_rows(figure: go.Figure, **options: object) -> None:
    """Make the y-axis a list of names, read from top to bottom."""
    figure.update_layout(hovermode="closest")
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, automargin=True, **options)


def write_note(figure: go.Figure, text: str) -> None:
    """Write a sentence in place of a plot that has no data."""
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text=text, showarrow=False)


def plain_text(name: object) -> str:
    """Return a name that Plotly draws as it is: it reads ``<b>`` and ``&amp;`` in texts."""
    return html.escape(str(name), quote=False)


def add_heatmap(figure: go.Figure, table: pd.DataFrame, hover: str, **options: object) -> None:
    """Draw a table as a heat map of gains and losses, one row per index entry, top to bottom."""
    values = table.to_numpy(dtype=np.float64)
    bound = float(np.nanmax(np.abs(values))) or 1.0
    figure.add_heatmap(
        z=[drawn(row) for row in values], x=list(table.columns), y=[plain_text(name) for name in table.index],
        colorscale=DIVERGING, zmin=-bound, zmax=bound, hovertemplate=f"{hover}<extra></extra>",
        colorbar={"tickformat": ".0%", "thickness": 12, "outlinewidth": 0}, **options,
    )  # fmt: skip
    figure.update_layout(showlegend=False)
    list_rows(figure)


def add_histogram(
    figure: go.Figure, values: NDArray[np.float64], bins: int, hover: str, tail: float = 0.0, **options: object
) -> float:
    """Draw a histogram of returns, symmetric around zero.

    Args:
        figure: Figure to add to.
        values: Returns [N].
        bins: Number of bins; even, so that zero is an edge.
        hover: Hover text of a bin.
        tail: Share of the values at each end that the outermost bins collect.
        options: Row and column of a subplot.

    Returns:
        Largest absolute value on the axis.
    """
    reach = max(abs(float(value)) for value in np.quantile(values, [tail, 1.0 - tail])) or 1e-6
    counts, edges = np.histogram(values.clip(-reach, reach), bins=np.linspace(-reach, reach, bins + 1))
    middle = (edges[1:] + edges[:-1]) / 2.0
    figure.add_bar(
        x=drawn(middle), y=counts.tolist(), marker={"color": [BLUE if value > 0.0 else VERMILLION for value in middle]},
        hovertemplate=f"{hover}<extra></extra>", **options,
    )  # fmt: skip
    figure.update_layout(hovermode="closest", showlegend=False, bargap=0.05)
    return reach


def regime_means(frames: RunFrames, buckets: int) -> pd.DataFrame:
    """Mean probability of each regime over the test bars, in ``buckets`` time buckets; empty without regimes."""
    first, last = frames.accounts["timestamp"].min(), frames.accounts["timestamp"].max()
    posterior = frames.regime_posteriors[frames.regime_posteriors["timestamp"].between(first, last)]
    states = [str(name) for name in posterior.columns if str(name).startswith("state_")]
    means = posterior.groupby("timestamp")[states].mean()
    return means if means.empty else bucket_means(means, buckets)


def path_table(frames: RunFrames, column: str) -> pd.DataFrame:
    """One column of ``accounts`` over time: index timestamp, one column per account.

    Where folds test rows again (combinatorial folds), the values of a row are averaged.
    """
    table = account_table(frames, column)
    repeated = table.index.get_level_values("row").duplicated().any()
    table = table.groupby(level="row").mean() if repeated else table.droplevel("fold").sort_index()
    return table.set_index(pd.DatetimeIndex(row_times(frames).loc[table.index], name="timestamp"))


def thin_rows(count: int) -> NDArray[np.int64]:
    """Pick at most ``MAX_POINTS`` evenly spaced rows of ``count``, including both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).round().astype(np.int64))


def keep_extremes(table: pd.DataFrame, points: int = MAX_POINTS) -> pd.DataFrame:
    """Thin lines to at most ``points`` rows without losing a peak or a trough.

    Each line keeps the lowest and the highest value of each short span, in their order. First and last row stay.
    """
    rows = len(table)
    if rows <= points:
        return table
    size = -(-rows // ((points - 2) // 2))
    spans = -(-rows // size)
    values = table.to_numpy(dtype=np.float64)
    padded = np.concatenate([values, np.repeat(values[-1:], spans * size - rows, axis=0)])
    parts = padded.reshape(spans, size, -1)  # [spans, size, N]
    lowest, highest = parts.argmin(axis=1), parts.argmax(axis=1)  # [spans, N]
    order = np.stack([np.minimum(lowest, highest), np.maximum(lowest, highest)], axis=1)  # [spans, 2, N]
    picked = np.take_along_axis(parts, order, axis=1).reshape(2 * spans, -1)
    places = np.arange(spans)[:, None] * size + np.array([size // 4, 3 * size // 4])
    places = np.minimum(places.ravel(), rows - 1)
    drawn = np.concatenate([values[:1], picked, values[-1:]])
    return pd.DataFrame(drawn, index=table.index[[0, *places, rows - 1]], columns=table.columns)


def bucket_means(table: pd.DataFrame, buckets: int = BUCKETS) -> pd.DataFrame:
    """Average consecutive rows so that at most ``buckets`` are left; the index is the first time of each."""
    size = -(-len(table) // buckets)
    group = np.arange(len(table)) // size
    return table.groupby(group).mean().set_index(table.index[::size])


def drawn(values: pd.Series | NDArray[np.float64] | Sequence[float]) -> list[float | None]:
    """Round values to ``SIGNIFICANT`` digits; values that are not finite become gaps."""
    numbers = np.asarray(values, dtype=np.float64)
    return [float(f"{number:.{SIGNIFICANT}g}") if np.isfinite(number) else None for number in numbers]


def drawn_times(times: pd.Index) -> list[str]:
    """Times as short ISO text, to the minute, UTC."""
    return list(pd.DatetimeIndex(times).strftime("%Y-%m-%d %H:%M"))


def add_agent_and_baselines(figure: go.Figure, table: pd.DataFrame, frames: RunFrames, hover: str) -> None:
    """Draw the baselines as thin lines, the headline account bold, the range of the agents as a band.

    Args:
        figure: Figure to add to.
        table: Index timestamp, one column per account; thinned by ``keep_extremes``.
        frames: Frames of the run.
        hover: Number format of the hover text, such as ``.2%``.
    """
    agents = table[frames.seeds]
    lines = {"highest": agents.max(axis=1), "lowest": agents.min(axis=1), "agent": table[frames.headline]}
    table = keep_extremes(pd.concat([table[list(frames.baselines)], pd.DataFrame(lines)], axis=1))
    x = drawn_times(table.index)
    if len(frames.seeds) > 1:
        outline = {"width": 0}
        figure.add_scatter(x=x, y=drawn(table["highest"]), line=outline, showlegend=False, hoverinfo="skip")
        figure.add_scatter(
            x=x, y=drawn(table["lowest"]), line=outline, fill="tonexty", fillcolor=AGENT_RANGE,
            name="Range of seeds", hoverinfo="skip",
        )  # fmt: skip
    for name in frames.baselines:
        key = metric_key(name)
        line = {"color": COLOURS[key], "width": 1.4, "dash": DASHES[key]}
        figure.add_scatter(x=x, y=drawn(table[name]), name=TITLES[key], line=line, hovertemplate=f"%{{y:{hover}}}")
    line = {"color": COLOURS["agent"], "width": 2.8}
    agent = drawn(table["agent"])
    figure.add_scatter(x=x, y=agent, name=TITLES["agent"], line=line, hovertemplate=f"%{{y:{hover}}}")


def add_fold_borders(figure: go.Figure, frames: RunFrames) -> None:
    """Draw a dotted line where each fold's test rows begin, except the first."""
    starts = frames.accounts[frames.accounts["account"] == frames.headline].groupby("fold")["timestamp"].min()
    line = {"color": GREY, "width": 1, "dash": "dot"}
    borders = [
        {"type": "line", "x0": time, "x1": time, "line": line} for time in drawn_times(pd.Index(sorted(starts)))[1:]
    ]
    _add_spans(figure, borders)
    if borders:
        figure.add_scatter(x=[None], y=[None], mode="lines", name="Fold border", line=line)


def add_regime_shading(figure: go.Figure, frames: RunFrames) -> None:
    """Shade the spans in which a regime other than the calmest is the most likely, darker for higher volatility."""
    means = regime_means(frames, SHADED_SPANS)
    states = means.shape[1]
    if means.empty or states < 2:  # noqa: PLR2004 - one regime needs no shading
        return
    likeliest = means.to_numpy().argmax(axis=1)
    ends = [*drawn_times(means.index[1:]), drawn_times(pd.Index([frames.accounts["timestamp"].max()]))[0]]
    changes = np.flatnonzero(np.diff(likeliest, prepend=-1)).tolist()
    shaded = []
    for begin, stop in zip(changes, [*changes[1:], len(likeliest)], strict=True):
        if likeliest[begin] > 0:
            shade = regime_shade(int(likeliest[begin]), states)
            x0, x1 = drawn_times(means.index[[begin]])[0], ends[stop - 1]
            shaded.append({"x0": x0, "x1": x1, "fillcolor": shade, "line": {"width": 0}, "layer": "below"})
    _add_spans(figure, shaded)
    for state in range(1, states):
        square = {"symbol": "square", "size": 11, "color": regime_shade(state, states)}
        name = "Volatile regime" if state == states - 1 else f"Regime {state}"
        figure.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=square)


def _add_spans(figure: go.Figure, spans: Sequence[Mapping[str, object]]) -> None:
    """Add rectangles or lines over the full height in one assignment; Plotly copies the layout at each one."""
    full = {"type": "rect", "xref": "x", "yref": "paper", "y0": 0, "y1": 1}
    figure.layout.shapes = [*figure.layout.shapes, *({**full, **span} for span in spans)]
    figure.update_xaxes(type="date")  # a trace without data would leave the axis a number line


def regime_colour(regime: int, regimes: int) -> str:
    """Colour of a regime, calm to volatile; blue if it is the only one."""
    if regimes == 1:
        return BLUE
    return REGIME_COLOURS[round(regime / (regimes - 1) * (len(REGIME_COLOURS) - 1))]


def regime_shade(state: int, states: int) -> str:
    """Colour of a regime's shading, from clear (calm) to vermillion (volatile)."""
    return f"rgba(213,94,0,{0.22 * state / (states - 1):.3f})"
