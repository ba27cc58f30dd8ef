"""Plain sentences made from the figures: the verdict, and what should make a reader suspicious."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sentio_kedro.evaluation.labels import TITLES
from sentio_kedro.evaluation.statistics.bootstrap import confidence_percent

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
    known = [entry["validation_t"] for entry in closed if entry["validation_t"] is not None]
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
