"""Alarms: reasons to distrust the metrics of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sentio_kedro.evaluation.measures.attribution import ledger_net
from sentio_kedro.evaluation.measures.limits import order_metrics
from sentio_kedro.evaluation.run_frames import RunFrames, seed_number

IDENTITY_TOLERANCE = 1e-9
SUSPICIOUS_SHARPE = 5.0
NEARLY_ALL = 0.99  # of the equity
IDLE_SHARE = 0.5
PROJECTED_SHARE = 0.2  # of the orders


def alarms(frames: RunFrames, agent: Mapping[str, Any]) -> list[str]:
    """List reasons to distrust the metrics.

    Args:
        frames: Frames of the run.
        agent: Metrics of the agent.

    Returns:
        One sentence per alarm. Folds in which an agent abstains raise none.
    """
    sentences = _trading_alarms(frames) + _limit_alarms(frames)
    ledger = ledger_net(frames.accounts)
    broken = (frames.accounts["return"] - ledger).abs() > IDENTITY_TOLERANCE * (1.0 + ledger.abs())
    if broken.any():
        names = sorted(set(frames.accounts.loc[broken, "account"]))
        sentences.append(
            f"Returns differ from the sum of the ledger lines on {int(broken.sum()):,} rows of {', '.join(names)}: "
            "the accounts do not add up."
        )
    if agent["sharpe"] is not None and agent["sharpe"] > SUSPICIOUS_SHARPE:
        sentences.append(
            f"A Sharpe ratio of {agent['sharpe']:.1f} net of costs is more often a leak of future data than skill: "
            "check the bars."
        )
    if agent["max_drawdown"] > NEARLY_ALL:
        sentences.append("The median agent lost nearly all its equity.")
    return sentences


def _trading_alarms(frames: RunFrames) -> list[str]:
    """Agents that never traded, always chose one level, or stopped trading."""
    sentences = []
    table = frames.agent_table[frames.agent_table["abstains"].astype(bool)]
    for name in frames.seeds:
        flat_folds = table.loc[table["seed"] == seed_number(name), "fold"]
        account = _traded_rows(frames.accounts, name, flat_folds)
        totals = _traded_rows(frames.actions, name, flat_folds).groupby("action")["count"].sum()
        chosen = sorted(map(str, totals.index[totals > 0]))
        if account.empty:
            continue  # it abstained in every fold
        if not (account["turnover"] > 0.0).any():
            sentences.append(f"{name} never traded: its metrics say nothing about skill.")
        elif len(chosen) == 1:
            sentences.append(f"{name} always chose the level {chosen[0]!r}: it learnt a constant, not a strategy.")
        elif (idle := _idle_share(account)) > IDLE_SHARE:
            sentences.append(
                f"{name} did not trade in the last {idle:.0%} of the bars: the drawdown limit may leave it no exposure."
            )
    return sentences


def _traded_rows(rows: pd.DataFrame, account: str, flat_folds: pd.Series) -> pd.DataFrame:
    """Rows of an account in the folds in which it does not abstain."""
    return rows[(rows["account"] == account) & ~rows["fold"].isin(flat_folds)]


def _idle_share(account: pd.DataFrame) -> float:
    """Share of an account's rows after its last trade."""
    traded = account["turnover"].to_numpy() > 0.0
    return float(traded[::-1].argmax() / len(traded))


def _limit_alarms(frames: RunFrames) -> list[str]:
    """Agents whose orders joint limits cut too often, and agents that went bankrupt."""
    sentences = []
    metrics = order_metrics(frames)
    for name in frames.seeds:
        if (metrics[name]["projected_orders"] or 0.0) > PROJECTED_SHARE:
            sentences.append(
                f"Joint limits cut {metrics[name]['projected_orders']:.0%} of the orders of {name}, more than "
                f"{PROJECTED_SHARE:.0%}: its trades are not its decisions. Use smaller `trading.levels`, or widen "
                "`trading.gross_limit`, `trading.net_limit` or `trading.var_limit`."
            )
        if metrics[name]["bankruptcies"]:
            sentences.append(f"{name} went bankrupt: its returns after that are zero, not earned.")
    return sentences
