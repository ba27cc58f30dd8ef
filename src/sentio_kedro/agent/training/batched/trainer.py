"""Training of many members side by side in one process, as one batched model: folds x seeds x members of a run.

Each learns as ``train_member`` would have it learn alone: from windows, draws and an order of its own, with its own
gradient norm, trust region, dual variable, coefficients and end. What they share are the calls: one for all of them,
where members alone make one each. That fills a GPU; see ``population`` for what a CPU does. Results equal those of
members that train alone up to rounding, whoever else is in the stack. M counts members.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.data.windows import Windows
from sentio_kedro.agent.network.encoder import NetworkShape, draw_dropout, receptive_field
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.compiled import Loss, stacked_loss
from sentio_kedro.agent.ppo.constraints import TailState
from sentio_kedro.agent.ppo.learners import Learner, make_learner
from sentio_kedro.agent.ppo.losses import adapted_coefficient
from sentio_kedro.agent.ppo.update import UpdateReport
from sentio_kedro.agent.training.batched.batching import member_of, stack_members
from sentio_kedro.agent.training.batched.stack import Stack
from sentio_kedro.agent.training.batched.update import update_together
from sentio_kedro.agent.training.batched.windows import PathQueue, stack_windows
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
from sentio_kedro.agent.training.member import ACTION_STREAM, Member, MemberKey, network_shape, torch_generator
from sentio_kedro.agent.training.timing import Phases
from sentio_kedro.agent.training.trainer import validation_rows_used
from sentio_kedro.agent.training.validation import Score, chunk_windows, greedy_returns, shared_length, split_parts
from sentio_kedro.config import AgentParameters
from sentio_kedro.market.tensors import MarketTensors


class Task(NamedTuple):
    """A member to train.

    Attributes:
        training_set: What its fold trains on.
        key: Which member of which agent it is.
        market: The fold's real market on the training device.
    """

    training_set: TrainingSet
    key: MemberKey
    market: MarketTensors


def train_members_together(
    tasks: Sequence[Task], parameters: AgentParameters, store: CheckpointStore, progress: Progress
) -> list[Member]:
    """Train members side by side, each from its checkpoint if there is one.

    Members whose folds ask for networks of another shape are trained after each other.

    Args:
        tasks: The members; their markets are on one device and in one precision.
        parameters: Network, training and trading.
        store: Where checkpoints live; those of members that trained alone continue, and the other way round.
        progress: Who hears of it.

    Returns:
        The members, in the order of ``tasks``; see ``train_member``.

    Raises:
        FloatingPointError: If a figure of a member is not finite; it names the member.
    """
    member_runs = [
        start_or_resume(training_set, key, parameters, market, store, progress) for training_set, key, market in tasks
    ]
    groups: dict[NetworkShape, list[MemberRun]] = defaultdict(list)
    for member_run in member_runs:
        if not is_finished(member_run.member, parameters):
            groups[network_shape(member_run.training_set, parameters.trading)].append(member_run)
    for alike in groups.values():
        with PathQueue(alike, parameters) as paths:
            _train_alike(alike, paths, parameters, store, progress)
    return [member_run.member for member_run in member_runs]


def _train_alike(
    member_runs: Sequence[MemberRun],
    paths: PathQueue,
    parameters: AgentParameters,
    store: CheckpointStore,
    progress: Progress,
) -> None:
    """Train until all are over; whoever is over leaves the stack, so that nothing moves it any more."""
    running = list(member_runs)
    while running:
        stack, finished = Stack([member_run.member for member_run in running]), [False] * len(running)
        loss = _loss_of_stack(stack, parameters)
        while not any(finished):
            began = time.perf_counter()
            rows = _update_stack(stack, loss, running, paths, parameters)
            seconds = (time.perf_counter() - began) / len(running)
            counted = [
                count_update(member, row, seconds, parameters) for member, row in zip(stack.members, rows, strict=True)
            ]
            judged = stacked_scores(stack, running, [place for place, due in enumerate(counted) if due], parameters)
            finished = [
                conclude_update(member_run, row, judged.get(place), parameters, store, progress)
                for place, (member_run, row) in enumerate(zip(running, rows, strict=True))
            ]
        for place, ended in enumerate(finished):
            if ended:
                stack.release(place)
        running = [member_run for member_run, ended in zip(running, finished, strict=True) if not ended]


def _loss_of_stack(stack: Stack, parameters: AgentParameters) -> Loss:
    """Losses ``[M]`` of the weights ``[M, N]`` of a stack, compiled where that is asked for."""
    learner = make_learner(parameters)

    def eager(weights: Tensor, *arguments: Any) -> tuple[Tensor, UpdateReport]:
        return stack.call(learner.loss, weights, *arguments)

    return stacked_loss(eager, parameters.training, stack.state.weights.device)


def _update_stack(
    stack: Stack, loss: Loss, member_runs: Sequence[MemberRun], paths: PathQueue, parameters: AgentParameters
) -> list[dict[str, float]]:
    """Make one update of all members, each with its own index, and say what it did to each."""
    training, learner, weights = parameters.training, make_learner(parameters), stack.state.weights
    phases = Phases(weights.device)
    begun = [begin_update(member, parameters) for member in stack.members]
    rates = [member.optimiser.param_groups[0]["lr"] for member in stack.members]
    windows = paths.take(member_runs, weights.device)
    phases.end("paths")
    dropout, draws, orders = _draw(member_runs, windows, learner, parameters)
    windows, coefficients = windows._replace(dropout=dropout), stack_members(begun)
    experience = stack.call(learner.collect, weights, windows, draws)
    phases.end("rollout")
    estimate = stack.call(learner.estimate, weights, windows, experience, draws, _tail_states(stack.members))
    phases.end("advantages")

    def loss_of(weights: Tensor, index: Tensor) -> tuple[Tensor, UpdateReport]:
        return loss(weights, windows, experience, estimate.targets, index, coefficients)

    report = update_together(
        stack, loss_of, orders, weights.new_tensor(rates, dtype=torch.float64), training, estimate.valid_steps
    )
    phases.end("update")
    penalty = adapted_coefficient(coefficients.divergence, report.kl, training.divergence)
    numbers = torch.stack([*report, estimate.reward]).cpu()  # one copy for all figures
    rows = []
    for place, (member_run, old) in enumerate(zip(member_runs, begun, strict=True)):
        member_run.member.penalty = penalty[place].clone()
        *terms, reward = numbers[:, place]
        outcomes = member_of(estimate.outcomes, place)
        learned = Learned(UpdateReport(*terms), reward, outcomes)
        row = describe_update(member_run.member, member_run.key, parameters, old, learned)
        rows.append(row | phases.row(shared_by=len(member_runs)))
    return rows


def stacked_scores(
    stack: Stack, member_runs: Sequence[MemberRun], places: Sequence[int], parameters: AgentParameters
) -> dict[int, Score]:
    """Judge the members at ``places`` of a stack, those whose rows are as many in one batch.

    Returns:
        By place what the member's weights earned.
    """
    context, trading = receptive_field(parameters.network) - 1, parameters.trading
    groups: dict[tuple[int, int], dict[int, Windows]] = defaultdict(dict)
    cut: dict[int, Windows] = {}
    for place in places:
        training_set, market = member_runs[place].training_set, member_runs[place].market
        if id(training_set) not in cut:
            parts = validation_rows_used(training_set, parameters)
            segments = [segment for part in parts for segment in part]
            cut[id(training_set)] = chunk_windows(market, segments, shared_length(parts), context, trading)
        windows = cut[id(training_set)]
        groups[windows.step_data.steps, windows.features.shape[0]][place] = windows

    def walk(network: PolicyNetwork, windows: Windows) -> Tensor:
        return greedy_returns([network], windows, trading)

    judged: dict[int, Score] = {}
    for group in groups.values():
        rows = list(group)
        returns = stack.call(walk, stack.scored_weights(rows), stack_windows(list(group.values())), rows=rows)
        for place, own in zip(rows, returns, strict=True):
            training_set = member_runs[place].training_set
            earned = split_parts(own, validation_rows_used(training_set, parameters))
            judged[place] = Score.of(earned, training_set.periods_per_year)
    return judged


def _draw(
    member_runs: Sequence[MemberRun], windows: Windows, learner: Learner[Any, Any, Any], parameters: AgentParameters
) -> tuple[Tensor | None, Any, list[Tensor]]:
    """Draw dropout, experience and the order of the windows ``[M, W]`` in each pass, each from the member's generator.

    What is drawn first is drawn first for a member alone, too.
    """
    training, device = parameters.training, windows.features.device
    dropout: list[Tensor | None] = []
    draws, orders = [], []
    for place, member_run in enumerate(member_runs):
        own = member_of(windows, place)
        key, update = member_run.key, member_run.member.done
        generator = torch_generator(key.stream(training.seed, ACTION_STREAM, update), device)
        dropout.append(draw_dropout(parameters.network, training.windows, generator, own.features))
        draws.append(learner.draw(own, generator))
        passes = range(training.epochs)
        orders.append(tuple(torch.randperm(training.windows, generator=generator, device=device) for _ in passes))
    return stack_members(dropout), stack_members(draws), list(stack_members(orders))


def _tail_states(members: Sequence[Member]) -> TailState | None:
    """Tail of each member ``[M]``, 0 for one whose pool is not full yet; None if no pool is."""
    states = [member.tail.state() for member in members]
    if all(state is None for state in states):
        return None
    nothing = TailState(*(torch.zeros_like(members[0].tail.dual) for _ in TailState._fields))
    return stack_members([nothing if state is None else state for state in states])
