"""Networks whose branches speak, for tests of what only trained networks show."""

import torch

from sentio_kedro.agent.network.network import PolicyNetwork


@torch.no_grad()
def awaken(network: PolicyNetwork, seed: int = 0) -> PolicyNetwork:
    """Give the branches of each layer, which add nothing at first, the random weights of other linear maps."""
    draws = torch.Generator().manual_seed(seed)
    for layer in network.encoder.layers:
        branches = [branch for branch in (layer.time, layer.asset) if branch is not None]
        for end in (layer.mix[2], *(branch.output for branch in branches)):
            bound = end.in_features**-0.5
            for weight in end.parameters():
                weight.uniform_(-bound, bound, generator=draws)
    return network
