"""Trials of a search as nested MLflow runs and as artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.atomic import replaced_file
from sentio_kedro.market.purged_folds import Spans
from sentio_kedro.pipelines.search.entries import CandidateEntries
from sentio_kedro.search.study import Proposal, SearchTrial, best_trial, fold_means
from sentio_kedro.search.trials import AgentScore, PrunedTrialError, TrialProgress, score_candidate
from sentio_kedro.tracking import client as tracking

STATE_TAG = "sentio.trial"
"""Tag of a nested run: ``complete``, ``pruned`` or ``failed``."""


@dataclass(frozen=True)
class TrackedTrials:
    """Evaluates candidates, logs each to a nested MLflow run, and saves its validation returns.

    Attributes:
        study: Name of the study.
        training_sets: Train and validation rows of the chosen folds.
        spans: Bars that a decision touches.
        folder: Folder of the trials' returns.
        entries: Enters candidates in the ledger of trials.
    """

    study: str
    training_sets: Sequence[TrainingSet]
    spans: Spans
    folder: Path
    entries: CandidateEntries

    def __call__(self, candidate: Proposal, progress: TrialProgress) -> Sequence[AgentScore]:
        """Train and score a candidate.

        Raises:
            PrunedTrialError: If it is pruned; its run is closed as finished, with the state ``pruned``.
            FloatingPointError: If its training diverges; its run is closed as failed.
        """
        number = str(candidate.number)
        pruned: PrunedTrialError | None = None
        scores: Sequence[AgentScore] = ()
        with tracking.nested_run(f"trial {number}", {"study": self.study, "trial": number}):
            tracking.log_parameters(candidate.values)
            try:
                scores = score_candidate(self.training_sets, self.spans, candidate.parameters, progress)
            except PrunedTrialError as error:
                pruned = error
                self.entries.add_incomplete(candidate, progress.latest)
                tracking.log_tags({STATE_TAG: "pruned"})
            except FloatingPointError:
                self.entries.add_incomplete(candidate, progress.latest)
                tracking.log_tags({STATE_TAG: "failed"})
                raise
            else:
                self._save(candidate.number, scores)
                self.entries.add_complete(candidate, self.returns(candidate.number))
                tracking.log_tags({STATE_TAG: "complete"})
        if pruned is not None:
            raise pruned
        return scores

    def _save(self, number: int, scores: Sequence[AgentScore]) -> None:
        returns = pd.concat(
            [
                pd.DataFrame(
                    {
                        "trial": number,
                        "fold": score.fold,
                        "seed": score.seed,
                        "row": score.rows,
                        "timestamp": pd.to_datetime(score.timestamps, utc=True),
                        "return": score.returns,
                    }
                )
                for score in scores
            ]
        )
        with replaced_file(self._path(number)) as partial:
            returns.to_parquet(partial, index=False)
        metrics = {f"fold_{fold}.validation_sharpe": value for fold, value in fold_means(scores).items()}
        metrics["train_sharpe"] = float(np.mean([score.train_sharpe for score in scores]))
        metrics["validation_sharpe"] = float(np.mean([score.validation_sharpe for score in scores]))
        tracking.log_metrics(metrics)
        tracking.log_text(returns.drop(columns="trial").to_csv(index=False), "validation_returns.csv")

    def returns(self, number: int) -> pd.DataFrame:
        """Read the returns of a complete trial: ``trial``, ``fold``, ``seed``, ``row``, ``timestamp``, ``return``.

        Raises:
            ValueError: If the file was deleted since.
        """
        path = self._path(number)
        if not path.exists():
            raise ValueError(
                f"`{path}` must hold the returns of trial {number}, was not there; restore it, or delete the folder "
                f"`{self.folder}` to search anew."
            )
        return pd.read_parquet(path)

    def _path(self, number: int) -> Path:
        return self.folder / self.study / f"trial_{number}.parquet"


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
    """Return the best trial's parameters as YAML to paste into ``conf``, below a comment about the search.

    Args:
        study: Name of the study.
        trials: All finished trials.
        folds: Folds of the search.
        warning: Warning of ``warn_of_test_rows``; may be empty.
    """
    best = best_trial(trials)
    complete = sum(trial.state == "complete" for trial in trials)
    lines = [
        f"Search {study}: trial {best.number}, Sharpe ratio {best.objective:.2f} on the validation rows of folds "
        f"{list(folds)}, {best.train_sharpe:.2f} on train rows.",
        f"It is the best of {complete} complete trials, by chance too: expect less out of sample.",
        *([warning] if warning else []),
        "Paste this into conf/<env>/parameters_training.yml, or type:",
        f'kedro run --params "{",".join(f"{name}={value}" for name, value in best.values.items())}"',
    ]
    nested: dict[str, Any] = {}
    for name, value in best.values.items():
        *path, last = name.split(".")
        section = nested
        for key in path:
            section = section.setdefault(key, {})
        section[last] = value
    return "".join(f"# {line}\n" for line in lines) + str(yaml.safe_dump(nested, sort_keys=False))
