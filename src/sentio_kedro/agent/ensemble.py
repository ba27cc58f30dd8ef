"""Networks of agents as arrays for the walk: encoders run once per bar, heads inside the compiled step."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.bundle import AgentBundle, same_symbols
from sentio_kedro.agent.network.head_arrays import head_arrays, head_weights, member_quantiles
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.traced import StackedEncoders
from sentio_kedro.config.network import receptive_field
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.records import Floats
from sentio_kedro.trading.simulate import one_thread
from sentio_kedro.trading.step.policies import Heads

ENCODED_ASSET_BARS = 6400  # embedded at once: what lies between two layers then stays in the processor's cache
SHARED = (
    "fold",
    "features",
    "network",
    "trading",
    "gamma",
    "missing",
    "outside_session",
    "regimes",
    "untested",
    "source",
)  # by the agents of one fold


def as_one(agents: Sequence[AgentBundle]) -> AgentBundle:
    """Merge the agents of a fold into one, whose members are those of all agents that do not abstain.

    The one abstains where at least half of the agents do. If a single open gate were enough, more agents would make it
    likelier that chance opens one; if the others voted flat, a few closed gates would break up the positions of the
    rest.

    Raises:
        ValueError: If there is no agent, or they are not of one fold and alike.
    """
    if not agents:
        raise ValueError("`agents` must hold at least one agent, was empty; train one first.")
    first = agents[0].spec
    same_symbols(agents, first.symbols)
    for name in SHARED:
        values = [getattr(agent.spec, name) for agent in agents]
        if any(value != values[0] for value in values):
            raise ValueError(
                f"Agents that decide as one must be of one fold and alike, but their `{name}` differs: "
                f"{[agent.name for agent in agents]}; give those of one training."
            )
    voting = [agent for agent in agents if not agent.spec.abstains]
    abstains = 2 * len(voting) <= len(agents)
    weights = tuple(weights for agent in (agents if abstains else voting) for weights in agent.weights)
    required = max(agent.spec.required_bars for agent in agents)
    spec = replace(first, members=len(weights), abstains=abstains, required_bars=required)
    return AgentBundle(spec, weights, agents[0].rule)


def without_abstention(agent: AgentBundle) -> AgentBundle:
    """Let an agent's networks decide whatever its evidence."""
    return replace(agent, spec=replace(agent.spec, abstains=False))


def with_rule(market: MarketTensors, inputs: Floats, units: Floats) -> MarketTensors:
    """Put a forecast rule's inputs ``[T, A, F]`` and positions ``[T, A]`` in the place of a market's features.

    An asset is tradable where it has a bar and its inputs are known.
    """
    known = torch.from_numpy(np.isfinite(inputs).all(-1))
    present = market.tradable if market.present is None else market.present
    features = torch.from_numpy(np.nan_to_num(inputs))
    return market._replace(features=features, units=torch.from_numpy(units), tradable=present & known)


def project_rows(
    networks: Sequence[PolicyNetwork],
    posteriors: Sequence[Tensor],
    features: Tensor,
    start: int,
    stop: int,
    context: int,
) -> Tensor:
    """Compute the market part of the hidden layer of N networks at rows ``[start, stop)``, once for all accounts.

    Pieces of rows are spread over threads, which wait for each other less than threads inside of one operation.

    Args:
        networks: N networks of equal shape.
        posteriors: ``[T, K]`` of each network's regime model.
        features: ``[T, A, F]``.
        start: First row.
        stop: Row after the last one.
        context: Rows before its own that an embedding depends on.

    Returns:
        ``[stop - start, N, A, hidden]``.
    """
    hidden, workers = networks[0].head.market.out_features, torch.get_num_threads()
    projected = features.new_empty(stop - start, len(networks), features.shape[1], hidden)
    bars = max(context + 1, ENCODED_ASSET_BARS // features.shape[1])

    @torch.inference_mode()  # of this thread; the caller's mode may make `projected` a tensor for inference alone
    def project(piece: tuple[int, int]) -> None:
        low, number = piece
        high, network = min(stop, low + bars), networks[number]
        embedded = network.encoder(features[None, max(0, low - context) : high], high - low)[0]
        projected[low - start : high - start, number] = network.head.project(embedded, posteriors[number][low:high])

    pieces = product(range(start, stop, bars), range(len(networks)))
    with one_thread(), ThreadPoolExecutor(workers) as pool:
        list(pool.map(project, pieces))  # to hear of errors
    return projected


class AgentNetworks:
    """The networks of N agents, rebuilt once for many walks."""

    def __init__(self, bundles: Sequence[AgentBundle], dtype: torch.dtype, *, traced: bool = False) -> None:
        """Rebuild the networks of agents of equal shape; those that abstain stay flat, or at the rule's position.

        Args:
            bundles: N agents.
            dtype: Of their weights.
            traced: Trace the encoders for single rows, which halves their time; the first trace takes a second.
        """
        self.members = [bundle.networks(dtype) for bundle in bundles]
        self.context = receptive_field(bundles[0].spec.network) - 1
        heads = [[network.head for network in networks] for networks in self.members]
        self._head_weights = head_weights(heads, [bundle.spec.fixed_level for bundle in bundles])
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
        flat = [network for networks in self.members for network in networks]
        regimes = [of for networks, of in zip(self.members, posteriors, strict=True) for _ in networks]
        if stop == start + 1:
            embedded = self._embed(features[max(0, start - self.context) : stop])  # [N M, 1, A, D] in one call
            rows = zip(flat, embedded, regimes, strict=True)
            projected = torch.stack([network.head.project(x, of[start:stop]) for network, x, of in rows], dim=1)
        else:
            projected = project_rows(flat, regimes, features, start, stop, self.context)
        of_agents = torch.stack([posterior[start:stop] for posterior in posteriors], dim=1)  # [S, N, K]
        of_members = projected.view(stop - start, len(self.members), -1, *projected.shape[2:])  # [S, N, M, A, hidden]
        return head_arrays(self._head_weights, of_members, of_agents)

    def quantiles(self, heads: Heads, features: Floats) -> Tensor:
        """Each member's quantiles of the discounted reward at the first row ``[..., N, M, A, Q]``, in its units.

        ``features`` are the account features ``[..., N, A, G]``.
        """
        return member_quantiles(self._head_weights, heads, features)
