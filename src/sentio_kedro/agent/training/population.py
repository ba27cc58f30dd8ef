"""Agents: the members of each fold and seed, trained, put together and validated as an ensemble."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from sentio_kedro.agent.bundle import AgentBundle, AgentSpec
from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.network.network import load_network
from sentio_kedro.agent.ppo.compiled import compiles
from sentio_kedro.agent.training.abstention import abstains, mean_t_statistic
from sentio_kedro.agent.training.allocator import keep_freed_memory
from sentio_kedro.agent.training.lifecycle import Checkpoints, Progress
from sentio_kedro.agent.training.member import Curve, Member, MemberKey, choose_device, network_shape
from sentio_kedro.agent.training.trainer import train_member
from sentio_kedro.agent.training.validation import account_returns, recent_train_rows
from sentio_kedro.config import AgentParameters, TrainingParameters
from sentio_kedro.config.network import receptive_field
from sentio_kedro.market.ingestion.panels import panel_clock
from sentio_kedro.market.ingestion.timestamps import bars_per_session
from sentio_kedro.market.purged_folds import Segment, Spans
from sentio_kedro.trading.performance import sharpe_ratio

logger = logging.getLogger(__name__)

TrainedAgent = tuple[AgentBundle, Curve, dict[str, Any]]
"""An agent, a row per member and update, and a row about the agent."""


class ValidationResult(NamedTuple):
    """Greedy net performance of an ensemble before the test rows, one account over each segment.

    Attributes:
        train_sharpe: Annualised Sharpe ratio on the latest train rows; the rule's if the agent follows it.
        validation_sharpe: The same on the validation rows.
        validation_t: t statistic of the mean return per bar on the validation rows, less that of the rule if levels are
            multiples of it. These rows chose the weights, too.
        rule_sharpe: Annualised Sharpe ratio of the rule on the validation rows; NaN without a rule.
    """

    train_sharpe: float
    validation_sharpe: float
    validation_t: float
    rule_sharpe: float = math.nan


def train_agent(
    training_set: TrainingSet,
    seed: int,
    spans: Spans,
    parameters: AgentParameters,
    store: Checkpoints,
    progress: Progress,
    hashes: Mapping[str, str],
) -> TrainedAgent:
    """Train the members of one agent, one after the other.

    Args:
        training_set: The fold.
        seed: Number of the agent within the fold.
        spans: Spans of a decision.
        parameters: Network, training and trading.
        store: Checkpoints.
        progress: Receives each update.
        hashes: Hashes of bars, parameters and code, to travel with the agent.
    """
    began = time.perf_counter()
    keys = [MemberKey(training_set.fold.number, seed, member) for member in range(parameters.training.members)]
    members = [train_member(training_set, key, parameters, store, progress) for key in keys]
    seconds = time.perf_counter() - began
    return _put_together(training_set, seed, members, spans, parameters, hashes, seconds)


def train_population(
    training_sets: Sequence[TrainingSet],
    spans: Spans,
    parameters: AgentParameters,
    store: Checkpoints,
    progress: Progress,
    hashes: Mapping[str, str],
) -> Iterator[TrainedAgent]:
    """Train ``training.seeds`` agents per fold, several at a time.

    Agents share nothing, so on a CPU threads that each use one core are faster than one agent that uses all: torch
    releases the interpreter inside its operations. The result does not depend on how many train at once. Arguments are
    those of ``train_agent``, with one training set per fold; ``progress`` is called from any thread.

    Yields:
        The agents by fold and seed.
    """
    training = parameters.training
    agents = [(training_set, seed) for training_set in training_sets for seed in range(training.seeds)]
    keep_freed_memory()
    workers = count_workers(training, len(agents))
    executor = ThreadPoolExecutor(workers, thread_name_prefix="training")
    with _torch_threads(training.threads or (1 if workers > 1 else None)):
        try:
            futures = [
                executor.submit(train_agent, *agent, spans, parameters, store, progress, hashes) for agent in agents
            ]
            for future in futures:
                yield future.result()
        except BaseException:
            progress.stop()
            raise
        finally:
            executor.shutdown(cancel_futures=True)


def count_workers(training: TrainingParameters, agents: int) -> int:
    """Agents to train at once: one on a GPU, else as many as there are cores for their threads.

    Compiled functions train one agent on all threads: torch's check that compiled code still fits is not safe for
    threads, compiles again and gives up in the end.
    """
    device = choose_device(training.device)
    if compiles(training, device):
        return 1
    if training.workers is not None:
        return min(training.workers, agents)
    if device.type == "cuda":
        return 1
    return max(1, min(len(os.sched_getaffinity(0)) // (training.threads or 1), agents))


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch use this many CPU threads for a while; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _put_together(
    training_set: TrainingSet,
    seed: int,
    members: Sequence[Member],
    spans: Spans,
    parameters: AgentParameters,
    hashes: Mapping[str, str],
    seconds: float,
) -> TrainedAgent:
    device, threshold = choose_device(parameters.training.device), parameters.training.abstention
    weights = [{name: value.cpu() for name, value in member.selected_weights.items()} for member in members]
    agent = {"fold": training_set.fold.number, "seed": seed}
    curve: Curve = [
        {**agent, "member": place, **row, "selected": row["update"] == member.selected_update}
        for place, member in enumerate(members)
        for row in member.curve
    ]
    result = _validate_ensemble(training_set, weights, parameters, device)
    spec = _spec(training_set, seed, spans, parameters, result, hashes)
    _log_validation(spec, threshold)
    about = {
        **agent,
        "train_sharpe": result.train_sharpe,
        "validation_sharpe": result.validation_sharpe,
        "generalisation_gap": result.train_sharpe - result.validation_sharpe,
        "rule_sharpe": result.rule_sharpe,
        "validation_t": result.validation_t,
        "abstention_threshold": float("nan") if threshold is None else threshold,
        "abstains": spec.abstains,
        "untrained": "no sleeve is open" if training_set.flat else "",
        "members": len(weights),
        "train_seconds": seconds,
        "peak_device_bytes": float(torch.cuda.max_memory_allocated()) if device.type == "cuda" else float("nan"),
    }
    return AgentBundle(spec, tuple(weights), training_set.rule), curve, about


def _validate_ensemble(
    training_set: TrainingSet, weights: list[dict[str, torch.Tensor]], parameters: AgentParameters, device: torch.device
) -> ValidationResult:
    shape = network_shape(training_set, parameters.trading)
    networks = [load_network(parameters.network, shape, state).to(device) for state in weights]
    market, trading, facts = training_set.market_on(device, torch.float32), parameters.trading, training_set.facts
    context, per_year = receptive_field(parameters.network) - 1, training_set.periods_per_year

    def returns(segments: Sequence[Segment], level: float = math.nan) -> torch.Tensor:
        return account_returns(networks, market, segments, context, trading, facts, level)

    def sharpe(segments: Sequence[Segment], level: float = math.nan) -> float:
        return float(sharpe_ratio(returns(segments, level), per_year))

    train, validation, of_rule = recent_train_rows(training_set), training_set.fold.validation, trading.unit == "rule"
    tested = returns(validation) - returns(validation, 1.0) if of_rule else returns(validation)
    t = float(mean_t_statistic(tested))
    level = 1.0 if of_rule and abstains(t, parameters.training.abstention) else math.nan  # as it is served
    rule_sharpe = sharpe(validation, 1.0) if of_rule else math.nan
    return ValidationResult(sharpe(train, level), sharpe(validation, level), t, rule_sharpe)


def _log_validation(spec: AgentSpec, threshold: float | None) -> None:
    logger.info(
        "Fold %d, seed %d: net Sharpe ratio %.2f on train rows, %.2f on validation rows (gap %.2f), validation t %.2f",
        *(spec.fold, spec.seed, spec.train_sharpe, spec.validation_sharpe),
        *(spec.train_sharpe - spec.validation_sharpe, spec.validation_t),
    )
    if spec.abstains:
        logger.info(
            "Fold %d, seed %d abstains and %s: validation t is not above `training.abstention` = %g",
            *(spec.fold, spec.seed, "stays flat" if spec.fixed_level == 0.0 else "follows the rule", threshold),
        )


def _spec(
    training_set: TrainingSet,
    seed: int,
    spans: Spans,
    parameters: AgentParameters,
    result: ValidationResult,
    hashes: Mapping[str, str],
) -> AgentSpec:
    fold, bars = training_set.fold, training_set.bars
    first = min(part.start for part in (*fold.train, *fold.validation)) - spans.input + 1
    timestamps = np.datetime_as_string(bars.timestamps[[max(0, first), -1]], unit="s")
    return AgentSpec(
        fold=fold.number,
        seed=seed,
        members=parameters.training.members,
        symbols=list(bars.symbols),
        periods_per_year=training_set.periods_per_year,
        gamma=parameters.training.gamma,
        required_bars=spans.input,
        train_start=f"{timestamps[0]}+00:00",
        train_end=f"{timestamps[1]}+00:00",
        features=list(training_set.columns),
        network=parameters.network,
        trading=parameters.trading,
        regimes=training_set.regimes.to_dict(),
        hashes=dict(hashes),
        abstains=abstains(result.validation_t, parameters.training.abstention),
        bars_per_session=bars_per_session(bars.timestamps),
        own_bars_per_session={
            part.calendar: part.clock.bars_per_session for part in panel_clock(bars, training_set.trading).own
        },
        missing=training_set.missing,
        outside_session=training_set.outside_session,
        **result._asdict(),
    )
