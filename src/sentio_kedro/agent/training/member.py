"""Training state of one member: networks, optimiser, monitors; its checkpoint."""

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
from sentio_kedro.agent.ppo.constraints import TailState, first_tail
from sentio_kedro.config import AgentParameters, TradingParameters

logger = logging.getLogger(__name__)

Curve = list[dict[str, float]]
ACTION_STREAM, PATH_STREAM, WEIGHT_STREAM = 0, 1, 2


@dataclass(frozen=True)
class MemberKey:
    """Identity of a member, from which all its random draws are seeded.

    Attributes:
        fold: Number of the fold.
        seed: Number of the seed.
        member: Number within the ensemble.
    """

    fold: int
    seed: int
    member: int

    def __str__(self) -> str:
        """Return the name for checkpoints and messages."""
        return f"fold_{self.fold}-seed_{self.seed}-member_{self.member}"

    def stream(self, root: int, stream: int, update: int = 0) -> np.random.SeedSequence:
        """Return the seed of one stream of draws at one update."""
        return np.random.SeedSequence([root, self.fold, self.seed, self.member, stream, update])


@dataclass
class Member:
    """Training state of one member.

    Attributes:
        network: Current weights.
        optimiser: AdamW.
        penalty: Coefficient of the divergence penalty, 0-d.
        tail: Price of risk and shape of recent episodes, for the limit on the tail.
        updates_done: Updates so far.
        selected_weights: The latest weights that are not clearly worse on validation rows than the best score.
        selected_update: Update that they are of.
        best_score: Best annualised net Sharpe ratio on validation rows so far.
        best_returns: Net returns per bar ``[bars]`` on validation rows that gave it; empty at first.
        curve: One row per update.
    """

    network: PolicyNetwork
    optimiser: torch.optim.Optimizer
    penalty: Tensor
    tail: TailState
    updates_done: int = 0
    selected_weights: dict[str, Tensor] = field(default_factory=dict)
    selected_update: int = 0
    best_score: float = -math.inf
    best_returns: Tensor = field(default_factory=lambda: torch.empty(0))
    curve: Curve = field(default_factory=list)


def network_shape(training_set: TrainingSet, trading: TradingParameters) -> NetworkShape:
    """Return the sizes of a fold's networks."""
    return NetworkShape(
        training_set.features.shape[2],
        len(training_set.bars.symbols),
        training_set.regimes.states,
        len(trading.levels),
        trading.levels.index(1.0) if trading.unit == "rule" else None,
    )


def choose_device(requested: str) -> torch.device:
    """Resolve ``training.device``: ``auto`` is a GPU if there is one.

    Raises:
        ValueError: If ``cuda`` is requested and no GPU is usable.
    """
    if requested == "cuda" and not torch.cuda.is_available():
        raise ValueError("`training.device` is cuda, but torch finds no usable GPU; set it to auto or cpu.")
    return torch.device("cuda" if requested != "cpu" and torch.cuda.is_available() else "cpu")


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
    training, like = parameters.training, next(network.parameters())
    decay = training.weight_decay
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=training.learning_rate, eps=1e-5, weight_decay=decay, fused=True
    )
    penalty = like.new_tensor(training.divergence.coefficient)
    return Member(network, optimiser, penalty, first_tail(like.detach()))


def snapshot(member: Member) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Flatten a member into tensors and JSON-able state, its checkpoint."""
    tensors = {f"network.{name}": value for name, value in member.network.state_dict().items()}
    tensors |= {f"selected.{name}": value for name, value in member.selected_weights.items()}
    for position, moments in member.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{position}.{name}": value for name, value in moments.items()}
    tensors |= {
        "learner.penalty": member.penalty,
        "learner.price": member.tail.price,
        "learner.shape": member.tail.shape,
    }
    tensors |= {"learner.best_returns": member.best_returns}
    state = {
        "updates_done": member.updates_done,
        "selected_update": member.selected_update,
        "best_score": member.best_score,
        "curve": member.curve,
    }
    return tensors, state


def restore(member: Member, saved: tuple[dict[str, Tensor], dict[str, Any]] | None) -> None:
    """Continue from the result of ``snapshot``; None leaves the member as it is.

    Raises:
        ValueError: If the learner's state is not complete.
    """
    if saved is None:
        return
    tensors, state = saved
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "selected": {}, "optimiser": {}, "learner": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    member.network.load_state_dict(parts["network"])
    device = next(member.network.parameters()).device
    member.selected_weights = {name: value.to(device) for name, value in parts["selected"].items()}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimiser"].items():
        position, _, moment = name.partition(".")
        moments.setdefault(int(position), {})[moment] = value
    groups = member.optimiser.state_dict()["param_groups"]
    member.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    learner = {name: value.to(device) for name, value in parts["learner"].items()}
    if not {"penalty", "price", "shape", "best_returns"} <= learner.keys():
        raise ValueError(
            "The checkpoint lacks the learner's state: it was written by other code; delete it and train again."
        )
    member.penalty, member.tail = learner["penalty"], TailState(learner["price"], learner["shape"])
    member.best_returns = learner["best_returns"]
    member.updates_done, member.selected_update, member.curve = (
        int(state["updates_done"]),
        int(state["selected_update"]),
        state["curve"],
    )
    member.best_score = float(state["best_score"])
    logger.info("Continuing at update %d", member.updates_done)
