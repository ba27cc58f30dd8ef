"""Propose parameters, score them on validation rows, and continue a search that was interrupted.

Proposals come from Optuna's tree-structured Parzen estimator (Bergstra et al., Algorithms for Hyper-Parameter
Optimization, NeurIPS 2011).
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from sentio_kedro.config import AgentParameters
from sentio_kedro.config.search import Scalar, SearchParameters
from sentio_kedro.search.space import base_values, candidate_parameters, search_distributions
from sentio_kedro.search.trials import AgentScore, PrunedTrialError, TrialProgress

logger = logging.getLogger(__name__)

MIN_COMPLETE = 5
"""Complete trials, with as many validations each, before another trial is pruned."""

_ABOUT, _TRAIN, _FOLDS, _SECONDS, _REPEATS = "about", "train_sharpe", "folds", "seconds", "repeats"
_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


@dataclass(frozen=True)
class Proposal:
    """Parameters of one trial.

    Attributes:
        number: Number of the candidate, from 0.
        values: The searched parameters by dotted name.
        parameters: All parameters, validated.
    """

    number: int
    values: Mapping[str, Scalar]
    parameters: AgentParameters


Evaluate = Callable[[Proposal, TrialProgress], Sequence[AgentScore]]
"""Trains a candidate and returns a score per agent. It raises ``PrunedTrialError`` if the trial is pruned, and
``FloatingPointError`` if training diverges."""


@dataclass(frozen=True)
class SearchTrial:
    """A finished trial.

    Attributes:
        number: Number of the trial, from 0.
        state: ``complete``, ``pruned`` or ``failed``.
        values: The searched parameters by dotted name.
        objective: Annualised net Sharpe ratio to maximise; of a pruned trial the last one reported, of a failed one
            None.
        train_sharpe: Mean over folds and seeds on the latest train rows; None unless complete.
        folds: Mean validation Sharpe ratio over seeds of each fold; empty unless complete.
        seconds: Duration; None unless complete.
    """

    number: int
    state: str
    values: Mapping[str, Scalar]
    objective: float | None
    train_sharpe: float | None
    folds: Mapping[str, float]
    seconds: float | None


def open_study(path: Path, about: Mapping[str, Any], *, pruning: bool) -> optuna.Study:
    """Open the study with this description, or begin it and log what changed since the one before.

    Args:
        path: SQLite file; created if needed. Studies of other bars, folds or parameters stay in it.
        about: Description of the search: bars, folds, parameters, space; plain data.
        pruning: Whether to stop poor candidates early.

    Returns:
        The study, named by the hash of ``about``.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{path.as_posix()}")
    names = optuna.get_all_study_names(storage)
    name = study_name(about)
    if names and name not in names:
        before = optuna.load_study(study_name=names[-1], storage=storage).user_attrs.get(_ABOUT, {})
        changed = _changed_names(before, about)
        logger.warning("Search %s begins anew, %s changed; search %s stays in %s.", name, changed, names[-1], path)
    study = optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True, pruner=make_pruner(pruning)
    )
    if _ABOUT not in study.user_attrs:
        study.set_user_attr(_ABOUT, json.loads(json.dumps(about)))
    return study


def make_pruner(pruning: bool) -> optuna.pruners.BasePruner:
    """Return Optuna's median pruner, or one that prunes nothing."""
    if not pruning:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=MIN_COMPLETE, n_min_trials=MIN_COMPLETE)


