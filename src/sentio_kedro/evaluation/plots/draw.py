"""All plots of the report with their captions, and the plots of returns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch

from sentio_kedro.evaluation.plots.distributions import daily_figure, regime_figure, sharpe_path_figure
from sentio_kedro.evaluation.plots.forecasts import evidence_figure
from sentio_kedro.evaluation.plots.ledger import cost_figure, ledger_figure
from sentio_kedro.evaluation.plots.robustness import robustness_figure
from sentio_kedro.evaluation.plots.style import (
    add_agent_and_baselines,
    add_fold_borders,
    add_heatmap,
    add_regime_shading,
    new_figure,
    path_table,
    thin_rows,
)
from sentio_kedro.evaluation.plots.trading import (
    action_figure,
    exposure_figure,
    mask_figure,
    position_figure,
    round_trip_figure,
)
from sentio_kedro.evaluation.plots.training import generalisation_figure, training_figure
from sentio_kedro.evaluation.run_frames import RunFacts, RunFrames
from sentio_kedro.trading.performance import drawdown, sharpe_ratio

MIN_WINDOW = 2
AXIS_MARGIN = 0.05  # of a decade
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

CAPTIONS = {  # in the order of the report
    "folds": "Train, validation and test bars of each fold. Purged bars are left out because their rewards overlap the "
    "next part; there are none where a reward takes one bar. Embargoed bars are left out because they read bars that "
    "reward a test block. Blank bars lie before the first decision or in the fold's future. The lockbox is in no fold.",
    "equity": "Value of 1 invested at the first test bar, net of costs, on a log axis: the agents as one, "
    "the range of the seeds alone, and the baselines. Shading marks bars outside the calmest regime. Random actions "
    "may fall below the axis.",
    "monthly_returns": "Return of each calendar month, net of costs. The first and last month may be partial.",
    "drawdown": "Loss from the highest value so far. The starting capital counts as a peak.",
    "daily_returns": "Daily returns (UTC) of the agent, net of costs, on a log axis. The "
    "outermost bars include everything beyond them. On 95 % of the days the loss is smaller than the value at risk.",
    "sharpe_paths": "Sharpe ratio of every agent on every backtest path, or in every fold where each bar is tested "
    "once, and of two baselines. A single Sharpe ratio is one draw from this distribution.",
    "rolling_sharpe": "Annualised Sharpe ratio of a trailing window, at evenly spaced bars. It shows how steady the "
    "result is, not how significant.",
    "regimes": "Probability of each regime given the bars so far, averaged over folds and short time spans.",
    "exposure": "Gross exposure, net exposure and turnover per bar as fractions of equity, averaged over "
    "short time spans.",
    "positions": "Position in each asset as a fraction of equity, averaged over short time spans.",
    "ledger": "Sum over all bars of every ledger line, as fractions of the equity at each decision. Lines of zero "
    "are left out.",
    "costs": "The same lines cumulated over time. Trading costs are commission, spread and impact. Holding costs are "
    "borrow fees, financing and funding; they fall where interest or funding is earned.",
    "robustness": "The agent on the same bars with other trading costs, higher latency or later starts, and on "
    "resampled markets.",
    "masks": "Share of the target levels of all assets that each layer cuts or forbids on its own, mean over "
    "folds. A level beyond a cap stands for the cap.",
    "actions": "Share of the decisions in which each target level is chosen, where more than one is legal. The markers "
    "show how often it is legal. A position near its target is not traded.",
    "round_trips": "Net result of every round trip as a fraction of the equity at entry. The outermost "
    "bars include everything beyond them.",
    "evidence": "Correlation of each expert's forecasts with the returns of some bars after the decision: out of fold "
    "on train rows, where they are weighed, and on validation rows, which show how it lasts. Thin lines are folds, "
    "thick ones their mean.",
    "generalisation": "Sharpe ratio of each agent on the train rows, the validation rows that select it, and the test "
    "rows.",
    "training": "Sharpe ratios on train and validation rows during training, one line per seed and member. A widening "
    "gap is a sign of overfitting.",
}


def draw_figures(
    frames: RunFrames, facts: RunFacts, metrics: dict[str, Any], folds: go.Figure | None = None
) -> dict[str, go.Figure]:
    """Draw every figure of the report.

    Args:
        frames: Frames of the run.
        facts: Facts of the run.
        metrics: Result of ``build_metrics``.
        folds: Result of ``folds.fold_figure``; None leaves it out.

    Returns:
        Figures by name, in the order of ``CAPTIONS``. Lines hold at most ``MAX_POINTS`` points.
    """
    first = {} if folds is None else {"folds": folds}
    return first | {
        "equity": equity_figure(frames),
        "monthly_returns": monthly_figure(frames),
        "drawdown": drawdown_figure(frames),
        "daily_returns": daily_figure(frames, metrics["agent"]),
        "sharpe_paths": sharpe_path_figure(metrics["paths"]),
        "rolling_sharpe": rolling_sharpe_figure(frames, facts.periods_per_year),
        "regimes": regime_figure(frames),
        "exposure": exposure_figure(frames),
        "positions": position_figure(frames),
        "ledger": ledger_figure(metrics["agent"]["costs"]),
        "costs": cost_figure(frames),
        "robustness": robustness_figure(frames.robustness, metrics["robustness"]["break_even"]),
        "masks": mask_figure(metrics["masks"]),
        "actions": action_figure(frames),
        "round_trips": round_trip_figure(frames),
        "evidence": evidence_figure(frames.evidence),
        "generalisation": generalisation_figure(metrics["folds"]),
        "training": training_figure(frames.training_curves),
    }


def equity_figure(frames: RunFrames) -> go.Figure:
    """Draw the value of 1 invested in agents and baselines, with fold borders and regimes."""
    figure = new_figure("Equity out of sample, net of costs", "Value of 1 invested (log)", height=480)
    equity = (1.0 + path_table(frames, "return").clip(lower=-1.0)).cumprod().clip(lower=1e-6)  # a log axis has no 0
    add_regime_shading(figure, frames)
    add_agent_and_baselines(figure, equity, frames, ".3f")
    add_fold_borders(figure, frames)
    visible = np.log10(equity.drop(columns="random").to_numpy())  # random actions fall far below the others
    span = [float(visible.min()) - AXIS_MARGIN, float(visible.max()) + AXIS_MARGIN]
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
    """Draw the Sharpe ratio of a trailing month, or of a third of the rows if shorter."""
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
    """Draw a heat map of calendar months: the agent's compounded return."""
    returns = path_table(frames, "return")[frames.headline]
    times = pd.DatetimeIndex(returns.index)
    months = (1.0 + returns).groupby([times.year, times.month]).prod() - 1.0
    table = months.unstack().reindex(columns=range(1, 13)).set_axis(MONTHS, axis="columns")
    text = [
        ["" if np.isnan(value) else f"{value:z.1%}".replace("-", "\u2212") for value in row] for row in table.to_numpy()
    ]
    figure = new_figure("Monthly returns", height=150 + 44 * len(table))
    cells = {"text": text, "texttemplate": "%{text}", "hoverongaps": False, "xgap": 2, "ygap": 2}
    add_heatmap(figure, table, "%{x} %{y}: %{z:.2%}", **cells)
    figure.update_xaxes(showgrid=False)
    return figure
