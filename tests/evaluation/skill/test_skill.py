"""Chance shows no skill, skill is called skill, and the report says so in plain words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sentio_kedro.config import ReportingParameters
from sentio_kedro.config.evaluation import SkillParameters, TrialParameters
from sentio_kedro.evaluation.metrics import build_metrics
from sentio_kedro.evaluation.report.report import render_report
from sentio_kedro.evaluation.report.verdict import verdict
from sentio_kedro.evaluation.run_frames import RunFacts, RunFrames
from sentio_kedro.evaluation.skill.skill import assess_skill
from sentio_kedro.evaluation.skill.trials import RecordedTrials, lone_trial
from sentio_kedro.evaluation.statistics.bootstrap import Floats
from sentio_kedro.evaluation.statistics.deflated_sharpe import (
    deflated_sharpe,
    minimum_track_record,
    probabilistic_sharpe,
    sharpe_moments,
)

PARAMETERS = ReportingParameters(bootstrap_samples=100, trials=TrialParameters(cscv_blocks=8))
YEAR = 17_520.0
BARS = 2_000

MakeRun = Callable[..., RunFrames]


def _among(agent: Floats, others: Floats) -> RecordedTrials:
    """Trials on the same rows, [T] and [T, M]."""
    sharpes = [sharpe_moments(path).sharpe for path in (agent, *others.T)]
    return RecordedTrials(len(sharpes), np.array(sharpes), np.column_stack([agent, others]))


def _run_of(make_run: MakeRun, returns: Floats) -> RunFrames:
    """A run whose only agent earned ``returns``; the baselines stay as they are."""
    frames = make_run(seeds=1)
    accounts = frames.accounts.copy()
    rows = accounts["account"] == "seed_0"
    accounts.loc[rows, "price_pnl"] += returns - accounts.loc[rows, "return"]
    accounts.loc[rows, "return"] = returns
    accounts.loc[rows, "equity"] = 1e6 * np.cumprod(1.0 + returns)
    return dataclasses.replace(frames, accounts=accounts)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_of_two_hundred_random_strategies_is_not_shown_to_be_skill(
    make_run: MakeRun, facts: RunFacts, seed: int
) -> None:
    strategies = np.random.default_rng(seed).normal(0.0, 0.004, (BARS, 200))
    best = strategies.mean(axis=0).argmax()
    chosen, others = strategies[:, best], np.delete(strategies, best, axis=1)
    metrics = build_metrics(_run_of(make_run, chosen), facts, PARAMETERS, _among(chosen, others))
    skill = metrics["skill"]
    assert skill["probabilistic_sharpe"] > 0.95  # alone it would look like skill
    assert (skill["verdict"], skill["trials"], skill["pbo_trials"]) == ("not_shown", 200, 200)
    assert skill["spa_p"] > 0.05  # of so many, one is ahead by chance
    page = render_report(metrics, {})
    assert "Verdict: skill not shown." in page
    assert "It is one of 200 trials on these symbols and dates" in page


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_planted_strategy_is_called_skill(make_run: MakeRun, facts: RunFacts, seed: int) -> None:
    rng = np.random.default_rng(seed)
    planted, others = rng.normal(0.0008, 0.004, BARS), rng.normal(0.0, 0.004, (BARS, 5))
    metrics = build_metrics(_run_of(make_run, planted), facts, PARAMETERS, _among(planted, others))
    assert metrics["skill"]["verdict"] == "skill"
    assert metrics["skill"]["pbo"] < 0.05
    assert "Verdict: skill." in render_report(metrics, {})


def _assess(
    agent: Floats, others: Floats | None = None, parameters: ReportingParameters = PARAMETERS, **more: Any
) -> Any:
    baseline = np.random.default_rng(99).normal(0.0, 0.01, len(agent))
    trials = lone_trial(agent) if others is None else _among(agent, others)
    baselines = {"poor": baseline - 0.01, "buy_and_hold": baseline}
    return assess_skill(agent, baselines, np.array([[1.0, 2.0], [3.0, 4.0]]), trials, YEAR, parameters, **more)


def test_figures_are_those_of_the_tests_and_annualised_where_they_say_so() -> None:
    rng = np.random.default_rng(0)
    agent, others = rng.normal(0.0005, 0.004, BARS), rng.normal(0.0, 0.004, (BARS, 9))
    result, moments = _assess(agent, others, intervals={"sharpe": (1.0, 2.0)}), sharpe_moments(agent)
    trials = _among(agent, others)
    assert result["probabilistic_sharpe"] == probabilistic_sharpe(moments)
    assert result["tested_sharpe"] == pytest.approx(moments.sharpe * YEAR**0.5)
    assert f"At a Sharpe ratio of {result['tested_sharpe']:.2f} it takes" in " ".join(result["reasons"])
    assert (result["trials"], result["effective_trials"]) == (10, 10)
    assert result["deflated_sharpe"] == deflated_sharpe(moments, 10, trials.deviation)
    assert result["trial_sharpe_deviation"] == pytest.approx(trials.deviation * math.sqrt(YEAR))
    assert result["minimum_track_record_bars"] == math.ceil(minimum_track_record(moments))
    assert result["minimum_track_record_years"] == pytest.approx(minimum_track_record(moments) / YEAR)
    assert (result["pbo_trials"], result["pbo_blocks"], result["spa_baseline"]) == (10, 8, "buy_and_hold")
    assert result["iqm"]["sharpe"] == 2.5
    assert result["iqm"]["low"] < 2.5 < result["iqm"]["high"]
    assert result["intervals"] == {"sharpe": [1.0, 2.0]}


def test_one_trial_has_nothing_taken_off() -> None:
    agent = np.random.default_rng(0).normal(0.0005, 0.004, BARS)
    result = _assess(agent)
    assert result["deflated_sharpe"] == result["probabilistic_sharpe"]
    assert result["expected_maximum_sharpe"] == 0.0
    assert (result["pbo"], result["trial_sharpe_deviation"], result["pbo_trials"]) == (None, None, 1)
    assert "only trial" in result["reasons"][0]
    assert "cannot be measured with 1 trial on these bars; it takes 5" in result["reasons"][1]


def test_variants_of_one_idea_count_as_few_trials() -> None:
    rng = np.random.default_rng(0)
    agent = rng.normal(0.0002, 0.004, BARS)
    variants = agent[:, None] + rng.normal(0.0, 0.001, (BARS, 9))
    result, moments = _assess(agent, variants), sharpe_moments(agent)
    assert (result["trials"], result["effective_trials"]) == (10, 2)  # the mean correlation is 0.945
    assert result["deflated_sharpe"] == deflated_sharpe(moments, 2, 1.0 / math.sqrt(BARS))
    assert "one of 10 trials on these symbols and dates, 2 by the correlation of their returns." in result["reasons"][0]


def test_enough_trials_on_too_few_bars_are_told_as_too_few_bars() -> None:
    rng = np.random.default_rng(0)
    result = _assess(rng.normal(0.0, 0.01, 15), rng.normal(0.0, 0.01, (15, 9)))
    assert result["pbo"] is None
    assert "cannot be measured on 15 bars; it takes 16, two for each of the 8 blocks." in result["reasons"][1]


def test_cash_that_earns_the_same_each_bar_is_not_levered() -> None:
    agent = np.random.default_rng(0).normal(0.0005, 0.004, BARS)
    cash = {"cash": np.full(BARS, 1e-6), "poor": agent - 0.01}
    result = assess_skill(agent, cash, np.ones((1, 1)), lone_trial(agent), YEAR, PARAMETERS)
    none = assess_skill(agent, {"cash": np.zeros(BARS)}, np.ones((1, 1)), lone_trial(agent), YEAR, PARAMETERS)
    assert result["spa_p"] == pytest.approx(none["spa_p"], abs=0.01)


@pytest.mark.parametrize(("confidence", "text"), [(0.975, "97.5\u00a0% sure"), (0.999, "99.9\u00a0% sure")])
def test_a_confidence_is_not_rounded(confidence: float, text: str) -> None:
    parameters = dataclasses.replace(PARAMETERS, confidence=confidence)
    agent = np.random.default_rng(0).normal(0.0005, 0.004, BARS)
    assert text in _assess(agent, parameters=parameters)["reasons"][-1]


def test_leverage_is_no_skill() -> None:
    rng = np.random.default_rng(0)
    agent, others = rng.normal(0.0006, 0.004, BARS), rng.normal(0.0, 0.004, (BARS, 5))
    once, thrice = _assess(agent, others), _assess(3.0 * agent, others)
    assert thrice["spa_p"] == once["spa_p"]
    assert thrice["deflated_sharpe"] == pytest.approx(once["deflated_sharpe"])


def test_each_test_can_fail_alone() -> None:
    rng = np.random.default_rng(0)
    agent, noise = rng.normal(0.0008, 0.004, BARS), rng.normal(0.0, 0.004, (BARS, 5))
    assert _assess(agent, noise)["verdict"] == "skill"
    surer = dataclasses.replace(PARAMETERS, skill=SkillParameters(min_deflated_sharpe=1.0))
    assert _assess(agent, noise, surer)["verdict"] == "not_shown"
    as_good = agent[:, None] + rng.normal(0.0, 0.0005, (BARS, 5))  # which of them is best is chance
    overfitted = _assess(agent, as_good)
    assert overfitted["pbo"] > 0.2
    assert overfitted["verdict"] == "undecided"
    good = {"momentum": rng.normal(0.0008, 0.004, BARS)}
    beaten = assess_skill(agent, good, np.ones((1, 1)), _among(agent, noise), YEAR, PARAMETERS)
    assert (beaten["deflated_sharpe"] > 0.95, beaten["pbo"] < 0.2, beaten["spa_p"] > 0.05) == (True, True, True)
    assert beaten["verdict"] == "undecided"
    assert "best baseline (momentum)" in beaten["reasons"][2]
    assert "not below the 0.05 allowed" in beaten["reasons"][2]


def test_an_agent_that_never_traded_shows_neither(make_run: MakeRun, facts: RunFacts) -> None:
    result = _assess(np.zeros(BARS), traded=False)
    assert (result["verdict"], result["reasons"], result["spa_p"]) == ("no_trades", [], 1.0)
    metrics = build_metrics(make_run(), facts, PARAMETERS) | {"skill": result}
    assert "Verdict" not in " ".join(verdict(metrics))


def test_a_loss_has_nothing_to_explain(make_run: MakeRun, facts: RunFacts) -> None:
    result = _assess(np.random.default_rng(0).normal(-0.001, 0.004, BARS))
    assert (result["verdict"], result["minimum_track_record_bars"]) == ("not_shown", None)
    text = " ".join(verdict(build_metrics(make_run(), facts, PARAMETERS) | {"skill": result}))
    assert "Verdict: no skill. There is no profit" in text
    assert "no track record would show skill, however long" in text


def test_openings_of_the_lockbox_are_told() -> None:
    agent = np.random.default_rng(0).normal(0.0005, 0.004, BARS)
    result = _assess(agent, openings=[{"time": "2024-01-01"}, {"time": "2024-02-01"}])
    assert result["lockbox_openings"] == [{"time": "2024-01-01"}, {"time": "2024-02-01"}]
    assert "opened twice" in result["reasons"][-1]


def test_trials_that_were_judged_in_what_is_now_the_lockbox_are_told() -> None:
    agent = np.random.default_rng(0).normal(0.0005, 0.004, BARS)
    for count, sentence in ((1, "1 trial was tested on bars of what"), (3, "3 trials were tested on bars of what")):
        among = dataclasses.replace(lone_trial(agent), in_lockbox=count)
        result = assess_skill(agent, {"cash": 0.0 * agent}, np.array([[1.0]]), among, YEAR, PARAMETERS)
        assert result["trials_in_lockbox"] == count
        assert sentence in result["reasons"][-1]
    assert "lockbox" not in " ".join(_assess(agent)["reasons"])


def test_a_probability_is_never_rounded_to_certainty() -> None:
    result = _assess(np.random.default_rng(0).normal(0.01, 0.004, BARS))
    assert result["deflated_sharpe"] > 0.9999
    assert "is above 0.999;" in result["reasons"][0]
    assert "below 0.01 (" in result["reasons"][2]


def test_intervals_hold_the_headline_figures_of_every_account(make_run: MakeRun, facts: RunFacts) -> None:
    metrics = build_metrics(make_run(), facts, PARAMETERS)
    names = {"sharpe", "annual_return", "total_return", "annual_volatility", "max_drawdown", "sortino", "calmar"}
    for account in ("agent", *metrics["baselines"]):
        intervals = metrics[account]["intervals"]
        assert intervals.keys() == names | {"win_rate", "expectancy"}
        assert all(low <= high for low, high in intervals.values())
        for name in ("sharpe", "annual_volatility", "win_rate", "expectancy"):
            assert intervals[name][0] <= metrics[account][name] <= intervals[name][1], (account, name)
        assert intervals["sharpe"] == [metrics[account]["sharpe_low"], metrics[account]["sharpe_high"]]
    assert metrics["skill"]["intervals"] == metrics["agent"]["intervals"]
