"""Greedy ensemble policies: each account of a batch follows its own agent, all evaluated in one call."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.network.distributions import masked_log_probabilities
from sentio_kedro.agent.network.encoder import Encoder, receptive_field
from sentio_kedro.agent.network.network import Head, rising
from sentio_kedro.agent.traced import StackedEncoders
from sentio_kedro.config import TradingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import AccountState, Decision
from sentio_kedro.trading.action_masks import HOLD, decode, level_tensor
from sentio_kedro.trading.observations import account_features
from sentio_kedro.trading.position_limits import PositionLimits
from sentio_kedro.trading.simulate import Policy, PolicyTrace

ENCODED_BARS = 4096  # bars embedded at once, so that memory does not grow with the history


@torch.no_grad()
def encode_rows(encoder: Encoder, features: Tensor, start: int, stop: int, context: int) -> Tensor:
    """Embed rows ``[start, stop)`` of features ``[T, A, F]`` piece by piece: ``[stop - start, A, D]``."""
    ranges = [(begin, min(stop, begin + ENCODED_BARS)) for begin in range(start, stop, ENCODED_BARS)]
    return torch.cat([encoder(features[None, max(0, low - context) : high], high - low)[0] for low, high in ranges])


class AgentsPolicy:
    """Account i of ``[..., N]`` follows agent i: the likeliest action under its members' mean legal probabilities.

    The heads of all members of all agents are stacked ``[N, M, ...]``, so that a step costs one head.
    """

    def __init__(
        self,
        heads: Sequence[Sequence[Head]],
        projected: Tensor,
        posterior: Tensor,
        parameters: TradingParameters,
        abstaining: Sequence[bool] = (),
    ) -> None:
        """Stack N agents of M members.

        Args:
            heads: Heads, by agent and member.
            projected: ``[S, ..., N, M, A, hidden]`` from each head's ``project``.
            posterior: ``[S, ..., N, K]`` of each agent's regime model.
            parameters: Actions and limits.
            abstaining: Which of the N agents stay flat; empty is none.
        """
        self.projected, self.posterior, self.parameters = projected, posterior, parameters
        self.levels = level_tensor(parameters, projected)
        flat = [head for agent in heads for head in agent]
        self.actions_, self.experts, self.permitted = flat[0].actions, flat[0].experts, flat[0].permitted
        self.account_weight = _grouped([head.account.weight.T for head in flat], len(heads))  # [N, M, G, H]
        self.policy_weight = _grouped([head.policy.weight.T for head in flat], len(heads))
        self.policy_bias = _grouped([head.policy.bias for head in flat], len(heads))[:, :, None]
        self.critic_weight = _grouped([head.critic.weight.T for head in flat], len(heads))
        self.critic_bias = _grouped([head.critic.bias for head in flat], len(heads))[:, :, None]
        self.flat = 1 + parameters.levels.index(0.0)  # index of the action that closes the position
        out = torch.tensor(list(abstaining), dtype=torch.bool, device=projected.device)[:, None]  # [N, 1]
        self.abstaining = out if out.any() else None

    @property
    def inputs(self) -> PolicyTrace:
        """Projected embeddings and posteriors by step."""
        return self.projected, self.posterior

    def probabilities(
        self, inputs: PolicyTrace, account: AccountState, limits: PositionLimits, legal: Tensor
    ) -> Tensor:
        """Average the members' legal probabilities ``[..., N, A, actions]``."""
        hidden, posterior = self._hidden(inputs, account, limits), inputs[1]
        experts = torch.einsum("...nmah,nmho->...nmao", hidden, self.policy_weight) + self.policy_bias
        if self.experts > 1:
            experts = experts.view(*experts.shape[:-1], self.experts, self.actions_)
            experts = (experts * posterior[..., None, None, :, None]).sum(-2)
        return masked_log_probabilities(experts, self.permitted(legal)[..., None, :, :]).exp().mean(-3)

    def quantiles(self, inputs: PolicyTrace, account: AccountState, limits: PositionLimits) -> Tensor:
        """Return each member's quantiles of the discounted reward ``[..., N, M, A, Q]``, in units of its scale."""
        hidden = self._hidden(inputs, account, limits)
        return rising(torch.einsum("...nmah,nmhq->...nmaq", hidden, self.critic_weight) + self.critic_bias)

    def _hidden(self, inputs: PolicyTrace, account: AccountState, limits: PositionLimits) -> Tensor:
        features = account_features(account, limits, self.parameters)  # [..., N, A, G]
        return F.silu(inputs[0] + torch.einsum("...nag,nmgh->...nmah", features, self.account_weight))

    def at(self, projected: Tensor, posterior: Tensor) -> AgentsPolicy:
        """Return the same agents with other inputs."""
        other = copy.copy(self)
        other.projected, other.posterior = projected, posterior
        return other

    def decide(
        self, inputs: PolicyTrace, account: AccountState, limits: PositionLimits, legal: Tensor
    ) -> tuple[Decision, PolicyTrace]:
        """Take the likeliest action of each asset; the trace is action and mask.

        Accounts of agents that abstain close their positions where they can be traded.
        """
        action = self.probabilities(inputs, account, limits, legal).argmax(-1)
        if self.abstaining is not None:
            close = torch.where(legal[..., self.flat], self.flat, HOLD)  # only an asset that cannot be traded is held
            action = torch.where(self.abstaining, close, action)
        return decode(action, self.levels), (action, legal)


