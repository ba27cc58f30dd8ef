"""A run of combinatorial folds, made up: two groups of four are tested at a time, so that there are three paths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from sentio_kedro.evaluation.run_frames import BASELINES, COLUMNS, LINES, RunFrames
from sentio_kedro.market.purged_folds import combinatorial_paths

GROUPS, TESTED, PATHS = 4, 2, 3
ReturnsOf = Callable[[str, int], np.ndarray]


def combinatorial_run(returns_of: ReturnsOf, seeds: int = 1, trades: pd.DataFrame | None = None) -> RunFrames:
    """Agents with returns ``returns_of(account, path)``, [T], on each path; baselines walk once, as path 0.

    Of several agents the ensemble has the returns of ``ensemble``.
    """
    parts = []
    for name in (*(f"seed_{seed}" for seed in range(seeds)), *(["ensemble"] if seeds > 1 else [])):
        for (fold, group), path in combinatorial_paths(GROUPS, TESTED).items():
            values = returns_of(name, path)
            rows = np.arange(len(values)).reshape(GROUPS, -1)[group]
            parts.append(pd.DataFrame({"row": rows, "fold": fold, "account": name, "return": values[rows]}))
    for name in BASELINES:
        values = returns_of(name, 0)
        parts.append(pd.DataFrame({"row": np.arange(len(values)), "fold": 0, "account": name, "return": values}))
    accounts = pd.concat(parts, ignore_index=True)
    accounts["timestamp"] = pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(accounts["row"], unit="D")
    accounts = accounts.assign(**dict.fromkeys(LINES, 0.0)).assign(price_pnl=accounts["return"], equity=1.0)
    facts = {"gross_exposure": 1.0, "net_exposure": 1.0, "turnover": 0.1, "headroom": 1.0, "called": False, "regime": 0}
    accounts = accounts.assign(**facts, capped=0.0, projected=0.0, ordered=1.0)
    empty = {name: pd.DataFrame(columns=list(columns)) for name, columns in COLUMNS.items()}
    return RunFrames(**{**empty, "accounts": accounts} | ({} if trades is None else {"trades": trades}))