def study_name(about: Mapping[str, Any]) -> str:
    """Return the first 16 digits of the SHA-256 of ``about``."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def search(
    base: AgentParameters,
    parameters: SearchParameters,
    study: optuna.Study,
    evaluate: Evaluate,
    fixed: Mapping[str, str] | None = None,
) -> list[SearchTrial]:
    """Try candidates until ``parameters.trials`` are finished; the base parameters come first, if the space holds them.

    Trials that an interrupted search left open are marked failed, and their parameters are tried again under the same
    number: a search that was killed ends as an uninterrupted one does.

    Args:
        base: Parameters that are searched around.
        parameters: Space, number of trials, objective.
        study: Store of the trials; see ``open_study``.
        evaluate: Trains and scores a candidate.
        fixed: Further names that must not be searched, with the reason.

    Returns:
        All finished trials, by number.

    Raises:
        ValueError: If the space holds parameters that are unknown, of another type or do not go together.
    """
    space = search_distributions(parameters.ranges, base, fixed or {})
    first = base_values(base, space)
    if not study.trials and first is not None:
        study.enqueue_trial(first)
    for interrupted in study.get_trials(states=(TrialState.RUNNING,)):
        _try_again(study, interrupted, space)
    while len(finished_trials(study)) < parameters.trials:
        # Keyed by trial, so that a continued search draws what an uninterrupted one would.
        key = np.random.SeedSequence([parameters.seed, len(finished_trials(study))])
        study.sampler = optuna.samplers.TPESampler(seed=int(key.generate_state(1)[0]))
        _run(study, study.ask(space), base, parameters, evaluate)
    return finished_trials(study)


def _try_again(study: optuna.Study, interrupted: FrozenTrial, space: Collection[str]) -> None:
    """Enqueue what an interrupted trial tried, and only then mark it failed: a kill in between loses nothing."""
    if interrupted.number not in _repeated(study):
        # A trial that was killed while it drew its parameters draws them all again, from the same generator.
        drawn, given = interrupted.params, interrupted.system_attrs.get("fixed_params", {})
        values = drawn if len(drawn) == len(space) else given
        study.enqueue_trial(values, user_attrs={_REPEATS: interrupted.number})
    study.tell(interrupted.number, state=TrialState.FAIL)


def _repeated(study: optuna.Study) -> set[int | None]:
    return {trial.user_attrs.get(_REPEATS) for trial in study.get_trials(deepcopy=False)}


def _candidate_numbers(study: optuna.Study) -> dict[int, int]:
    """Return the number of each trial's candidate: one that is tried again keeps its own."""
    numbers: dict[int, int] = {}
    for trial in study.get_trials(deepcopy=False):
        before = trial.user_attrs.get(_REPEATS)
        numbers[trial.number] = len(set(numbers.values())) if before is None else numbers[before]
    return numbers


def finished_trials(study: optuna.Study) -> list[SearchTrial]:
    """Return the finished trials of a study by number, without interrupted ones that were tried again."""
    repeated, numbers = _repeated(study), _candidate_numbers(study)
    trials = study.get_trials(deepcopy=False, states=tuple(_STATES))
    finished = [_search_trial(trial, numbers[trial.number]) for trial in trials if trial.number not in repeated]
    return sorted(finished, key=lambda trial: trial.number)


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


def _run(
    study: optuna.Study,
    trial: optuna.Trial,
    base: AgentParameters,
    parameters: SearchParameters,
    evaluate: Evaluate,
) -> None:
    started, number = time.perf_counter(), _candidate_numbers(study)[trial.number]
    values = {name: trial.params[name] for name in parameters.ranges}
    try:
        candidate = Proposal(number, values, candidate_parameters(base, values))
    except ValueError as error:
        study.tell(trial, state=TrialState.FAIL)
        logger.warning("Trial %d failed: %s: %s", number, _text(values), error)
        return
    try:
        scores = evaluate(candidate, TrialProgress(trial))
    except PrunedTrialError:
        study.tell(trial, state=TrialState.PRUNED)
        logger.info("Trial %d pruned: %s", number, _text(values))
    except FloatingPointError as error:
        study.tell(trial, state=TrialState.FAIL)
        logger.warning("Trial %d failed: %s: %s", number, _text(values), error)
    else:
        folds = fold_means(scores)
        train_sharpe = _mean([score.train_sharpe for score in scores])
        objective = _mean(list(folds.values())) if parameters.objective == "mean" else min(folds.values())
        trial.set_user_attr(_TRAIN, train_sharpe)
        trial.set_user_attr(_FOLDS, folds)
        trial.set_user_attr(_SECONDS, time.perf_counter() - started)
        study.tell(trial, objective)
        logger.info(
            "Trial %d: Sharpe ratio %.2f on validation rows, %.2f on train rows: %s",
            *(number, objective, train_sharpe, _text(values)),
        )


def _text(values: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def _search_trial(trial: FrozenTrial, number: int) -> SearchTrial:
    return SearchTrial(
        number=number,
        state=_STATES[trial.state],
        values=dict(trial.params),
        objective=trial.value,
        train_sharpe=trial.user_attrs.get(_TRAIN),
        folds=trial.user_attrs.get(_FOLDS, {}),
        seconds=trial.user_attrs.get(_SECONDS),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _changed_names(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    old, new = ({**about, **about.get("parameters", {})} for about in (before, json.loads(json.dumps(now))))
    names = (old.keys() | new.keys()) - {"parameters"}
    return ", ".join(f"`{name}`" for name in sorted(names) if old.get(name) != new.get(name))
