"""Frames of a finished run, checked, and tables made from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from sentio_kedro.config.evaluation import BaselineName

Scheme = Literal["walk_forward", "k_fold", "combinatorial"]
ENSEMBLE = "ensemble"  # the account of all agents of a fold deciding as one, where there are several
NETWORKS = "networks"  # the account of all networks on a rule, whatever their evidence
SEED_PREFIX = "seed_"
BASELINES = ("buy_and_hold", "equal_weight", "momentum", "random")
OPTIONAL_BASELINES: tuple[str, ...] = get_args(BaselineName)  # of `backtest.baselines`
FORECAST_RULE = "forecast_rule"  # the account that trades the forecasts by the rule
OF_A_FOLD = (ENSEMBLE, NETWORKS, "random", "ridge", "boosted_trees", "regime_rule")  # start anew where agents do
TARGETS = "targets"  # the account that follows `backtest.targets`, where that is given
TARGETS_KEY = "target_positions"  # its name in metrics.json, where `targets` are the five targets
LINES = {  # of the ledger, with the sign with which each enters the return
    **{"price_pnl": 1.0, "dividends": 1.0, "commission": -1.0, "spread": -1.0, "impact": -1.0},
    **{"borrow": -1.0, "financing": -1.0, "funding": -1.0, "shortfall": 1.0},
}
COLUMNS = {
    "accounts": (
        *("row", "timestamp", "fold", "account", "return", "equity", "gross_exposure", "net_exposure"),
        *("turnover", *LINES, "capped", "projected", "ordered", "headroom", "called", "regime"),
    ),
    "positions": ("timestamp", "symbol", "account", "fold", "position"),
    "trades": ("account", "fold", "symbol", "side", "entry_row", "exit_row", "bars", "pnl", "return", "cost"),
    "holdings": ("account", "fold", "symbol", "bars", "position", "asset_return", "gross", "changed"),
    "actions": ("account", "fold", "symbol", "action", "count", "legal"),
    "masks": ("account", "fold", "regime", "layer", "forbidden", "bars"),
    "value_at_risk": ("symbol", "side", "confidence", "sessions", "exceedances"),
    "robustness": (
        *("kind", "value", "account", "sharpe", "annual_return", "total_return", "max_drawdown", "turnover"),
        *("cost_bps", "correlation"),
    ),
    "regime_posteriors": ("timestamp", "fold", "state_0"),
    "training_curves": ("fold", "seed", "member", "update", "train_sharpe", "validation_sharpe"),
    "agent_table": (
        *("fold", "seed", "train_sharpe", "validation_sharpe", "members"),
        *("validation_t", "abstention_threshold", "abstains", "rule_sharpe"),
    ),
    "evidence": (
        *("fold", "sleeve", "segment", "expert", "correlation", "validation_correlation"),
        *("gate_t", "gate_sharpe", "sleeve_weight"),
    ),
}


@dataclass(frozen=True)
class RunFacts:
    """Facts of a run that its frames do not hold.

    Attributes:
        periods_per_year: Bars a year.
        universe: ``survivorship_biased`` or ``dated``.
        scheme: Scheme of the folds.
        max_drawdown: ``trading.max_drawdown`` of the agents, fraction of the peak; None is off.
        latency_bars: ``trading.orders.latency_bars`` of the agents.
    """

    periods_per_year: float
    universe: str
    scheme: Scheme = "walk_forward"
    max_drawdown: float | None = None
    latency_bars: int = 0


class AccountPath(NamedTuple):
    """Rows that one account traded from one start.

    Attributes:
        account: Name of the account.
        fold: Fold of the rows; None if the account continues from fold to fold.
        rows: Its rows of ``accounts`` in order.
    """

    account: str
    fold: int | None
    rows: pd.DataFrame


@dataclass(frozen=True)
class RunFrames:
    """Frames of a run.

    Accounts are ``seed_<number>`` for agents, ``ensemble`` if there are several, the baselines (at least four), and
    ``targets`` if the backtest followed a table of target positions. Every frame but ``accounts`` may be empty.
    ``COLUMNS`` lists the required columns. ``positions``, ``actions`` and ``masks`` are those of the headline account.

    Attributes:
        accounts: One row per account and decision row. Returns, profits and costs are fractions of the equity at the
            decision; ``capped``, ``projected`` and ``ordered`` are shares of the assets.
        positions: Positions, fractions of equity.
        trades: Round trips, net of costs.
        holdings: Mean position of every account in each symbol, by fold, and what the symbol returned.
        actions: How often each level was chosen and legal.
        regime_posteriors: Probability of each regime at each bar, by fold.
        training_curves: One row per update; Sharpe ratios only where the policy was validated.
        agent_table: One row per agent.
        masks: Mean share of the levels that each layer forbids.
        value_at_risk: Sessions and exceedances of each symbol's value at risk, by side.
        robustness: One row per variant; kinds ``cost latency start path without break_even``.
        evidence: One row per fold, sleeve, segment and expert of the forecasts that agents act on.

    Raises:
        ValueError: If a column, a baseline or every agent is missing.
    """

    accounts: pd.DataFrame
    positions: pd.DataFrame
    trades: pd.DataFrame
    holdings: pd.DataFrame
    actions: pd.DataFrame
    regime_posteriors: pd.DataFrame
    training_curves: pd.DataFrame
    agent_table: pd.DataFrame
    masks: pd.DataFrame
    value_at_risk: pd.DataFrame
    robustness: pd.DataFrame
    evidence: pd.DataFrame

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
            elif len(self.seeds) > 1 and ENSEMBLE not in names:
                problems.append(f"`accounts` lacks `{ENSEMBLE}`; run `kedro run --pipeline backtest`")
        if problems:
            raise ValueError("; ".join(problems) + ".")

    @property
    def seeds(self) -> list[str]:
        """Accounts of the agents, in the order of their seeds."""
        names = map(str, self.accounts["account"].unique())
        return sorted(
            (name for name in names if name.startswith(SEED_PREFIX)),
            key=seed_number,
        )

    @property
    def headline(self) -> str:
        """Account that is judged: the ensemble, or the only agent, which is one."""
        return ENSEMBLE if len(self.seeds) > 1 else self.seeds[0]

    @property
    def baselines(self) -> tuple[str, ...]:
        """Accounts that agents are compared with: the baselines of the run, then the table of targets, if any.

        The forecast rule is none of them for agents that act on it.
        """
        names = set(self.accounts["account"].unique())
        rule = () if NETWORKS in names else (FORECAST_RULE,)
        return (*BASELINES, *(name for name in (*rule, *OPTIONAL_BASELINES, TARGETS) if name in names))

    @cached_property
    def places(self) -> pd.DataFrame:
        """Row numbers of ``accounts`` in the layout of ``account_table``, which every table needs."""
        return _places(self)

    @property
    def regimes(self) -> int:
        """Number of regimes, calm to volatile; at least 1."""
        states = sum(str(name).startswith("state_") for name in self.regime_posteriors.columns)
        traded = int(self.accounts["regime"].max()) + 1
        return max(1, traded, states if len(self.regime_posteriors) else 0)


def _places(frames: RunFrames) -> pd.DataFrame:
    """Row number of each value of an account table; missing where an account lacks a row."""
    accounts = frames.accounts[["fold", "row", "account"]].assign(place=np.arange(len(frames.accounts)))
    names = list(dict.fromkeys([frames.headline, *frames.seeds]))
    agents = accounts[accounts["account"].isin(names)]
    table = agents.pivot(index=["fold", "row"], columns="account", values="place").sort_index()[names]
    rows = table.index.get_level_values("row")
    for name in frames.baselines:
        of_account = accounts[accounts["account"] == name]
        keys = ["fold", "row"] if of_account["row"].duplicated().any() else ["row"]
        series = of_account.set_index(keys)["place"]
        table[name] = series.reindex(table.index if len(keys) > 1 else rows).to_numpy()
    table.columns.name = None
    return table


def seed_number(account: str) -> int:
    """Seed of an agent's account."""
    return int(account.removeprefix(SEED_PREFIX))


