"""Skill: the statistical tests of a result combined to a verdict, with reasons in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sentio_kedro.config import ReportingParameters
from sentio_kedro.evaluation.skill.trials import RecordedTrials
from sentio_kedro.evaluation.statistics.bootstrap import Floats, confidence_percent
from sentio_kedro.evaluation.statistics.deflated_sharpe import (
    deflated_sharpe,
    expected_maximum_sharpe,
    minimum_track_record,
    probabilistic_sharpe,
    sharpe_moments,
)
from sentio_kedro.evaluation.statistics.interquartile import interquartile_interval, interquartile_mean
from sentio_kedro.evaluation.statistics.overfitting import backtest_overfitting
from sentio_kedro.evaluation.statistics.superior_ability import RESAMPLES, superiority
from sentio_kedro.trading.performance import STILL

Metrics = dict[str, Any]


def assess_skill(
    agent: Floats,
    baselines: Mapping[str, Floats],
    scores: Floats,
    trials: RecordedTrials,
    periods_per_year: float,
    parameters: ReportingParameters,
    *,
    traded: bool = True,
    intervals: Mapping[str, Sequence[float]] | None = None,
    openings: Sequence[Mapping[str, Any]] = (),
) -> Metrics:
    """Test a result for skill.

    Args:
        agent: Simple net returns per bar of the agent, [T].
        baselines: Those of each baseline on the same rows, by the names of ``metrics.json``.
        scores: Annualised Sharpe ratio of each seed in each fold, [seeds, folds].
        trials: Trials that the agent was selected from.
        periods_per_year: Bars a year.
        parameters: Bootstrap, confidence and thresholds.
        traded: Whether it traded.
        intervals: Intervals of its headline metrics.
        openings: Records of the lockbox's openings.

    Returns:
        ``tested_sharpe`` (annualised, of ``agent``),
        ``probabilistic_sharpe`` (confidence that the true one is above zero), ``deflated_sharpe`` (above the expected
        best of so many trials without skill), ``expected_maximum_sharpe`` (that best, annualised), ``trials``,
        ``effective_trials`` (independent ones that they amount to), ``trial_sharpe_deviation`` (annualised; None for
        one trial), ``minimum_track_record_bars`` and ``minimum_track_record_years`` (None if infinite), ``pbo``,
        ``pbo_trials`` and ``pbo_blocks`` (None below ``trials.min_trials`` on the same rows), ``spa_p`` and
        ``spa_baseline``, ``iqm`` (``sharpe``, ``low``, ``high``), ``intervals``, ``trials_in_lockbox`` (trials tested
        on bars of what is now the lockbox), ``lockbox_openings``, ``bounds`` (``reporting.skill``), ``verdict``
        (``skill``, ``not_shown``, ``undecided``, ``no_trades``) and ``reasons``, sentences.
    """
    year, moments = math.sqrt(periods_per_year), sharpe_moments(agent)
    bars = minimum_track_record(moments, confidence=parameters.confidence)
    skill: Metrics = {
        "tested_sharpe": moments.sharpe * year,
        "probabilistic_sharpe": probabilistic_sharpe(moments),
        "expected_maximum_sharpe": expected_maximum_sharpe(trials.effective, trials.deviation) * year,
        "trials": trials.count,
        "effective_trials": trials.effective,
        "trial_sharpe_deviation": trials.deviation * year if trials.count > 1 else None,
        "minimum_track_record_bars": math.ceil(bars) if math.isfinite(bars) else None,
        "minimum_track_record_years": bars / periods_per_year if math.isfinite(bars) else None,
        "bars": len(agent),
        **choice_metrics(agent, trials, parameters),
        **_against_best(agent, baselines, trials, parameters),
        "iqm": _interquartile(scores, parameters),
        "intervals": {name: list(values) for name, values in (intervals or {}).items()},
        "trials_in_lockbox": trials.in_lockbox,
        "lockbox_openings": [dict(opening) for opening in openings],
        "bounds": asdict(parameters.skill),
    }
    skill["verdict"] = _verdict(skill, parameters, traded)
    return skill | {"reasons": _reasons(skill, parameters) if traded else []}


def choice_metrics(agent: Floats, trials: RecordedTrials, parameters: ReportingParameters) -> Metrics:
    """Correct a result for selection among trials.

    Args:
        agent: Simple net returns per bar of the result, [T].
        trials: Trials that it was selected from.
        parameters: ``trials``: blocks, and the minimum number of trials.

    Returns:
        ``deflated_sharpe``, ``pbo``, ``pbo_trials`` and ``pbo_blocks`` of ``assess_skill``.
    """
    returns, blocks = np.column_stack([agent, trials.peers]), parameters.trials.cscv_blocks
    enough = returns.shape[1] >= parameters.trials.min_trials and len(returns) >= 2 * blocks
    return {
        "deflated_sharpe": deflated_sharpe(sharpe_moments(agent), trials.effective, trials.deviation),
        "pbo": backtest_overfitting(returns, blocks).probability if enough else None,
        "pbo_trials": returns.shape[1],
        "pbo_blocks": blocks,
    }


def _against_best(
    agent: Floats, baselines: Mapping[str, Floats], trials: RecordedTrials, parameters: ReportingParameters
) -> Metrics:
    """Test against the baseline with the highest Sharpe ratio, all scaled to the agent's volatility."""
    best = max(baselines, key=lambda name: sharpe_moments(baselines[name]).sharpe)
    p = superiority(
        agent,
        _at_volatility(baselines[best][:, None], agent)[:, 0],
        _at_volatility(trials.peers, agent),
        samples=min(parameters.bootstrap_samples, RESAMPLES),
        mean_block=parameters.bootstrap_block,
        seed=parameters.seed,
    )
    return {"spa_p": p, "spa_baseline": best}


