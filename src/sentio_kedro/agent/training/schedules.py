"""Number of updates, learning rate, and early stopping."""

from __future__ import annotations

import math

from sentio_kedro.agent.training.member import Curve
from sentio_kedro.config import AgentParameters, StoppingParameters, TrainingParameters


def steps_per_update(parameters: AgentParameters) -> int:
    """Return the account-bars of one update: windows x replicas (levels for all-action advantages) x bars."""
    training = parameters.training
    replicas = len(parameters.trading.levels) if training.advantages == "all_action" else training.replicas
    return training.windows * replicas * training.episode_bars


def count_updates(parameters: AgentParameters) -> int:
    """Return the updates within ``total_steps``, at least one."""
    return max(1, round(parameters.training.total_steps / steps_per_update(parameters)))


def learning_rate(training: TrainingParameters, update_index: int, updates: int) -> float:
    """Return the learning rate of an update: from its peak to a twentieth of it along a cosine."""
    fall = 0.5 * (1.0 + math.cos(math.pi * update_index / updates))
    return training.learning_rate * (0.05 + 0.95 * fall)


def converged(curve: Curve, stopping: StoppingParameters) -> bool:
    """Return whether the last ``patience`` validations of a curve brought no better score."""
    best, stale = -math.inf, 0
    for score in (row["validation_sharpe"] for row in curve if "validation_sharpe" in row):
        better = score > best + stopping.margin
        best, stale = (score, 0) if better else (best, stale + 1)
    return stopping.patience is not None and stale >= stopping.patience
