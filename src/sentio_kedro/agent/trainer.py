"""Training: members learn one after the other, each on its own part of a fold's train rows."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.all_action import evaluate_grid, grid_loss, position_grid
from sentio_kedro.agent.networks import NetworkShape, PolicyNetwork, build_network, receptive_field
from sentio_kedro.agent.paths import PathSampler, TrainingSet, member_segments
from sentio_kedro.agent.rollout import Windows, collect
from sentio_kedro.agent.selection import scores
from sentio_kedro.agent.update import UpdateReport, minibatch_loss, targets, update, value_scale
from sentio_kedro.config import NetworkParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.splits import Segment
from sentio_kedro.market.tensors import MarketTensors

logger = logging.getLogger(__name__)

Curve = list[dict[str, float]]
ACTION_STREAM, PATH_STREAM, WEIGHT_STREAM = 0, 1, 2


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
class MemberKey:
    """Which member of which agent: all its random draws are keyed by this."""

    fold: int
    seed: int
    member: int

    def __str__(self) -> str:
        """Name the member, for checkpoints and progress."""
        return f"fold_{self.fold}-seed_{self.seed}-member_{self.member}"

    def stream(self, root: int, stream: int, update: int = 0) -> np.random.SeedSequence:
        """Seed of one stream of draws at one update."""
        return np.random.SeedSequence([root, self.fold, self.seed, self.member, stream, update])


@dataclass(frozen=True)
class AgentParameters:
    """The sections that shape an agent."""

    network: NetworkParameters
    training: TrainingParameters
    trading: TradingParameters


@dataclass
class Member:
    """One member while it learns.

    Attributes:
        network: Current weights.
        optimiser: Adam over them.
        done: Updates done.
        best: Weights with the best validation score so far.
        best_score: That score, annualised net Sharpe ratio.
        curve: One row per update.
    """

    network: PolicyNetwork
    optimiser: torch.optim.Adam
    done: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_score: float = -math.inf
    curve: Curve = field(default_factory=list)


def choose_device(wish: str) -> torch.device:
    """Resolve ``auto``; refuse ``cuda`` where there is none.

    Raises:
        ValueError: If a GPU is asked for and none is usable.
    """
    if wish == "cuda" and not torch.cuda.is_available():
        raise ValueError("`training.device` is cuda, but torch finds no usable GPU; set it to auto or cpu.")
    return torch.device("cuda" if wish != "cpu" and torch.cuda.is_available() else "cpu")


def network_shape(study: TrainingSet, trading: TradingParameters) -> NetworkShape:
    """Sizes of a fold's networks."""
    return NetworkShape(study.features.shape[2], len(study.bars.symbols), study.regimes.states, 1 + len(trading.levels))


def steps_per_update(parameters: AgentParameters) -> int:
    """Account-bars of one update: windows x replicas x bars; all-action advantages have one replica per level."""
    training = parameters.training
    replicas = len(parameters.trading.levels) if training.advantages == "all_action" else training.replicas
    return training.windows * replicas * training.episode_bars


def count_updates(parameters: AgentParameters) -> int:
    """Updates that ``total_steps`` pays for, at least one."""
    return max(1, round(parameters.training.total_steps / steps_per_update(parameters)))


def learning_rate(training: TrainingParameters, update_index: int, updates: int) -> float:
    """Cosine schedule from the peak to a twentieth of it."""
    return training.learning_rate * (0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * update_index / updates)))


def torch_generator(seed: np.random.SeedSequence, device: torch.device) -> torch.Generator:
    """Make a torch generator from a numpy seed sequence."""
    return torch.Generator(device).manual_seed(int(seed.generate_state(2, np.uint32).astype(np.uint64)[0]))


def new_member(study: TrainingSet, key: MemberKey, parameters: AgentParameters, device: torch.device) -> Member:
    """Build an untrained member whose weights depend on its key, with the fold's scaler frozen inside."""
    generator = torch_generator(key.stream(parameters.training.seed, WEIGHT_STREAM), torch.device("cpu"))
    network = build_network(parameters.network, network_shape(study, parameters.trading), generator)
    mean, deviation = study.scaler()
    network.encoder.set_scaler(torch.from_numpy(mean).float(), torch.from_numpy(deviation).float())
    network.to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=parameters.training.learning_rate, eps=1e-5, fused=True)
    return Member(network, optimiser)


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
    if member.done >= updates:
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
        row["steps"] = float(member.done * steps_per_update(parameters))
        row["steps_per_second"] = row["steps"] / member.done / (time.perf_counter() - began)
        if member.done in judged:
            row |= _validate(member, study, market, context, parameters)
        member.curve.append(row)
        if member.done == updates or member.done % training.checkpoint_updates == 0:
            store.save(str(key), *snapshot(member))
        progress.update(key, member.done, updates, row)
    return member