def _grouped(parts: Sequence[Tensor], groups: int) -> Tensor:
    """Stack equal parts and cut the stack into groups ``[groups, parts per group, ...]``."""
    return torch.stack(list(parts)).view(groups, -1, *parts[0].shape)


class AgentNetworks:
    """The networks of N agents, rebuilt once for many policies."""

    def __init__(self, bundles: Sequence[AgentBundle], dtype: torch.dtype, *, traced: bool = False) -> None:
        """Rebuild the networks of agents of equal shape; those that abstain stay flat.

        Args:
            bundles: N agents.
            dtype: Of their weights.
            traced: Trace the encoders for single rows, which halves their time; the first trace takes a second.
        """
        self.members = [bundle.networks(dtype) for bundle in bundles]
        self.context = receptive_field(bundles[0].spec.network) - 1
        heads = [[network.head for network in networks] for networks in self.members]
        abstaining = [bundle.spec.abstains for bundle in bundles]
        flat = [network.encoder for networks in self.members for network in networks]
        stacked = StackedEncoders(flat, bundles[0].shape())
        self._embed = stacked.traced() if traced else stacked.embed
        empty = torch.zeros(0, dtype=dtype)
        self._policy = AgentsPolicy(heads, empty, empty, bundles[0].spec.trading, abstaining)

    def policy(self, features: Tensor, posteriors: Sequence[Tensor], start: int, stop: int) -> AgentsPolicy:
        """Return the policy at rows ``[start, stop)``, one account for each agent; step 0 is row ``start``.

        Args:
            features: ``[T, A, F]`` the agents' features.
            posteriors: ``[T, K]`` of each agent's regime model.
            start: First decision row.
            stop: Row after the last decision.
        """
        projected = []
        if stop == start + 1:
            encoded = iter(self._embed(features[max(0, start - self.context) : stop]))  # [N M, 1, A, D] in one call
        else:
            flat = (network.encoder for networks in self.members for network in networks)
            encoded = (encode_rows(encoder, features, start, stop, self.context) for encoder in flat)
        for networks, posterior in zip(self.members, posteriors, strict=True):
            rows = posterior[start:stop]
            embedded = [next(encoded) for _ in networks]
            members = [network.head.project(x, rows) for network, x in zip(networks, embedded, strict=True)]
            projected.append(torch.stack(members, dim=1))  # [S, M, A, hidden]
        of_agents = torch.stack([posterior[start:stop] for posterior in posteriors], dim=1)  # [S, N, K]
        return self._policy.at(torch.stack(projected, dim=1), of_agents)


def agents_policy(
    bundles: Sequence[AgentBundle], market: MarketTensors, posteriors: Sequence[Tensor], start: int, stop: int
) -> AgentsPolicy:
    """Return ``AgentNetworks.policy`` of agents of equal shape on the features of ``market``."""
    return AgentNetworks(bundles, market.close.dtype).policy(market.features, posteriors, start, stop)


class BatchedPolicies:
    """Gives consecutive accounts of a batch ``[..., N]`` to policies; the trace is that of the first policy."""

    def __init__(
        self, policies: Sequence[tuple[Policy, int]], close: Tensor | None = None, rest: Tensor | None = None
    ) -> None:
        """Take policies with their numbers of accounts.

        Args:
            policies: Policies and how many accounts each has.
            close: ``[S, ..., N]`` or ``[S, 1]`` bool, where accounts close all positions; None is nowhere.
            rest: Likewise, where accounts send no order; it overrides ``close``.
        """
        self.policies, self.close, self.rest = policies, close, rest
        self.counts = [len(policy.inputs) for policy, _ in policies]

    @property
    def inputs(self) -> PolicyTrace:
        """Inputs of all policies, then ``close`` and ``rest``."""
        inputs = tuple(x for policy, _ in self.policies for x in policy.inputs)
        return (*inputs, *(x for x in (self.close, self.rest) if x is not None))

    def decide(
        self, inputs: PolicyTrace, account: AccountState, limits: PositionLimits, legal: Tensor
    ) -> tuple[Decision, PolicyTrace]:
        """Decide for the accounts of each policy."""
        decisions, traces, first, taken = [], [], 0, 0
        axis = account.equity.dim() - 1
        for (policy, count), size in zip(self.policies, self.counts, strict=True):
            accounts = AccountState._make(_part(x, axis, first, count) for x in account)
            own_limits = PositionLimits._make(
                _part(x, axis, first, count) if isinstance(x, Tensor) else x for x in limits
            )
            mask = _part(legal, axis, first, count)
            decision, trace = policy.decide(inputs[taken : taken + size], accounts, own_limits, mask)
            decisions.append(decision)
            traces.append(trace)
            first, taken = first + count, taken + size
        batch = Decision(*(torch.cat(parts, dim=axis) for parts in zip(*decisions, strict=True)))
        if self.close is not None:
            flat = inputs[taken][..., None]
            batch = Decision(torch.where(flat, 0.0, batch.level), batch.hold & ~flat)
        if self.rest is not None:
            batch = Decision(batch.level, batch.hold | inputs[-1][..., None])
        return batch, traces[0]


def _part(batch: Tensor, axis: int, first: int, count: int) -> Tensor:
    """Return accounts ``[first, first + count)`` along ``axis``; a value shared by all stays."""
    same = batch.dim() <= axis or batch.shape[axis] == 1
    return batch if same else batch.narrow(axis, first, count)
