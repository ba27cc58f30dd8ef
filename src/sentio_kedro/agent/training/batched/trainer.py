"""Training of many members as one batched model: folds x seeds x members of a run. M counts members.

Each member keeps its own windows, draws, order, gradient norm, trust region, dual variable, coefficients and end;
members share the calls, which fills a GPU. Results equal those of ``train_member`` up to rounding, whatever
else the stack holds.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from typing import Any

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
from sentio_kedro.agent.training.batched.windows import PathQueue
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
from sentio_kedro.agent.training.member import ACTION_STREAM, Member, MemberKey, network_shape, torch_generator
from sentio_kedro.agent.training.timing import Phases
from sentio_kedro.agent.training.validation import (
    Score,
    chunk_windows,
    greedy_returns,
    scored_rows,
    shared_length,
    split_parts,
)
from sentio_kedro.config import AgentParameters


def train_members_together(
    members: Sequence[tuple[TrainingSet, MemberKey]],
    parameters: AgentParameters,
    store: Checkpoints,
    progress: Progress,
    dtype: torch.dtype = torch.float32,
) -> list[Member]:
    """Train members, given by fold and key, as batched models, one for each shape of network.

    Other arguments are those of ``train_member``, and so are results and checkpoints.

    Raises:
        FloatingPointError: If a metric of a member is not finite; it names the member.
    """
    member_runs = [
        start_or_resume(training_set, key, parameters, store, progress, dtype) for training_set, key in members
    ]
    groups: dict[NetworkShape, list[MemberRun]] = defaultdict(list)
    for member_run in member_runs:
        if not is_finished(member_run.member, parameters):
            groups[network_shape(member_run.training_set, parameters.trading)].append(member_run)
    for group in groups.values():
        with closing(PathQueue(group, parameters)) as paths:
            _train_stack(group, paths, parameters, store, progress)
    return [member_run.member for member_run in member_runs]


def _train_stack(
    member_runs: Sequence[MemberRun],
    paths: PathQueue,
    parameters: AgentParameters,
    store: Checkpoints,
    progress: Progress,
) -> None:
    """Train until all members are finished; a finished one leaves the stack, so that nothing changes it any more."""
    running = list(member_runs)
    while running:
        stack, finished = Stack([member_run.member for member_run in running]), [False] * len(running)
        loss = _loss_of_stack(stack, parameters)
        while not any(finished):
            began = time.perf_counter()
            rows = _update_stack(stack, loss, running, paths, parameters)
            seconds = (time.perf_counter() - began) / len(running)
            due = [
                place
                for place, (member, row) in enumerate(zip(stack.members, rows, strict=True))
                if count_update(member, row, seconds, parameters)
            ]
            scores = stacked_scores(stack, running, due, parameters)
            finished = [
                conclude_update(member_run, row, scores.get(place), parameters, store, progress)
                for place, (member_run, row) in enumerate(zip(running, rows, strict=True))
            ]
        for place, ended in enumerate(finished):
            if ended:
                stack.release(place)
        running = [member_run for member_run, ended in zip(running, finished, strict=True) if not ended]


def _loss_of_stack(stack: Stack, parameters: AgentParameters) -> Loss:
    """Return the losses ``[M]`` of weights ``[M, N]``, compiled according to ``training.compile``."""
    learner = make_learner(parameters)

    def eager(weights: Tensor, *arguments: Any) -> tuple[Tensor, UpdateReport]:
        return stack.call(learner.loss, weights, *arguments)

    return stacked_loss(eager, parameters.training, stack.state.weights.device)


def _update_stack(
    stack: Stack, loss: Loss, member_runs: Sequence[MemberRun], paths: PathQueue, parameters: AgentParameters
) -> list[dict[str, float]]:
    """Make one update of all members and return the metrics of each."""
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
    numbers = torch.stack([*report, estimate.reward]).cpu()  # one copy for all metrics
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
    """Score the members at ``places`` of a stack, those of a fold in one batch; return the scores by place."""
    context, trading = receptive_field(parameters.network) - 1, parameters.trading
    folds: dict[int, list[int]] = defaultdict(list)
    for place in places:
        folds[id(member_runs[place].training_set)].append(place)

    def simulated(network: PolicyNetwork, windows: Windows) -> Tensor:
        return greedy_returns([network], windows, trading)

    scores: dict[int, Score] = {}
    for rows in folds.values():
        training_set, market = member_runs[rows[0]].training_set, member_runs[rows[0]].market
        parts = scored_rows(training_set, parameters)
        segments = [segment for part in parts for segment in part]
        windows = chunk_windows(market, segments, shared_length(parts), context, trading)
        returns = stack.call(simulated, stack.state.weights[rows], stack_members([windows] * len(rows)), rows=rows)
        for place, of_member in zip(rows, returns, strict=True):
            scores[place] = Score.of(split_parts(of_member, parts), training_set.periods_per_year)
    return scores


def _draw(
    member_runs: Sequence[MemberRun], windows: Windows, learner: Learner[Any, Any, Any], parameters: AgentParameters
) -> tuple[Tensor | None, Any, list[Tensor]]:
    """Draw dropout, experience and the order of the windows ``[M, W]`` in each pass from each member's generator.

    The order of the draws is that of a member that trains alone.
    """
    training, device = parameters.training, windows.features.device
    dropout: list[Tensor | None] = []
    draws, orders = [], []
    for place, member_run in enumerate(member_runs):
        of_member = member_of(windows, place)
        key, update = member_run.key, member_run.member.updates_done
        generator = torch_generator(key.stream(training.seed, ACTION_STREAM, update), device)
        dropout.append(draw_dropout(parameters.network, training.windows, generator, of_member.features))
        draws.append(learner.draw(of_member, generator))
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