def account_table(frames: RunFrames, column: str) -> pd.DataFrame:
    """One column of ``accounts`` as a table over the agents' decision rows.

    Where folds test a row again (combinatorial folds), an agent's row appears once per fold and a baseline that trades
    each row once is repeated. Baseline rows that no agent traded are left out.

    Args:
        frames: Frames of the run.
        column: A column of ``accounts``.

    Returns:
        Index ``(fold, row)`` in order of fold and row, one column per account: headline, agents, baselines.

    Raises:
        ValueError: If accounts cover different rows or hold values that are not finite.
    """
    places, values = frames.places, frames.accounts[column].to_numpy()
    missing = places.isna().to_numpy()
    wrong = missing if missing.any() else ~np.isfinite(values[places.to_numpy()].astype(np.float64))
    if wrong.any():
        count = dict(zip(places.columns, wrong.sum(axis=0).tolist(), strict=True))
        bad = {name: number for name, number in count.items() if number}
        raise ValueError(
            f"`accounts.{column}` must be finite and cover the same rows for every account; values missing or not "
            f"finite per account: {bad}; run `kedro run --pipeline backtest` again."
        )
    return pd.DataFrame(values[places.to_numpy()], index=places.index, columns=places.columns)


def row_times(frames: RunFrames) -> pd.Series:
    """Timestamp of each decision row: index ``row``, in order."""
    agents = frames.accounts[frames.accounts["account"].isin(frames.seeds)]
    return agents.drop_duplicates("row").set_index("row")["timestamp"].sort_index()


def metric_key(account: str) -> str:
    """Key of an account in ``metrics.json``."""
    return TARGETS_KEY if account == TARGETS else account


def account_paths(frames: RunFrames, facts: RunFacts) -> Iterator[AccountPath]:
    """Yield each account's rows: all of a walk-forward test at once, else fold by fold if it starts anew in each."""
    for name in dict.fromkeys((frames.headline, *frames.seeds, *frames.baselines)):
        account = frames.accounts[frames.accounts["account"] == name].sort_values(["fold", "row"])
        if facts.scheme != "walk_forward" and name in (*frames.seeds, *OF_A_FOLD):
            for fold, rows in account.groupby("fold"):
                yield AccountPath(name, int(str(fold)), rows)
        else:
            yield AccountPath(name, None, account.sort_values("row"))
