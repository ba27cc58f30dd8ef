"""Is it skill: the tests of luck put together, and what they say in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sentio_kedro.config import ReportingParameters
from sentio_kedro.evaluation.skill.trials import RecordedTrials
from sentio_kedro.evaluation.statistics.bootstrap import Floats, confidence_percent
from sentio_kedro.evaluation.statistics.interquartile import interquartile_interval, interquartile_mean
from sentio_kedro.evaluation.statistics.overfitting import Overfitting, backtest_overfitting
from sentio_kedro.evaluation.statistics.sharpe_tests import (
    deflated_sharpe,
    expected_maximum_sharpe,
    minimum_track_record,
    probabilistic_sharpe,
    sharpe_moments,
)
from sentio_kedro.evaluation.statistics.superior_ability import superiority
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
    """Put the tests of luck together.

    Args:
        agent: Simple net returns per bar of the agent that stands for all, [T].
        baselines: Those of each baseline on the same rows, by the names of ``metrics.json``.
        scores: Annualised Sharpe ratio of each seed in each fold, [seeds, folds].
        trials: What the agent was chosen from.
        periods_per_year: Bars a year.
        parameters: Bootstrap, confidence and thresholds.
        traded: Whether any agent traded at all.
        intervals: Intervals of its headline figures.
        openings: Records of the lockbox's openings.

    Returns:
        ``tested_sharpe`` (annualised, of ``agent``; the headline is the median over all agents),
        ``probabilistic_sharpe`` (probability that the true one is above zero), ``deflated_sharpe`` (above what the best
        of so many worthless trials would show), ``expected_maximum_sharpe`` (what that is, annualised), ``trials``,
        ``trial_sharpe_deviation`` (annualised; None for one trial), ``minimum_track_record_bars`` and
        ``minimum_track_record_years`` (None if no record would do), ``pbo``, ``pbo_trials`` and ``pbo_blocks`` (None
        below ``trials.min_trials`` on the same rows), ``spa_p`` and ``spa_baseline``, ``iqm`` (``sharpe``, ``low``,
        ``high``), ``intervals``, ``trials_in_lockbox`` (trials that were judged on bars of what is now the lockbox),
        ``lockbox_openings``, ``bounds`` (``reporting.skill``), ``verdict`` (``skill``, ``luck``, ``undecided``,
        ``no_trades``) and ``reasons``, plain sentences.
    """
    year, moments = math.sqrt(periods_per_year), sharpe_moments(agent)
    needed = minimum_track_record(moments, confidence=parameters.confidence)
    found: Metrics = {
        "tested_sharpe": moments.sharpe * year,
        "probabilistic_sharpe": probabilistic_sharpe(moments),
        "expected_maximum_sharpe": expected_maximum_sharpe(trials.count, trials.deviation) * year,
        "trials": trials.count,
        "trial_sharpe_deviation": trials.deviation * year if len(trials.sharpes) > 1 else None,
        "minimum_track_record_bars": math.ceil(needed) if math.isfinite(needed) else None,
        "minimum_track_record_years": needed / periods_per_year if math.isfinite(needed) else None,
        "bars": len(agent),
        **choice_metrics(agent, trials, parameters),
        **_against_best(agent, baselines, trials, parameters),
        "iqm": _interquartile(scores, parameters),
        "intervals": {name: list(values) for name, values in (intervals or {}).items()},
        "trials_in_lockbox": trials.in_lockbox,
        "lockbox_openings": [dict(opening) for opening in openings],
        "bounds": asdict(parameters.skill),
    }
    found["verdict"] = _verdict(found, parameters, traded)
    return found | {"reasons": _reasons(found, parameters) if traded else []}


def choice_metrics(agent: Floats, trials: RecordedTrials, parameters: ReportingParameters) -> Metrics:
    """Say what is left of a result when the trials that it was chosen from are counted.

    Args:
        agent: Simple net returns per bar of the result, [T].
        trials: What it was chosen from.
        parameters: ``trials``: blocks, and how many trials it takes.

    Returns:
        ``deflated_sharpe``, ``pbo``, ``pbo_trials`` and ``pbo_blocks``, see ``assess_skill``.
    """
    every, blocks = np.column_stack([agent, trials.peers]), parameters.trials.cscv_blocks
    enough = every.shape[1] >= parameters.trials.min_trials and len(every) >= 2 * blocks
    result: Overfitting | None = backtest_overfitting(every, blocks) if enough else None
    return {
        "deflated_sharpe": deflated_sharpe(sharpe_moments(agent), trials.count, trials.deviation),
        "pbo": None if result is None else result.probability,
        "pbo_trials": every.shape[1],
        "pbo_blocks": blocks,
    }


def _against_best(
    agent: Floats, baselines: Mapping[str, Floats], trials: RecordedTrials, parameters: ReportingParameters
) -> Metrics:
    """Test against the baseline with the highest Sharpe ratio, everything held at the agent's own volatility."""
    best = max(baselines, key=lambda name: sharpe_moments(baselines[name]).sharpe)
    p = superiority(
        agent,
        _at_volatility(baselines[best][:, None], agent)[:, 0],
        _at_volatility(trials.peers, agent),
        samples=parameters.bootstrap_samples,
        mean_block=parameters.bootstrap_block,
        seed=parameters.seed,
    )
    return {"spa_p": p, "spa_baseline": best}


