"""Alarms: reasons to distrust the metrics of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sentio_kedro.evaluation.measures.attribution import ledger_net
from sentio_kedro.evaluation.measures.limits import order_metrics
from sentio_kedro.evaluation.run_frames import RunFrames

IDENTITY_TOLERANCE = 1e-9
SUSPICIOUS_SHARPE = 5.0
NEARLY_ALL = 0.99  # of the equity
IDLE_SHARE = 0.5
PROJECTED_SHARE = 0.2  # of the orders
MIN_START_CORRELATION = 0.8  # of the positions of accounts begun on other days
NEARLY_EVERY = 0.95  # of the decisions
MIN_EXITS = 30  # round trips that a decision closed
LONG_HOLDING = 0.25  # of a fold's bars
MOST_PROFIT = 0.5
SHOWN_BREAKS = 5
MAJORITY = 0.5  # of the agents of a fold, from which on the ensemble abstains


def alarms(
    frames: RunFrames,
    agent: Mapping[str, Any],
    starts: Mapping[str, Any] | None = None,
    price_breaks: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """List reasons to distrust the metrics.

    Args:
        frames: Frames of the run.
        agent: Metrics of the agent.
        starts: ``start_dates`` of ``robustness``; None if not simulated.
        price_breaks: Those of ``data_quality``: moves that may be splits which nobody told.

    Returns:
        One sentence per alarm. Folds in which agents stay flat because they abstain raise none.
    """
    sentences = _trading_alarms(frames) + _limit_alarms(frames) + _break_alarms(frames, price_breaks)
    if agent["trades"]:
        sentences += _behaviour_alarms(agent, starts) + _validation_alarms(frames)
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
        sentences.append("The agent lost nearly all its equity.")
    return sentences


def _behaviour_alarms(agent: Mapping[str, Any], starts: Mapping[str, Any] | None) -> list[str]:
    """An agent that keeps what it has, whose sample is small, or whose result hangs on where a fold starts or ends."""
    sentences, exits = [], agent["own_exits"]
    unchanged, held = 1.0 - (agent["changed_decisions"] or 0.0), agent["weighted_holding_bars"] or 0.0
    fold_bars = agent["bars"] / agent["folds"]
    if unchanged > NEARLY_EVERY and (held > LONG_HOLDING * fold_bars or exits < MIN_EXITS):
        sentences.append(
            f"{unchanged:.1%} of the decisions changed nothing, and half of the time in positions lies in round trips "
            f"of at least {held:,.0f} bars, where a fold has {fold_bars:,.0f}: the agent keeps what it has."
        )
    if exits < MIN_EXITS:
        sentences.append(
            f"Only {exits:,.0f} round trips were closed by a decision, fewer than {MIN_EXITS}: too small a sample to "
            "tell skill from a side that was taken once."
        )
    if (agent["forced_profit"] or 0.0) > MOST_PROFIT:
        sentences.append(
            f"{agent['forced_profit']:.0%} of the profit was made in round trips that the end of a fold closed: where "
            "folds are cut decides the result."
        )
    correlation = None if starts is None else starts["correlation"]
    if correlation is not None and correlation < MIN_START_CORRELATION:
        sentences.append(
            f"Begun on another day, the same agent holds another book: the correlation of positions is "
            f"{correlation:.2f}, below {MIN_START_CORRELATION}. The result belongs to the start, not to the agent."
        )
    return sentences


def _validation_alarms(frames: RunFrames) -> list[str]:
    """A profit made mostly in folds whose agents did not earn on their validation rows."""
    validated = frames.agent_table.groupby("fold")["validation_sharpe"].median()
    failed = validated.index[validated <= 0.0]
    judged = frames.accounts[frames.accounts["account"] == frames.headline]
    profit = judged["return"].groupby(judged["fold"]).sum()
    total, doubtful = float(profit.sum()), float(profit[profit.index.isin(failed)].sum())
    if total <= 0.0 or doubtful <= MOST_PROFIT * total:
        return []
    folds = ", ".join(str(int(fold)) for fold in failed)
    return [
        f"{min(doubtful / total, 1.0):.0%} of the profit was made by agents whose validation failed (folds {folds}: "
        "the median validation Sharpe ratio is not positive): what chose them did not foresee it."
    ]


def _trading_alarms(frames: RunFrames) -> list[str]:
    """An agent that never traded, always chose one level, or stopped trading."""
    table = frames.agent_table
    abstaining = table["abstains"].astype(float).groupby(table["fold"]).mean()
    decided = abstaining.index[abstaining >= MAJORITY]  # without the networks
    by_rule = pd.Index(table.loc[table["rule_sharpe"].notna(), "fold"])  # where to abstain is not to stay flat
    account = _traded_rows(frames.accounts, frames.headline, decided.difference(by_rule))
    totals = _traded_rows(frames.actions, frames.headline, decided).groupby("action")["count"].sum()
    chosen = sorted(map(str, totals.index[totals > 0]))
    if account.empty:
        return []  # it abstained in every fold
    if not (account["turnover"] > 0.0).any():
        return ["The agent never traded: its metrics say nothing about skill."]
    if len(chosen) == 1:
        return [f"The agent always chose the level {chosen[0]!r}: it learnt a constant, not a strategy."]
    if (idle := _idle_share(account)) > IDLE_SHARE:
        return [
            f"The agent did not trade in the last {idle:.0%} of the bars: the drawdown limit may leave it no exposure, "
            "or the gates of its rule are closed."
        ]
    return []


def _traded_rows(rows: pd.DataFrame, account: str, without: pd.Index) -> pd.DataFrame:
    """Rows of an account in the folds that are not left out."""
    return rows[(rows["account"] == account) & ~rows["fold"].isin(without)]


def _idle_share(account: pd.DataFrame) -> float:
    """Share of an account's rows after its last trade."""
    traded = account["turnover"].to_numpy() > 0.0
    return float(traded[::-1].argmax() / len(traded))


