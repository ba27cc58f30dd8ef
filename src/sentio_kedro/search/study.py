"""A search proposes parameters, hears how they did on validation rows, and continues where it was stopped.

Proposals are those of the tree-structured Parzen estimator (Bergstra et al., Algorithms for Hyper-Parameter
Optimization, NeurIPS 2011) of Optuna. They follow from the seed, the number of the trial and the trials before it
alone, so that a search that was stopped proposes what it would have proposed otherwise.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.config import AgentParameters
from sentio_kedro.config.search import Scalar, SearchParameters
from sentio_kedro.search.space import base_values, candidate_parameters, search_distributions
from sentio_kedro.search.trials import AgentScore, PrunedTrialError, TrialProgress, trial_members

logger = logging.getLogger(__name__)

MIN_COMPLETE = 5
"""Candidates that must be complete, and have been judged as often, before another is given up."""

_ABOUT, _TRAIN, _FOLDS, _SECONDS = "about", "train_sharpe", "folds", "seconds"
_NAMES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


@dataclass(frozen=True)
class Proposal:
    """What a trial tries.

    Attributes:
        number: Number of the trial, from 0.
        values: The searched parameters by dotted name.
        parameters: All parameters, validated.
    """

    number: int
    values: Mapping[str, Scalar]
    parameters: AgentParameters


class Evaluate(Protocol):
    """Trains and judges a candidate, on train and validation rows alone."""

    def __call__(
        self, training_sets: Sequence[TrainingSet], candidate: Proposal, progress: TrialProgress
    ) -> Sequence[AgentScore]:
        """Return a score per agent.

        Raises:
            PrunedTrialError: If ``progress`` gives the candidate up.
            FloatingPointError: If its training diverges; the search goes on with the next candidate.
        """
        ...


@dataclass(frozen=True)
class SearchTrial:
    """A trial that is over.

    Attributes:
        number: Number of the trial, from 0.
        state: ``complete``, ``pruned`` or ``failed``.
        values: The searched parameters by dotted name.
        objective: What is maximised, annualised net Sharpe ratio; of a pruned trial the last that was known of it, of
            a failed one None.
        train_sharpe: Mean over folds and seeds on the latest train rows; None unless complete.
        folds: Mean validation Sharpe ratio over seeds of each fold; empty unless complete.
        seconds: How long it took; None unless complete.
    """

    number: int
    state: str
    values: Mapping[str, Scalar]
    objective: float | None
    train_sharpe: float | None
    folds: Mapping[str, float]
    seconds: float | None


class MedianOfLatest(optuna.pruners.BasePruner):
    """Gives a trial up whose latest report is below the median of the complete trials' reports at the same step.

    Optuna's own median pruner compares the best report of all steps, so that a good first fold would protect a
    candidate from all later ones.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Say whether to give ``trial`` up."""
        step = trial.last_step
        if step is None:
            return False
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        others = [other.intermediate_values[step] for other in complete if step in other.intermediate_values]
        return len(others) >= MIN_COMPLETE and trial.intermediate_values[step] < float(np.median(others))


def open_study(path: Path, about: Mapping[str, Any], *, pruning: bool) -> optuna.Study:
    """Open the study that is about exactly this, or begin it and say what differs from the one before.

    Args:
        path: SQLite file; made if needed. Studies of other bars, folds or parameters stay in it.
        about: What decides what a trial is: bars, folds, parameters, space; plain data.
        pruning: Whether to give poor candidates up.

    Returns:
        The study, named by the hash of ``about``.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{path.as_posix()}")
    known = optuna.get_all_study_names(storage)
    name = study_name(about)
    if known and name not in known:
        before = optuna.load_study(study_name=known[-1], storage=storage).user_attrs.get(_ABOUT, {})
        logger.warning("Search %s begins anew; %s stays in %s. %s", name, known[-1], path, _differences(before, about))
    pruner = MedianOfLatest() if pruning else optuna.pruners.NopPruner()
    study = optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True, pruner=pruner
    )
    if _ABOUT not in study.user_attrs:
        study.set_user_attr(_ABOUT, json.loads(json.dumps(about)))
    return study


