"""Encoders: they never see the future, they forget what is old, and each switch does what its name says."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.agent.network.encoder import SCALED_LIMIT, Encoder, attention_weights, draw_dropout, receptive_field
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.config import NetworkParameters

DOUBLE = torch.float64
Build = Callable[..., PolicyNetwork]
MLP = {"encoder": "mlp"}
every_encoder = pytest.mark.parametrize("parts", [{}, MLP], ids=["transformer", "mlp"])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def encoder_of(lively: Build, **parts: object) -> Encoder:
    """Width 8, two layers, window 4, three taps."""
    return lively(**parts).encoder


@torch.no_grad()
@every_encoder
@given(st.integers(0, 19), st.integers(0, 1))
@settings(max_examples=25, deadline=None)
def test_changing_a_later_bar_leaves_every_earlier_embedding_unchanged(
    lively: Build, parts: dict[str, str], changed: int, asset: int
) -> None:
    encoder = encoder_of(lively, **parts)
    features = normal(1, 20, 2, 3)
    other = features.clone()
    other[:, changed, asset] += 3.0
    before, after = encoder(features, 20), encoder(other, 20)
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert not torch.allclose(before[:, changed], after[:, changed])


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 2])
@every_encoder
def test_an_embedding_depends_on_its_receptive_field_and_on_nothing_older(
    lively: Build, parts: dict[str, str], layers: int
) -> None:
    encoder = encoder_of(lively, layers=layers, **parts)
    field = 1 if parts == MLP else layers * 3 + 3  # L (W - 1) + k
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
@every_encoder
@given(st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_chunks_with_context_agree_with_the_whole(lively: Build, parts: dict[str, str], first: int, keep: int) -> None:
    encoder = encoder_of(lively, **parts)
    context = receptive_field(encoder.parameters_) - 1
    features = normal(1, 60, 2, 3)
    whole = encoder(features, 60)
    stop = min(60, context + first + keep)
    start = stop - keep
    chunk = encoder(features[:, max(0, start - context) : stop], keep)
    torch.testing.assert_close(chunk, whole[:, start:stop], rtol=0, atol=1e-5)


@torch.no_grad()
@every_encoder
def test_windows_of_a_batch_do_not_meet(lively: Build, parts: dict[str, str]) -> None:
    encoder = encoder_of(lively, **parts)
    features = normal(3, 12, 2, 3)
    torch.testing.assert_close(encoder(features, 5)[1:2], encoder(features[1:2], 5), rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 5])
def test_an_attention_window_longer_than_the_sequence_works(lively: Build, length: int) -> None:
    features = normal(1, 30, 2, 3)
    encoder = encoder_of(lively, window=16)
    found = encoder(features[:, :length], length)
    assert found.shape == (1, length, 2, 8)
    torch.testing.assert_close(found, encoder(features, 30)[:, :length], rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(("parts", "hears"), [({}, True), ({"asset_attention": False}, False), (MLP, False)])
def test_an_asset_hears_of_the_others_at_the_same_bar_and_not_before(
    lively: Build, parts: dict[str, object], hears: bool
) -> None:
    encoder = encoder_of(lively, **parts)
    assert any(name.startswith("layers.0.asset") for name, _ in encoder.named_parameters()) == hears
    features = normal(1, 15, 2, 3)
    other = features.clone()
    other[:, 9, 1] += 2.0
    before, after = encoder(features, 15)[:, :, 0], encoder(other, 15)[:, :, 0]
    assert torch.equal(before[:, :9], after[:, :9])
    assert torch.equal(before[:, 9], after[:, 9]) != hears


@torch.no_grad()
@every_encoder
def test_the_order_of_the_assets_only_orders_the_embeddings(lively: Build, parts: dict[str, str]) -> None:
    encoder = encoder_of(lively, assets=3, **parts)
    features = normal(1, 12, 3, 3)
    torch.testing.assert_close(encoder(features[:, :, [2, 0, 1]], 6), encoder(features, 6)[:, :, [2, 0, 1]])


@torch.no_grad()
@every_encoder
def test_features_are_scaled_by_the_frozen_scaler_and_clipped(lively: Build, parts: dict[str, str]) -> None:
    plain, scaled = encoder_of(lively, **parts), encoder_of(lively, **parts)
    mean, deviation = torch.tensor([1.0, -2.0, 0.0]), torch.tensor([2.0, 0.5, 1.0])
    scaled.set_scaler(mean, deviation)
    features = normal(1, 12, 2, 3)
    torch.testing.assert_close(scaled(features * deviation + mean, 12), plain(features, 12))
    features[0, 4, 1, 2] = SCALED_LIMIT
    wild = features.clone()
    wild[0, 4, 1, 2] = 1e9
    assert torch.equal(plain(features, 12), plain(wild, 12))


ALWAYS = {"mean": (3,), "deviation": (3,), "input.weight": (8, 3), "input.bias": (8,)} | {"norm.weight": (8,)}
MIX = {"mix_norm.weight": (8,), "mix.0.weight": (16, 8), "mix.0.bias": (16,), "mix.2.weight": (8, 16)}
TIME = {"time_norm.weight": (8,), "time.query.weight": (8, 8), "time.key_value.weight": (16, 8)} | {
    "time.output.weight": (8, 8)
}
ASSET = {"asset_norm.weight": (8,), "asset.input.weight": (24, 8), "asset.output.weight": (8, 8)}


@pytest.mark.parametrize(
    ("parts", "assets", "taps", "layer"),
    [
        ({}, 2, True, MIX | TIME | ASSET),
        ({}, 1, True, MIX | TIME),
        ({"asset_attention": False}, 2, True, MIX | TIME),
        (MLP, 2, False, MIX),
    ],
)
def test_an_encoder_holds_the_weights_of_its_parts_and_no_others(
    lively: Build, parts: dict[str, object], assets: int, taps: bool, layer: dict[str, tuple[int, ...]]
) -> None:
    expected = ALWAYS | {f"layers.{index}.{name}": shape for index in range(2) for name, shape in layer.items()}
    expected |= {"taps": (3, 8)} if taps else {}
    found = {name: tuple(value.shape) for name, value in lively(assets=assets, **parts).encoder.state_dict().items()}
    biases = found.keys() - expected.keys()
    assert {name: shape for name, shape in found.items() if name not in biases} == expected
    assert all(name.endswith("bias") and name.removesuffix("bias") + "weight" in expected for name in biases)


@every_encoder
def test_checkpointed_layers_are_computed_again_and_give_the_same_gradients(
    lively: Build, parts: dict[str, str]
) -> None:
    features, dropout = normal(2, 15, 2, 3), torch.tensor([0.0, 2.0], dtype=DOUBLE)[normal(2, 2, 8).gt(0).long()]
    results = []
    for saving in (False, True):
        encoder = encoder_of(lively, checkpoint_layers=saving, **parts)
        calls: list[object] = []
        encoder.layers[0].mix.register_forward_hook(lambda *_, calls=calls: calls.append(None))
        embedding = encoder(features, 6, dropout)
        embedding.square().sum().backward()
        assert len(calls) == 1 + saving
        results.append([embedding, *(weight.grad for weight in encoder.parameters())])
    assert all(torch.equal(kept, again) for kept, again in zip(*results, strict=True))


def test_dropout_is_drawn_per_window_layer_and_channel_and_keeps_its_mean() -> None:
    parameters = NetworkParameters(width=32, layers=3, dropout=0.25)
    drawn = draw_dropout(parameters, 200, torch.Generator().manual_seed(0), torch.zeros(1, dtype=DOUBLE))
    assert drawn is not None
    assert drawn.shape == (200, 3, 32)
    assert drawn.dtype == DOUBLE
    assert drawn.unique().tolist() == [0.0, 1.0 / 0.75]
    assert drawn.mean().item() == pytest.approx(1.0, abs=0.02)
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[:, 0], drawn[:, 1])
    again = draw_dropout(parameters, 200, torch.Generator().manual_seed(0), torch.zeros(1, dtype=DOUBLE))
    assert again is not None
    assert torch.equal(drawn, again)


def test_without_dropout_nothing_is_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert draw_dropout(NetworkParameters(), 4, generator, torch.zeros(1)) is None
    assert torch.equal(generator.get_state(), before)


@torch.no_grad()
@every_encoder
def test_a_dropped_channel_passes_a_layer_unchanged_in_its_own_window_alone(
    lively: Build, parts: dict[str, str]
) -> None:
    encoder = encoder_of(lively, **parts)
    layer, x = encoder.layers[0], normal(2, 2, 9, 8)
    dropout = torch.ones(2, 8, dtype=DOUBLE)
    torch.testing.assert_close(layer(x, 5, dropout), layer(x, 5))
    dropout[0, 3] = 0.0
    dropout[0, 4] = 2.0
    found, plain = layer(x, 5, dropout), layer(x, 5)
    assert torch.equal(found[0, :, :, 3], x[0, :, -5:, 3])
    assert not torch.allclose(plain[0, :, :, 3], x[0, :, -5:, 3])
    torch.testing.assert_close(found[1], plain[1])
    features, masks = normal(2, 9, 2, 3), torch.ones(2, 2, 8, dtype=DOUBLE)
    torch.testing.assert_close(encoder(features, 4, masks), encoder(features, 4))
    masks[1, 1, 5] = 0.0  # each layer has its own mask
    assert torch.equal(encoder(features, 4, masks)[0], encoder(features, 4, torch.ones_like(masks))[0])
    assert not torch.allclose(encoder(features, 4, masks)[1], encoder(features, 4)[1])


@torch.no_grad()
def test_attention_weights_are_those_that_the_layers_use(lively: Build) -> None:
    """Mixing each layer's values by the weights gives what its attention gives."""
    encoder = encoder_of(lively)
    features, rows = normal(30, 2, 3), torch.tensor([29, 7, 1, 7])
    found = attention_weights(encoder, features, rows)
    assert found.shape == (2, 4, 2, 2, 4)  # layers, rows, assets, heads, W
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 4, 2, 2, dtype=DOUBLE))
    assert (found[:, 2, :, :, :2] == 0.0).all()  # row 1 has one bar before it
    assert (found[:, 2, :, :, 2:] > 0.0).all()
    x = encoder.before_layers(features[None])
    for layer, weights in zip(encoder.layers, found, strict=True):
        seen = layer.time_norm(x)[0]  # [A, T, D]
        value = layer.time.key_value(seen)[..., 8:].view(2, 30, 2, 4)
        attended = layer.time(seen, 30)
        for place, row in enumerate(rows.tolist()):
            window = range(row - 3, row + 1)
            mixed = sum(weights[place, :, :, at, None] * value[:, bar] for at, bar in enumerate(window) if bar >= 0)
            torch.testing.assert_close(layer.time.output(mixed.flatten(1)), attended[:, row])
        x = layer(x, 30)


