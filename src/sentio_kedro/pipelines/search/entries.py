"""Candidates of a search in the ledger of trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sentio_kedro.config import AgentParameters
from sentio_kedro.datasets.trials import TrialLedger
from sentio_kedro.evaluation.skill.trials import candidate_returns, given_up, make_trial
from sentio_kedro.manifests import flatten_parameters
from sentio_kedro.search.study import Proposal
from sentio_kedro.tracking.trials import about_now, learner_hash, shaping_parameters


@dataclass(frozen=True)
class CandidateEntries:
    """Enters every candidate whose validation performance was computed, complete or given up.

    Attributes:
        ledger: Ledger of trials.
        flat: Flattened parameters of all sections, which the search varies.
        universe: Name of the universe.
        bars_hash: Hash of the raw bars.
        study: Name of the study.
        periods_per_year: Bars a year.
        record: Whether anything is entered at all.
    """

    ledger: TrialLedger
    flat: Mapping[str, Any]
    universe: str
    bars_hash: str
    study: str
    periods_per_year: float
    record: bool

    def judged(self, candidate: Proposal, returns: pd.DataFrame) -> None:
        """Enter a complete candidate, at once: a search that is killed later has tried it all the same.

        Args:
            candidate: What was tried.
            returns: Its validation returns: ``fold``, ``seed``, ``timestamp``, ``return``.
        """
        if not self.record:
            return
        shaping = self._shaping(candidate.parameters)
        about = about_now(study=self.study, candidate=candidate.number)
        earned, bars = candidate_returns(returns), self.bars_hash
        trial = make_trial(shaping, learner_hash(), self.universe, earned, "validation", about, bars_hash=bars)
        self.ledger.append(trial.record, trial.returns)

    def given_up(self, candidate: Proposal, latest: float | None) -> None:
        """Enter a candidate that was pruned or diverged, at once, so that its code is the one that was tried.

        Args:
            candidate: What was tried.
            latest: Annualised Sharpe ratio on validation rows that was last known of it; None if none was.
        """
        if not self.record:
            return
        sharpe = None
        if latest is not None and math.isfinite(latest):
            sharpe = latest / math.sqrt(self.periods_per_year)
        about = about_now(study=self.study, candidate=candidate.number)
        shaping = self._shaping(candidate.parameters)
        self.ledger.append(given_up(shaping, learner_hash(), self.universe, sharpe, about))

    def _shaping(self, parameters: AgentParameters) -> dict[str, Any]:
        return shaping_parameters({**self.flat, **flatten_parameters(vars(parameters))})
