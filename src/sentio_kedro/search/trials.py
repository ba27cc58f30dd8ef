"""One trial of a search: a candidate's agents are trained and judged on validation rows, or given up on the way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.agent.training.member import MemberKey, choose_device
from sentio_kedro.agent.training.population import train_population
from sentio_kedro.agent.training.validation import chunk_length, chunk_starts, recent_train_rows, validate_parts
from sentio_kedro.config import AgentParameters
from sentio_kedro.market.fold_shapes import Fold, Spans
from sentio_kedro.trading.performance import sharpe_ratio

MEMBER_STEPS = 10_000
"""Steps of the pruner set aside for one member: judgement ``j`` of member ``p`` is step ``p * MEMBER_STEPS + j``."""


class PrunedTrialError(Exception):
    """A candidate was given up, because it does worse than the median of the earlier ones."""


class TrialProgress:
    """Hears of a candidate's training and stops it where its validation scores are poor.

    Agents train side by side, yet what is reported does not depend on which of them is faster: members report in the
    order fold, seed, member, and one that is ahead waits for its turn. A report is the mean over the members so far of
    each one's best validation score so far.

    Attributes:
        latest: The last report; None before the first.
    """

    def __init__(self, keys: Sequence[MemberKey], report: Callable[[int, float], bool]) -> None:
        """Expect members in this order.

        Args:
            keys: All members of the candidate, by fold, seed and member.
            report: Takes a step and a score, and says whether to give up.
        """
        self.pruned, self.stopped = False, False
        self.latest: float | None = None
        self._keys, self._report = list(keys), report
        self._scores: dict[MemberKey, list[float]] = defaultdict(list)
        self._ended: set[MemberKey] = set()
        self._finished: set[tuple[int, int]] = set()
        self._position, self._told = 0, 0
        self._best: list[float] = []
        self._lock = Lock()

    def update(self, key: MemberKey, update: int, updates: int, metrics: Mapping[str, float]) -> None:
        """Hear of one finished update of one member.

        Raises:
            PrunedTrialError: If the candidate is given up.
            InterruptedError: After ``stop``.
        """
        with self._lock:
            if update >= updates:
                self._ended.add(key)
            if "validation_sharpe" in metrics:
                self._scores[key].append(metrics["validation_sharpe"])
            self._advance()
            if self.stopped:
                raise InterruptedError(f"Training of {key} stopped: another agent of this trial failed.")

    def finish(self, fold: int, seed: int) -> None:
        """Hear that an agent is complete.

        Raises:
            PrunedTrialError: If the candidate is given up for what agents after it have reported.
        """
        with self._lock:
            self._finished.add((fold, seed))
            self._advance()

    def stop(self) -> None:
        """Stop every member at its next update."""
        self.stopped = True

    def _advance(self) -> None:
        while not self.pruned and self._position < len(self._keys):
            key = self._keys[self._position]
            scores = self._scores[key]
            if self._told < len(scores):
                best = max(scores[: self._told + 1])
                self.latest = float(np.mean([*self._best, best]))
                self.pruned = self._report(self._position * MEMBER_STEPS + self._told, self.latest)
                self._told += 1
            elif self._is_finished(key):
                self._best += [max(scores)] if scores else []
                self._position, self._told = self._position + 1, 0
            else:
                return
        if self.pruned:
            raise PrunedTrialError("The candidate does worse than the median of the earlier ones.")

    def _is_finished(self, key: MemberKey) -> bool:
        return key in self._ended or (key.fold, key.seed) in self._finished


class NoCheckpoints:
    """Keeps nothing: a trial that was killed starts over."""

    def load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Find nothing."""
        return None

    def save(self, key: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Keep nothing."""


@dataclass(frozen=True)
class AgentScore:
    """What one agent of a candidate made on rows that are not test rows.

    Attributes:
        fold: Fold that it was trained on.
        seed: Which of the fold's agents it is.
        train_sharpe: Annualised net Sharpe ratio on its latest train rows.
        validation_sharpe: The same on its validation rows.
        rows: ``[bars]`` decision rows of the validation part.
        timestamps: ``[bars]`` their stamps, end of the bar in UTC.
        returns: ``[bars]`` simple returns per bar, net of costs; accounts start flat at each chunk of rows.
    """

    fold: int
    seed: int
    train_sharpe: float
    validation_sharpe: float
    rows: NDArray[np.int64]
    timestamps: NDArray[np.datetime64]
    returns: NDArray[np.float64]


def trial_members(training_sets: Sequence[TrainingSet], parameters: AgentParameters) -> list[MemberKey]:
    """Return the members of a candidate in the order in which they report."""
    training = parameters.training
    return [
        MemberKey(study.fold.number, seed, member)
        for study in training_sets
        for seed in range(training.seeds)
        for member in range(training.members)
    ]


def score_candidate(
    training_sets: Sequence[TrainingSet], spans: Spans, parameters: AgentParameters, progress: TrialProgress
) -> list[AgentScore]:
    """Train ``training.seeds`` agents per fold and judge them on their train and validation rows.

    Args:
        training_sets: What training may see of the chosen folds.
        spans: What a decision touches.
        parameters: The candidate.
        progress: Who hears of it, and may give it up.

    Returns:
        One score per agent, by fold and seed.

    Raises:
        PrunedTrialError: If the candidate is given up.
        ValueError: If a training set holds test rows.
    """
    for study in training_sets:
        require_no_test_rows(study, spans)
    by_fold = {study.fold.number: study for study in training_sets}
    agents = []
    for agent, _, _ in train_population(training_sets, spans, parameters, NoCheckpoints(), progress, {}):
        progress.finish(agent.spec.fold, agent.spec.seed)
        agents.append(agent)
    return [score_agent(agent, by_fold[agent.spec.fold], parameters) for agent in agents]


@torch.no_grad()
def score_agent(agent: AgentBundle, study: TrainingSet, parameters: AgentParameters) -> AgentScore:
    """Let an agent trade its latest train rows and its validation rows greedily, as training judges it."""
    device = choose_device(parameters.training.device)
    market = study.market_on(device, torch.float32)
    networks = [network.to(device) for network in agent.networks(torch.float32)]
    parts = (recent_train_rows(study), study.fold.validation)
    context = receptive_field(parameters.network) - 1
    judged = validate_parts(networks, market, parts, context, parameters.trading)
    train, validation = (float(sharpe_ratio(returns, study.periods_per_year)) for returns in judged)
    length = min(chunk_length(part) for part in parts)
    starts = np.array(chunk_starts(study.fold.validation, length), dtype=np.int64)
    rows = (starts[:, None] + np.arange(length)).ravel()
    timestamps = study.bars.timestamps[rows]
    returns = judged[1].double().cpu().numpy()
    return AgentScore(study.fold.number, agent.spec.seed, train, validation, rows, timestamps, returns)


def require_no_test_rows(study: TrainingSet, spans: Spans) -> None:
    """Refuse a training set in which a test row's bars can be seen.

    Raises:
        ValueError: If a bar that only test rows need is there.
    """
    for part in study.fold.test:
        seen = study.bars.present[part.start + spans.reward : part.stop]
        if seen.any():
            raise ValueError(
                f"The training set of fold {study.fold.number} must hold no test rows, held {int(seen.any(1).sum())} "
                f"of rows {part.start} to {part.stop - 1}; cut it with `agent.population.visible_bars`."
            )


def seen_test_rows(fold: Fold, folds: Sequence[Fold]) -> dict[int, int]:
    """Count the test rows of each fold that the train and validation rows of ``fold`` hold; no entry where none.

    Parameters that were chosen on such rows make the figures of those folds less than out of sample.
    """
    counts = {}
    for other in folds:
        overlaps = [
            min(mine.stop, test.stop) - max(mine.start, test.start)
            for mine in (*fold.train, *fold.validation)
            for test in other.test
        ]
        counts[other.number] = sum(max(0, rows) for rows in overlaps)
    return {number: rows for number, rows in counts.items() if rows}


def searchable_folds(folds: Sequence[Fold], wanted: Sequence[int] | None) -> list[int]:
    """Choose the folds that a search trains on.

    Args:
        folds: All folds.
        wanted: Numbers of folds; None takes those whose train and validation rows are no test rows of any fold.

    Returns:
        Numbers of folds, in order.

    Raises:
        ValueError: If a fold is unknown, or none is free of test rows and none was named.
    """
    numbers = [fold.number for fold in folds]
    if wanted is None:
        clean = [fold.number for fold in folds if not seen_test_rows(fold, folds)]
        if not clean:
            raise ValueError(
                "`search.folds` must name folds, was null: each of them trains or validates on test rows of another, "
                "so that a choice made on it costs the others their out-of-sample figures; name folds to accept that."
            )
        return clean
    unknown = sorted(set(wanted) - set(numbers))
    if unknown:
        raise ValueError(f"`search.folds` must name folds among {numbers}, had {unknown}; remove them.")
    return sorted(wanted)
