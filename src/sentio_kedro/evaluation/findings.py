"""Plain sentences made from the figures: the verdict, and what should make a reader suspicious."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sentio_kedro.evaluation.attribution import ledger_net
from sentio_kedro.evaluation.bootstrap import confidence_percent
from sentio_kedro.evaluation.frames import SEED_PREFIX, TARGETS_KEY, RunFrames
from sentio_kedro.evaluation.limits import order_figures

IDENTITY_TOLERANCE = 1e-9
SUSPICIOUS_SHARPE = 5.0
LOST = 0.99
IDLE_SHARE = 0.5
PROJECTED_SHARE = 0.2  # of the orders; above it an agent does not trade what it decides
SKILL = {
    "skill": "Verdict: skill. Neither luck nor the search for it explains this result.",
    "luck": "Verdict: luck. Luck, and the search for it, may show as much without any skill.",
    "undecided": "Verdict: undecided. It is more than luck is likely to show, but not every test of skill is passed.",
}
UNSEARCHED = (
    "Verdict: skill. Luck does not explain this result; the search that the ledger knows is too small to test for "
    "overfitting."
)
NOT_EARNED = "Verdict: no skill. There is no profit that luck would have to explain."
TITLES = {
    "agent": "Agent, median",
    "buy_and_hold": "Buy and hold",
    "equal_weight": "Equal weight",
    "momentum": "Momentum",
    "random": "Random actions",
    "ridge": "Ridge signal",
    "boosted_trees": "Boosted trees signal",
    "minimum_variance": "Minimum variance",
    "risk_parity": "Risk parity",
    "regime_rule": "Flat in crises",
    TARGETS_KEY: "Table of targets",
}


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
    for name, figures in order_figures(frames).items():
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


def verdict(metrics: Mapping[str, Any]) -> list[str]:
    """Say in plain words what the agent was worth.

    Args:
        metrics: What ``metrics.build_metrics`` returns.

    Returns:
        Sentences: what it earned, how sure that is, whether it is skill, how it compares, how many targets were met.
    """
    agent = metrics["agent"]
    percent = confidence_percent(metrics["confidence"]).replace("%", "\u00a0%")
    seeds = f"the median of {agent['seeds']} agents" if agent["seeds"] > 1 else "the agent"
    earned = "earned" if agent["annual_return"] > 0.0 else "lost"
    sentences = [
        f"On {agent['bars']:,} unseen bars from {agent['first_timestamp'][:10]} to {agent['last_timestamp'][:10]}, "
        f"{seeds} {earned} {_percent(abs(agent['annual_return']))} a year after all costs, with a worst drawdown of "
        f"{_percent(agent['max_drawdown'])} and a Sharpe ratio of {_number(agent['sharpe'])} ({percent} interval "
        f"{_number(agent['sharpe_low'])} to {_number(agent['sharpe_high'])}).",
        *_luck_or_gate(agent, metrics["seeds"], metrics["folds"]),
        *_skill(metrics["skill"]),
    ]
    if agent["seeds"] > 1:
        sentences.append(
            f"From seed to seed the Sharpe ratio ranged from {_number(agent['sharpe_seed_min'])} to "
            f"{_number(agent['sharpe_seed_max'])}; the interval holds the luck of the market, not that of the seed."
        )
    sentences += _break_even(metrics["robustness"]["break_even"])
    return [*sentences, _against_baselines(metrics), _targets_met(metrics["targets"])]


def _percent(value: float) -> str:
    return f"{100.0 * value:,.2f}\u00a0%"


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "\u2212")  # a minus sign, which is as wide as a digit


def _luck_or_gate(
    agent: Mapping[str, Any], seeds: Sequence[Mapping[str, Any]], folds: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Say how sure the result is, and in how many folds agents abstained."""
    closed = [entry for entry in folds if entry["abstains"]]
    luck = _luck(agent) if agent["trades"] else _flat(sum(seed["trades"] > 0 for seed in seeds), len(seeds))
    if not closed:
        return [luck]
    known = [entry["evidence"] for entry in closed if entry["evidence"] is not None]
    span = list(dict.fromkeys(_number(found) for found in (min(known), max(known)))) if known else ["undefined"]
    reason = (
        f"the t statistic of the mean net return on the validation rows was {' to '.join(span)}, not above the "
        f"threshold of {_number(closed[0]['abstention_threshold'])}"
    )
    if len(closed) == len(folds):
        whole = f"The gate closed on all {len(folds)} agents" if len(folds) > 1 else "The gate closed on the agent"
        return [f"{whole}: {reason}. These figures are those of an account in cash, flat by decision."]
    return [luck, f"The gate closed on {len(closed)} of {len(folds)} agents, which stayed flat: {reason}."]