def _at_volatility(returns: Floats, agent: Floats) -> Floats:
    """Scale ``returns`` [T, M] to the agent's deviation; cash, which does not vary, stays as it is."""
    deviation = returns.std(axis=0)
    varies = deviation > STILL * np.abs(returns.mean(axis=0))
    return returns * np.where(varies, agent.std() / np.where(varies, deviation, 1.0), 1.0)


def _interquartile(scores: Floats, parameters: ReportingParameters) -> Metrics:
    rng = np.random.default_rng(parameters.seed)
    interval = interquartile_interval(scores, parameters.confidence, samples=parameters.bootstrap_samples, rng=rng)
    low, high = (None, None) if interval is None else interval
    return {"sharpe": interquartile_mean(scores), "low": low, "high": high}


def _verdict(skill: Metrics, parameters: ReportingParameters, traded: bool) -> str:
    bounds = parameters.skill
    if not traded:
        return "no_trades"
    if skill["deflated_sharpe"] < bounds.min_deflated_sharpe:
        return "not_shown"
    overfitted = skill["pbo"] is not None and skill["pbo"] >= bounds.max_overfitting
    return "undecided" if overfitted or skill["spa_p"] >= bounds.max_spa_p else "skill"


def _reasons(skill: Metrics, parameters: ReportingParameters) -> list[str]:
    bounds, openings = parameters.skill, skill["lockbox_openings"]
    reasons = [
        _deflation(skill, bounds.min_deflated_sharpe),
        _choice(skill, bounds.max_overfitting, parameters.trials.min_trials),
        _superiority(skill, bounds.max_spa_p, min(parameters.bootstrap_samples, RESAMPLES)),
        _track_record(skill, parameters.confidence),
    ]
    if tested := skill["trials_in_lockbox"]:
        trials = "trial was" if tested == 1 else "trials were"
        reasons.append(
            f"{tested:,} {trials} tested on bars of what is now the lockbox: for whoever saw them, these bars are no "
            "test any more."
        )
    if openings:
        reasons.append(
            f"The lockbox has been opened {_times(len(openings))}: each opening makes its bars less of a surprise."
        )
    return reasons


def _deflation(skill: Metrics, needed: float) -> str:
    confidence, count = _probability(skill["deflated_sharpe"]), skill["effective_trials"]
    if skill["trials"] == 1:
        return (
            "This is the only trial on these symbols and dates that the ledger knows, so nothing is taken off for "
            f"choosing: the confidence that the true Sharpe ratio is above zero is {confidence}; "
            f"{_probability(needed)} is needed."
        )
    related = f", {count:,} by the correlation of their returns" if count < skill["trials"] else ""
    return (
        f"It is one of {skill['trials']:,} trials on these symbols and dates{related}. The best of so many without any "
        f"skill would show a Sharpe ratio of about {_number(skill['expected_maximum_sharpe'])}; the confidence that "
        f"the true one is above that (deflated Sharpe ratio) is {confidence}; {_probability(needed)} is needed."
    )


def _choice(skill: Metrics, bound: float, minimum: int) -> str:
    trials = skill["pbo_trials"]
    if skill["pbo"] is None and trials >= minimum:
        return (
            f"The probability of backtest overfitting cannot be measured on {skill['bars']:,} bars; it takes "
            f"{2 * skill['pbo_blocks']}, two for each of the {skill['pbo_blocks']} blocks."
        )
    if skill["pbo"] is None:
        return (
            f"The probability of backtest overfitting cannot be measured with {trials} "
            f"trial{'s' if trials > 1 else ''} on these bars; it takes {minimum}."
        )
    side = "below" if skill["pbo"] < bound else "not below"
    return (
        f"Of the {trials:,} trials on these bars, the one that was best on one half of them was no better than the "
        f"median on the other half in {_percent(skill['pbo'])} of the splits (probability of backtest overfitting), "
        f"{side} the {_percent(bound)} allowed; 50\u00a0% is chance."
    )


def _superiority(skill: Metrics, bound: float, samples: int) -> str:
    baseline = skill["spa_baseline"].replace("_", " ")
    side = "below" if skill["spa_p"] < bound else "not below"
    p = _probability(skill["spa_p"]) if skill["spa_p"] * samples >= 1.0 else f"below {1.0 / samples:g}"
    return (
        f"If no trial were better than the best baseline ({baseline}) at the same risk, chance would put one "
        f"so far ahead with probability {p} (test of superior predictive ability), {side} the "
        f"{_probability(bound)} allowed."
    )


def _track_record(skill: Metrics, confidence: float) -> str:
    bars, years = skill["minimum_track_record_bars"], skill["minimum_track_record_years"]
    if bars is None:
        return "With a Sharpe ratio that is not positive no track record would show skill, however long."
    return (
        f"At a Sharpe ratio of {_number(skill['tested_sharpe'])} "
        f"it takes {bars:,} bars ({_number(years)} years) to be {confidence_percent(confidence)} sure that the true "
        f"one is positive; there are {skill['bars']:,}."
    ).replace("%", "\u00a0%")


def _probability(value: float) -> str:
    if value > 0.9995:  # noqa: PLR2004 - never rounded to certainty
        return "above 0.999"
    return "below 0.001" if value < 0.0005 else f"{value:.3f}".rstrip("0").ljust(4, "0")  # noqa: PLR2004 - nor to none


def _percent(value: float) -> str:
    return f"{value:.0%}".replace("%", "\u00a0%")


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "\u2212")


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
