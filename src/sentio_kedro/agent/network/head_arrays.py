"""Heads of networks as arrays for the compiled decision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.network.network import Head, PolicyNetwork
from sentio_kedro.trading.policies import ACCOUNT_FEATURES, LANES, Heads
from sentio_kedro.trading.records import Floats


@torch.no_grad()
def head_arrays(
    heads: Sequence[Sequence[Head]], projected: Tensor, posterior: Tensor, abstains: Sequence[bool] = ()
) -> Heads:
    """Stack the heads of N agents of M members.

    Args:
        heads: Heads, by agent and member.
        projected: ``[rows, N, M, A, hidden]`` from each head's ``project``.
        posterior: ``[rows, N, K]`` of each agent's regime model.
        abstains: Which of the N agents stay flat; empty is none.
    """
    flat, agents = [head for agent in heads for head in agent], len(heads)
    first, members = flat[0], len(flat) // len(heads)
    weight = _stacked([head.policy.weight for head in flat], (agents, members, first.experts, first.actions, -1))
    bias = _stacked([head.policy.bias for head in flat], (agents, members, first.experts, first.actions))
    shares = _array(posterior) if first.experts > 1 else np.ones((1, agents, 1))  # [rows, N, experts]
    mixed = np.einsum("rne,nmebh->rnmhb", shares, weight)
    return Heads(
        projected=_array(projected),
        account_weight=_stacked([head.account.weight.T for head in flat], (agents, members, ACCOUNT_FEATURES, -1)),
        policy_weight=np.ascontiguousarray(np.pad(mixed, [(0, 0)] * 4 + [(0, -mixed.shape[-1] % LANES)])),
        policy_bias=np.einsum("rne,nmeb->rnmb", shares, bias),
        abstains=np.array(list(abstains) or [False] * agents),
        masked=np.array([first.masked]),
    )


def _stacked(parts: Sequence[Tensor], shape: tuple[int, ...]) -> Floats:
    return _array(torch.stack(list(parts))).reshape(shape)


def _array(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.detach().cpu().double().numpy())


@torch.no_grad()
def network_heads(networks: Sequence[PolicyNetwork], embeddings: Sequence[Tensor], posterior: Tensor) -> Heads:
    """Arrays of one agent whose members embed rows as ``[rows, A, D]`` each; ``posterior`` is ``[rows, K]``."""
    projected = [network.head.project(x, posterior) for network, x in zip(networks, embeddings, strict=True)]
    return head_arrays([[n.head for n in networks]], torch.stack(projected, dim=1)[:, None], posterior[:, None])
