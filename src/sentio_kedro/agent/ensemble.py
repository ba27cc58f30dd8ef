"""Agents side by side: each account of a batch follows its own agent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.networks import Encoder, receptive_field
from sentio_kedro.agent.rollout import EnsemblePolicy
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.execution import AccountState, Decision
from sentio_kedro.trading.simulate import Policy

ENCODED_BARS = 4096  # bars embedded at once, so that memory does not grow with the history


@torch.no_grad()
def encode_rows(encoder: Encoder, features: Tensor, start: int, stop: int, context: int) -> Tensor:
    """Embed rows ``[start, stop)`` of features ``[T, A, F]`` piece by piece: ``[stop - start, A, D]``."""
    pieces = []
    for begin in range(start, stop, ENCODED_BARS):
        end = min(stop, begin + ENCODED_BARS)
        pieces.append(encoder(features[None, max(0, begin - context) : end], end - begin)[0])
    return torch.cat(pieces)


def agent_policy(
    bundle: AgentBundle, market: MarketTensors, posterior: Tensor, start: int, stop: int
) -> EnsemblePolicy:
    """Prepare an agent to decide at rows ``[start, stop)`` for accounts ``[1]``.

    Args:
        bundle: The agent.
        market: Bars and the agent's features.
        posterior: ``[T, K]`` of the agent's regime model.
        start: First decision row.
        stop: Row after the last decision.

    Returns:
        The policy; step 0 is row ``start``.
    """
    networks = bundle.networks(market.close.dtype)
    context = receptive_field(bundle.spec.network) - 1
    regimes = posterior[start:stop, None]  # [S, 1, K]
    projected = [
        network.head.project(encode_rows(network.encoder, market.features, start, stop, context)[:, None], regimes)
        for network in networks
    ]
    return EnsemblePolicy([network.head for network in networks], projected, regimes, bundle.spec.trading)


class SideBySide:
    """Gives account i of a batch ``[N]`` to policy i."""

    def __init__(self, policies: Sequence[Policy], last_step: int | None = None) -> None:
        """Take one policy per account; at ``last_step`` all accounts leave their positions."""
        self.policies, self.last_step = policies, last_step

    def __call__(self, step: int, account: AccountState, close: Tensor, legal: Tensor) -> Decision:
        """Ask each policy for its account's decision."""
        if step == self.last_step:
            return Decision(torch.zeros_like(account.shares), torch.zeros_like(account.shares, dtype=torch.bool))
        decisions = [
            policy(step, AccountState(*(part[index : index + 1] for part in account)), close, legal[index : index + 1])
            for index, policy in enumerate(self.policies)
        ]
        return Decision(*(torch.cat(parts) for parts in zip(*decisions, strict=True)))