def _break_alarms(frames: RunFrames, price_breaks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Jumps of prices within the bars that some fold tests; they may be splits which nobody told."""
    rows = frames.accounts[frames.accounts["account"] == frames.headline]
    ends = pd.to_datetime(rows["timestamp"], utc=True)
    next_ends = ends.groupby(rows["fold"]).shift(-1)  # a decision is judged by the bar after it
    judged = []
    for one in price_breaks:
        moment = pd.Timestamp(one["timestamp"])
        if ((ends < moment) & (moment <= next_ends)).any():
            judged.append(f"{one['symbol']} {one['timestamp']} ({one['ratio']:.4g} times the price before)")
    if not judged:
        return []
    more = f" and {len(judged) - SHOWN_BREAKS} more" if len(judged) > SHOWN_BREAKS else ""
    return [
        f"Prices jump in judged bars: {', '.join(judged[:SHOWN_BREAKS])}{more}. A split that nobody told is a profit "
        "or a loss that nobody made: add `split`, or use adjusted prices."
    ]


def _limit_alarms(frames: RunFrames) -> list[str]:
    """An agent whose orders joint limits cut too often, or that went bankrupt."""
    sentences, agent = [], order_metrics(frames)[frames.headline]
    if (agent["projected_orders"] or 0.0) > PROJECTED_SHARE:
        sentences.append(
            f"Joint limits cut {agent['projected_orders']:.0%} of the agent's orders, more than {PROJECTED_SHARE:.0%}: "
            "its trades are not its decisions. Use smaller `trading.levels`, or widen `trading.gross_limit`, "
            "`trading.net_limit` or `trading.var_limit`."
        )
    if agent["bankruptcies"]:
        sentences.append("The agent went bankrupt: its returns after that are zero, not earned.")
    return sentences
