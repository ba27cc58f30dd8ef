"""What should make a reader distrust the metrics of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sentio_kedro.evaluation.measures.attribution import ledger_net
from sentio_kedro.evaluation.measures.limits import order_metrics
from sentio_kedro.evaluation.run_frames import SEED_PREFIX, RunFrames

IDENTITY_TOLERANCE = 1e-9
SUSPICIOUS_SHARPE = 5.0
LOST = 0.99
IDLE_SHARE = 0.5
PROJECTED_SHARE = 0.2  # of the orders; above it an agent does not trade what it decides


def alarms(frames: RunFrames, agent: Mapping[str, Any]) -> list[str]:
    """Name what should make a reader distrust the figures.

    Args:
        frames: Frames of the run.
        agent: The agent's figures.

    Returns:
        One sentence per alarm, none if all is well. Folds in which an agent abstained are no reason to distrust it.
    """
    found = []
    closed = abstentions(frames)
    for name in frames.seeds:
        account = _traded_folds(frames.accounts, name, closed[name])
        taken = _actions_taken(frames.actions, name, closed[name])
        if account.empty:
            continue  # it stayed flat by decision, which the verdict tells
        if not (account["turnover"] > 0.0).any():
            found.append(f"{name} never traded: its figures say nothing about skill.")
        elif len(taken) == 1:
            found.append(f"{name} always took the action {taken[0]!r}: it learnt a constant, not a strategy.")
        elif (idle := _idle_share(account)) > IDLE_SHARE:
            found.append(
                f"{name} did not trade in the last {idle:.0%} of the bars: perhaps the drawdown limit left it nothing."
            )
    found += _limit_alarms(frames)
    ledger = ledger_net(frames.accounts)
    broken = (frames.accounts["return"] - ledger).abs() > IDENTITY_TOLERANCE * (1.0 + ledger.abs())
    if broken.any():
        names = sorted(set(frames.accounts.loc[broken, "account"]))
        found.append(
            f"Returns differ from the sum of the ledger's lines on {int(broken.sum()):,} rows of {', '.join(names)}: "
            "the accounts do not add up."
        )
    if agent["sharpe"] is not None and agent["sharpe"] > SUSPICIOUS_SHARPE:
        found.append(
            f"A Sharpe ratio of {agent['sharpe']:.1f} net of costs is more often a leak of the future than skill: "
            "check how the bars were made."
        )
    if agent["max_drawdown"] > LOST:
        found.append("The median agent lost nearly everything.")
    return found


def abstentions(frames: RunFrames) -> dict[str, set[int]]:
    """Folds in which each agent abstained, by account; none for agents made before abstention was known."""
    closed: dict[str, set[int]] = {name: set() for name in frames.seeds}
    if "abstains" in frames.agent_table.columns:
        for entry in frames.agent_table[frames.agent_table["abstains"].astype(bool)].to_dict("records"):
            closed.setdefault(f"{SEED_PREFIX}{int(entry['seed'])}", set()).add(int(entry["fold"]))
    return closed


def _traded_folds(rows: pd.DataFrame, account: str, closed: set[int]) -> pd.DataFrame:
    """Rows of an account in the folds in which it did not abstain; all rows of a frame that knows no folds."""
    mine = rows[rows["account"] == account]
    return mine[~mine["fold"].isin(closed)] if closed and "fold" in mine.columns else mine


def _limit_alarms(frames: RunFrames) -> list[str]:
    """Agents whose orders joint limits cut too often, and agents that went bankrupt."""
    found = []
    for name, figures in order_metrics(frames).items():
        if name not in frames.seeds:
            continue
        if (figures["projected_orders"] or 0.0) > PROJECTED_SHARE:
            found.append(
                f"Joint limits cut {figures['projected_orders']:.0%} of the orders of {name}, more than "
                f"{PROJECTED_SHARE:.0%}: it does not trade what it decides. Use smaller `trading.levels`, or widen "
                "`trading.gross_limit`, `trading.net_limit` or `trading.var_limit`."
            )
        if figures["bankruptcies"]:
            found.append(f"{name} went bankrupt: its returns after that are zero, not earned.")
    return found


def _idle_share(account: pd.DataFrame) -> float:
    """Share of an account's rows after its last trade."""
    traded = account["turnover"].to_numpy() > 0.0
    return float(traded[::-1].argmax() / len(traded))


def _actions_taken(actions: pd.DataFrame, account: str, closed: set[int]) -> list[str]:
    mine = _traded_folds(actions, account, closed)
    totals = mine.groupby("action")["count"].sum()
    return sorted(str(action) for action in totals.index[totals > 0])
