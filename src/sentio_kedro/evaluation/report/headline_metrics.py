"""What the agent does, headline metrics and the tests of skill on top of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sentio_kedro.evaluation.alarms import MIN_START_CORRELATION
from sentio_kedro.evaluation.labels import TITLES
from sentio_kedro.evaluation.report.columns import OPENING_COLUMNS, Kind
from sentio_kedro.evaluation.report.tables import MISSING, Table, formatted, interval_title, table_of

CHANCE = 0.5
VERDICTS = {"skill": "Skill", "not_shown": "Not shown", "undecided": "Undecided", "no_trades": "No trades"}
BEHAVIOUR: dict[str, Kind] = {
    **{
        "changed_decisions": "percent",
        "median_holding_bars": "count",
        "weighted_holding_bars": "count",
        "own_exits": "count",
        "trades": "count",
    },
    **{"effective_bets": "count", "invested": "percent", "gross_exposure": "percent", "market_r2": "number"},
    **{"alpha_t": "number", "static_return": "percent", "timing_return": "percent", "forced_profit": "percent"},
    "capped_orders": "percent",
}
TONES = {"skill": "good", "not_shown": "bad"}


class HeadlineMetric(NamedTuple):
    """One number on top of the report.

    Attributes:
        title: Name of the metric.
        value: Formatted value.
        note: Context of the value.
        tone: ``good``, ``bad`` or empty.
    """

    title: str
    value: str
    note: str
    tone: str = ""


def behaviour(agent: Mapping[str, Any], starts: Mapping[str, Any] | None) -> list[HeadlineMetric]:
    """Select what the agent does, which stands before what it earns.

    Args:
        agent: Metrics of the agent.
        starts: ``start_dates`` of ``robustness``.
    """
    text = {name: formatted(agent[name], kind) for name, kind in BEHAVIOUR.items()}
    forced = (
        "" if agent["forced_profit"] is None else f"; trips closed by a fold: {text['forced_profit']} of the profit"
    )
    return [
        HeadlineMetric("Decisions that changed a position", text["changed_decisions"], "of all assets and bars"),
        HeadlineMetric(
            "Holding",
            f"{text['median_holding_bars']} bars",
            f"median round trip; half of the time lies in trips of at least {text['weighted_holding_bars']} bars",
        ),
        HeadlineMetric("Own exits", text["own_exits"], f"of {text['trades']} round trips{forced}"),
        HeadlineMetric("Independent bets", text["effective_bets"], "round trips less their overlap"),
        HeadlineMetric("In the market", text["invested"], f"of the bars; mean gross exposure {text['gross_exposure']}"),
        HeadlineMetric("R\u00b2 with the market", text["market_r2"], f"t of alpha {text['alpha_t']}"),
        HeadlineMetric("Timing return", text["timing_return"], f"before costs; static return {text['static_return']}"),
        HeadlineMetric("Orders cut by limits", text["capped_orders"], "of all orders"),
        _start_dates(starts),
    ]


def _start_dates(starts: Mapping[str, Any] | None) -> HeadlineMetric:
    title = "Started on other days"
    if starts is None:
        return HeadlineMetric(title, MISSING, "not simulated")
    spread = formatted(starts["sharpe_spread"], "number")
    note = f"correlation of positions; Sharpe ratios differ by {spread}"
    low = starts["correlation"] is not None and starts["correlation"] < MIN_START_CORRELATION
    return HeadlineMetric(title, formatted(starts["correlation"], "number"), note, "bad" if low else "")


def headline_metrics(metrics: Mapping[str, Any], quality: Mapping[str, Any] | None = None) -> list[HeadlineMetric]:
    """Select the numbers on top of the report.

    Args:
        metrics: Result of ``build_metrics``.
        quality: Data quality, for the number of symbols.
    """
    agent, skill = metrics["agent"], metrics["skill"]
    low, high = agent["sharpe_low"], agent["sharpe_high"]
    interval = f"{interval_title(metrics['confidence'])} {formatted((low, high), 'interval')}"
    if (without := metrics["robustness"]["without_range"]) is not None:
        interval += f"; without one seed {formatted((without['low'], without['high']), 'interval')}"
    met = sum(target["met"] is True for target in metrics["targets"])
    no_profit = skill["verdict"] == "not_shown" and skill["minimum_track_record_bars"] is None
    verdict = "No skill" if no_profit else VERDICTS[skill["verdict"]]
    best = max(metrics["baselines"], key=lambda name: metrics[name]["annual_return"])
    best_return = formatted(metrics[best]["annual_return"], "percent")
    limit, depth = metrics["drawdown_limit"]["limit"], agent["max_drawdown"]
    return [
        HeadlineMetric("Verdict", verdict, "reasons below", TONES.get(skill["verdict"], "")),
        HeadlineMetric(
            "Sharpe ratio",
            formatted(agent["sharpe"], "number"),
            interval,
            "good" if low > 0.0 else "bad" if high < 0.0 else "",
        ),
        *_skill_metrics(skill),
        HeadlineMetric(
            "Annual return",
            formatted(agent["annual_return"], "percent"),
            f"best baseline: {TITLES[best].lower()}, {best_return}",
        ),
        HeadlineMetric(
            "Maximum drawdown",
            formatted(depth, "percent"),
            "no limit" if limit is None else f"limit {formatted(limit, 'percent')}",
            "bad" if limit and depth >= limit else "",
        ),
        _break_even(metrics["robustness"]["break_even"]),
        HeadlineMetric("Targets met", f"{met} of {len(metrics['targets'])}", "see the table of targets"),
        *_data_metrics(metrics, quality),
    ]


def _data_metrics(metrics: Mapping[str, Any], quality: Mapping[str, Any] | None) -> list[HeadlineMetric]:
    """Span of the test, choice of the symbols and openings of the lockbox."""
    agent, openings = metrics["agent"], metrics["skill"]["lockbox_openings"]
    symbols = f" of {len(quality['per_symbol'])} symbols" if quality else ""
    biased = metrics["universe"] == "survivorship_biased"
    of_these_agents = sum(bool(opening.get("this_model")) for opening in openings)
    return [
        HeadlineMetric(
            "Data",
            agent["first_timestamp"][:10],
            f"to {agent['last_timestamp'][:10]}, {agent['bars']:,} test bars{symbols}",
        ),
        HeadlineMetric(
            "Universe",
            "Biased" if biased else "Dated",
            "symbols chosen with hindsight" if biased else "symbols as listed at the time",
            "bad" if biased else "good",
        ),
        HeadlineMetric(
            "Lockbox openings",
            f"{len(openings)}",
            f"{of_these_agents} with these agents" if openings else "never opened",
            "bad" if len(openings) > 1 else "",  # openings with other models count too
        ),
    ]


def _skill_metrics(skill: Mapping[str, Any]) -> list[HeadlineMetric]:
    """Deflated Sharpe ratio, backtest overfitting and superior predictive ability."""
    deflated, pbo, spa = skill["deflated_sharpe"], skill["pbo"], skill["spa_p"]
    trials, bounds = skill["trials"], skill["bounds"]
    threshold = f"the best of {trials:,} trials without skill" if trials > 1 else "zero; no other trials"
    tone = "" if deflated is None else "bad" if deflated < CHANCE else ""
    if deflated is not None and deflated >= bounds["min_deflated_sharpe"]:
        tone = "good"
    return [
        HeadlineMetric(
            "Deflated Sharpe ratio",
            formatted(deflated, "percent"),
            f"confidence that the true ratio is above {threshold}",
            tone,
        ),
        HeadlineMetric(
            "Backtest overfitting",
            formatted(pbo, "percent"),
            "not tested" if pbo is None else f"probability, from {skill['pbo_trials']:,} trials",
            "bad" if pbo is not None and pbo >= bounds["max_overfitting"] else "",
        ),
        HeadlineMetric(
            "Superior ability, p-value",
            formatted(spa, "number"),
            "not tested" if spa is None else f"against {TITLES[skill['spa_baseline']].lower()}",
            "good" if spa is not None and spa < bounds["max_spa_p"] else "",
        ),
    ]


def _break_even(break_even: Mapping[str, Any] | None) -> HeadlineMetric:
    title = "Break-even costs"
    if break_even is None:
        return HeadlineMetric(title, MISSING, "not simulated")
    if break_even["outcome"] == "loses_free":
        return HeadlineMetric(title, MISSING, "loses without costs", "bad")
    if break_even["outcome"] == "earns_always":
        return HeadlineMetric(title, MISSING, "earns at all simulated costs", "good")
    multiplier, bps = break_even["multiplier"], break_even["bps_per_side"]
    note = "of the trading costs" + ("" if bps is None else f": {formatted(bps, 'number')} bps per side")
    return HeadlineMetric(title, f"\u00d7 {formatted(multiplier, 'number')}", note, "bad" if multiplier < 1.0 else "")


def skill_table(skill: Mapping[str, Any]) -> Table:
    """Results and meanings of the tests of skill."""
    iqm = skill["iqm"]
    bars, years = skill["minimum_track_record_bars"], skill["minimum_track_record_years"]
    track = MISSING if bars is None else f"{formatted(bars, 'count')} bars, {formatted(years, 'number')} years"
    interval = "" if iqm["low"] is None else f" ({formatted((iqm['low'], iqm['high']), 'interval')})"
    rows = [
        [
            "Trials",
            f"{formatted(skill['trials'], 'count')}, independent {formatted(skill['effective_trials'], 'count')}",
            "Distinct combinations of parameters and code that were tested on any of these symbols and dates, and the "
            "number of independent ones that they amount to by the correlation of their returns.",
        ],
        [
            "Probabilistic Sharpe ratio",
            formatted(skill["probabilistic_sharpe"], "percent"),
            "Confidence that the true Sharpe ratio is above zero, given length, skew and kurtosis.",
        ],
        [
            "Expected maximum Sharpe ratio",
            formatted(skill["expected_maximum_sharpe"], "number"),
            "Expected annualised Sharpe ratio of the best of as many independent trials without skill.",
        ],
        [
            "Deflated Sharpe ratio",
            formatted(skill["deflated_sharpe"], "percent"),
            "Confidence that the true Sharpe ratio is above this expected maximum.",
        ],
        ["Minimum track record", track, "Length from which the Sharpe ratio is significantly above zero."],
        [
            "Probability of backtest overfitting",
            formatted(skill["pbo"], "percent"),
            "How often the best trial on one half of the rows is no better than the median on the other half. "
            f"Trials: {formatted(skill['pbo_trials'], 'count')}, blocks: {formatted(skill['pbo_blocks'], 'count')}.",
        ],
        [
            "Superior predictive ability, p-value",
            formatted(skill["spa_p"], "number"),
            "Probability of such a lead over the best baseline if there is no true lead.",
        ],
        [
            "Sharpe ratio, interquartile mean of seeds",
            formatted(iqm["sharpe"], "number") + interval,
            "Mean of the middle half of the seeds, with its interval.",
        ],
    ]
    return Table(["Test", "Result", "Meaning"], rows)


def opening_table(skill: Mapping[str, Any]) -> Table:
    """Every opening of the lockbox: time, model and Sharpe ratio."""
    entries = (
        (
            formatted(opening.get("time"), "minute"),
            {
                "model": str(opening.get("model", MISSING))[:12],  # of a digest
                "these_agents": "yes" if opening.get("this_model") else "no",
                "sharpe": opening.get("sharpe"),
            },
        )
        for opening in skill["lockbox_openings"]
    )
    return table_of("Time", entries, OPENING_COLUMNS)
