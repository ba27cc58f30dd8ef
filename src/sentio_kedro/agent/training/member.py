"""One member while it learns: what it is made of, and how it is saved and continued."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import PolicyNetwork, build_network
from sentio_kedro.agent.ppo.constraints import TailMonitor
from sentio_kedro.config import AgentParameters, TradingParameters

logger = logging.getLogger(__name__)

Curve = list[dict[str, float]]
ACTION_STREAM, PATH_STREAM, WEIGHT_STREAM = 0, 1, 2


@dataclass(frozen=True)
class MemberKey:
    """Which member of which agent: all its random draws are keyed by this.

    Attributes:
        fold: Number of the fold.
        seed: Number of the seed.
        member: Place in the seed's ensemble.
    """

    fold: int
    seed: int
    member: int

    def __str__(self) -> str:
        """Name the member, for checkpoints and progress."""
        return f"fold_{self.fold}-seed_{self.seed}-member_{self.member}"

    def stream(self, root: int, stream: int, update: int = 0) -> np.random.SeedSequence:
        """Seed of one stream of draws at one update."""
        return np.random.SeedSequence([root, self.fold, self.seed, self.member, stream, update])


@dataclass
class Member:
    """One member while it learns.

    Attributes:
        network: Current weights.
        optimiser: Adam over them.
        penalty: Coefficient of the divergence penalty, 0-d.
        tail: Watches the log returns of episodes.
        done: Updates done.
        average: Moving average of the weights; empty where it is off.
        best: Weights that are kept: the latest ones not clearly worse on validation rows than the best score.
        kept: Update that they are of.
        best_score: Best score so far, annualised net Sharpe ratio on validation rows.
        best_returns: Net returns per bar on validation rows of the weights that had it ``[bars]``; empty at first.
        curve: One row per update.
    """

    network: PolicyNetwork
    optimiser: torch.optim.Optimizer
    penalty: Tensor
    tail: TailMonitor
    done: int = 0
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    kept: int = 0
    best_score: float = -math.inf
    best_returns: Tensor = field(default_factory=lambda: torch.empty(0))
    curve: Curve = field(default_factory=list)


def network_shape(training_set: TrainingSet, trading: TradingParameters) -> NetworkShape:
    """Sizes of a fold's networks."""
    return NetworkShape(
        training_set.features.shape[2],
        len(training_set.bars.symbols),
        training_set.regimes.states,
        1 + len(trading.levels),
    )


def torch_generator(seed: np.random.SeedSequence, device: torch.device) -> torch.Generator:
    """Make a torch generator from a numpy seed sequence."""
    return torch.Generator(device).manual_seed(int(seed.generate_state(2, np.uint32).astype(np.uint64)[0]))


def new_member(
    training_set: TrainingSet,
    key: MemberKey,
    parameters: AgentParameters,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Member:
    """Build an untrained member whose weights depend on its key, with the fold's scaler frozen inside."""
    generator = torch_generator(key.stream(parameters.training.seed, WEIGHT_STREAM), torch.device("cpu"))
    network = build_network(parameters.network, network_shape(training_set, parameters.trading), generator)
    network.to(device, dtype)
    network.encoder.set_scaler(*(torch.from_numpy(fitted) for fitted in training_set.scaler()))
    _select_features(training_set, network, parameters)
    training, like = parameters.training, next(network.parameters())
    decay = training.weight_decay
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=training.learning_rate, eps=1e-5, weight_decay=decay, fused=True
    )
    penalty = like.new_tensor(training.divergence.coefficient)
    return Member(network, optimiser, penalty, TailMonitor(training.tail, like.detach()))


def _select_features(training_set: TrainingSet, network: PolicyNetwork, parameters: AgentParameters) -> None:
    """Let the network hear only what the screening of the fold's columns keeps.

    With a limit on episodes it hears every column's value: columns that tell risk need not foretell the mean.
    """
    criterion = parameters.training.screening
    if criterion is None or parameters.training.tail.limit is not None:
        return
    kept = training_set.screened(network.encoder.lags, criterion)
    how = parameters.training.resampling
    flipped = (
        training_set.flipped(kept)
        if how.flip_invariant and how.mirrors
        else np.zeros((2, len(kept.values)), dtype=bool)
    )
    masks = kept.values, kept.sizes, flipped, kept.lags, kept.asset_mask
    network.encoder.set_feature_mask(*(torch.from_numpy(mask) for mask in masks))


def snapshot(member: Member) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Flatten a member into tensors and JSON-able state."""
    tensors = {f"network.{name}": value for name, value in member.network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in member.best.items()}
    tensors |= {f"average.{name}": value for name, value in member.average.items()}
    for position, moments in member.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{position}.{name}": value for name, value in moments.items()}
    tensors |= {"learner.penalty": member.penalty, "learner.dual": member.tail.dual, "learner.pool": member.tail.pool}
    tensors |= {"learner.best_returns": member.best_returns}
    state = {"done": member.done, "kept": member.kept, "best_score": member.best_score, "curve": member.curve}
    return tensors, state


def restore(member: Member, saved: tuple[dict[str, Tensor], dict[str, Any]] | None) -> None:
    """Continue from ``snapshot``'s result; None leaves the member as it is."""
    if saved is None:
        return
    tensors, state = saved
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "average": {}, "optimiser": {}, "learner": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    member.network.load_state_dict(parts["network"])
    device = next(member.network.parameters()).device
    member.best = {name: value.to(device) for name, value in parts["best"].items()}
    member.average = {name: value.to(device) for name, value in parts["average"].items()}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimiser"].items():
        position, _, moment = name.partition(".")
        moments.setdefault(int(position), {})[moment] = value
    groups = member.optimiser.state_dict()["param_groups"]
    member.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    learner = {name: value.to(device) for name, value in parts["learner"].items()}
    if not {"penalty", "dual", "pool", "best_returns"} <= learner.keys():
        raise ValueError(
            "The checkpoint lacks the learner's state: it was written by other code; delete it and train again."
        )
    member.penalty, member.tail.dual, member.tail.pool = learner["penalty"], learner["dual"], learner["pool"]
    member.best_returns = learner["best_returns"]
    member.done, member.kept, member.curve = int(state["done"]), int(state["kept"]), state["curve"]
    member.best_score = float(state["best_score"])
    logger.info("Continuing at update %d", member.done)
