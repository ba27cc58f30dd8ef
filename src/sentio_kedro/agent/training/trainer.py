"""Training of one member on its own part of a fold's train rows."""

from __future__ import annotations

import logging
import time

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.data.paths import PathSampler
from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.network.encoder import draw_dropout
from sentio_kedro.agent.ppo.learners import make_learner
from sentio_kedro.agent.ppo.losses import adapted_coefficient
from sentio_kedro.agent.ppo.update import Coefficients, UpdateReport, update
from sentio_kedro.agent.training.lifecycle import (
    Checkpoints,
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
from sentio_kedro.agent.training.member import (
    ACTION_STREAM,
    PATH_STREAM,
    Member,
    MemberKey,
    choose_device,
    new_member,
    torch_generator,
)
from sentio_kedro.agent.training.timing import Phases
from sentio_kedro.agent.training.validation import Score, recent_train_rows, validate_parts
from sentio_kedro.config import AgentParameters
from sentio_kedro.config.network import receptive_field

logger = logging.getLogger(__name__)


def train_member(
    training_set: TrainingSet,
    key: MemberKey,
    parameters: AgentParameters,
    store: Checkpoints,
    progress: Progress,
    dtype: torch.dtype = torch.float32,
) -> Member:
    """Train one member, from its checkpoint if there is one.

    Args:
        training_set: The fold.
        key: The member.
        parameters: Network, training and trading.
        store: Checkpoints.
        progress: Receives each update.
        dtype: Of weights and windows.

    Returns:
        The member; ``selected_weights`` are those chosen on validation rows, or the first ones if the fold's rule holds
        nothing: multiples of nothing teach nothing.
    """
    if training_set.flat:
        member = new_member(training_set, key, parameters, choose_device(parameters.training.device), dtype)
        member.selected_weights = {name: value.detach() for name, value in member.network.state_dict().items()}
        logger.info("%s is not trained: no sleeve of the forecast rule is open in this fold", key)
        return member
    member_run = start_or_resume(training_set, key, parameters, store, progress, dtype)
    if is_finished(member_run.member, parameters):
        return member_run.member
    sampler = member_run.sampler(parameters, choose_device(parameters.training.device))
    finished = False
    while not finished:
        began = time.perf_counter()
        row = _one_update(member_run.member, sampler, key, parameters)
        due = count_update(member_run.member, row, time.perf_counter() - began, parameters)
        score = _score(member_run, parameters) if due else None
        finished = conclude_update(member_run, row, score, parameters, store, progress)
    return member_run.member


def _one_update(member: Member, sampler: PathSampler, key: MemberKey, parameters: AgentParameters) -> dict[str, float]:
    training, index = parameters.training, member.updates_done
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
    tail = None if training.tail.limit is None else member.tail
    estimate = learner.estimate(network, windows, experience, draws, tail)
    phases.end("advantages")

    def loss(index: Tensor) -> tuple[Tensor, UpdateReport]:
        return learner.loss(network, windows, experience, estimate.targets, index, coefficients)

    report = update(network, member.optimiser, loss, training.windows, training, generator, estimate.valid_steps)
    phases.end("update")
    return Learned(report, estimate.reward, estimate.tail)


def _score(member_run: MemberRun, parameters: AgentParameters) -> Score:
    context, training_set = receptive_field(parameters.network) - 1, member_run.training_set
    networks, facts = [member_run.member.network], training_set.facts
    rows = (recent_train_rows(training_set), training_set.fold.validation)
    returns = validate_parts(networks, member_run.market, rows, context, parameters.trading, facts)
    return Score.of(returns, training_set.periods_per_year)
