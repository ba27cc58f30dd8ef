"""Training: how a member learns on its own part of a fold's train rows. ``stacked`` lets many learn side by side."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.averaging import averaged_weights, with_weights
from sentio_kedro.agent.learners import make_learner
from sentio_kedro.agent.losses import adapted_coefficient
from sentio_kedro.agent.member import (
    ACTION_STREAM,
    PATH_STREAM,
    AgentParameters,
    Member,
    MemberKey,
    new_member,
    restore,
    snapshot,
    torch_generator,
)
from sentio_kedro.agent.networks import draw_dropout, receptive_field
from sentio_kedro.agent.paths import PathSampler, TrainingSet, member_segments
from sentio_kedro.agent.phases import Phases
from sentio_kedro.agent.rollout import Windows
from sentio_kedro.agent.schedules import (
    converged,
    count_updates,
    entropy_coefficient,
    learning_rate,
    steps_per_update,
)
from sentio_kedro.agent.selection import scores
from sentio_kedro.agent.update import Coefficients, UpdateReport, update
from sentio_kedro.market.splits import Segment
from sentio_kedro.market.tensors import MarketTensors

logger = logging.getLogger(__name__)


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


def choose_device(wish: str) -> torch.device:
    """Resolve ``auto``; refuse ``cuda`` where there is none.

    Raises:
        ValueError: If a GPU is asked for and none is usable.
    """
    if wish == "cuda" and not torch.cuda.is_available():
        raise ValueError("`training.device` is cuda, but torch finds no usable GPU; set it to auto or cpu.")
    return torch.device("cuda" if wish != "cpu" and torch.cuda.is_available() else "cpu")


def train_member(
    study: TrainingSet,
    key: MemberKey,
    parameters: AgentParameters,
    market: MarketTensors,
    store: CheckpointStore,
    progress: Progress,
) -> Member:
    """Train one member, from its checkpoint if there is one.

    Args:
        study: The fold.
        key: Which member.
        parameters: Network, training and trading.
        market: The fold's real market on the training device, for validation.
        store: Where checkpoints live.
        progress: Who hears of it.

    Returns:
        The member; ``best`` holds the weights chosen on validation rows.
    """
    trainee = enrol(study, key, parameters, market, store, progress)
    if is_over(trainee.member, parameters):
        return trainee.member
    sampler = trainee.sampler(parameters, market.close.device)
    over = False
    while not over:
        began = time.perf_counter()
        row = _one_update(trainee.member, sampler, key, parameters)
        over = conclude_update(trainee, row, time.perf_counter() - began, parameters, store, progress)
    return trainee.member


@dataclass(frozen=True)
class Trainee:
    """A member and what it learns from.

    Attributes:
        study: The fold.
        key: Which member.
        member: The member.
        market: The fold's real market on the training device, for validation.
    """

    study: TrainingSet
    key: MemberKey
    member: Member
    market: MarketTensors

    def sampler(self, parameters: AgentParameters, device: torch.device) -> PathSampler:
        """Make the source of its windows on ``device``, in the precision of its market."""
        training, context = parameters.training, receptive_field(parameters.network) - 1
        segments = member_segments(self.study.fold.train, self.key.member, training.members, training.episode_bars)
        return PathSampler(self.study, segments, training, context, device, self.market.close.dtype)


def enrol(
    study: TrainingSet,
    key: MemberKey,
    parameters: AgentParameters,
    market: MarketTensors,
    store: CheckpointStore,
    progress: Progress,
) -> Trainee:
    """Build a member in the precision of ``market``, or continue it from its checkpoint; arguments as ``train_member``.

    Progress hears of a member whose training is over.
    """
    member = new_member(study, key, parameters, market.close.device, market.close.dtype)
    restore(member, store.load(str(key)))
    if is_over(member, parameters):
        updates = count_updates(parameters)
        progress.update(key, updates, updates, member.curve[-1])
    return Trainee(study, key, member, market)


def is_over(member: Member, parameters: AgentParameters) -> bool:
    """Whether a member has made all its updates, or gains no more."""
    return member.done >= count_updates(parameters) or converged(member.curve, parameters.training.stopping)


def conclude_update(
    trainee: Trainee,
    row: dict[str, float],
    seconds: float,
    parameters: AgentParameters,
    store: CheckpointStore,
    progress: Progress,
) -> bool:
    """Count an update: average the weights, validate, save and report where it is time to.

    Args:
        trainee: Whose update it was.
        row: What it did; completed here.
        seconds: How long it took.
        parameters: When to do what.
        store: Where checkpoints live.
        progress: Who hears of it.

    Returns:
        Whether the training of the member is over.
    """
    key, member, training = trainee.key, trainee.member, parameters.training
    updates = count_updates(parameters)
    member.done += 1
    if training.averaging:
        weights = member.network.state_dict()
        member.average = averaged_weights(member.average, weights, training.averaging, member.done)
    row["steps"] = float(member.done * steps_per_update(parameters))
    row["steps_per_second"] = steps_per_update(parameters) / seconds
    judged = {updates * (part + 1) // training.validations for part in range(training.validations)} | {updates}
    if member.done in judged:
        row |= _validate(member, trainee.study, trainee.market, receptive_field(parameters.network) - 1, parameters)
    member.curve.append(row)
    early = member.done < updates and converged(member.curve, training.stopping)
    if early or member.done == updates or member.done % training.checkpoint_updates == 0:
        store.save(str(key), *snapshot(member))
    progress.update(key, updates if early else member.done, updates, row)
    if early:
        logger.info("%s stops at update %d of %d: validation no longer gains", key, member.done, updates)
    return early or member.done == updates


def _one_update(member: Member, sampler: PathSampler, key: MemberKey, parameters: AgentParameters) -> dict[str, float]:
    training, index = parameters.training, member.done
    coefficients = begin_update(member, parameters)
    generator = torch_generator(key.stream(training.seed, ACTION_STREAM, index), sampler.device)
    phases = Phases(sampler.device)
    windows = sampler.draw(np.random.default_rng(key.stream(training.seed, PATH_STREAM, index)))
    drop = draw_dropout(parameters.network, training.windows, generator, windows.features)
    windows = windows._replace(dropout=drop)
    phases.end("paths")
    learned = learn(member, windows, parameters, coefficients, generator, phases)
    member.penalty = adapted_coefficient(member.penalty, learned.report.kl, training.divergence)
    return describe_update(member, key, parameters, coefficients, learned) | phases.row()


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
    """Put what an update did into numbers, and let the member's tail monitor see its episodes.

    Raises:
        FloatingPointError: If a number is not finite.
    """
    training = parameters.training
    row = {name: float(value) for name, value in learned.report._asdict().items()}
    row |= {"update": float(member.done + 1), "reward": float(learned.reward)}
    if training.divergence.coefficient:
        row["divergence_coefficient"] = float(coefficients.divergence)
    if learned.outcomes is not None and training.tail.limit is not None:
        member.tail.observe(learned.outcomes)
        price = member.tail.price()
        row |= {"episode_tail": math.nan if price is None else float(price.tail), "tail_price": float(member.tail.dual)}
    broken = sorted(name for name, value in row.items() if not math.isfinite(value) and name != "episode_tail")
    if broken:
        raise FloatingPointError(
            f"{key}: {', '.join(broken)} of update {member.done + 1} are not finite. The last checkpoint is untouched; "
            f"lower `training.learning_rate` (now {training.learning_rate}) or look for wild values in the features."
        )
    return row


class Learned(NamedTuple):
    """What one update did.

    Attributes:
        report: Means of its terms.
        reward: Mean reward under the policy before it.
        outcomes: Log returns of the episodes that were played; None where none was.
    """

    report: UpdateReport
    reward: Tensor
    outcomes: Tensor | None


def learn(
    member: Member,
    windows: Windows,
    parameters: AgentParameters,
    coefficients: Coefficients,
    generator: torch.Generator,
    phases: Phases,
) -> Learned:
    """Gather experience on the windows under the present weights, appraise it, and improve the weights with it."""
    network, training, learner = member.network, parameters.training, make_learner(parameters)
    draws = learner.draw(windows, generator)
    experience = learner.gather(network, windows, draws)
    phases.end("rollout")
    appraisal = learner.appraise(network, windows, experience, draws, member.tail.price())
    phases.end("advantages")

    def loss(index: Tensor) -> tuple[Tensor, UpdateReport]:
        return learner.loss(network, windows, experience, appraisal.learned, index, coefficients)

    report = update(network, member.optimiser, loss, training.windows, training, generator)
    phases.end("update")
    return Learned(report, appraisal.reward, appraisal.outcomes)


def _validate(
    member: Member, study: TrainingSet, market: MarketTensors, context: int, parameters: AgentParameters
) -> dict[str, float]:
    rows = (recent_train(study), study.fold.validation)
    judged = with_weights(member.network, member.average) if member.average else member.network
    train, validation = scores([judged], market, rows, context, parameters.trading, study.periods_per_year)
    if validation > member.best_score:
        member.best_score = validation
        member.best = {name: value.detach().clone() for name, value in judged.state_dict().items()}
    return {"validation_sharpe": validation, "train_sharpe": train}


def recent_train(study: TrainingSet) -> list[Segment]:
    """Latest train rows, as many as there are validation rows: the other half of the generalisation gap."""
    wanted = sum(part.stop - part.start for part in study.fold.validation)
    last = study.fold.train[-1]
    return [Segment(max(last.start, last.stop - wanted), last.stop)]
