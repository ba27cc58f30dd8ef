"""Candidates of a search in the ledger of trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sentio_kedro.datasets.trials import TrialLedger
from sentio_kedro.evaluation.skill.trials import candidate_returns, given_up, make_trial
from sentio_kedro.manifests import flatten_parameters
from sentio_kedro.search.study import Proposal
from sentio_kedro.tracking.trials import learner_hash, record_context, shaping_parameters


@dataclass(frozen=True)
class CandidateEntries:
    """Enters every candidate that was validated, at once: it counts as tried even if the search is interrupted later.

    Attributes:
        ledger: Ledger of trials.
        flat: Flattened parameters of all sections, which the search varies.
        universe: Name of the universe.
        bars_hash: Hash of the raw bars.
        study: Name of the study.
        periods_per_year: Bars a year.
        record: Whether candidates are entered.
    """

    ledger: TrialLedger
    flat: Mapping[str, Any]
    universe: str
    bars_hash: str
    study: str
    periods_per_year: float
    record: bool

    def add_complete(self, candidate: Proposal, returns: pd.DataFrame) -> None:
        """Enter a complete candidate.

        Args:
            candidate: The candidate.
            returns: Its validation returns: ``fold``, ``seed``, ``timestamp``, ``return``.
        """
        if self.record:
            shaping, context = self._shaping(candidate), self._context(candidate)
            returns, bars = candidate_returns(returns), self.bars_hash
            trial = make_trial(shaping, learner_hash(), self.universe, returns, "validation", context, bars_hash=bars)
            self.ledger.append(trial.record, trial.returns)

    def add_incomplete(self, candidate: Proposal, latest: float | None) -> None:
        """Enter a candidate that was pruned or diverged.

        Args:
            candidate: The candidate.
            latest: Its last annualised Sharpe ratio on validation rows; None if there is none.
        """
        if self.record:
            is_finite = latest is not None and math.isfinite(latest)
            sharpe = latest / math.sqrt(self.periods_per_year) if latest is not None and is_finite else None
            shaping, context = self._shaping(candidate), self._context(candidate)
            self.ledger.append(given_up(shaping, learner_hash(), self.universe, sharpe, context))

    def _shaping(self, candidate: Proposal) -> dict[str, Any]:
        return shaping_parameters({**self.flat, **flatten_parameters(vars(candidate.parameters))})

    def _context(self, candidate: Proposal) -> dict[str, Any]:
        return record_context(study=self.study, candidate=candidate.number, periods_per_year=self.periods_per_year)
