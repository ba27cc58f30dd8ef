"""What stands on top of the report: a few numbers that say whether this is skill, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sentio_kedro.evaluation.labels import TITLES
from sentio_kedro.evaluation.report.tables import MISSING, Row, formatted
from sentio_kedro.evaluation.statistics.bootstrap import confidence_percent

EVEN = 0.5  # a probability that says no more than a coin
VERDICTS = {"skill": "Skill", "luck": "Luck", "undecided": "Undecided", "no_trades": "No trades"}
TONES = {"skill": "good", "luck": "bad"}


class HeadlineMetric(NamedTuple):
    """One number on top of the report.

    Attributes:
        title: What it is.
        value: The number, written.
        note: What to set beside it.
        tone: ``good``, ``bad`` or empty.
    """

    title: str
    value: str
    note: str
    tone: str = ""


def headline_metrics(metrics: Mapping[str, Any], quality: Mapping[str, Any] | None = None) -> list[HeadlineMetric]:
    """Choose the numbers that a reader must see first.

    Args:
        metrics: What ``metrics.build_metrics`` returns; ``skill`` may be missing.
        quality: Data quality, for the number of symbols.

    Returns:
        The signs in their order.
    """
    agent, skill = metrics["agent"], metrics.get("skill") or {}
    low, high = agent["sharpe_low"], agent["sharpe_high"]
    percent = confidence_percent(metrics["confidence"])
    tone = "good" if low > 0.0 else "bad" if high < 0.0 else ""
    interval = f"{percent} interval {formatted(low, 'number')} to {formatted(high, 'number')}"
    met = sum(target["met"] is True for target in metrics["targets"])
    return [
        _scored(metrics, skill),
        HeadlineMetric("Sharpe ratio", formatted(agent["sharpe"], "number"), interval, tone),
        *_interval_rows(skill),
        HeadlineMetric("Return a year", formatted(agent["annual_return"], "percent"), _best_baseline(metrics)),
        _drawdown(metrics),
        _break_even(metrics["robustness"]["break_even"]),
        HeadlineMetric("Targets met", f"{met} of {len(metrics['targets'])}", "see below, with their baselines"),
        _data(metrics, quality),
        _universe(metrics),
        *_lockbox(skill),
    ]


def _scored(metrics: Mapping[str, Any], skill: Mapping[str, Any]) -> HeadlineMetric:
    """The verdict in a word; without the tests of skill, what the interval says."""
    agent = metrics["agent"]
    if skill:
        lost = skill["verdict"] == "luck" and skill["minimum_track_record_bars"] is None  # no profit to explain
        word = "No skill" if lost else VERDICTS[skill["verdict"]]
        return HeadlineMetric("Verdict", word, "reasons in the next paragraphs", TONES.get(skill["verdict"], ""))
    if not agent["trades"]:
        return HeadlineMetric("Verdict", VERDICTS["no_trades"], "it stayed out")
    if agent["sharpe_low"] > 0.0:
        return HeadlineMetric("Verdict", "Above zero", "trials were not counted", "good")
    word = "Loses" if agent["sharpe_high"] < 0.0 else VERDICTS["undecided"]
    return HeadlineMetric("Verdict", word, "by the interval alone", "bad" if word == "Loses" else "")


def _interval_rows(skill: Mapping[str, Any]) -> list[HeadlineMetric]:
    """Deflated Sharpe ratio, overfitting and superior ability, where they were tested."""
    if not skill:
        return []
    deflated, pbo, spa = skill["deflated_sharpe"], skill["pbo"], skill["spa_p"]
    trials, bounds = skill["trials"], skill["bounds"]
    beyond = f"the luckiest of {trials:,} trials without skill" if trials > 1 else "zero; the only trial known"
    baseline = skill.get("spa_baseline")
    against = f"against {TITLES.get(baseline, baseline).lower()}" if baseline else "against the best baseline"
    return [
        HeadlineMetric(
            "Deflated Sharpe ratio",
            formatted(deflated, "percent"),
            f"probability that the true one is above {beyond}",
            _tone(deflated, least=bounds["min_deflated_sharpe"], bad_below=EVEN),
        ),
        HeadlineMetric(
            "Backtest overfitting",
            formatted(pbo, "percent"),
            "not tested: too few trials" if pbo is None else f"probability, of {skill['pbo_trials']:,} trials",
            "bad" if pbo is not None and pbo >= bounds["max_overfitting"] else "",
        ),
        HeadlineMetric(
            "Superior ability, p-value",
            formatted(spa, "number"),
            against if spa is not None else "not tested",
            "good" if spa is not None and spa < bounds["max_spa_p"] else "",
        ),
    ]


def _tone(value: float | None, *, least: float, bad_below: float) -> str:
    if value is None:
        return ""
    return "good" if value >= least else "bad" if value < bad_below else ""


def _best_baseline(metrics: Mapping[str, Any]) -> str:
    name = max(metrics["baselines"], key=lambda key: metrics[key]["annual_return"])
    return f"{TITLES[name].lower()}, the best baseline: {formatted(metrics[name]['annual_return'], 'percent')}"


def _drawdown(metrics: Mapping[str, Any]) -> HeadlineMetric:
    limit = metrics["drawdown_limit"]["limit"]
    depth = metrics["agent"]["max_drawdown"]
    note = "no limit set" if limit is None else f"limit {formatted(limit, 'percent')}"
    return HeadlineMetric(
        "Maximum drawdown", formatted(depth, "percent"), note, "bad" if limit and depth >= limit else ""
    )


def _break_even(found: Mapping[str, Any] | None) -> HeadlineMetric:
    if found is None:
        return HeadlineMetric("Break-even costs", MISSING, "not simulated")
    if found["outcome"] != "found":
        note = "loses without costs" if found["outcome"] == "loses_free" else "earns at any simulated"
        return HeadlineMetric("Break-even costs", MISSING, note, "bad" if found["outcome"] == "loses_free" else "good")
    factor, bps = found["multiplier"], found["bps_per_side"]
    note = "of what trading cost" if bps is None else f"of what trading cost: {formatted(bps, 'number')} bps a side"
    return HeadlineMetric(
        "Break-even costs", f"\u00d7 {formatted(factor, 'number')}", note, "bad" if factor < 1.0 else ""
    )


def _data(metrics: Mapping[str, Any], quality: Mapping[str, Any] | None) -> HeadlineMetric:
    agent = metrics["agent"]
    symbols = len((quality or {}).get("per_symbol", {}))
    note = f"to {agent['last_timestamp'][:10]}, {agent['bars']:,} unseen bars"
    return HeadlineMetric("Data", agent["first_timestamp"][:10], f"{note} of {symbols} symbols" if symbols else note)


def _universe(metrics: Mapping[str, Any]) -> HeadlineMetric:
    if metrics["universe"] == "survivorship_biased":
        return HeadlineMetric("Universe", "Biased", "symbols chosen with hindsight", "bad")
    return HeadlineMetric("Universe", "Dated", "symbols as they were known then", "good")


def _lockbox(skill: Mapping[str, Any]) -> list[HeadlineMetric]:
    if "lockbox_openings" not in skill:
        return []
    openings = skill["lockbox_openings"]
    mine = sum(bool(opening.get("this_model")) for opening in openings)
    note = "never opened" if not openings else f"{mine} of them with these agents"
    tone = "bad" if len(openings) > 1 else ""  # each look counts, whichever model it was for
    return [HeadlineMetric("Lockbox openings", f"{len(openings)}", note, tone)]


def skill_rows(skill: Mapping[str, Any]) -> list[Row]:
    """Names, values and meanings of the tests of skill."""
    blocks = skill.get("pbo_blocks")
    iqm = skill.get("iqm") or {"sharpe": None, "low": None, "high": None}
    bars, years = skill["minimum_track_record_bars"], skill["minimum_track_record_years"]
    track = MISSING if bars is None else f"{formatted(bars, 'count')} bars, {formatted(years, 'number')} years"
    iqm_text = formatted(iqm["sharpe"], "number")
    if iqm["low"] is not None:
        iqm_text += f" ({formatted(iqm['low'], 'number')} to {formatted(iqm['high'], 'number')})"
    return [
        [
            "Trials",
            formatted(skill["trials"], "count"),
            "Distinct parameters, code and universe that were ever judged on this universe.",
        ],
        [
            "Probabilistic Sharpe ratio",
            formatted(skill["probabilistic_sharpe"], "percent"),
            "Probability that the true Sharpe ratio is above zero, by length, skew and kurtosis.",
        ],
        [
            "Expected maximum of luck",
            formatted(skill["expected_maximum_sharpe"], "number"),
            "Sharpe ratio that the best of so many trials without skill is expected to show, annualised.",
        ],
        [
            "Deflated Sharpe ratio",
            formatted(skill["deflated_sharpe"], "percent"),
            "Probability that the true Sharpe ratio is above that of luck.",
        ],
        ["Minimum track record", track, "Length from which on the Sharpe ratio would be told from zero."],
        [
            "Probability of backtest overfitting",
            formatted(skill["pbo"], "percent"),
            f"How often the best trial on one half of the rows is no better than the median on the other; "
            f"{formatted(skill['pbo_trials'], 'count')} trials, {formatted(blocks, 'count')} blocks.",
        ],
        [
            "Superior predictive ability, p-value",
            formatted(skill["spa_p"], "number"),
            "How likely such a lead over the best baseline is without any.",
        ],
        ["Sharpe ratio, interquartile mean of seeds", iqm_text, "The middle half of the seeds, with its interval."],
    ]


def lockbox_table_rows(skill: Mapping[str, Any]) -> list[Row]:
    """Every opening of the lockbox: time, model and Sharpe ratio."""
    return [
        [
            str(opening.get("time", MISSING))[:16].replace("T", " "),
            str(opening.get("model", MISSING))[:12],  # of a digest
            "yes" if opening.get("this_model") else "no",
            formatted(opening.get("sharpe"), "number"),
        ]
        for opening in skill.get("lockbox_openings", [])
    ]
