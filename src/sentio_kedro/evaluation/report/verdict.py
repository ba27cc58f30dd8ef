"""The verdict of the report: sentences on result, significance, skill, costs, baselines and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sentio_kedro.evaluation.labels import TITLES
from sentio_kedro.evaluation.report.tables import formatted, interval_title

SKILL = {
    "skill": "Verdict: skill. Neither chance nor selection among trials explains this result.",
    "not_shown": "Verdict: skill not shown. Chance and selection among trials can produce such a result without it.",
    "undecided": "Verdict: undecided. Chance is unlikely to produce such a result, but it does not pass every test.",
}
UNTESTED = "Verdict: skill. Chance does not explain this result. There are too few trials to test for overfitting."
NO_PROFIT = "Verdict: no skill. There is no profit to explain."


def verdict(metrics: Mapping[str, Any]) -> list[str]:
    """Summarise the metrics in sentences.

    Args:
        metrics: Result of ``build_metrics``.
    """
    agent = metrics["agent"]
    interval = interval_title(metrics["confidence"])
    seeds = f"{agent['seeds']} agents that decide as one" if agent["seeds"] > 1 else "the agent"
    earned = "earned" if agent["annual_return"] > 0.0 else "lost"
    annual_return = formatted(abs(agent["annual_return"]), "percent")
    sentences = [
        f"On {agent['bars']:,} test bars from {agent['first_timestamp'][:10]} to {agent['last_timestamp'][:10]}, "
        f"{seeds} {earned} {annual_return} a year after all costs, with a maximum drawdown of "
        f"{formatted(agent['max_drawdown'], 'percent')} and a Sharpe ratio of {_number(agent['sharpe'])} ({interval} "
        f"{_number(agent['sharpe_low'])} to {_number(agent['sharpe_high'])}).",
        *_behaviour(agent),
        *_significance_or_gate(agent, metrics["seeds"], metrics["folds"]),
        *skill_sentences(metrics["skill"]),
    ]
    if agent["seeds"] > 1:
        sentences.append(
            f"Alone, the agents' Sharpe ratios range from {_number(agent['sharpe_seed_min'])} to "
            f"{_number(agent['sharpe_seed_max'])}{_without_a_seed(metrics['robustness']['without_range'])}. The "
            "interval covers the sampling error of the bars, not the spread of seeds."
        )
    sentences += _break_even(metrics["robustness"]["break_even"])
    return [*sentences, *_added(metrics), _against_baselines(metrics), _targets_met(metrics["targets"])]


def _without_a_seed(found: Mapping[str, Any] | None) -> str:
    """Range of the ensembles that lack one of the seeds; empty if not simulated."""
    if found is None:
        return ""
    return f"; with one of them left out, those of the rest from {_number(found['low'])} to {_number(found['high'])}"


def _number(value: float | None) -> str:
    return formatted(value, "number")


def _behaviour(agent: Mapping[str, Any]) -> list[str]:
    """How the agent trades, beside what it earns; none without round trips."""
    if not agent["trades"]:
        return []
    names = ("invested", "traded_bars", "gross_exposure")
    invested, changed, exposure = (formatted(agent[name], "percent") for name in names)
    return [
        f"It holds a position on {invested} of the bars and changes one on {changed}. A round trip lasts "
        f"{_number(agent['holding_bars'])} bars on average. Gross exposure averages {exposure} of equity, turnover "
        f"{_number(agent['turnover_per_year'])} times equity a year."
    ]


def _significance_or_gate(
    agent: Mapping[str, Any], seeds: Sequence[Mapping[str, Any]], folds: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Significance of the result, and the folds in which agents abstained."""
    closed = [entry for entry in folds if entry["abstains"]]
    told = _significance(agent) if agent["trades"] else _flat(sum(seed["trades"] > 0 for seed in seeds), len(seeds))
    if not closed:
        return [told]
    of_rule = closed[0]["rule_sharpe"] is not None
    beyond = " beyond that of the rule" if of_rule else ""
    t_values = [entry["validation_t"] for entry in closed if entry["validation_t"] is not None]
    span = list(dict.fromkeys(map(_number, (min(t_values), max(t_values))))) if t_values else ["undefined"]
    reason = (
        f"the t statistic of the mean net return{beyond} on the validation rows was {' to '.join(span)}, not above the "
        f"threshold of {_number(closed[0]['abstention_threshold'])}"
    )
    if of_rule:
        return [told, f"In {len(closed)} of {len(folds)} agents the forecast rule decides, not the networks: {reason}."]
    if len(closed) == len(folds):
        agents = f"all {len(folds)} agents" if len(folds) > 1 else "the agent"
        flat = "The metrics are those of an account in cash, flat by decision."
        return [f"The gate closed on {agents}: {reason}. {flat}"]
    return [told, f"The gate closed on {len(closed)} of {len(folds)} agents, which stayed flat: {reason}."]


