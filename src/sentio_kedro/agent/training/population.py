"""From members to agents: an ensemble per fold and seed, chosen and judged on rows that are not test rows."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch

from sentio_kedro.agent.bundle import AgentBundle, AgentSpec
from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.network.encoder import receptive_field
from sentio_kedro.agent.network.feature_mask import selected_features
from sentio_kedro.agent.network.network import load_network
from sentio_kedro.agent.ppo.compiled import compiles
from sentio_kedro.agent.training.abstention import abstains, mean_t_statistic
from sentio_kedro.agent.training.allocator import keep_freed_memory
from sentio_kedro.agent.training.batched.trainer import Task, train_members_together
from sentio_kedro.agent.training.lifecycle import CheckpointStore, Progress
from sentio_kedro.agent.training.member import Curve, Member, MemberKey, network_shape
from sentio_kedro.agent.training.trainer import choose_device, recent_train, train_member, validation_rows
from sentio_kedro.agent.training.validation import validate_parts
from sentio_kedro.config import AgentParameters, TrainingParameters
from sentio_kedro.market.fold_shapes import Fold, Segment, Spans
from sentio_kedro.market.timestamps import bars_per_session
from sentio_kedro.trading.performance import sharpe_ratio

logger = logging.getLogger(__name__)


class ValidationResult(NamedTuple):
    """What an ensemble earned on rows that are not test rows, greedy and net of costs.

    Attributes:
        train_sharpe: Annualised net Sharpe ratio on the latest train rows.
        validation_sharpe: The same on the validation rows.
        validation_t: t statistic of the mean net return per bar on the validation rows, or on those kept from the
            choice of weights; simulated in chunks that start flat.
    """

    train_sharpe: float
    validation_sharpe: float
    validation_t: float


def train_agent(
    training_set: TrainingSet,
    seed: int,
    spans: Spans,
    parameters: AgentParameters,
    store: CheckpointStore,
    progress: Progress,
    hashes: Mapping[str, str],
) -> tuple[AgentBundle, Curve, dict[str, Any]]:
    """Train the members of one agent, side by side or one after the other, and put them together.

    Args:
        training_set: The fold.
        seed: Which of the fold's agents.
        spans: What a decision touches.
        parameters: Network, training and trading.
        store: Where checkpoints live.
        progress: Who hears of it.
        hashes: Hashes of bars, parameters and code, to travel with the agent.

    Returns:
        The agent, a row per member and update, and a row about the agent.
    """
    began = time.perf_counter()
    device = choose_device(parameters.training.device)
    tasks = _tasks([training_set], [seed], parameters.training.members, device)
    if trains_together(parameters, len(tasks)):
        members = train_members_together(tasks, parameters, store, progress)
    else:
        members = [
            train_member(training_set, key, parameters, market, store, progress) for training_set, key, market in tasks
        ]
    return _put_together(training_set, seed, members, spans, parameters, hashes, time.perf_counter() - began)


def _tasks(
    training_sets: Sequence[TrainingSet], seeds: Sequence[int], members: int, device: torch.device
) -> list[Task]:
    """List the members to train, by fold, seed and member."""
    tasks = []
    for training_set in training_sets:
        market = training_set.market().to(device, torch.float32)
        keys = [MemberKey(training_set.fold.number, seed, member) for seed in seeds for member in range(members)]
        tasks += [Task(training_set, key, market) for key in keys]
    return tasks


def trains_together(parameters: AgentParameters, members: int) -> bool:
    """Whether this many members train side by side as one batched model (``training.population``).

    A GPU that one small network cannot fill is filled by many. On a CPU, agents in threads are as fast or faster.
    """
    if parameters.training.population != "auto":
        return parameters.training.population == "stacked"
    on_gpu = choose_device(parameters.training.device).type == "cuda"
    return on_gpu and members > 1 and not parameters.network.checkpoint_layers


def _put_together(
    training_set: TrainingSet,
    seed: int,
    members: Sequence[Member],
    spans: Spans,
    parameters: AgentParameters,
    hashes: Mapping[str, str],
    seconds: float,
) -> tuple[AgentBundle, Curve, dict[str, Any]]:
    device = choose_device(parameters.training.device)
    curve: Curve = []
    weights = []
    for member, trained in enumerate(members):
        weights.append({name: value.cpu() for name, value in trained.best.items()})
        curve += [
            {
                "fold": training_set.fold.number,
                "seed": seed,
                "member": member,
                **row,
                "selected": row["update"] == trained.kept,
            }
            for row in trained.curve
        ]
    judged = _validate_ensemble(training_set, weights, parameters, device)
    spec = _spec(training_set, seed, spans, parameters, judged, hashes)
    threshold = parameters.training.abstention.threshold
    _log_validation(spec, threshold)
    about = {
        "fold": training_set.fold.number,
        "seed": seed,
        "train_sharpe": judged.train_sharpe,
        "validation_sharpe": judged.validation_sharpe,
        "generalisation_gap": judged.train_sharpe - judged.validation_sharpe,
        "validation_t": judged.validation_t,
        "abstention_threshold": float("nan") if threshold is None else threshold,
        "abstains": spec.abstains,
        "members": len(weights),
        "train_seconds": seconds,
        "peak_device_bytes": float(torch.cuda.max_memory_allocated()) if device.type == "cuda" else float("nan"),
        **selected_features(
            weights[0], [column.name for column in training_set.columns]
        ),  # members of a fold hear the same
    }
    return AgentBundle(spec, tuple(weights)), curve, about


def train_population(
    training_sets: Sequence[TrainingSet],
    spans: Spans,
    parameters: AgentParameters,
    store: CheckpointStore,
    progress: Progress,
    hashes: Mapping[str, str],
) -> Iterator[tuple[AgentBundle, Curve, dict[str, Any]]]:
    """Train ``training.seeds`` agents per fold: all members as one batched model, or several agents at a time.

    Agents share nothing, so on a CPU threads that each use one core are faster than one agent that uses all: torch lets
    go of the interpreter inside its operations. The result does not depend on how many train at once.

    Args:
        training_sets: One training set per fold.
        spans: What a decision touches.
        parameters: Network, training and trading.
        store: Where checkpoints live.
        progress: Who hears of it, from any thread.
        hashes: Hashes to travel with the agents.

    Yields:
        What ``train_agent`` returns, by fold and seed.
    """
    training, agents = parameters.training, len(training_sets) * parameters.training.seeds
    keep_freed_memory()
    threads = torch.get_num_threads()
    if trains_together(parameters, agents * training.members):
        torch.set_num_threads(training.threads or threads)
        try:
            yield from _train_together(training_sets, spans, parameters, store, progress, hashes)
        finally:
            torch.set_num_threads(threads)
        return
    workers = count_workers(training, agents)
    torch.set_num_threads(training.threads or (1 if workers > 1 else threads))
    executor = ThreadPoolExecutor(workers, thread_name_prefix="training")
    try:
        futures = [
            executor.submit(train_agent, training_set, seed, spans, parameters, store, progress, hashes)
            for training_set in training_sets
            for seed in range(training.seeds)
        ]
        for future in futures:
            yield future.result()
    except BaseException:
        progress.stop()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _train_together(
    training_sets: Sequence[TrainingSet],
    spans: Spans,
    parameters: AgentParameters,
    store: CheckpointStore,
    progress: Progress,
    hashes: Mapping[str, str],
) -> Iterator[tuple[AgentBundle, Curve, dict[str, Any]]]:
    """Train all members as one batched model; the seconds of an agent are its share."""
    began, training = time.perf_counter(), parameters.training
    tasks = _tasks(training_sets, range(training.seeds), training.members, choose_device(training.device))
    members = train_members_together(tasks, parameters, store, progress)
    agents = [(training_set, seed) for training_set in training_sets for seed in range(training.seeds)]
    seconds = (time.perf_counter() - began) / len(agents)
    for place, (training_set, seed) in enumerate(agents):
        own = members[place * training.members : (place + 1) * training.members]
        yield _put_together(training_set, seed, own, spans, parameters, hashes, seconds)


def count_workers(training: TrainingParameters, agents: int) -> int:
    """Agents to train at once: one on a GPU, else as many as there are cores for their threads.

    Compiled functions train one agent on all threads: torch checks whether what it compiled fits in a way that two
    threads disturb, which makes it compile again and at last give up.
    """
    device = choose_device(training.device)
    if compiles(training, device):
        return 1
    if training.workers is not None:
        return min(training.workers, agents)
    if device.type == "cuda":
        return 1
    return max(1, min(len(os.sched_getaffinity(0)) // (training.threads or 1), agents))


def _validate_ensemble(
    training_set: TrainingSet, weights: list[dict[str, torch.Tensor]], parameters: AgentParameters, device: torch.device
) -> ValidationResult:
    shape = network_shape(training_set, parameters.trading)
    networks = [load_network(parameters.network, shape, state).to(device) for state in weights]
    market = training_set.market().to(device, torch.float32)
    context = receptive_field(parameters.network) - 1
    rows = [recent_train(training_set), training_set.fold.validation]
    train, validation = validate_parts(networks, market, rows, context, parameters.trading)
    validation_t = validation
    if parameters.training.abstention.holdout_share is not None:
        kept = [validation_rows(training_set, parameters)[1]]  # walked apart, so that they shorten nobody's chunks
        (validation_t,) = validate_parts(networks, market, kept, context, parameters.trading)
    return ValidationResult(
        train_sharpe=float(sharpe_ratio(train, training_set.periods_per_year)),
        validation_sharpe=float(sharpe_ratio(validation, training_set.periods_per_year)),
        validation_t=float(mean_t_statistic(validation_t)),
    )


def _log_validation(spec: AgentSpec, threshold: float | None) -> None:
    logger.info(
        "Fold %d, seed %d: net Sharpe ratio %.2f on train rows, %.2f on validation rows (gap %.2f), evidence t = %.2f",
        *(spec.fold, spec.seed, spec.train_sharpe, spec.validation_sharpe),
        *(spec.train_sharpe - spec.validation_sharpe, spec.validation_t),
    )
    if spec.abstains:
        logger.info(
            "Fold %d, seed %d abstains and stays flat: its evidence is not above `training.abstention.threshold` = %g",
            *(spec.fold, spec.seed, threshold),
        )


def _spec(
    training_set: TrainingSet,
    seed: int,
    spans: Spans,
    parameters: AgentParameters,
    judged: ValidationResult,
    hashes: Mapping[str, str],
) -> AgentSpec:
    first = min(part.start for part in _seen(training_set.fold)) - spans.input + 1
    timestamps = np.datetime_as_string(training_set.bars.timestamps[[max(0, first), -1]], unit="s")
    return AgentSpec(
        fold=training_set.fold.number,
        seed=seed,
        members=parameters.training.members,
        symbols=list(training_set.bars.symbols),
        periods_per_year=training_set.periods_per_year,
        gamma=parameters.training.gamma,
        required_bars=spans.input,
        train_start=f"{timestamps[0]}+00:00",
        train_end=f"{timestamps[1]}+00:00",
        features=list(training_set.columns),
        network=parameters.network,
        trading=parameters.trading,
        regimes=training_set.regimes.to_dict(),
        train_sharpe=judged.train_sharpe,
        validation_sharpe=judged.validation_sharpe,
        hashes=dict(hashes),
        validation_t=judged.validation_t,
        abstains=abstains(judged.validation_t, parameters.training.abstention),
        bars_per_session=bars_per_session(training_set.bars.timestamps),
        missing=training_set.missing,
    )


def _seen(fold: Fold) -> tuple[Segment, ...]:
    return (*fold.train, *fold.validation)