@torch.no_grad()
def test_attention_weights_depend_on_no_later_and_no_forgotten_bar(lively: Build) -> None:
    encoder = encoder_of(lively)
    features, rows = normal(40, 2, 3), torch.tensor([20, 23])
    before = attention_weights(encoder, features, rows)
    later, forgotten = features.clone(), features.clone()
    later[24:] += 3.0
    forgotten[: 20 - receptive_field(encoder.parameters_) + 1] += 3.0
    assert torch.equal(before, attention_weights(encoder, later, rows))
    torch.testing.assert_close(before, attention_weights(encoder, forgotten, rows), rtol=0, atol=1e-12)
    from_the_start = attention_weights(encoder, features, torch.tensor([0, 20, 23]))[:, 1:]
    torch.testing.assert_close(before, from_the_start, rtol=0, atol=1e-6)
    own = features.clone()
    own[20] += 1.0
    assert not torch.allclose(before[:, 0], attention_weights(encoder, own, rows)[:, 0])


def test_attention_that_is_not_there_is_not_shown(lively: Build) -> None:
    features = normal(10, 2, 3)
    with pytest.raises(ValueError, match=r"`network\.encoder` is mlp, which has no attention"):
        attention_weights(encoder_of(lively, **MLP), features, torch.tensor([3]))
    for rows in ([10], [-1], []):
        with pytest.raises(ValueError, match=r"`rows` must name at least one bar and lie in \[0, 9\]"):
            attention_weights(encoder_of(lively), features, torch.tensor(rows, dtype=torch.long))


