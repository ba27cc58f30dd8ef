"""Networks of agents as arrays for the walk: encoders run once per bar, heads inside the compiled step."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.network.encoder import Encoder, receptive_field
from sentio_kedro.agent.network.head_arrays import head_arrays
from sentio_kedro.agent.traced import StackedEncoders
from sentio_kedro.trading.policies import Heads
from sentio_kedro.trading.records import Floats
from sentio_kedro.trading.simulate import one_thread

ENCODED_BARS = 4096  # bars embedded at once, so that memory does not grow with the history


@torch.no_grad()
def encode_rows(encoder: Encoder, features: Tensor, start: int, stop: int, context: int) -> Tensor:
    """Embed rows ``[start, stop)`` of features ``[T, A, F]`` piece by piece: ``[stop - start, A, D]``."""
    ranges = [(begin, min(stop, begin + ENCODED_BARS)) for begin in range(start, stop, ENCODED_BARS)]
    return torch.cat([encoder(features[None, max(0, low - context) : high], high - low)[0] for low, high in ranges])


def encode_members(encoders: Sequence[Encoder], features: Tensor, start: int, stop: int, context: int) -> list[Tensor]:
    """``encode_rows`` of each encoder, encoders side by side: threads inside of one wait for each other too often."""
    workers = torch.get_num_threads()
    with one_thread(), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda encoder: encode_rows(encoder, features, start, stop, context), encoders))


class AgentNetworks:
    """The networks of N agents, rebuilt once for many walks."""

    def __init__(self, bundles: Sequence[AgentBundle], dtype: torch.dtype, *, traced: bool = False) -> None:
        """Rebuild the networks of agents of equal shape; those that abstain stay flat.

        Args:
            bundles: N agents.
            dtype: Of their weights.
            traced: Trace the encoders for single rows, which halves their time; the first trace takes a second.
        """
        self.members = [bundle.networks(dtype) for bundle in bundles]
        self.context = receptive_field(bundles[0].spec.network) - 1
        self.abstains = [bundle.spec.abstains for bundle in bundles]
        flat = [network.encoder for networks in self.members for network in networks]
        stacked = StackedEncoders(flat, bundles[0].shape())
        self._embed = stacked.traced() if traced else stacked.embed

    @torch.no_grad()
    def heads(self, features: Tensor, posteriors: Sequence[Tensor], start: int, stop: int) -> Heads:
        """Return the arrays of the agents at rows ``[start, stop)``.

        Args:
            features: ``[T, A, F]`` the agents' features.
            posteriors: ``[T, K]`` of each agent's regime model.
            start: First decision row.
            stop: Row after the last decision.
        """
        if stop == start + 1:
            encoded = iter(self._embed(features[max(0, start - self.context) : stop]))  # [N M, 1, A, D] in one call
        else:
            flat = [network.encoder for networks in self.members for network in networks]
            encoded = iter(encode_members(flat, features, start, stop, self.context))
        projected = []
        for networks, posterior in zip(self.members, posteriors, strict=True):
            rows = posterior[start:stop]
            embedded = [next(encoded) for _ in networks]
            members = [network.head.project(x, rows) for network, x in zip(networks, embedded, strict=True)]
            projected.append(torch.stack(members, dim=1))  # [S, M, A, hidden]
        of_agents = torch.stack([posterior[start:stop] for posterior in posteriors], dim=1)  # [S, N, K]
        heads = [[network.head for network in networks] for networks in self.members]
        return head_arrays(heads, torch.stack(projected, dim=1), of_agents, self.abstains)

    @torch.no_grad()
    def quantiles(self, heads: Heads, features: Floats) -> Tensor:
        """Each member's quantiles of the discounted reward at the first row ``[..., N, M, A, Q]``, in its units.

        ``features`` are the account features ``[..., N, A, G]``.
        """
        agents = []
        for agent, networks in enumerate(self.members):
            of_agent = torch.from_numpy(np.ascontiguousarray(features[..., agent, :, :]))
            members = []
            for member, network in enumerate(networks):
                projected = torch.from_numpy(heads.projected[0, agent, member])
                members.append(network.head.quantiles(network.head.hidden(projected, of_agent)))
            agents.append(torch.stack(members, dim=-3))
        return torch.stack(agents, dim=-4)
