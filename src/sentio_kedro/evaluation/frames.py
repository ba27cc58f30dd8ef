"""What a finished run leaves for judgement: its frames, checked, and tables cut from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

SEED_PREFIX = "seed_"
BASELINES = ("buy_and_hold", "equal_weight", "momentum", "random")
COLUMNS = {
    "accounts": (
        *("row", "timestamp", "fold", "account", "return", "equity", "gross_exposure", "net_exposure"),
        *("turnover", "price_pnl", "commission", "spread"),
    ),
    "positions": ("timestamp", "symbol", "seed", "position"),
    "trades": ("account", "symbol", "side", "entry_row", "exit_row", "bars", "pnl", "return"),
    "actions": ("account", "symbol", "action", "count", "legal"),
    "regime_posteriors": ("timestamp", "fold", "state_0"),
    "training_curves": ("fold", "seed", "member", "update", "steps_per_second", "train_sharpe", "validation_sharpe"),
    "agent_table": ("fold", "seed", "train_sharpe", "validation_sharpe", "members"),
}


@dataclass(frozen=True)
class RunFacts:
    """Facts of a run that its frames do not say.

    Attributes:
        periods_per_year: Bars a year.
        universe: ``survivorship_biased`` or ``dated``.
        episode_bars: Decisions of one training episode.
        train_bars: Decision rows of the longest train span; None if unknown.
        accelerator_peak_bytes: Most accelerator memory used in training; None if trained on the CPU.
        scheme: How the folds were made.
    """

    periods_per_year: float
    universe: str
    episode_bars: int
    train_bars: int | None = None
    accelerator_peak_bytes: float | None = None
    scheme: Literal["walk_forward", "combinatorial"] = "walk_forward"


@dataclass(frozen=True)
class RunFrames:
    """Frames of a run.

    Accounts are ``seed_<number>`` for agents, and the four baselines. All but ``accounts`` may be empty, their columns
    may not be missing.

    Attributes:
        accounts: One row per account and decision row: ``row timestamp fold account return equity gross_exposure
            net_exposure turnover price_pnl commission spread``. Returns, profits and costs are fractions of the equity
            at the decision.
        positions: ``timestamp symbol seed position``; position as a fraction of equity.
        trades: Round trips: ``account symbol side entry_row exit_row bars pnl return``; net of costs.
        actions: ``account symbol action count legal``.
        regime_posteriors: ``timestamp fold state_0 ...``.
        training_curves: One row per update: ``fold seed member update steps_per_second train_sharpe
            validation_sharpe ...``; the Sharpe ratios only where the policy was judged.
        agent_table: One row per agent: ``fold seed train_sharpe validation_sharpe members``.

    Raises:
        ValueError: If a column, a baseline or every agent is missing.
    """

    accounts: pd.DataFrame
    positions: pd.DataFrame
    trades: pd.DataFrame
    actions: pd.DataFrame
    regime_posteriors: pd.DataFrame
    training_curves: pd.DataFrame
    agent_table: pd.DataFrame

    def __post_init__(self) -> None:
        problems = [
            f"`{name}` lacks the columns {missing}; rerun the pipeline that writes it"
            for name, columns in COLUMNS.items()
            if (missing := [column for column in columns if column not in getattr(self, name).columns])
        ]
        if "account" in self.accounts.columns:
            names = set(self.accounts["account"].unique())
            missing = [name for name in BASELINES if name not in names]
            if missing:
                problems.append(f"`accounts` lacks the baselines {missing}; run `kedro run --pipeline backtest`")
            if not any(str(name).startswith(SEED_PREFIX) for name in names):
                problems.append(f"`accounts` holds no agent (an account named `{SEED_PREFIX}<number>`)")
        if problems:
            raise ValueError("; ".join(problems) + ".")

    @property
    def seeds(self) -> list[str]:
        """Accounts of the agents, in the order of their seeds."""
        names = map(str, self.accounts["account"].unique())
        return sorted(
            (name for name in names if name.startswith(SEED_PREFIX)),
            key=lambda name: int(name.removeprefix(SEED_PREFIX)),
        )


def account_table(frames: RunFrames, column: str) -> pd.DataFrame:
    """One column of ``accounts`` as a table over the agents' decision rows.

    Where test rows come back (combinatorial folds) an agent's row appears once per fold; baselines, which walk each
    row once, are repeated beside it. Baseline rows that no agent traded are left out.

    Args:
        frames: Frames of the run.
        column: A column of ``accounts``.

    Returns:
        Index ``(fold, row)`` in order of fold and row, one column per account: agents, then baselines.

    Raises:
        ValueError: If accounts cover different rows or hold values that are not finite.
    """
    accounts = frames.accounts
    agents = accounts[accounts["account"].isin(frames.seeds)]
    table = agents.pivot(index=["fold", "row"], columns="account", values=column).sort_index()[frames.seeds]
    rows = table.index.get_level_values("row")
    for name in BASELINES:
        of_account = accounts[accounts["account"] == name]
        keys = ["fold", "row"] if of_account["row"].duplicated().any() else ["row"]
        series = of_account.set_index(keys)[column]
        table[name] = series.reindex(table.index if len(keys) > 1 else rows).to_numpy()
    table.columns.name = None
    wrong = ~np.isfinite(table.to_numpy(dtype=np.float64))
    if wrong.any():
        count = dict(zip(table.columns, wrong.sum(axis=0).tolist(), strict=True))
        bad = {name: number for name, number in count.items() if number}
        raise ValueError(
            f"`accounts.{column}` must be finite and cover the same rows for every account; values missing or not "
            f"finite per account: {bad}; run `kedro run --pipeline backtest` again."
        )
    return table


def row_times(frames: RunFrames) -> pd.Series:
    """Timestamp of each decision row: index ``row``, in order."""
    agents = frames.accounts[frames.accounts["account"].isin(frames.seeds)]
    return agents.drop_duplicates("row").set_index("row")["timestamp"].sort_index()