@torch.no_grad()
@pytest.mark.parametrize("parts", [{}, MLP], ids=["transformer", "mlp"])
def test_only_with_an_identity_do_equal_assets_differ(lively: Build, parts: dict[str, str]) -> None:
    features = normal(1, 12, 1, 3).expand(1, 12, 2, 3)
    alike = encoder_of(lively, **parts)(features, 4)
    torch.testing.assert_close(alike[:, :, 0], alike[:, :, 1])
    known = encoder_of(lively, asset_identity=True, **parts)(features, 4)
    assert (known[:, :, 0] - known[:, :, 1]).abs().min() > 1e-6
    assert lively(assets=1, asset_identity=True).encoder.identity is None


@every_encoder
def test_half_precision_is_close_gives_float32_and_leaves_double_alone(lively: Build, parts: dict[str, str]) -> None:
    whole = encoder_of(lively, **parts).float()
    half = encoder_of(lively, precision="bfloat16", **parts).float()
    features = normal(2, 40, 2, 3).float()
    exact, found = whole(features, 30), half(features, 30)
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert (found - exact).abs().mean() < 0.02 * exact.abs().mean()
    found.square().sum().backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is None or weight.grad.dtype == torch.float32 for weight in half.parameters())
    features = features.double()
    assert torch.equal(half.double()(features, 30), whole.double()(features, 30))


@torch.no_grad()
def test_in_half_precision_far_bars_keep_their_places(lively: Build) -> None:
    half = encoder_of(lively, precision="bfloat16").float()
    features = normal(1, 600, 2, 3).float()
    late, early = half(features, 590)[:, -20:], half(features[:, -60:], 20)
    assert (late - early).abs().mean() < 0.02 * early.abs().mean()
