"""Bookkeeping around one update: start or resume, validate, checkpoint, log."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sentio_kedro.agent.data.paths import PathSampler
from sentio_kedro.agent.data.training_set import TrainingSet, member_segments
from sentio_kedro.agent.ppo.constraints import TailFound, next_tail
from sentio_kedro.agent.ppo.update import Coefficients, UpdateReport
from sentio_kedro.agent.training.member import Member, MemberKey, choose_device, new_member, restore, snapshot
from sentio_kedro.agent.training.schedules import (
    converged,
    count_updates,
    learning_rate,
    steps_per_update,
)
from sentio_kedro.agent.training.validation import Score, sharpe_lead
from sentio_kedro.config import AgentParameters
from sentio_kedro.config.network import receptive_field
from sentio_kedro.market.tensors import MarketTensors

logger = logging.getLogger(__name__)


class Progress(Protocol):
    """Receives training progress."""

    def update(self, key: MemberKey, update: int, updates: int, metrics: Mapping[str, float]) -> None:
        """Receive one finished update of one member; may raise to stop the training."""

    def stop(self) -> None:
        """Make every later ``update`` raise, because another agent's training failed."""


class Checkpoints(Protocol):
    """Stores checkpoints between runs, each atomically."""

    def load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return what was saved under ``key``, or None."""

    def save(self, key: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Save under ``key``, replacing what was there."""


@dataclass(frozen=True)
class MemberRun:
    """A member in training.

    Attributes:
        training_set: Fold data.
        key: Fold, seed and number of the member.
        member: Network, optimiser and what training has reached.
    """

    training_set: TrainingSet
    key: MemberKey
    member: Member

    @property
    def market(self) -> MarketTensors:
        """The fold's real market on the member's device and in its precision."""
        weight = next(self.member.network.parameters())
        return self.training_set.market_on(weight.device, weight.dtype)

    def sampler(self, parameters: AgentParameters, device: torch.device) -> PathSampler:
        """Return the source of its windows on ``device``, in the precision of its weights."""
        training, context = parameters.training, receptive_field(parameters.network) - 1
        segments = member_segments(self.training_set.learned, self.key.member, training.members, training.episode_bars)
        dtype = next(self.member.network.parameters()).dtype
        return PathSampler(self.training_set, segments, training, context, device, dtype)


def start_or_resume(
    training_set: TrainingSet,
    key: MemberKey,
    parameters: AgentParameters,
    store: Checkpoints,
    progress: Progress,
    dtype: torch.dtype,
) -> MemberRun:
    """Build a member, or continue it from its checkpoint; a finished one reports to ``progress`` at once."""
    member = new_member(training_set, key, parameters, choose_device(parameters.training.device), dtype)
    restore(member, store.load(str(key)))
    if is_finished(member, parameters):
        updates = count_updates(parameters)
        progress.update(key, updates, updates, member.curve[-1])
    return MemberRun(training_set, key, member)


def is_finished(member: Member, parameters: AgentParameters) -> bool:
    """Return whether a member has made all its updates, or its validation score has stopped rising."""
    return member.updates_done >= count_updates(parameters) or converged(member.curve, parameters.training.stopping)


def count_update(member: Member, row: dict[str, float], seconds: float, parameters: AgentParameters) -> bool:
    """Count an update that took ``seconds``, in its ``row`` too; return whether a validation is due."""
    training, updates = parameters.training, count_updates(parameters)
    member.updates_done += 1
    row["steps"] = float(member.updates_done * steps_per_update(parameters))
    row["steps_per_second"] = steps_per_update(parameters) / seconds
    due = {updates * (part + 1) // training.validations for part in range(training.validations)} | {updates}
    return member.updates_done in due


def conclude_update(
    member_run: MemberRun,
    row: dict[str, float],
    score: Score | None,
    parameters: AgentParameters,
    store: Checkpoints,
    progress: Progress,
) -> bool:
    """Select weights by the ``score``, if there is one, save a checkpoint when one is due, and report the ``row``.

    Returns:
        Whether the training of the member is finished.

    Raises:
        FloatingPointError: If the score is not a number.
    """
    key, member, training = member_run.key, member_run.member, parameters.training
    updates = count_updates(parameters)
    if score is not None:
        row |= {"train_sharpe": score.train_sharpe, "validation_sharpe": score.validation_sharpe}
        if math.isnan(score.train_sharpe + score.validation_sharpe):
            raise FloatingPointError(
                f"{key}: the Sharpe ratio on train or validation rows after update {member.updates_done} is not a "
                "number. The last checkpoint is untouched; look for wild prices in the bars."
            )
        _select_weights(member, score, training.selection_margin)
    member.curve.append(row)
    early = member.updates_done < updates and converged(member.curve, training.stopping)
    if early or member.updates_done == updates or member.updates_done % training.checkpoint_updates == 0:
        store.save(str(key), *snapshot(member))
    progress.update(key, updates if early else member.updates_done, updates, row)
    if early:
        logger.info(
            "%s stops at update %d of %d: the validation score no longer rises", key, member.updates_done, updates
        )
    return early or member.updates_done == updates


def _select_weights(member: Member, score: Score, margin: float) -> None:
    """Select the present weights unless the best ones so far lead by more than ``margin`` standard errors.

    A lead within the error of a few thousand bars is luck and stops at weights that have learnt less (compare the
    one-standard-error rule of Breiman et al., Classification and Regression Trees, 1984, section 3.4.3).
    """
    best = score.validation_sharpe > member.best_score
    if best:
        member.best_score, member.best_returns = score.validation_sharpe, score.returns.detach().clone()
    if best or (margin > 0.0 and sharpe_lead(member.best_returns, score.returns) <= margin):
        member.selected_weights = {name: value.detach().clone() for name, value in member.network.state_dict().items()}
        member.selected_update = member.updates_done


class Learned(NamedTuple):
    """Result of one update.

    Attributes:
        report: Means of its terms.
        reward: Mean reward under the policy before it.
        tail: What its episodes say about the price of risk; None without a limit on the tail.
    """

    report: UpdateReport
    reward: Tensor
    tail: TailFound | None


def begin_update(member: Member, parameters: AgentParameters) -> Coefficients:
    """Set the learning rate of a member's next update, and return the coefficients of its loss."""
    for group in member.optimiser.param_groups:
        group["lr"] = learning_rate(parameters.training, member.updates_done, count_updates(parameters))
    return Coefficients(member.penalty.new_tensor(parameters.training.entropy), divergence=member.penalty)


def describe_update(
    member: Member, key: MemberKey, parameters: AgentParameters, coefficients: Coefficients, learned: Learned
) -> dict[str, float]:
    """Return the metrics of an update, and set the member's price of risk for the next one.

    Raises:
        FloatingPointError: If a metric is not finite.
    """
    training = parameters.training
    row = {name: float(value) for name, value in learned.report._asdict().items()}
    row |= {"update": float(member.updates_done + 1), "reward": float(learned.reward)}
    if training.divergence.coefficient:
        row["divergence_coefficient"] = float(coefficients.divergence)
    if learned.tail is not None:
        row |= {"episode_tail": float(learned.tail.tail), "tail_price": float(member.tail.price)}
        member.tail = next_tail(learned.tail, member.updates_done)
    broken = sorted(name for name, value in row.items() if not math.isfinite(value))
    if broken:
        raise FloatingPointError(
            f"{key}: {', '.join(broken)} of update {member.updates_done + 1} are not finite. The last checkpoint is "
            f"untouched; lower `training.learning_rate` (now {training.learning_rate}) or look for wild values in the "
            "features."
        )
    return row
