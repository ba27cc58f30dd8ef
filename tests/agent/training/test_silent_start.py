"""Branches of a new encoder add nothing: what they add is learnt, and learning begins with their last map."""

import pytest
import torch

from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import PolicyNetwork, build_network
from sentio_kedro.config import NetworkParameters

DOUBLE = torch.float64
TAPS = 3
SIZES = {"width": 8, "layers": 2, "heads": 2, "window": 4, "convolution": TAPS, "hidden": 8, "quantiles": 5}
every_encoder = pytest.mark.parametrize("parts", [{}, {"asset_identity": True}, {"encoder": "mlp"}], ids=str)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def untrained(parts: dict[str, object]) -> PolicyNetwork:
    """A new network of two assets, three features, two regimes and four actions."""
    parameters = NetworkParameters(**(SIZES | parts))  # type: ignore[arg-type]
    return build_network(parameters, NetworkShape(3, 2, 2, 4), torch.Generator().manual_seed(0)).to(DOUBLE)


def without_gradient(network: PolicyNetwork) -> set[str]:
    """Names of the weights that neither policy nor critic would move."""
    network.zero_grad()
    posterior = normal(1, 6, 2).softmax(-1)
    projected = network.head.project(network.encoder(normal(1, 12, 2, 3), 6), posterior)
    hidden = network.head.hidden(projected, normal(6, 2, 4))
    (network.head.logits(hidden, posterior).square().sum() + network.head.quantiles(hidden).square().sum()).backward()
    return {name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()}


def branch_ends(network: PolicyNetwork) -> set[str]:
    """Names of the weights by which a branch adds to what passes the layer."""
    ends = ("time.output", "asset.output", "mix.2")
    names = [name for name, _ in network.named_parameters() if name.startswith("encoder.layers.")]
    return {name for name in names if any(f".{end}." in name for end in ends)}


@torch.no_grad()
@every_encoder
def test_a_new_embedding_depends_on_the_bars_of_the_convolution_alone(parts: dict[str, object]) -> None:
    encoder = untrained(parts).encoder
    reach = 1 if parts.get("encoder") == "mlp" else TAPS
    features = normal(1, 20, 2, 3)
    before = encoder(features, 20)[:, 12]
    for bar in range(20):
        other = features.clone()
        other[:, bar] += 3.0
        assert torch.equal(encoder(other, 20)[:, 12], before) != (12 - reach < bar <= 12), bar


@torch.no_grad()
@every_encoder
def test_a_new_embedding_depends_on_no_other_asset(parts: dict[str, object]) -> None:
    encoder = untrained(parts).encoder
    features = normal(1, 12, 2, 3)
    other = features.clone()
    other[:, :, 1] = normal(12, 3, seed=1)
    before, after = encoder(features, 12), encoder(other, 12)
    assert torch.equal(before[:, :, 0], after[:, :, 0])
    assert not torch.isclose(before[:, :, 1], after[:, :, 1]).any()


@torch.no_grad()
@every_encoder
def test_a_new_layer_changes_nothing(parts: dict[str, object]) -> None:
    for layer in untrained(parts).encoder.layers:
        x = normal(2, 2, 9, 8)
        assert torch.equal(layer(x, 5), x[:, :, -5:])


@every_encoder
def test_branches_begin_to_learn_with_their_last_map_and_the_rest_follows(parts: dict[str, object]) -> None:
    network = untrained(parts)
    ends = branch_ends(network)
    assert len(ends) == 4 * (1 if parts.get("encoder") == "mlp" else 3)  # weight and bias, in two layers
    assert without_gradient(network) == {
        name for name, _ in network.named_parameters() if name.startswith("encoder.layers.") and name not in ends
    }
    torch.optim.Adam(network.parameters(), lr=1e-2).step()
    weights = dict(network.named_parameters())
    assert all((weights[name].abs() > 1e-4).all() for name in ends)  # all were 0 before
    assert without_gradient(network) == set()