def study_name(about: Mapping[str, Any]) -> str:
    """Return the first 16 digits of the SHA-256 of ``about``."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def search(
    training_sets: Sequence[TrainingSet],
    base: AgentParameters,
    parameters: SearchParameters,
    study: optuna.Study,
    evaluate: Evaluate,
    fixed: Mapping[str, str] | None = None,
) -> list[SearchTrial]:
    """Try candidates until ``parameters.trials`` are over; the first are the base parameters, if the space holds them.

    A trial that a killed search left open comes first: the same parameters, from the start of their training.

    Args:
        training_sets: What training may see of the chosen folds: train and validation rows.
        base: Parameters that are searched around.
        parameters: Space, number of trials, objective.
        study: Where trials are kept; see ``open_study``.
        evaluate: Trains and judges a candidate.
        fixed: Further names that must not be searched, with the reason.

    Returns:
        All trials that are over, by number.

    Raises:
        ValueError: If the space holds parameters that are unknown, of another type or do not go together.
    """
    space = search_distributions(parameters.ranges, base, fixed or {})
    if not study.trials:
        first = base_values(base, space)
        if first is not None:
            study.enqueue_trial(first)
    while (trial := _next_trial(study, space, parameters)) is not None:
        values = {name: trial.params[name] for name in space}
        candidate = Proposal(trial.number, values, candidate_parameters(base, values))
        _run(study, trial, training_sets, candidate, parameters, evaluate)
    return finished_trials(study)


def finished_trials(study: optuna.Study) -> list[SearchTrial]:
    """Return the trials of a study that are over, by number."""
    return [_described(one) for one in study.get_trials(deepcopy=False, states=tuple(_NAMES))]


def best_trial(trials: Sequence[SearchTrial]) -> SearchTrial:
    """Return the complete trial with the largest objective, the earliest of equals.

    Raises:
        ValueError: If none is complete.
    """
    complete = [
        (trial.objective, trial) for trial in trials if trial.state == "complete" and trial.objective is not None
    ]
    if not complete:
        raise ValueError(
            f"A search must have a complete trial to choose from, had {len(trials)} that were pruned or failed; lower "
            "`training.learning_rate` in the space, or raise `search.trials`."
        )
    return max(complete, key=lambda pair: pair[0])[1]


def fold_means(scores: Sequence[AgentScore]) -> dict[str, float]:
    """Return each fold's validation Sharpe ratio, mean over seeds."""
    folds = sorted({score.fold for score in scores})
    return {str(fold): _mean([score.validation_sharpe for score in scores if score.fold == fold]) for fold in folds}


def _next_trial(
    study: optuna.Study, space: Mapping[str, BaseDistribution], parameters: SearchParameters
) -> optuna.Trial | None:
    trials = study.get_trials(deepcopy=False)
    opened = [one for one in trials if one.state == TrialState.RUNNING]
    over = sum(one.state in _NAMES for one in trials)
    number = opened[0].number if opened else over
    seed = np.random.SeedSequence([parameters.seed, number]).generate_state(1, np.uint32)[0]
    study.sampler = optuna.samplers.TPESampler(seed=int(seed), constant_liar=False)
    if opened:
        trial = optuna.Trial(study, opened[0]._trial_id)
        for name, distribution in space.items():
            trial._suggest(name, distribution)  # what was proposed already stays
        return trial
    return study.ask(dict(space)) if over < parameters.trials else None


def _run(
    study: optuna.Study,
    trial: optuna.Trial,
    training_sets: Sequence[TrainingSet],
    candidate: Proposal,
    parameters: SearchParameters,
    evaluate: Evaluate,
) -> None:
    told = dict(study.trials[trial.number].intermediate_values)

    def report(step: int, score: float) -> bool:
        if step not in told:
            trial.report(score, step)
        return trial.should_prune() if step >= max(told, default=0) else False

    began = time.perf_counter()
    try:
        scores = evaluate(
            training_sets, candidate, TrialProgress(trial_members(training_sets, candidate.parameters), report)
        )
    except PrunedTrialError:
        study.tell(trial, state=TrialState.PRUNED)
    except FloatingPointError as error:
        logger.warning("Trial %d failed: %s", trial.number, error)
        study.tell(trial, state=TrialState.FAIL)
    else:
        folds = fold_means(scores)
        trial.set_user_attr(_TRAIN, _mean([score.train_sharpe for score in scores]))
        trial.set_user_attr(_FOLDS, folds)
        trial.set_user_attr(_SECONDS, time.perf_counter() - began)
        values = list(folds.values())
        study.tell(trial, _mean(values) if parameters.objective == "mean" else min(values))
    _say(finished_trials(study)[-1], parameters.trials)


def _say(trial: SearchTrial, trials: int) -> None:
    tried = ", ".join(f"{name} = {value}" for name, value in trial.values.items())
    if trial.objective is None or trial.train_sharpe is None:
        logger.info("Trial %d of %d %s: %s", trial.number + 1, trials, trial.state, tried)
        return
    logger.info(
        "Trial %d of %d: Sharpe ratio %.2f on validation rows, %.2f on train rows: %s",
        *(trial.number + 1, trials, trial.objective, trial.train_sharpe, tried),
    )


def _described(trial: FrozenTrial) -> SearchTrial:
    attributes = trial.user_attrs
    objective = trial.value if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) else None
    return SearchTrial(
        number=trial.number,
        state=_NAMES[trial.state],
        values=dict(trial.params),
        objective=objective,
        train_sharpe=attributes.get(_TRAIN),
        folds=attributes.get(_FOLDS, {}),
        seconds=attributes.get(_SECONDS),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    def shown(values: Mapping[str, Any], name: str) -> str:
        text = json.dumps(values[name]) if name in values else "not set"
        return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - one line

    old, new = _flat(before), _flat(json.loads(json.dumps(now)))
    names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return "; ".join(f"`{name}` was {shown(old, name)}, is now {shown(new, name)}" for name in names) + "."


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name} ") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
