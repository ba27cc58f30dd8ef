"""Training: how a member learns on its own part of a fold's train rows. ``stacked`` lets many learn side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.data.paths import PathSampler
from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.network.encoder import draw_dropout, receptive_field
from sentio_kedro.agent.ppo.learners import make_learner
from sentio_kedro.agent.ppo.losses import adapted_coefficient
from sentio_kedro.agent.ppo.update import Coefficients, UpdateReport, update
from sentio_kedro.agent.training.averaging import with_weights
from sentio_kedro.agent.training.lifecycle import (
    CheckpointStore,
    Learned,
    MemberRun,
    Progress,
    begin_update,
    conclude_update,
    count_update,
    describe_update,
    is_finished,
    start_or_resume,
)
from sentio_kedro.agent.training.member import ACTION_STREAM, PATH_STREAM, Member, MemberKey, torch_generator
from sentio_kedro.agent.training.timing import Phases
from sentio_kedro.agent.training.validation import Score, split_validation, validate_parts
from sentio_kedro.config import AgentParameters
from sentio_kedro.market.fold_shapes import Segment
from sentio_kedro.market.tensors import MarketTensors


def choose_device(wish: str) -> torch.device:
    """Resolve ``auto``; refuse ``cuda`` where there is none.

    Raises:
        ValueError: If a GPU is asked for and none is usable.
    """
    if wish == "cuda" and not torch.cuda.is_available():
        raise ValueError("`training.device` is cuda, but torch finds no usable GPU; set it to auto or cpu.")
    return torch.device("cuda" if wish != "cpu" and torch.cuda.is_available() else "cpu")


def train_member(
    training_set: TrainingSet,
    key: MemberKey,
    parameters: AgentParameters,
    market: MarketTensors,
    store: CheckpointStore,
    progress: Progress,
) -> Member:
    """Train one member, from its checkpoint if there is one.

    Args:
        training_set: The fold.
        key: Which member.
        parameters: Network, training and trading.
        market: The fold's real market on the training device, for validation.
        store: Where checkpoints live.
        progress: Who hears of it.

    Returns:
        The member; ``best`` holds the weights chosen on validation rows.
    """
    member_run = start_or_resume(training_set, key, parameters, market, store, progress)
    if is_finished(member_run.member, parameters):
        return member_run.member
    sampler = member_run.sampler(parameters, market.close.device)
    over = False
    while not over:
        began = time.perf_counter()
        row = _one_update(member_run.member, sampler, key, parameters)
        judged = None
        if count_update(member_run.member, row, time.perf_counter() - began, parameters):
            judged = _scored(member_run, parameters)
        over = conclude_update(member_run, row, judged, parameters, store, progress)
    return member_run.member


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


def learn(
    member: Member,
    windows: Windows,
    parameters: AgentParameters,
    coefficients: Coefficients,
    generator: torch.Generator,
    phases: Phases,
) -> Learned:
    """Collect experience on the windows under the present weights, estimate targets, and improve the weights."""
    network, training = member.network, parameters.training
    learner = make_learner(parameters, windows.features.device)
    draws = learner.draw(windows, generator)
    experience = learner.collect(network, windows, draws)
    phases.end("rollout")
    estimate = learner.estimate(network, windows, experience, draws, member.tail.state())
    phases.end("advantages")

    def loss(index: Tensor) -> tuple[Tensor, UpdateReport]:
        return learner.loss(network, windows, experience, estimate.targets, index, coefficients)

    report = update(network, member.optimiser, loss, training.windows, training, generator, estimate.valid_steps)
    phases.end("update")
    return Learned(report, estimate.reward, estimate.outcomes)


def _scored(member_run: MemberRun, parameters: AgentParameters) -> Score:
    member, training_set = member_run.member, member_run.training_set
    judged = with_weights(member.network, member.average) if member.average else member.network
    context = receptive_field(parameters.network) - 1
    parts = validation_rows_used(training_set, parameters)
    earned = validate_parts([judged], member_run.market, parts, context, parameters.trading)
    return Score.of(earned, training_set.periods_per_year)


def validation_rows_used(
    training_set: TrainingSet, parameters: AgentParameters
) -> tuple[Sequence[Segment], Sequence[Segment]]:
    """Rows that members are judged on: the latest train rows, and the validation rows that choose weights."""
    return recent_train(training_set), validation_rows(training_set, parameters)[0]


def validation_rows(
    training_set: TrainingSet, parameters: AgentParameters
) -> tuple[Sequence[Segment], Sequence[Segment]]:
    """Validation rows that choose weights, and those that measure an agent's evidence."""
    share, latency = parameters.training.abstention.holdout_share, parameters.trading.orders.latency_bars
    return split_validation(training_set.fold.validation, share, latency)


def recent_train(training_set: TrainingSet) -> list[Segment]:
    """Latest train rows, as many as there are validation rows: the other half of the generalisation gap."""
    wanted = sum(part.stop - part.start for part in training_set.fold.validation)
    last = training_set.fold.train[-1]
    return [Segment(max(last.start, last.stop - wanted), last.stop)]
