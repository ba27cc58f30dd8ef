"""Training: members learn one after the other, each on its own part of a fold's train rows."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Mapping
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
    Curve,
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
from sentio_kedro.agent.selection import scores
from sentio_kedro.agent.update import Coefficients, UpdateReport, update
from sentio_kedro.config import StoppingParameters, TrainingParameters
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


def steps_per_update(parameters: AgentParameters) -> int:
    """Account-bars of one update: windows x replicas x bars; all-action advantages have one replica per level."""
    training = parameters.training
    replicas = len(parameters.trading.levels) if training.advantages == "all_action" else training.replicas
    return training.windows * replicas * training.episode_bars


def count_updates(parameters: AgentParameters) -> int:
    """Updates that ``total_steps`` pays for, at least one."""
    return max(1, round(parameters.training.total_steps / steps_per_update(parameters)))


def learning_rate(training: TrainingParameters, update_index: int, updates: int) -> float:
    """Learning rate of an update: from the peak to a twentieth of it along a cosine or a line, or the peak."""
    if training.schedule == "constant":
        return training.learning_rate
    part = update_index / updates
    fall = 0.5 * (1.0 + math.cos(math.pi * part)) if training.schedule == "cosine" else 1.0 - part
    return training.learning_rate * (0.05 + 0.95 * fall)


def entropy_coefficient(training: TrainingParameters, update_index: int, updates: int) -> float:
    """Coefficient of the entropy bonus of an update: constant, or in a straight line to its floor at the last one."""
    if training.least_entropy is None:
        return training.entropy
    return training.entropy + (training.least_entropy - training.entropy) * update_index / max(1, updates - 1)


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
    training, device = parameters.training, market.close.device
    member = new_member(study, key, parameters, device)
    restore(member, store.load(str(key)))
    updates = count_updates(parameters)
    if member.done >= updates or converged(member.curve, training.stopping):
        progress.update(key, updates, updates, member.curve[-1])
        return member
    context = receptive_field(parameters.network) - 1
    segments = member_segments(study.fold.train, key.member, training.members, training.episode_bars)
    sampler = PathSampler(study, segments, training, context, device)
    judged = {updates * (part + 1) // training.validations for part in range(training.validations)} | {updates}
    for index in range(member.done, updates):
        began = time.perf_counter()
        row = _one_update(member, sampler, key, index, updates, parameters)
        member.done = index + 1
        if training.averaging:
            weights = member.network.state_dict()
            member.average = averaged_weights(member.average, weights, training.averaging, member.done)
        row["steps"] = float(member.done * steps_per_update(parameters))
        row["steps_per_second"] = row["steps"] / member.done / (time.perf_counter() - began)
        if member.done in judged:
            row |= _validate(member, study, market, context, parameters)
        member.curve.append(row)
        early = member.done < updates and converged(member.curve, training.stopping)
        if early or member.done == updates or member.done % training.checkpoint_updates == 0:
            store.save(str(key), *snapshot(member))
        progress.update(key, updates if early else member.done, updates, row)
        if early:
            logger.info("%s stops at update %d of %d: validation no longer gains", key, member.done, updates)
            break
    return member


def converged(curve: Curve, stopping: StoppingParameters) -> bool:
    """Whether the last ``patience`` validations of a curve brought no better score."""
    best, stale = -math.inf, 0
    for score in (row["validation_sharpe"] for row in curve if "validation_sharpe" in row):
        better = score > best + stopping.margin
        best, stale = (score, 0) if better else (best, stale + 1)
    return stopping.patience is not None and stale >= stopping.patience


def _one_update(
    member: Member, sampler: PathSampler, key: MemberKey, index: int, updates: int, parameters: AgentParameters
) -> dict[str, float]:
    training = parameters.training
    for group in member.optimiser.param_groups:
        group["lr"] = learning_rate(training, index, updates)
    coefficients = Coefficients(
        entropy=member.penalty.new_tensor(entropy_coefficient(training, index, updates)), divergence=member.penalty
    )
    generator = torch_generator(key.stream(training.seed, ACTION_STREAM, index), sampler.device)
    phases = Phases(sampler.device)
    windows = sampler.draw(np.random.default_rng(key.stream(training.seed, PATH_STREAM, index)))
    drop = draw_dropout(parameters.network, training.windows, generator, windows.features)
    windows = windows._replace(dropout=drop)
    phases.end("paths")
    learned = learn(member, windows, parameters, coefficients, generator, phases)
    member.penalty = adapted_coefficient(member.penalty, learned.report.kl, training.divergence)
    row = {name: float(value) for name, value in learned.report._asdict().items()}
    row |= {"update": float(index + 1), "reward": float(learned.reward)} | phases.row()
    if training.divergence.coefficient:
        row["divergence_coefficient"] = float(coefficients.divergence)
    if learned.outcomes is not None and training.tail.limit is not None:
        member.tail.observe(learned.outcomes)
        price = member.tail.price()
        row |= {"episode_tail": math.nan if price is None else float(price.tail), "tail_price": float(member.tail.dual)}
    broken = sorted(name for name, value in row.items() if not math.isfinite(value) and name != "episode_tail")
    if broken:
        raise FloatingPointError(
            f"{key}: {', '.join(broken)} of update {index + 1} are not finite. The last checkpoint is untouched; lower "
            f"`training.learning_rate` (now {training.learning_rate}) or look for wild values in the features."
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
        member.best = copy.deepcopy(judged.state_dict())
    return {"validation_sharpe": validation, "train_sharpe": train}


def recent_train(study: TrainingSet) -> list[Segment]:
    """Latest train rows, as many as there are validation rows: the other half of the generalisation gap."""
    wanted = sum(part.stop - part.start for part in study.fold.validation)
    last = study.fold.train[-1]
    return [Segment(max(last.start, last.stop - wanted), last.stop)]