def _at_volatility(returns: Floats, agent: Floats) -> Floats:
    """Scale ``returns`` [T, M] to the agent's deviation, so that nobody wins by risk alone; cash stays cash."""
    deviation = returns.std(axis=0)
    market_returns = deviation > STILL * np.abs(returns.mean(axis=0))
    return returns * np.where(market_returns, agent.std() / np.where(market_returns, deviation, 1.0), 1.0)


def _interquartile(scores: Floats, parameters: ReportingParameters) -> Metrics:
    rng = np.random.default_rng(parameters.seed)
    interval = interquartile_interval(scores, parameters.confidence, samples=parameters.bootstrap_samples, rng=rng)
    low, high = (None, None) if interval is None else interval
    return {"sharpe": interquartile_mean(scores), "low": low, "high": high}


def _verdict(found: Metrics, parameters: ReportingParameters, traded: bool) -> str:
    bounds = parameters.skill
    if not traded:
        return "no_trades"
    if found["deflated_sharpe"] < bounds.min_deflated_sharpe:
        return "luck"
    overfitted = found["pbo"] is not None and found["pbo"] >= bounds.max_overfitting
    return "undecided" if overfitted or found["spa_p"] >= bounds.max_spa_p else "skill"


def _reasons(found: Metrics, parameters: ReportingParameters) -> list[str]:
    bounds, openings = parameters.skill, found["lockbox_openings"]
    reasons = [
        _deflation(found, bounds.min_deflated_sharpe),
        _choice(found, bounds.max_overfitting, parameters.trials.min_trials),
        _superiority(found, bounds.max_spa_p, parameters.bootstrap_samples),
        _track_record(found, parameters.confidence),
    ]
    if tested := found["trials_in_lockbox"]:
        trials = "trial was" if tested == 1 else "trials were"
        reasons.append(
            f"{tested:,} {trials} judged on bars of what is now the lockbox: for whoever saw them, these bars are no "
            "test any more."
        )
    if openings:
        reasons.append(
            f"The lockbox has been opened {_times(len(openings))}: each look makes its bars less of a surprise."
        )
    return reasons


def _deflation(found: Metrics, needed: float) -> str:
    if found["trials"] == 1:
        return (
            "This is the only trial on this universe that the ledger knows, so nothing is taken off for choosing: the "
            f"probability that the true Sharpe ratio is above zero is {_probability(found['deflated_sharpe'])}; "
            f"{_probability(needed)} is needed."
        )
    return (
        f"It is one of {found['trials']:,} trials on this universe. The luckiest of so many without any skill would "
        f"show a Sharpe ratio of about {_number(found['expected_maximum_sharpe'])}; the probability that the true one "
        f"is above that (deflated Sharpe ratio) is {_probability(found['deflated_sharpe'])}; {_probability(needed)} is "
        "needed."
    )


def _choice(found: Metrics, bound: float, least: int) -> str:
    trials = found["pbo_trials"]
    if found["pbo"] is None and trials >= least:
        return (
            f"Whether choosing by the past chooses anything cannot be measured on {found['bars']:,} bars; it takes "
            f"{2 * found['pbo_blocks']}, two for each of the {found['pbo_blocks']} blocks."
        )
    if found["pbo"] is None:
        return (
            f"Whether choosing by the past chooses anything cannot be measured with {trials} "
            f"trial{'s' if trials > 1 else ''} on these bars; it takes {least}."
        )
    judged = "below" if found["pbo"] < bound else "not below"
    return (
        f"Of the {trials:,} trials on these bars, the one that was best on one half of them was no better than the "
        f"median on the other half in {_percent(found['pbo'])} of the splits (probability of backtest overfitting), "
        f"{judged} the {_percent(bound)} allowed; 50\u00a0% is a coin."
    )


def _superiority(found: Metrics, bound: float, samples: int) -> str:
    baseline = found["spa_baseline"].replace("_", " ")
    judged = "below" if found["spa_p"] < bound else "not below"
    p = _probability(found["spa_p"]) if found["spa_p"] * samples >= 1.0 else f"below {1.0 / samples:g}"
    return (
        f"If no trial were better than the best baseline ({baseline}) at the same risk, luck would put one so far "
        f"ahead with probability {p} (test of superior predictive ability), {judged} the "
        f"{_probability(bound)} allowed."
    )


def _track_record(found: Metrics, confidence: float) -> str:
    bars, years = found["minimum_track_record_bars"], found["minimum_track_record_years"]
    if bars is None:
        return "With a Sharpe ratio that is not positive no track record would show skill, however long."
    return (
        f"At a Sharpe ratio of {_number(found['tested_sharpe'])} (the median agent's, of an even number the lower of "
        f"the two in the middle; all these tests judge that one) it takes {bars:,} bars ({_number(years)} years) to be "
        f"{confidence_percent(confidence)} sure that the true one is positive; there are {found['bars']:,}."
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
