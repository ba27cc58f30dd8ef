"""One trial of a search: train a candidate's agents, and score them on train and validation rows."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.training.member import MemberKey, choose_device
from sentio_kedro.agent.training.population import train_population
from sentio_kedro.agent.training.validation import account_returns
from sentio_kedro.config import AgentParameters
from sentio_kedro.config.network import receptive_field
from sentio_kedro.market.purged_folds import Fold, Spans


class PrunedTrialError(Exception):
    """The candidate is worse than the median of the earlier ones."""


class TrialProgress:
    """Report the validation scores of a candidate's members to its trial, and stop their training if it is pruned.

    Each validation of a member is one step of the trial. Its value is the mean over the members validated so far of
    each one's best validation Sharpe ratio. Members report in the order of ``order``, whatever the timing of agents
    that train in parallel: a report waits until those before it are there.

    Attributes:
        latest: The last value reported; None before the first.
        order: Members that have not finished, of which the first one reports; empty reports as they are validated.
    """

    def __init__(self, trial: optuna.trial.BaseTrial) -> None:
        """Report to ``trial``."""
        self.latest: float | None = None
        self.order: list[MemberKey] = []
        self._waiting: dict[MemberKey, list[float]] = defaultdict(list)
        self._finished: set[MemberKey] = set()
        self._trial, self._step = trial, 0
        self._best: dict[MemberKey, float] = {}
        self._pruned, self._stopped = False, False
        self._lock = Lock()

    def update(self, key: MemberKey, update: int, updates: int, metrics: Mapping[str, float]) -> None:
        """Report one update of one member, if it was validated; called from any thread.

        Raises:
            PrunedTrialError: If the trial is pruned.
            InterruptedError: After ``stop``.
        """
        with self._lock:
            if "validation_sharpe" in metrics:
                self._waiting[key].append(metrics["validation_sharpe"])
            if update == updates:
                self._finished.add(key)
            self._report_in_order(self.order or [key])
            if self._pruned:
                raise PrunedTrialError("The candidate is worse than the median of the earlier ones.")
            if self._stopped:
                raise InterruptedError(f"Training of {key} stopped: another agent of this trial failed.")

    def _report_in_order(self, order: list[MemberKey]) -> None:
        while order and not self._pruned:
            key = order[0]
            if self._waiting[key]:
                self._best[key] = max(self._best.get(key, -math.inf), self._waiting[key].pop(0))
                self.latest = float(np.mean(list(self._best.values())))
                self._trial.report(self.latest, self._step)
                self._step += 1
                self._pruned = self._trial.should_prune()
            elif key in self._finished:
                order.pop(0)
            else:
                return

    def stop(self) -> None:
        """Stop every member at its next update."""
        self._stopped = True


class NoCheckpoints:
    """A store that saves nothing: an interrupted trial starts over."""

    def load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return None."""
        return None

    def save(self, key: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Save nothing."""


@dataclass(frozen=True)
class AgentScore:
    """Scores of one agent of a candidate.

    Attributes:
        fold: Number of its fold.
        seed: Number of the agent within the fold.
        train_sharpe: Annualised net Sharpe ratio on the latest train rows.
        validation_sharpe: The same on the validation rows.
        rows: ``[bars]`` decision rows of the validation part.
        timestamps: ``[bars]`` ends of these bars, UTC.
        returns: ``[bars]`` simple returns per bar, net of costs; accounts start flat at each chunk of rows.
    """

    fold: int
    seed: int
    train_sharpe: float
    validation_sharpe: float
    rows: NDArray[np.int64]
    timestamps: NDArray[np.datetime64]
    returns: NDArray[np.float64]


def score_candidate(
    training_sets: Sequence[TrainingSet], spans: Spans, parameters: AgentParameters, progress: TrialProgress
) -> list[AgentScore]:
    """Train ``training.seeds`` agents per fold and score them on train and validation rows.

    Args:
        training_sets: Train and validation rows of the chosen folds.
        spans: Bars that a decision touches.
        parameters: The candidate.
        progress: Receives the validation scores of the members.

    Returns:
        One score per agent, by fold and seed.

    Raises:
        PrunedTrialError: If the trial is pruned.
        ValueError: If a training set holds test rows.
    """
    for training_set in training_sets:
        require_no_test_rows(training_set, spans)
    by_fold = {training_set.fold.number: training_set for training_set in training_sets}
    seeds, members = range(parameters.training.seeds), range(parameters.training.members)
    keys = [MemberKey(*key) for key in itertools.product(by_fold, seeds, members)]
    progress.order = keys
    agents = [
        agent for agent, _, _ in train_population(training_sets, spans, parameters, NoCheckpoints(), progress, {})
    ]
    return [score_agent(agent, by_fold[agent.spec.fold], parameters) for agent in agents]


@torch.no_grad()
def score_agent(agent: AgentBundle, training_set: TrainingSet, parameters: AgentParameters) -> AgentScore:
    """Simulate an agent greedily on its validation rows again, as in its training, for its returns."""
    device = choose_device(parameters.training.device)
    market = training_set.market_on(device, torch.float32)
    networks = [network.to(device) for network in agent.networks(torch.float32)]
    segments, context = training_set.fold.validation, receptive_field(parameters.network) - 1
    facts, level = training_set.facts, agent.spec.fixed_level
    validation = account_returns(networks, market, segments, context, parameters.trading, facts, level)
    rows = np.concatenate([np.arange(part.start, part.stop) for part in segments])
    return AgentScore(
        fold=training_set.fold.number,
        seed=agent.spec.seed,
        train_sharpe=agent.spec.train_sharpe,
        validation_sharpe=agent.spec.validation_sharpe,
        rows=rows,
        timestamps=training_set.bars.timestamps[rows],
        returns=validation.double().cpu().numpy(),
    )


def require_no_test_rows(training_set: TrainingSet, spans: Spans) -> None:
    """Refuse a training set in which bars of test rows are visible.

    Raises:
        ValueError: If a bar that only test rows need is present.
    """
    for part in training_set.fold.test:
        visible = training_set.bars.present[part.start + spans.reward : part.stop]
        if visible.any():
            raise ValueError(
                f"The training set of fold {training_set.fold.number} must hold no test rows, held "
                f"{int(visible.any(1).sum())} of rows {part.start} to {part.stop - 1}; cut it with "
                "`agent.data.training_set.visible_bars`."
            )


def overlapping_test_rows(fold: Fold, folds: Sequence[Fold]) -> dict[int, int]:
    """Count the test rows of each fold that are train or validation rows of ``fold``; no entry where none.

    Metrics of those folds are not out of sample for parameters that were chosen on ``fold``.
    """
    counts = {}
    for other in folds:
        overlaps = [
            min(part.stop, test.stop) - max(part.start, test.start)
            for part in (*fold.train, *fold.validation)
            for test in other.test
        ]
        counts[other.number] = sum(max(0, rows) for rows in overlaps)
    return {number: rows for number, rows in counts.items() if rows}


def searchable_folds(folds: Sequence[Fold], requested: Sequence[int] | None) -> list[int]:
    """Choose the folds that a search trains on.

    Args:
        folds: All folds.
        requested: Numbers of folds; None takes those whose train and validation rows are no test rows of any fold.

    Returns:
        Numbers of folds, in order.

    Raises:
        ValueError: If a fold does not exist, or none is free of test rows and none was named.
    """
    numbers = [fold.number for fold in folds]
    if requested is None:
        clean = [fold.number for fold in folds if not overlapping_test_rows(fold, folds)]
        if not clean:
            raise ValueError(
                "`search.folds` must name folds, was null: each of them trains or validates on test rows of another, "
                "so that a choice made on it costs the others their out-of-sample metrics; name folds to accept that."
            )
        return clean
    unknown = sorted(set(requested) - set(numbers))
    if unknown:
        raise ValueError(f"`search.folds` must name folds among {numbers}, had {unknown}; remove them.")
    return sorted(requested)
