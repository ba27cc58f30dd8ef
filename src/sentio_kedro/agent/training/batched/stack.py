"""The weights of many members in one tensor, for one call and one optimiser step of them all.

M counts members, N the weights of one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.training.batched.batching import over_members
from sentio_kedro.agent.training.member import Member

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
ALIGNED = 16  # every weight tensor begins at a multiple of so many numbers, as suits matrix units


class State(NamedTuple):
    """Weights and the moments of Adam.

    Attributes:
        weights: ``[M, N]``.
        first: ``[M, N]`` moving mean of the gradients.
        second: ``[M, N]`` moving mean of their squares.
        steps: ``[M]`` steps taken.
    """

    weights: Tensor
    first: Tensor
    second: Tensor
    steps: Tensor

    def where(self, chosen: Tensor, other: State) -> State:
        """Take the members ``[M]`` (bool) that are ``chosen``, and the others from ``other``."""
        return State(*(torch.where(_like(chosen, here), here, there) for here, there in zip(self, other, strict=True)))


class _Lent(nn.Module):
    """Lets ``functional_call`` put weights into a network while a function of the network runs."""

    def __init__(self, network: PolicyNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, function: Callable[..., T], *arguments: object) -> T:
        """Call ``function`` with the network and ``arguments``."""
        return function(self.network, *arguments)


class Stack:
    """Members whose networks have one shape.

    While a member is in a stack its network's parameters and its optimiser's moments *are* rows of the stack: a step of
    the stack moves them, and they can be read and saved as if the member trained alone.

    Attributes:
        members: M members.
        state: Their weights and moments.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        """Take over the members' weights and moments."""
        self.members = list(members)
        network = members[0].network
        self._lent = _Lent(copy.deepcopy(network))
        shapes = {name: weight.shape for name, weight in network.named_parameters()}
        sizes = [-(-shape.numel() // ALIGNED) * ALIGNED for shape in shapes.values()]
        starts = [sum(sizes[:place]) for place in range(len(sizes))]
        self._places = {name: (start, shape) for (name, shape), start in zip(shapes.items(), starts, strict=True)}
        like = next(network.parameters())
        room = (len(members), sum(sizes))
        weights, first, second = (like.new_zeros(room) for _ in range(3))
        self.state = State(weights, first, second, torch.zeros(len(members), device=like.device))
        self._buffers = {
            f"network.{name}": torch.stack([dict(member.network.named_buffers())[name] for member in members])
            for name, _ in network.named_buffers()
        }
        for row, member in enumerate(members):
            self._take(row, member)

    @torch.no_grad()
    def _take(self, row: int, member: Member) -> None:
        weights, first, second, steps = (part[row] for part in self.state)
        for name, weight in member.network.named_parameters():
            moments = member.optimiser.state[weight]
            first_moment, second_moment = moments.get("exp_avg"), moments.get("exp_avg_sq")
            for flat, value in ((weights, weight), (first, first_moment), (second, second_moment)):
                if value is not None:
                    self._part(flat, name).copy_(value)
            if moments:
                steps.copy_(moments["step"])
            weight.data = self._part(weights, name)
            moments |= {"step": steps, "exp_avg": self._part(first, name), "exp_avg_sq": self._part(second, name)}

    def release(self, row: int) -> None:
        """Copy weights and moments of the member in ``row`` out of the stack, which does not move them any more."""
        member = self.members[row]
        for weight in member.network.parameters():
            weight.data = weight.data.clone()
            moments = member.optimiser.state[weight]
            moments |= {name: value.clone() for name, value in moments.items()}

    def call(
        self,
        function: Callable[[PolicyNetwork, *Arguments], T],
        weights: Tensor,
        *arguments: *Arguments,
        rows: Sequence[int] | None = None,
    ) -> T:
        """Call ``function`` for all members at once.

        Args:
            function: A pure function of a network and tensors.
            weights: ``[M, N]`` weights of the networks, such as ``state.weights``.
            arguments: Its other arguments; here and in the result every tensor has a leading dimension of members.
            rows: Members to call it for, in place of all M.
        """
        names = tuple(self._buffers)
        buffers = tuple(x if rows is None else x[list(rows)] for x in self._buffers.values())

        def of_member(flat: Tensor, fixed: tuple[Tensor, ...], of_row: tuple[*Arguments]) -> T:
            values = {f"network.{name}": self._part(flat, name) for name in self._places}
            values |= dict(zip(names, fixed, strict=True))
            called: T = torch.func.functional_call(self._lent, values, (function, *of_row))
            return called

        with _batched_attention(weights.device):
            return over_members(of_member, weights, buffers, arguments)

    @torch.no_grad()
    def put(self, state: State) -> None:
        """Move all members to ``state``."""
        for before, after in zip(self.state, state, strict=True):
            before.copy_(after)

    def _part(self, flat: Tensor, name: str) -> Tensor:
        start, shape = self._places[name]
        return flat[start : start + shape.numel()].view(shape)


@torch.no_grad()
def adam_step(state: State, gradients: Tensor, rates: Tensor, group: Mapping[str, Any]) -> State:
    """Take one step of Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2).

    The same arithmetic as ``torch.optim.AdamW``, with a learning rate and a count of steps for each member.

    Args:
        state: Before the step.
        gradients: ``[M, N]``.
        rates: ``[M]`` learning rates, float64.
        group: ``betas``, ``eps`` and ``weight_decay``, as of a group of ``AdamW``.
    """
    (mean_decay, square_decay), decay = group["betas"], group["weight_decay"]
    steps = state.steps + 1.0
    wide, dtype = steps.double(), gradients.dtype
    first = torch.lerp(state.first, gradients, 1.0 - mean_decay)
    second = state.second * square_decay + (1.0 - square_decay) * gradients.square()
    size = (rates / (1.0 - mean_decay**wide)).to(dtype)[:, None]
    root = (1.0 - square_decay**wide).sqrt().to(dtype)[:, None]
    decayed = state.weights * (1.0 - rates * decay).to(dtype)[:, None]
    return State(decayed - size * first / (second.sqrt() / root + group["eps"]), first, second, steps)


def _batched_attention(device: torch.device) -> AbstractContextManager[None]:
    """Use the attention kernel that ``vmap`` can batch: on a CPU it runs the fused one member by member."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _like(chosen: Tensor, part: Tensor) -> Tensor:
    return chosen.view(-1, *(1,) * (part.dim() - 1))
