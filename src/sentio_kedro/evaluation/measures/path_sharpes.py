"""Distribution of Sharpe ratios over backtest paths (combinatorial folds) or over folds."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from sentio_kedro.evaluation.measures.paths import table_paths
from sentio_kedro.evaluation.run_frames import RunFrames, account_table, metric_key
from sentio_kedro.trading.performance import MIN_BARS, maximum_drawdown, sharpe_ratio

QUANTILES = {"low": 0.05, "median": 0.5, "high": 0.95}


def sharpe_paths(frames: RunFrames, scheme: str, periods_per_year: float) -> dict[str, Any]:
    """Sharpe ratios of every account by backtest path (combinatorial folds, see ``measures.paths``), or by fold.

    Args:
        frames: Frames of the run.
        scheme: Scheme of the folds.
        periods_per_year: Bars a year.

    Returns:
        ``kind`` (``path`` or ``fold``); ``entries``, one per path or fold and account: ``number``, ``account``,
        ``bars``, ``sharpe``, ``total_return``, ``max_drawdown``; and of all entries of single agents ``agents``
        (count), ``low`` (5 % quantile), ``median``, ``high`` (95 %) of their Sharpe ratios and ``losing`` (share below
        zero); None without entries.
    """
    returns = account_table(frames, "return")
    if scheme == "combinatorial":
        parts = [(number, returns.iloc[places]) for number, places in enumerate(table_paths(returns))]
    else:
        parts = [(int(str(fold)), rows) for fold, rows in returns.groupby(level="fold")]
    entries: list[dict[str, Any]] = []
    for number, rows in parts:
        values = torch.from_numpy(rows.to_numpy(copy=True))  # [T, N]
        if len(rows) >= MIN_BARS:
            entries += _entries(number, [str(name) for name in rows.columns], values, periods_per_year)
    ratios = pd.Series([entry["sharpe"] for entry in entries if entry["account"] in frames.seeds], dtype="float64")
    spread = {side: float(ratios.quantile(share)) if len(ratios) else None for side, share in QUANTILES.items()}
    losing = float((ratios < 0.0).mean()) if len(ratios) else None
    kind = "path" if scheme == "combinatorial" else "fold"
    return {"kind": kind, "entries": entries, "agents": len(ratios), "losing": losing} | spread


def _entries(number: int, names: list[str], values: torch.Tensor, periods_per_year: float) -> list[dict[str, Any]]:
    sharpe, depth = sharpe_ratio(values, periods_per_year).tolist(), maximum_drawdown(values).tolist()
    total = (torch.prod(1.0 + values.clamp(min=-1.0), dim=0) - 1.0).tolist()
    columns = zip(map(metric_key, names), sharpe, total, depth, strict=True)
    keys = ("account", "sharpe", "total_return", "max_drawdown")
    return [{"number": number, "bars": len(values)} | dict(zip(keys, column, strict=True)) for column in columns]
