"""A member in training: enrolled, counted, judged, saved, reported. What happens inside an update is not seen here."""

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
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.agent.ppo.update import Coefficients, UpdateReport
from sentio_kedro.agent.training.averaging import averaged_weights
from sentio_kedro.agent.training.member import Member, MemberKey, new_member, restore, snapshot
from sentio_kedro.agent.training.schedules import (
    converged,
    count_updates,
    entropy_coefficient,
    learning_rate,
    steps_per_update,
)
from sentio_kedro.agent.training.validation import Score, lead
from sentio_kedro.config import AgentParameters
from sentio_kedro.market.tensors import MarketTensors

logger = logging.getLogger(__name__)

UNKNOWN_AT_FIRST = ("episode_tail",)  # until enough episodes are pooled


class Progress(Protocol):
    """Hears how training goes."""

    def update(self, key: MemberKey, update: int, updates: int, metrics: Mapping[str, float]) -> None:
        """Hear of one finished update of one member; may raise to stop the training."""
        ...

    def stop(self) -> None:
        """Make every later ``update`` raise, because another agent's training failed."""
        ...


class CheckpointStore(Protocol):
    """Keeps tensors and state between runs, whole or not at all."""

    def load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return what was saved under ``key``, or None."""
        ...

    def save(self, key: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Save under ``key``, replacing what was there."""
        ...


@dataclass(frozen=True)
class MemberRun:
    """A member and what it learns from.

    Attributes:
        training_set: The fold.
        key: Which member.
        member: The member.
        market: The fold's real market on the training device, for validation.
    """

    training_set: TrainingSet
    key: MemberKey
    member: Member
    market: MarketTensors

    def sampler(self, parameters: AgentParameters, device: torch.device) -> PathSampler:
        """Make the source of its windows on ``device``, in the precision of its market."""
        training, context = parameters.training, receptive_field(parameters.network) - 1
        segments = member_segments(
            self.training_set.fold.train, self.key.member, training.members, training.episode_bars
        )
        return PathSampler(self.training_set, segments, training, context, device, self.market.close.dtype)


def start_or_resume(
    training_set: TrainingSet,
    key: MemberKey,
    parameters: AgentParameters,
    market: MarketTensors,
    store: CheckpointStore,
    progress: Progress,
) -> MemberRun:
    """Build a member in the precision of ``market``, or continue it from its checkpoint; arguments as ``train_member``.

    Progress hears of a member whose training is over.
    """
    member = new_member(training_set, key, parameters, market.close.device, market.close.dtype)
    restore(member, store.load(str(key)))
    if is_finished(member, parameters):
        updates = count_updates(parameters)
        progress.update(key, updates, updates, member.curve[-1])
    return MemberRun(training_set, key, member, market)


def is_finished(member: Member, parameters: AgentParameters) -> bool:
    """Whether a member has made all its updates, or gains no more."""
    return member.done >= count_updates(parameters) or converged(member.curve, parameters.training.stopping)


