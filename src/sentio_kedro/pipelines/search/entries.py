"""Candidates of a search in the ledger of trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sentio_kedro.agent.member import AgentParameters
from sentio_kedro.agent.search import Candidate, Trial
from sentio_kedro.agent.search_space import candidate_parameters
from sentio_kedro.datasets import TrialLedger
from sentio_kedro.evaluation.trials import candidate_returns, given_up, make_trial
from sentio_kedro.manifests import flatten_parameters
from sentio_kedro.pipelines.trial_records import about_now, learner_hash, shaping_parameters


@dataclass(frozen=True)
class CandidateEntries:
    """Enters every candidate whose validation performance was computed, complete or given up.

    Attributes:
        ledger: Ledger of trials.
        flat: Flattened parameters of all sections, which the search varies.
        universe: Name of the universe.
        study: Name of the study.
        record: Whether anything is entered at all.
    """

    ledger: TrialLedger
    flat: Mapping[str, Any]
    universe: str
    study: str
    record: bool

    def judged(self, candidate: Candidate, returns: pd.DataFrame) -> None:
        """Enter a complete candidate, at once: a search that is killed later has tried it all the same.

        Args:
            candidate: What was tried.
            returns: Its validation returns: ``fold``, ``seed``, ``timestamp``, ``return``.
        """
        if not self.record:
            return
        shaping = self._shaping(candidate.parameters)
        about = about_now(study=self.study, candidate=candidate.number)
        trial = make_trial(shaping, learner_hash(), self.universe, candidate_returns(returns), "validation", about)
        self.ledger.append(trial.record, trial.returns)

    def given_up(self, base: AgentParameters, trials: Sequence[Trial], periods_per_year: float) -> None:
        """Enter the candidates that were pruned, with the Sharpe ratio for which they were.

        Args:
            base: Parameters that are searched around.
            trials: All trials of the study; others than pruned ones are left alone.
            periods_per_year: Bars a year.
        """
        if not self.record:
            return
        for trial in trials:
            if trial.state == "pruned" and trial.objective is not None:
                shaping = self._shaping(candidate_parameters(base, trial.values))
                sharpe = trial.objective / math.sqrt(periods_per_year)
                about = about_now(study=self.study, candidate=trial.number)
                self.ledger.append(given_up(shaping, learner_hash(), self.universe, sharpe, about))

    def _shaping(self, parameters: AgentParameters) -> dict[str, Any]:
        return shaping_parameters({**self.flat, **flatten_parameters(vars(parameters))})
