"""Figures of the report: what the agents earned, against the baselines, through the folds and regimes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch

from sentio_kedro.evaluation.plots.distributions import daily_figure, regime_figure, sharpe_path_figure
from sentio_kedro.evaluation.plots.ledger import cost_figure, ledger_figure
from sentio_kedro.evaluation.plots.limits import mask_figure
from sentio_kedro.evaluation.plots.robustness import robustness_figure
from sentio_kedro.evaluation.plots.style import (
    DIVERGING,
    add_agent_and_baselines,
    add_fold_borders,
    add_regime_shading,
    new_figure,
    path_table,
    thin_rows,
)
from sentio_kedro.evaluation.plots.trading import action_figure, exposure_figure, position_figure, round_trip_figure
from sentio_kedro.evaluation.plots.training import generalisation_figure, training_figure
from sentio_kedro.evaluation.run_frames import RunFacts, RunFrames
from sentio_kedro.trading.performance import drawdown, sharpe_ratio

MIN_WINDOW = 2
AXIS_MARGIN = 0.05  # of a decade
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

CAPTIONS = {  # in the order of the report
    "folds": "Which bars train, choose and judge the agents of each fold, and which are left out between them: purged, "
    "since a later part is rewarded by the same bars (none where a reward takes one bar), or embargoed, since they "
    "would read what rewarded a test block. Blank bars come before the first decision or are the fold's future. The "
    "lockbox is in no fold.",
    "equity": "Value of 1 invested at the first unseen bar, net of costs, on a log axis: the agents' median at each "
    "bar, the range of their seeds, and the baselines. Shaded where the market was not in its calmest regime. "
    "Random actions may fall below the axis.",
    "monthly_returns": "Return of each calendar month, net of costs, median of seeds; the first and last month may be "
    "partial.",
    "drawdown": "Loss from the highest value so far; the starting capital counts as a peak.",
    "daily_returns": "Days of the agent whose total return is the median, UTC, net of costs, on a log axis; the "
    "outermost bars hold everything beyond them. 95 % of the days stay above the value at risk.",
    "sharpe_paths": "Every agent's Sharpe ratio on every backtest path, or in every fold where each bar is tested "
    "once, beside two baselines. One number of one path is one draw of these.",
    "rolling_sharpe": "Sharpe ratio of a trailing window, annualised: how steady the result is, not how sure. Drawn at "
    "evenly spaced bars.",
    "regimes": "Probability of each regime from bars up to then, averaged over folds and short spans of time.",
    "exposure": "Invested fraction of equity and traded notional per bar as a fraction of equity, averaged over seeds "
    "and over short spans of time.",
    "positions": "Position in each asset as a fraction of equity, mean of seeds, averaged over short spans of time.",
    "ledger": "Sums over all bars of every line of the ledger, as fractions of the equity at each decision, for the "
    "agent whose total return is the median. Lines of zero are left out.",
    "costs": "The same lines as they add up over time. Costs of trading are commission, spread and impact; costs of "
    "holding are borrow fees, financing and funding, and fall where interest or funding was earned.",
    "robustness": "The agents on the same bars with other trading costs, later fills, a later start, and on markets "
    "put together from blocks of these bars. Line: median agent; band: range of the agents.",
    "masks": "Share of the target levels of all assets that each layer forbade on its own, mean of agents and folds. A "
    "level beyond a cap stands for the cap, so an agent can always hold what is left.",
    "actions": "How often each action was taken, of all decisions; the markers show how often it was allowed.",
    "round_trips": "Net result of every round trip of all seeds as a fraction of the equity at its entry; the "
    "outermost bars hold everything beyond them.",
    "generalisation": "The chosen agents on the rows they learnt from, were chosen on, and had never seen: what is "
    "left of a Sharpe ratio on the way.",
    "training": "Sharpe ratios on train and validation rows while learning, one line per seed and member; a widening "
    "gap is memorising.",
}


def draw_figures(
    frames: RunFrames, facts: RunFacts, metrics: dict[str, Any], folds: go.Figure | None = None
) -> dict[str, go.Figure]:
    """Draw every figure of the report.

    Lines hold at most 1,200 points: of each short span its lowest and its highest value (equity, drawdown, costs),
    evenly spaced bars (rolling Sharpe ratio) or means (exposure, positions, regimes).

    Args:
        frames: Frames of the run.
        facts: Facts of the run.
        metrics: What ``metrics.build_metrics`` returns; its figures of costs, masks, robustness and folds are drawn.
        folds: What ``fold_figures.fold_figure`` drew; None leaves it out.

    Returns:
        Figures by name, in the order of the report; the names are those of ``CAPTIONS``.
    """
    seed = metrics["median_seed"]
    (median,) = [entry for entry in metrics["seeds"] if entry["seed"] == seed]
    drawn = {} if folds is None else {"folds": folds}
    return drawn | {
        "equity": equity_figure(frames),
        "monthly_returns": monthly_figure(frames),
        "drawdown": drawdown_figure(frames),
        "daily_returns": daily_figure(frames, median),
        "sharpe_paths": sharpe_path_figure(metrics["paths"]),
        "rolling_sharpe": rolling_sharpe_figure(frames, facts.periods_per_year),
        "regimes": regime_figure(frames),
        "exposure": exposure_figure(frames),
        "positions": position_figure(frames),
        "ledger": ledger_figure(metrics["agent"]["costs"]),
        "costs": cost_figure(frames),
        "robustness": robustness_figure(frames.robustness, metrics["robustness"]),
        "masks": mask_figure(metrics["masks"]),
        "actions": action_figure(frames),
        "round_trips": round_trip_figure(frames),
        "generalisation": generalisation_figure(metrics["folds"]),
        "training": training_figure(frames.training_curves),
    }


def equity_figure(frames: RunFrames) -> go.Figure:
    """Draw the value of 1 invested: agents, their range, baselines, fold borders, regimes."""
    figure = new_figure("Equity out of sample, net of costs", "Value of 1 invested (log)", height=480)
    equity = (1.0 + path_table(frames, "return").clip(lower=-1.0)).cumprod().clip(lower=1e-6)  # a log axis has no 0
    add_regime_shading(figure, frames)
    add_agent_and_baselines(figure, equity, frames, ".3f")
    add_fold_borders(figure, frames)
    shown = np.log10(equity.drop(columns="random").to_numpy())  # random actions fall far below what else is to be seen
    span = [float(shown.min()) - AXIS_MARGIN, float(shown.max()) + AXIS_MARGIN]
    figure.update_yaxes(type="log", tickformat=".3~g", minor={"showgrid": False}, dtick=None, range=span)
    return figure


def drawdown_figure(frames: RunFrames) -> go.Figure:
    """Draw the loss from the highest equity so far, as negative percentages."""
    figure = new_figure("Drawdown", "Loss from the peak", percent=True, height=340)
    returns = path_table(frames, "return")
    depth = -drawdown(torch.from_numpy(returns.to_numpy(copy=True))).numpy()
    table = pd.DataFrame(depth, index=returns.index, columns=returns.columns)
    add_agent_and_baselines(figure, table, frames, ".2%")
    add_fold_borders(figure, frames)
    figure.update_yaxes(tickformat=".0%")
    return figure


def rolling_sharpe_figure(frames: RunFrames, periods_per_year: float) -> go.Figure:
    """Draw the Sharpe ratio of a trailing month, or of a third of the rows if that is shorter."""
    returns = path_table(frames, "return")
    window = max(MIN_WINDOW, min(round(periods_per_year / 12.0), len(returns) // 3))
    days = window / periods_per_year * 365.0
    figure = new_figure(f"Rolling Sharpe ratio, {days:.0f} days", "Sharpe ratio, annualised", height=340)
    if len(returns) <= window:
        return figure
    last = thin_rows(len(returns) - window + 1)
    rolled = {}
    for name in returns.columns:  # one account at a time: windows x points values are held
        windows = torch.from_numpy(returns[name].to_numpy(copy=True)).unfold(0, window, 1)[last]  # [points, window]
        rolled[name] = sharpe_ratio(windows.T, periods_per_year).numpy()
    table = pd.DataFrame(rolled, index=returns.index[last + window - 1])
    add_agent_and_baselines(figure, table, frames, ".2f")
    add_fold_borders(figure, frames)
    return figure


def monthly_figure(frames: RunFrames) -> go.Figure:
    """Draw a heat map of calendar months: median over seeds of each month's compounded return."""
    returns = path_table(frames, "return")[frames.seeds]
    times = pd.DatetimeIndex(returns.index)
    months = (1.0 + returns).groupby([times.year, times.month]).prod() - 1.0
    median = months.median(axis=1)
    years = sorted({int(year) for year, _ in median.index})
    grid = [[float(median.get((year, month), np.nan)) for month in range(1, 13)] for year in years]
    bound = float(median.abs().max()) or 1.0
    figure = new_figure("Monthly returns", "", height=150 + 44 * len(years))
    figure.add_heatmap(
        z=[[None if np.isnan(value) else round(value, 6) for value in row] for row in grid],
        x=MONTHS,
        y=[str(year) for year in years],
        text=[["" if np.isnan(value) else f"{value:.1%}" for value in row] for row in grid],
        texttemplate="%{text}",
        hovertemplate="%{x} %{y}: %{z:.2%}<extra></extra>",
        colorscale=DIVERGING,
        zmin=-bound,
        zmax=bound,
        hoverongaps=False,
        xgap=2,
        ygap=2,
        colorbar={"tickformat": ".0%", "thickness": 12, "outlinewidth": 0},
    )
    figure.update_layout(hovermode="closest", showlegend=False)
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, automargin=True)
    return figure
