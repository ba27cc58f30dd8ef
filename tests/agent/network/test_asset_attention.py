"""Attention across assets: identities, and attending to none."""

import torch

from sentio_kedro.agent.network.attention import AssetAttention

DOUBLE = torch.float64
WIDTH, ASSETS = 8, 3


def attention(assets: int | None = ASSETS) -> AssetAttention:
    torch.manual_seed(0)
    return AssetAttention(WIDTH, 2, assets).to(DOUBLE)


def market() -> torch.Tensor:
    return torch.randn(5, ASSETS, WIDTH, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)


def test_a_large_bias_lets_an_asset_attend_to_one_other_alone() -> None:
    layer = attention()
    with torch.no_grad():
        assert layer.bias is not None
        layer.bias[:, 0, 2] = 50.0
    x = market()
    value = layer.input(x)[..., 2 * WIDTH :]
    torch.testing.assert_close(layer(x)[:, 0], layer.output(value[:, 2]))


def test_an_asset_that_attends_to_none_gets_a_constant() -> None:
    layer = attention()
    with torch.no_grad():
        assert layer.bias is not None
        layer.bias[..., :ASSETS] = float("-inf")
    attended = layer(market())
    torch.testing.assert_close(attended, layer.output.bias.expand_as(attended))


def test_without_identities_assets_are_exchangeable() -> None:
    layer, order = attention(None), [2, 0, 1]
    torch.testing.assert_close(layer(market()[:, order]), layer(market())[:, order])