def count_update(member: Member, row: dict[str, float], seconds: float, parameters: AgentParameters) -> bool:
    """Count an update that took ``seconds``: average the weights, and complete the ``row`` of what it did.

    Returns:
        Whether the member is to be judged now.
    """
    training, updates = parameters.training, count_updates(parameters)
    member.done += 1
    if training.averaging:
        weights = member.network.state_dict()
        member.average = averaged_weights(member.average, weights, training.averaging, member.done)
    row["steps"] = float(member.done * steps_per_update(parameters))
    row["steps_per_second"] = steps_per_update(parameters) / seconds
    judged = {updates * (part + 1) // training.validations for part in range(training.validations)} | {updates}
    return member.done in judged


def conclude_update(
    member_run: MemberRun,
    row: dict[str, float],
    judged: Score | None,
    parameters: AgentParameters,
    store: CheckpointStore,
    progress: Progress,
) -> bool:
    """Keep the best weights so far, save and report, where it is time to.

    Args:
        member_run: Whose update it was.
        row: What it did; completed here.
        judged: What its weights earned, if they were judged.
        parameters: When to do what.
        store: Where checkpoints live.
        progress: Who hears of it.

    Returns:
        Whether the training of the member is over.
    """
    key, member, training = member_run.key, member_run.member, parameters.training
    updates = count_updates(parameters)
    if judged is not None:
        row |= {"train_sharpe": judged.train_sharpe, "validation_sharpe": judged.validation_sharpe}
        if math.isnan(judged.train_sharpe + judged.validation_sharpe):
            raise FloatingPointError(
                f"{key}: what it earned on train or validation rows after update {member.done} is not a number. The "
                "last checkpoint is untouched; look for wild prices in the bars, or a decision without a legal action."
            )
        _choose(member, judged, training.selection_margin)
    member.curve.append(row)
    early = member.done < updates and converged(member.curve, training.stopping)
    if early or member.done == updates or member.done % training.checkpoint_updates == 0:
        store.save(str(key), *snapshot(member))
    progress.update(key, updates if early else member.done, updates, row)
    if early:
        logger.info("%s stops at update %d of %d: validation no longer gains", key, member.done, updates)
    return early or member.done == updates


def _choose(member: Member, judged: Score, margin: float) -> None:
    """Keep the present weights unless the best ones so far lead by more than ``margin`` standard errors.

    A lead within the error of a few thousand bars is luck, and whoever follows it stops at weights that have learnt
    less (compare the one-standard-error rule of Breiman et al., Classification and Regression Trees, 1984, section
    3.4.3, which prefers the simpler tree).
    """
    leads = judged.validation_sharpe > member.best_score
    if leads:
        member.best_score, member.best_returns = judged.validation_sharpe, judged.returns.detach().clone()
    if leads or (margin > 0.0 and lead(member.best_returns, judged.returns) <= margin):
        weights = member.average or member.network.state_dict()
        member.best = {name: value.detach().clone() for name, value in weights.items()}
        member.kept = member.done


class Learned(NamedTuple):
    """What one update did.

    Attributes:
        report: Means of its terms.
        reward: Mean reward under the policy before it.
        outcomes: Log returns of the episodes that were simulated; None where none was.
    """

    report: UpdateReport
    reward: Tensor
    outcomes: Tensor | None


def begin_update(member: Member, parameters: AgentParameters) -> Coefficients:
    """Set the learning rate of a member's next update, and return the weights of its changing terms."""
    training, index, updates = parameters.training, member.done, count_updates(parameters)
    for group in member.optimiser.param_groups:
        group["lr"] = learning_rate(training, index, updates)
    entropy = member.penalty.new_tensor(entropy_coefficient(training, index, updates))
    return Coefficients(entropy=entropy, divergence=member.penalty)


def describe_update(
    member: Member, key: MemberKey, parameters: AgentParameters, coefficients: Coefficients, learned: Learned
) -> dict[str, float]:
    """Put what an update did into numbers, and let the monitors of the member's limits see its episodes.

    Raises:
        FloatingPointError: If a number is not finite.
    """
    training = parameters.training
    row = {name: float(value) for name, value in learned.report._asdict().items()}
    row |= {"update": float(member.done + 1), "reward": float(learned.reward)}
    if training.divergence.coefficient:
        row["divergence_coefficient"] = float(coefficients.divergence)
    if learned.outcomes is not None:
        row |= member.tail.observe(learned.outcomes)
    broken = sorted(name for name, value in row.items() if not math.isfinite(value) and name not in UNKNOWN_AT_FIRST)
    if broken:
        raise FloatingPointError(
            f"{key}: {', '.join(broken)} of update {member.done + 1} are not finite. The last checkpoint is untouched; "
            f"lower `training.learning_rate` (now {training.learning_rate}) or look for wild values in the features; a "
            "decision without a legal action spoils the reward, too."
        )
    return row
