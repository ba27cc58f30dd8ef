"""Attention across assets: whom an asset may attend to, and nobody."""

import pytest
import torch
from torch import Tensor

from sentio_kedro.agent.network.attention import AssetAttention
from sentio_kedro.agent.network.encoder import Encoder, NetworkShape
from sentio_kedro.agent.network.network import build_network
from sentio_kedro.config import NetworkParameters

DOUBLE = torch.float64
WIDTH, ASSETS = 8, 3


def attention(assets: int | None = ASSETS) -> AssetAttention:
    torch.manual_seed(0)
    return AssetAttention(WIDTH, 2, assets).to(DOUBLE)


def market() -> torch.Tensor:
    return torch.randn(5, ASSETS, WIDTH, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)


def test_whom_an_asset_may_not_attend_to_does_not_move_it() -> None:
    layer = attention()
    layer.set_asset_mask(torch.tensor([[False, False, True], [False, True, False], [True, True, True]]), first=True)
    before, moved = market(), market()
    moved[:, 1] += 1.0
    change = (layer(moved) - layer(before)).abs().amax(dim=(0, 2))
    assert change[0] == 0.0  # it attends to the third alone
    assert change[1] > 1e-3
    assert change[2] > 1e-3


def test_an_asset_that_attends_to_nobody_gets_a_constant_without_a_gradient_of_others() -> None:
    layer = attention()
    layer.set_asset_mask(torch.zeros(ASSETS, ASSETS, dtype=torch.bool), first=True)
    attended = layer(market())
    torch.testing.assert_close(attended, layer.output.bias.expand_as(attended))


def test_a_large_bias_lets_an_asset_attend_to_one_other_alone() -> None:
    layer = attention()
    with torch.no_grad():
        assert layer.bias is not None
        layer.bias[:, 0, 2] = 50.0
    x = market()
    value = layer.input(x)[..., 2 * WIDTH :]
    torch.testing.assert_close(layer(x)[:, 0], layer.output(value[:, 2]))


def test_without_identities_assets_are_exchangeable() -> None:
    layer, order = attention(None), [2, 0, 1]
    layer.set_asset_mask(
        torch.zeros(ASSETS, ASSETS, dtype=torch.bool), first=True
    )  # nobody is known apart, so nobody is left out
    torch.testing.assert_close(layer(market()[:, order]), layer(market())[:, order])


def select_all(encoder: Encoder, pairs: Tensor) -> None:
    every = torch.ones(2, dtype=torch.bool)
    encoder.set_feature_mask(every, ~every, torch.zeros(2, 2, dtype=torch.bool), every[:1], pairs)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_encoder_of_either_precision_keeps_who_attends_to_whom(precision: str) -> None:
    parameters = NetworkParameters(
        width=8, layers=1, heads=2, window=4, convolution=1, hidden=8, asset_identity=True, precision=precision
    )
    encoder = build_network(parameters, NetworkShape(2, 2, 1, 4), torch.Generator().manual_seed(0)).encoder
    with torch.no_grad():
        for weight in encoder.layers[0].asset.output.parameters():
            weight.fill_(0.3)  # the branch starts silent
    select_all(encoder, torch.eye(2, dtype=torch.bool))
    features = torch.randn(1, 6, 2, 2, generator=torch.Generator().manual_seed(2))
    moved = features.clone()
    moved[:, :, 1] += 1.0
    before, after = encoder(features, 3), encoder(moved, 3)
    assert torch.equal(before[:, :, 0], after[:, :, 0])
    assert not torch.equal(before[:, :, 1], after[:, :, 1])


def test_an_asset_that_needs_none_of_its_own_columns_drops_them_and_others_still_attend_to_it() -> None:
    parameters = NetworkParameters(width=8, layers=2, heads=2, window=4, convolution=1, hidden=8, asset_identity=True)
    encoder = build_network(parameters, NetworkShape(2, 2, 1, 4), torch.Generator().manual_seed(0)).encoder
    with torch.no_grad():
        for layer in encoder.layers:
            for weight in layer.asset.output.parameters():
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))
    follows = torch.tensor([[False, False], [True, False]])
    select_all(encoder, follows)
    features = torch.randn(1, 8, 2, 2, generator=torch.Generator().manual_seed(2))
    for asset in (0, 1):
        moved = features.clone()
        moved[:, :, asset] += 1.0
        before, after = encoder(features, 2), encoder(moved, 2)
        assert torch.equal(before[:, :, 0], after[:, :, 0])
        assert torch.equal(before[:, :, 1], after[:, :, 1]) == (asset == 1)