def _flat(traded: int, seeds: int) -> str:
    """Say who stayed out, if the median agent did."""
    if not traded:
        return "It never traded: it stayed out, and that says nothing about skill."
    return (
        f"The median agent never traded, but {traded} of {seeds} agents did: these figures are mostly those of an "
        "account in cash."
    )


def _luck(agent: Mapping[str, Any]) -> str:
    if agent["sharpe_low"] > 0.0:
        return "The whole interval lies above zero; it does not know how many trials this one was chosen from."
    if agent["sharpe_high"] < 0.0:
        return "The whole interval lies below zero: after costs this agent loses money on such bars."
    return "The interval holds zero: on these bars the result cannot be told from luck."


def _skill(skill: Mapping[str, Any]) -> list[str]:
    """Call luck luck, and say why; silent where nothing was traded."""
    if skill["verdict"] not in SKILL:
        return []
    if skill["minimum_track_record_bars"] is None:
        return [NOT_EARNED, *skill["reasons"]]
    untested = skill["verdict"] == "skill" and skill["pbo"] is None
    return [UNSEARCHED if untested else SKILL[skill["verdict"]], *skill["reasons"]]


def _break_even(found: Mapping[str, Any] | None) -> list[str]:
    """Say what trading may cost before nothing is left; nothing if that was not simulated."""
    if found is None:
        return []
    if found["outcome"] == "loses_free":
        return ["It loses even if trading costs nothing."]
    if found["outcome"] == "earns_always":
        return ["It still earns at any trading costs that were simulated."]
    factor = found["multiplier"]
    paid, bearable = found["paid_bps"], found["bps_per_side"]
    known = paid is not None and bearable is not None
    bps = f", {_number(bearable)} bps per side instead of the {_number(paid)} bps it paid" if known else ""
    if factor >= 1.0:
        return [f"It breaks even at {_number(factor)} times the trading costs{bps}: dearer than that, it loses."]
    return [f"It would break even only at {_number(factor)} times the trading costs{bps}."]


def _against_baselines(metrics: Mapping[str, Any]) -> str:
    groups: dict[str, list[str]] = {"beat": [], "ahead": [], "behind": [], "lost": []}
    for name in metrics["baselines"]:
        compared = metrics["comparisons"][name]
        if compared["low"] > 0.0:
            group = "beat"
        elif compared["high"] < 0.0:
            group = "lost"
        else:
            group = "ahead" if compared["sharpe_difference"] > 0.0 else "behind"
        groups[group].append(f"{TITLES[name].lower()} ({_number(metrics[name]['sharpe'])})")
    words = {
        "beat": "clearly beat {}",
        "ahead": "came out ahead of {}, but within what luck explains",
        "behind": "came out behind {}, within what luck explains",
        "lost": "was clearly beaten by {}",
    }
    parts = [words[group].format(_listed(names)) for group, names in groups.items() if names]
    return f"By Sharpe ratio on the same bars and at the same costs, it {'; it '.join(parts)}."


def _targets_met(targets: list[Mapping[str, Any]]) -> str:
    met = sum(target["met"] is True for target in targets)
    unmeasured = sum(target["met"] is None for target in targets)
    missing = f" and {unmeasured} could not be measured" if unmeasured else ""
    return f"{met} of {len(targets)} targets {'was' if met == 1 else 'were'} met{missing}."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