def _one_update(
    member: Member, sampler: PathSampler, key: MemberKey, index: int, updates: int, parameters: AgentParameters
) -> dict[str, float]:
    training = parameters.training
    for group in member.optimiser.param_groups:
        group["lr"] = learning_rate(training, index, updates)
    generator = torch_generator(key.stream(training.seed, ACTION_STREAM, index), sampler.device)
    windows = sampler.draw(np.random.default_rng(key.stream(training.seed, PATH_STREAM, index)))
    learn = learn_from_all_actions if training.advantages == "all_action" else learn_from_samples
    report, reward = learn(member, windows, parameters, generator)
    row = {name: float(value) for name, value in report._asdict().items()}
    row |= {"update": float(index + 1), "reward": float(reward)}
    broken = sorted(name for name, value in row.items() if not math.isfinite(value))
    if broken:
        raise FloatingPointError(
            f"{key}: {', '.join(broken)} of update {index + 1} are not finite. The last checkpoint is untouched; lower "
            f"`training.learning_rate` (now {training.learning_rate}) or look for wild values in the features."
        )
    return row


def learn_from_samples(
    member: Member, windows: Windows, parameters: AgentParameters, generator: torch.Generator
) -> tuple[UpdateReport, Tensor]:
    """Walk R sampling accounts along each window, then learn from their advantages.

    Returns:
        The report and the mean reward.
    """
    network, training = member.network, parameters.training
    scale = value_scale(training.gamma)
    rollout = collect(network, windows, training.replicas, scale, parameters.trading, generator)
    learned = targets(rollout, training)

    def loss(index: Tensor) -> tuple[Tensor, UpdateReport]:
        return minibatch_loss(network, windows, rollout, learned, index, training)

    return update(network, member.optimiser, loss, training.windows, training, generator), rollout.rewards.mean()


def learn_from_all_actions(
    member: Member, windows: Windows, parameters: AgentParameters, generator: torch.Generator
) -> tuple[UpdateReport, Tensor]:
    """Stand accounts on every position of each window, then learn from all their actions.

    Returns:
        The report and the mean reward under the policy.
    """
    network, training = member.network, parameters.training
    grid = position_grid(windows, parameters.trading, generator)
    learned = evaluate_grid(network, windows, grid, training.gamma)
    reward = (learned.log_probabilities.exp() * grid.rewards).sum(-1).mean()

    def loss(index: Tensor) -> tuple[Tensor, UpdateReport]:
        return grid_loss(network, windows, grid, learned, index, training)

    return update(network, member.optimiser, loss, training.windows, training, generator), reward


def _validate(
    member: Member, study: TrainingSet, market: MarketTensors, context: int, parameters: AgentParameters
) -> dict[str, float]:
    rows = (recent_train(study), study.fold.validation)
    train, validation = scores([member.network], market, rows, context, parameters.trading, study.periods_per_year)
    if validation > member.best_score:
        member.best_score = validation
        member.best = copy.deepcopy(member.network.state_dict())
    return {"validation_sharpe": validation, "train_sharpe": train}


def recent_train(study: TrainingSet) -> list[Segment]:
    """Latest train rows, as many as there are validation rows: the other half of the generalisation gap."""
    wanted = sum(part.stop - part.start for part in study.fold.validation)
    last = study.fold.train[-1]
    return [Segment(max(last.start, last.stop - wanted), last.stop)]


def snapshot(member: Member) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Flatten a member into tensors and JSON-able state."""
    tensors = {f"network.{name}": value for name, value in member.network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in member.best.items()}
    for position, moments in member.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{position}.{name}": value for name, value in moments.items()}
    return tensors, {"done": member.done, "best_score": member.best_score, "curve": member.curve}


def restore(member: Member, saved: tuple[dict[str, Tensor], dict[str, Any]] | None) -> None:
    """Continue from ``snapshot``'s result; None leaves the member as it is."""
    if saved is None:
        return
    tensors, state = saved
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "optimiser": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    member.network.load_state_dict(parts["network"])
    device = next(member.network.parameters()).device
    member.best = {name: value.to(device) for name, value in parts["best"].items()}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimiser"].items():
        position, _, moment = name.partition(".")
        moments.setdefault(int(position), {})[moment] = value
    groups = member.optimiser.state_dict()["param_groups"]
    member.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    member.done, member.best_score, member.curve = int(state["done"]), float(state["best_score"]), state["curve"]
    logger.info("Continuing at update %d", member.done)
