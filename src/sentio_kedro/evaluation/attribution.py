"""Where an account's result came from: the lines of its ledger, and the regimes in which it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from sentio_kedro.evaluation.frames import LINES, RunFrames, account_table, metric_key
from sentio_kedro.trading.performance import LEAST_BARS, sharpe_ratio

Tables = Mapping[str, pd.DataFrame]
COSTS = tuple(line for line, sign in LINES.items() if sign < 0.0)
GROSS = ("price_pnl", "dividends")
TRADING_COSTS = ("commission", "spread", "impact")
PER_REGIME = ("sharpe", "total_return", "gross_exposure", "turnover_per_bar", "cost_share")


def ledger_net(rows: pd.DataFrame) -> pd.Series:
    """Add up the lines of the ledger with their signs.

    Args:
        rows: Rows of ``accounts``; every line of ``LINES`` as a fraction of the equity at the decision.

    Returns:
        What the return of each row must be.
    """
    net = rows["price_pnl"] * 0.0
    for line, sign in LINES.items():
        net = net + sign * rows[line]
    return net


def ledger_sums(lines: Mapping[str, pd.Series] | pd.DataFrame) -> dict[str, float]:
    """Sum each line of an account's ledger over its bars.

    Args:
        lines: Every line of ``LINES`` of one account, a value per bar.

    Returns:
        Sums of fractions of the equity at each decision: every line as it stands in the ledger, ``gross`` (price
        profit and dividends), ``costs`` (all lines that are paid; interest and funding earned count against them) and
        ``net`` (gross - costs + shortfall, the sum of the returns).
    """
    sums = {line: float(lines[line].sum()) for line in LINES}
    gross, costs = sum(sums[line] for line in GROSS), sum(sums[line] for line in COSTS)
    return {**sums, "gross": gross, "costs": costs, "net": gross - costs + sums["shortfall"]}


def cost_share(sums: Mapping[str, float]) -> float | None:
    """Costs as a share of the absolute gross profit; None without one."""
    gross = abs(sums["gross"])
    return sums["costs"] / gross if gross > 0.0 else None


def regime_figures(frames: RunFrames, tables: Tables, periods_per_year: float) -> list[dict[str, Any]]:
    """Split the result of every account by the regime that its agent saw at the decision.

    Args:
        frames: Frames of the run.
        tables: ``return``, ``turnover``, ``gross_exposure`` and the lines of the ledger, each with index ``(fold,
            row)`` and one column per account.
        periods_per_year: Bars a year.

    Returns:
        One entry per account and regime, calm to volatile; accounts are ``agent`` (medians over seeds), the baselines
        and every seed: ``account``, ``regime``, ``bars``, ``share`` (of the bars), ``sharpe`` (annualised, of those
        bars alone), ``total_return`` (of those bars, compounded), ``gross_exposure`` and ``turnover_per_bar`` (means)
        and ``cost_share``. None where there is nothing to measure.
    """
    regime = account_table(frames, "regime")
    found = {}
    for account in regime.columns:
        rows = pd.DataFrame({name: table[account] for name, table in tables.items()})
        found[account] = [
            _of_rows(rows[regime[account] == number], len(rows), periods_per_year) for number in range(frames.regimes)
        ]
    medians = [_medians([found[name][number] for name in frames.seeds]) for number in range(frames.regimes)]
    by_account = {"agent": medians} | {metric_key(name): found[name] for name in (*frames.baselines, *frames.seeds)}
    return [
        {"account": account, "regime": number} | figures
        for account, entries in by_account.items()
        for number, figures in enumerate(entries)
    ]


def _of_rows(rows: pd.DataFrame, of: int, periods_per_year: float) -> dict[str, Any]:
    """Figures of the ``rows`` of one account, out of ``of`` rows."""
    returns = torch.from_numpy(rows["return"].to_numpy(dtype=np.float64, copy=True))  # [T]
    bars = len(returns)
    figures: dict[str, Any] = {"bars": bars, "share": bars / of} | dict.fromkeys(PER_REGIME)
    if bars == 0:
        return figures
    return figures | {
        "sharpe": sharpe_ratio(returns, periods_per_year).item() if bars >= LEAST_BARS else None,
        "total_return": torch.prod(1.0 + returns.clamp(min=-1.0)).item() - 1.0,
        "gross_exposure": float(rows["gross_exposure"].mean()),
        "turnover_per_bar": float(rows["turnover"].mean()),
        "cost_share": cost_share(ledger_sums(rows)),
    }


def _medians(entries: list[dict[str, Any]]) -> dict[str, Any]:
    known = {name: [entry[name] for entry in entries if entry[name] is not None] for name in entries[0]}
    return {name: float(np.median(values)) if values else None for name, values in known.items()}
