"""Heads of networks as arrays for the compiled decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sentio_kedro.agent.network.network import Head, rising
from sentio_kedro.trading.records import Floats, Mask
from sentio_kedro.trading.step.policies import ACCOUNT_FEATURES, LANES, Heads


class HeadWeights(NamedTuple):
    """What the heads of N agents of M members hold, stacked once for many decisions.

    Attributes:
        account: ``[N, M, G, H]``.
        policy: ``[N, M, experts, B, H]``.
        policy_bias: ``[N, M, experts, B]``.
        critic: ``[N, M, H, Q]``.
        critic_bias: ``[N, M, 1, Q]``.
        fixed_level: ``[N]`` level that an agent takes whatever its network says; NaN lets the network decide.
        masked: ``[1]``.
    """

    account: Floats
    policy: Floats
    policy_bias: Floats
    critic: Tensor
    critic_bias: Tensor
    fixed_level: Floats
    masked: Mask


@torch.no_grad()
def head_weights(heads: Sequence[Sequence[Head]], fixed_level: Sequence[float] = ()) -> HeadWeights:
    """Stack the heads of N agents of M members.

    Args:
        heads: Heads, by agent and member.
        fixed_level: Level of each of the N agents, NaN for its network's choice; empty is that for all.
    """
    flat, agents = [head for agent in heads for head in agent], len(heads)
    first, leading = flat[0], (agents, len(flat) // len(heads))
    critic = torch.stack([head.critic.weight.T.cpu().double() for head in flat])
    bias = torch.stack([head.critic.bias.cpu().double() for head in flat])
    return HeadWeights(
        account=_stacked([head.account.weight.T for head in flat], (*leading, ACCOUNT_FEATURES, -1)),
        policy=_stacked([head.policy.weight for head in flat], (*leading, first.experts, first.actions, -1)),
        policy_bias=_stacked([head.policy.bias for head in flat], (*leading, first.experts, first.actions)),
        critic=critic.reshape(*leading, *critic.shape[1:]),
        critic_bias=bias.reshape(*leading, 1, -1),
        fixed_level=np.array(list(fixed_level) or [np.nan] * agents),
        masked=np.array([first.masked]),
    )


@torch.no_grad()
def head_arrays(weights: HeadWeights, projected: Tensor, posterior: Tensor, *, on_gpu: bool = False) -> Heads:
    """Return the arrays of N agents of M members at some rows.

    Args:
        weights: Their heads.
        projected: ``[rows, N, M, A, hidden]`` from each head's ``project``.
        posterior: ``[rows, N, K]`` of each agent's regime model.
        on_gpu: Leave ``projected`` a tensor where it is, for accounts that walk there.
    """
    agents, _, experts = weights.policy.shape[:3]
    shares = _array(posterior) if experts > 1 else np.ones((1, agents, 1))  # [rows, N, experts]
    mixed = np.einsum("rne,nmebh->rnmhb", shares, weights.policy)
    return Heads(
        projected=projected.double() if on_gpu else _array(projected),  # type: ignore[arg-type]
        account_weight=weights.account,
        policy_weight=np.ascontiguousarray(np.pad(mixed, [(0, 0)] * 4 + [(0, -mixed.shape[-1] % LANES)])),
        policy_bias=np.einsum("rne,nmeb->rnmb", shares, weights.policy_bias),
        fixed_level=weights.fixed_level,
        masked=weights.masked,
    )


@torch.no_grad()
def member_quantiles(weights: HeadWeights, heads: Heads, features: Floats) -> Tensor:
    """Return each member's quantiles of the discounted reward at the first row ``[..., N, M, A, Q]``, in its units.

    Args:
        weights: Heads of N agents of M members.
        heads: Their arrays.
        features: Account features ``[..., N, A, G]``.
    """
    weight, projected = torch.from_numpy(heads.account_weight), torch.from_numpy(heads.projected[0])
    accounts = torch.einsum("...nag,nmgh->...nmah", torch.from_numpy(np.ascontiguousarray(features)), weight)
    hidden = F.silu(projected + accounts)
    return rising(torch.einsum("...nmah,nmhq->...nmaq", hidden, weights.critic) + weights.critic_bias)


def _stacked(parts: Sequence[Tensor], shape: tuple[int, ...]) -> Floats:
    return _array(torch.stack(list(parts))).reshape(shape)


def _array(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.detach().cpu().double().numpy())
