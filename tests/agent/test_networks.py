"""The network: it never sees the future, it forgets what is old, and its parts do what their names say."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.agent.networks import (
    SCALED_LIMIT,
    NetworkShape,
    PolicyNetwork,
    WindowAttention,
    build_network,
    receptive_field,
    rising,
)
from sentio_kedro.config import NetworkParameters

DOUBLE = torch.float64
SIZES = NetworkParameters(width=8, layers=2, heads=2, window=4, convolution=3, hidden=8, quantiles=5)
FIELD = receptive_field(SIZES)
Build = Callable[..., PolicyNetwork]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def slow_attention(layer: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """Each query of each head by itself, over the bars that it may see, turned by its absolute position."""
    length, width = x.shape
    size = width // layer.heads
    query, (key, value) = layer.query(x), layer.key_value(x).chunk(2, dim=-1)

    def turned(vector: torch.Tensor, position: int) -> torch.Tensor:
        result = vector.clone()
        for pair in range(size // 2):
            angle = position * 100.0 ** (-2 * pair / size)
            a, b = vector[pair], vector[pair + size // 2]
            result[pair] = a * math.cos(angle) - b * math.sin(angle)
            result[pair + size // 2] = a * math.sin(angle) + b * math.cos(angle)
        return result

    rows = []
    for t in range(length):
        heads = []
        for head in range(layer.heads):
            part = slice(head * size, (head + 1) * size)
            seen = range(max(0, t - layer.window + 1), t + 1)
            scores = [turned(query[t, part], t) @ turned(key[s, part], s) / math.sqrt(size) for s in seen]
            weights = torch.stack(scores).softmax(0)
            heads.append(sum(weight * value[s, part] for weight, s in zip(weights, seen, strict=True)))
        rows.append(torch.cat(heads))
    return layer.output(torch.stack(rows))


@torch.no_grad()
@given(st.integers(1, 14), st.integers(2, 6), st.data())
@settings(max_examples=12, deadline=None)
def test_attention_in_blocks_equals_a_slow_twin(length: int, window: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, length))
    torch.manual_seed(length)
    layer = WindowAttention(8, 2, window).to(DOUBLE)
    layer.rotary.frequency = 100.0 ** (-torch.arange(0, 4, 2, dtype=DOUBLE) / 4)
    x = normal(2, length, 8, seed=window)
    found = layer(x, keep)
    for batch in range(2):
        torch.testing.assert_close(found[batch], slow_attention(layer, x[batch])[-keep:], rtol=1e-9, atol=1e-10)


@torch.no_grad()
@given(st.integers(0, 19), st.integers(0, 1))
@settings(max_examples=25, deadline=None)
def test_changing_a_later_bar_leaves_every_earlier_embedding_unchanged(lively: Build, changed: int, asset: int) -> None:
    encoder = lively().encoder
    features = normal(1, 20, 2, 3)
    other = features.clone()
    other[:, changed, asset] += 3.0
    before, after = encoder(features, 20), encoder(other, 20)
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert not torch.allclose(before[:, changed], after[:, changed])


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 2])
def test_an_embedding_depends_on_its_receptive_field_and_on_nothing_older(lively: Build, layers: int) -> None:
    encoder = lively(layers=layers).encoder
    field = layers * 3 + 3  # L (W - 1) + k
    assert receptive_field(encoder.parameters_) == field
    features = normal(1, 25, 2, 3)
    oldest = features.clone()
    oldest[:, 24 - field + 1] += 3.0
    older = features.clone()
    older[:, : 24 - field + 1] += 3.0
    before = encoder(features, 25)[:, -1]
    assert torch.equal(before, encoder(older, 25)[:, -1])
    assert not torch.equal(before, encoder(oldest, 25)[:, -1])


@torch.no_grad()
@given(st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_chunks_with_context_agree_with_the_whole(lively: Build, first: int, keep: int) -> None:
    encoder = lively().encoder
    features = normal(1, 60, 2, 3)
    whole = encoder(features, 60)
    stop = min(60, FIELD - 1 + first + keep)
    start = stop - keep
    chunk = encoder(features[:, max(0, start - FIELD + 1) : stop], keep)
    torch.testing.assert_close(chunk, whole[:, start:stop], rtol=0, atol=1e-5)


@torch.no_grad()
def test_windows_of_a_batch_do_not_meet(lively: Build) -> None:
    encoder = lively().encoder
    features = normal(3, 12, 2, 3)
    torch.testing.assert_close(encoder(features, 5)[1:2], encoder(features[1:2], 5), rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 5])
def test_an_attention_window_longer_than_the_sequence_works(lively: Build, length: int) -> None:
    features = normal(1, 30, 2, 3)
    encoder = lively(window=16).encoder
    found = encoder(features[:, :length], length)
    assert found.shape == (1, length, 2, 8)
    torch.testing.assert_close(found, encoder(features, 30)[:, :length], rtol=0, atol=1e-6)


@torch.no_grad()
def test_how_long_ago_a_bar_was_matters_to_attention() -> None:
    torch.manual_seed(0)
    layer = WindowAttention(8, 2, 6).to(DOUBLE)
    x = normal(1, 6, 8)
    swapped = x[:, [0, 3, 2, 1, 4, 5]]
    assert (layer(x, 1) - layer(swapped, 1)).abs().max() > 1e-3
    later = torch.cat([normal(1, 1, 8, seed=5), x], dim=1)  # one bar later, the same lags
    torch.testing.assert_close(layer(later, 1), layer(x, 1), rtol=0, atol=1e-6)


@torch.no_grad()
def test_an_asset_hears_of_the_others_at_the_same_bar_and_not_before(lively: Build) -> None:
    encoder = lively().encoder
    features = normal(1, 15, 2, 3)
    other = features.clone()
    other[:, 9, 1] += 2.0
    before, after = encoder(features, 15)[:, :, 0], encoder(other, 15)[:, :, 0]
    assert torch.equal(before[:, :9], after[:, :9])
    assert (before[:, 9] - after[:, 9]).abs().max() > 1e-4


@torch.no_grad()
def test_the_order_of_the_assets_only_orders_the_embeddings(lively: Build) -> None:
    encoder = lively(assets=3).encoder
    features = normal(1, 12, 3, 3)
    torch.testing.assert_close(encoder(features[:, :, [2, 0, 1]], 6), encoder(features, 6)[:, :, [2, 0, 1]])


@torch.no_grad()
def test_features_are_scaled_by_the_frozen_scaler_and_clipped(lively: Build) -> None:
    plain, scaled = lively().encoder, lively().encoder
    mean, deviation = torch.tensor([1.0, -2.0, 0.0]), torch.tensor([2.0, 0.5, 1.0])
    scaled.set_scaler(mean, deviation)
    features = normal(1, 12, 2, 3)
    torch.testing.assert_close(scaled(features * deviation + mean, 12), plain(features, 12))
    features[0, 4, 1, 2] = SCALED_LIMIT
    wild = features.clone()
    wild[0, 4, 1, 2] = 1e9
    assert torch.equal(plain(features, 12), plain(wild, 12))


@given(st.integers(2, 12), st.integers(0, 1000), st.sampled_from([0.1, 5.0, 100.0]))
@settings(max_examples=30, deadline=None)
def test_quantiles_never_cross_and_their_mean_is_the_first_output(count: int, seed: int, scale: float) -> None:
    raw = scale * normal(4, count, seed=seed)
    found = rising(raw)
    assert (found.diff(dim=-1) >= 0.0).all()
    torch.testing.assert_close(found.mean(-1), raw[:, 0])


@torch.no_grad()
def test_the_value_is_the_mean_of_the_quantiles(lively: Build) -> None:
    head = lively().head
    hidden = normal(4, 2, 8)
    assert head.quantiles(hidden).std(dim=(0, 1)).min() > 0.1
    torch.testing.assert_close(head.value(hidden), head.quantiles(hidden).mean(-1))


@torch.no_grad()
@pytest.mark.parametrize("state", [0, 1, 2])
def test_a_certain_regime_picks_its_expert(lively: Build, state: int) -> None:
    head = lively(regimes=3).head
    hidden = normal(5, 2, 8)
    certain = torch.eye(3, dtype=DOUBLE)[state].expand(5, 3)
    rows = slice(state * 4, (state + 1) * 4)
    expert = hidden @ head.policy.weight[rows].T + head.policy.bias[rows]
    torch.testing.assert_close(head.logits(hidden, certain), expert)


@torch.no_grad()
def test_an_uncertain_regime_mixes_the_experts_by_probability(lively: Build) -> None:
    head = lively(regimes=2).head
    hidden = normal(5, 2, 8)
    first, second = (head.logits(hidden, row.expand(5, 2)) for row in torch.eye(2, dtype=DOUBLE))
    mixed = head.logits(hidden, torch.tensor([0.3, 0.7], dtype=DOUBLE).expand(5, 2))
    torch.testing.assert_close(mixed, 0.3 * first + 0.7 * second)


@torch.no_grad()
def test_account_and_regime_both_reach_the_hidden_layer(lively: Build) -> None:
    head = lively().head
    embedding, posterior, account = normal(3, 2, 8), normal(3, 2).softmax(-1), normal(3, 2, 4)
    hidden = head.hidden(head.project(embedding, posterior), account)
    assert not torch.allclose(hidden, head.hidden(head.project(embedding, posterior.flip(-1)), account))
    assert not torch.allclose(hidden, head.hidden(head.project(embedding, posterior), -account))


def test_a_network_depends_on_its_generator_alone_and_leaves_the_global_one_untouched() -> None:
    shape = NetworkShape(3, 2, 2, 4)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_network(SIZES, shape, torch.Generator().manual_seed(7)).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again = build_network(SIZES, shape, torch.Generator().manual_seed(7)).state_dict()
    other = build_network(SIZES, shape, torch.Generator().manual_seed(8)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encoder.taps"], other["encoder.taps"])


@torch.no_grad()
def test_a_new_policy_is_nearly_uniform() -> None:
    network = build_network(SIZES, NetworkShape(3, 2, 2, 4), torch.Generator().manual_seed(0))
    logits = network.head.logits(normal(50, 2, 8).float(), torch.full((50, 2), 0.5))
    assert logits.abs().max() < 0.1


def test_every_weight_gets_a_gradient(lively: Build) -> None:
    network = lively()
    posterior = normal(1, 6, 2).softmax(-1)
    projected = network.head.project(network.encoder(normal(1, 12, 2, 3), 6), posterior)
    hidden = network.head.hidden(projected, normal(6, 2, 4))
    (network.head.logits(hidden, posterior).square().sum() + network.head.quantiles(hidden).square().sum()).backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == []
