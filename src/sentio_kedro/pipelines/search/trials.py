"""Each trial of a search as a nested MLflow run, and what trials leave in the catalog."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.training.lifecycle import CheckpointStore
from sentio_kedro.market.fold_shapes import Spans
from sentio_kedro.search.study import Proposal, SearchTrial, best_trial, fold_means
from sentio_kedro.search.trials import AgentScore, PrunedTrialError, TrialProgress, score_candidate
from sentio_kedro.tracking import client as tracking

STATE_TAG = "sentio.trial"
"""Tag of a nested run: ``complete``, ``pruned`` or ``failed``."""

RETURN_COLUMNS = ("trial", "fold", "seed", "row", "timestamp", "return")
_STORED = ("rows", "timestamps", "returns")


@dataclass(frozen=True)
class TrackedTrials:
    """Evaluates candidates, logs each to a nested MLflow run, and keeps its validation returns.

    Attributes:
        study: Name of the study.
        spans: What a decision touches.
        store: Where the returns of trials are kept.
        remember: Told of every candidate that was judged, with its validation returns.
        give_up: Told of every candidate that was pruned or diverged, with the last validation score known of it.
    """

    study: str
    spans: Spans
    store: CheckpointStore
    remember: Callable[[Proposal, pd.DataFrame], None] = lambda candidate, returns: None
    give_up: Callable[[Proposal, float | None], None] = lambda candidate, latest: None

    def __call__(
        self, training_sets: Sequence[TrainingSet], candidate: Proposal, progress: TrialProgress
    ) -> Sequence[AgentScore]:
        """Train and judge a candidate.

        Raises:
            PrunedTrialError: If it is given up; its run is closed as finished, with the state ``pruned``.
            FloatingPointError: If its training diverges; its run is closed as failed.
        """
        number = str(candidate.number)
        given_up: PrunedTrialError | None = None
        scores: Sequence[AgentScore] = ()
        with tracking.nested_run(f"trial {number}", {"study": self.study, "trial": number}):
            tracking.log_parameters(candidate.values)
            try:
                scores = score_candidate(training_sets, self.spans, candidate.parameters, progress)
            except PrunedTrialError as error:
                given_up = error
                self.give_up(candidate, progress.latest)
                tracking.log_tags({STATE_TAG: "pruned"})
            except FloatingPointError:
                self.give_up(candidate, progress.latest)
                tracking.log_tags({STATE_TAG: "failed"})
                raise
            else:
                self._keep(candidate.number, scores)
                self.remember(candidate, self.returns(candidate.number))
                tracking.log_tags({STATE_TAG: "complete"})
        if given_up is not None:
            raise given_up
        return scores

    def _keep(self, number: int, scores: Sequence[AgentScore]) -> None:
        tensors: dict[str, torch.Tensor] = {}
        for score in scores:
            values = (score.rows, score.timestamps.astype("datetime64[ns]").astype(np.int64), score.returns)
            name = f"{score.fold}/{score.seed}"
            tensors |= {
                f"{name}/{part}": torch.from_numpy(value.copy()) for part, value in zip(_STORED, values, strict=True)
            }
        self.store.save(f"{self.study}/trial_{number}", tensors, {})
        folds = {f"fold_{fold}.validation_sharpe": value for fold, value in fold_means(scores).items()}
        means = {
            name: np.mean([getattr(score, name) for score in scores]) for name in ("train_sharpe", "validation_sharpe")
        }
        tracking.log_metrics(folds | {name: float(value) for name, value in means.items()})
        tracking.log_text(self.returns(number).drop(columns="trial").to_csv(index=False), "validation_returns.csv")

    def returns(self, number: int) -> pd.DataFrame:
        """Read the validation returns of a trial: ``trial``, ``fold``, ``seed``, ``row``, ``timestamp``, ``return``."""
        saved = self.store.load(f"{self.study}/trial_{number}")
        if saved is None:
            return pd.DataFrame(columns=list(RETURN_COLUMNS))
        tensors, _ = saved
        frames = []
        for fold, seed in sorted({tuple(map(int, name.split("/")[:2])) for name in tensors}):
            rows, nanoseconds, returns = (tensors[f"{fold}/{seed}/{part}"].numpy() for part in _STORED)
            timestamps = pd.to_datetime(nanoseconds, utc=True)
            columns = (number, fold, seed, rows, timestamps, returns)
            frames.append(pd.DataFrame(dict(zip(RETURN_COLUMNS, columns, strict=True))))
        return pd.concat(frames, ignore_index=True)


def trial_table(trials: Sequence[SearchTrial]) -> pd.DataFrame:
    """Return a row per trial: number, state, objective, Sharpe ratios, seconds and the searched parameters."""
    folds = sorted({fold for trial in trials for fold in trial.folds}, key=int)
    rows = [
        {
            "trial": trial.number,
            "state": trial.state,
            "objective": trial.objective,
            "train_sharpe": trial.train_sharpe,
            **{f"fold_{fold}": trial.folds.get(fold) for fold in folds},
            "seconds": trial.seconds,
            **trial.values,
        }
        for trial in trials
    ]
    return pd.DataFrame(rows)


def best_as_yaml(study: str, trials: Sequence[SearchTrial], folds: Sequence[int], warning: str) -> str:
    """Return the best trial's parameters as YAML to paste into ``conf``, with what to know about them above.

    Args:
        study: Name of the study.
        trials: All trials that are over.
        folds: Folds that they were judged on.
        warning: What the choice costs; may be empty.
    """
    best = best_trial(trials)
    complete = sum(trial.state == "complete" for trial in trials)
    lines = [
        f"Search {study}: trial {best.number}, Sharpe ratio {best.objective:.2f} on the validation rows of folds "
        f"{list(folds)}, {best.train_sharpe:.2f} on train rows.",
        f"It is the best of {complete} complete trials, by luck too: expect less out of sample.",
        *([warning] if warning else []),
        "Paste this into conf/<env>/parameters_training.yml, or type:",
        f'kedro run --params "{",".join(f"{name}={value}" for name, value in best.values.items())}"',
    ]
    nested: dict[str, Any] = {}
    for name, value in best.values.items():
        *path, last = name.split(".")
        here = nested
        for key in path:
            here = here.setdefault(key, {})
        here[last] = value
    return "".join(f"# {line}\n" for line in lines) + str(yaml.safe_dump(nested, sort_keys=False))