def _flat(traded: int, seeds: int) -> str:
    """Number of agents that trade alone, if they do not as one."""
    if not traded:
        return "It never traded. That says nothing about skill."
    return (
        f"As one the agents never traded, but {traded} of {seeds} do alone: the metrics are those of an account in "
        "cash."
    )


def _significance(agent: Mapping[str, Any]) -> str:
    if agent["sharpe_low"] > 0.0:
        return "The whole interval lies above zero. It does not account for selection among trials."
    if agent["sharpe_high"] < 0.0:
        return "The whole interval lies below zero: after costs the agent loses money on bars like these."
    return "The interval contains zero: a Sharpe ratio above zero is not shown on these bars."


def skill_sentences(skill: Mapping[str, Any]) -> list[str]:
    """Verdict on skill with its reasons; none without trades."""
    if skill["verdict"] not in SKILL:
        return []
    if skill["minimum_track_record_bars"] is None:
        return [NO_PROFIT, *skill["reasons"]]
    untested = skill["verdict"] == "skill" and skill["pbo"] is None
    return [UNTESTED if untested else SKILL[skill["verdict"]], *skill["reasons"]]


def _break_even(break_even: Mapping[str, Any] | None) -> list[str]:
    """Trading costs at which the agent breaks even; none if not simulated."""
    if break_even is None:
        return []
    if break_even["outcome"] == "loses_free":
        return ["It loses even without trading costs."]
    if break_even["outcome"] == "earns_always":
        return ["It earns at all simulated trading costs."]
    multiplier, paid, bearable = (break_even[name] for name in ("multiplier", "paid_bps", "bps_per_side"))
    costs = f"at {_number(multiplier)} times the trading costs"
    if paid is not None and bearable is not None:
        costs += f", {_number(bearable)} bps per side instead of the {_number(paid)} bps it paid"
    if multiplier >= 1.0:
        return [f"It breaks even {costs}. It loses at higher costs."]
    return [f"It would break even only {costs}."]


def _added(metrics: Mapping[str, Any]) -> list[str]:
    """What the networks add to the rule that they act on, were they to decide in all folds."""
    added = metrics.get("added_by_networks")
    if added is None:
        return []
    low, high = _number(added["low"]), _number(added["high"])
    return [
        "What PPO added: were the networks to decide in all folds, the Sharpe ratio would be "
        f"{_number(added['sharpe'])}, that of the rule is {_number(added['rule_sharpe'])}; the interval of the "
        f"difference is {low} to {high}."
    ]


def _against_baselines(metrics: Mapping[str, Any]) -> str:
    groups: dict[str, list[str]] = {"beat": [], "ahead": [], "behind": [], "lost": []}
    for name in metrics["baselines"]:
        comparison = metrics["comparisons"][name]
        if comparison["low"] > 0.0:
            group = "beat"
        elif comparison["high"] < 0.0:
            group = "lost"
        else:
            group = "ahead" if comparison["sharpe_difference"] > 0.0 else "behind"
        groups[group].append(f"{TITLES[name].lower()} ({_number(metrics[name]['sharpe'])})")
    phrases = {
        "beat": "significantly better than {}",
        "ahead": "better than {}, but not significantly",
        "behind": "worse than {}, but not significantly",
        "lost": "significantly worse than {}",
    }
    parts = [phrases[group].format(_listed(names)) for group, names in groups.items() if names]
    return f"By Sharpe ratio on the same bars and at the same costs, it is {'; it is '.join(parts)}."


def _targets_met(targets: list[Mapping[str, Any]]) -> str:
    met = sum(target["met"] is True for target in targets)
    unmeasured = sum(target["met"] is None for target in targets)
    missing = f"; {unmeasured} not judged" if unmeasured else ""
    return f"Targets met: {met} of {len(targets)}{missing}."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
