"""Attention over time: in blocks as one bar at a time, and open to inspection."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.agent.network.attention import WindowAttention

DOUBLE = torch.float64


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def attention(window: int, seed: int = 0) -> WindowAttention:
    """Two heads of four channels in float64."""
    torch.manual_seed(seed)
    layer = WindowAttention(8, 2, window).to(DOUBLE)
    layer.rotary.frequency = 100.0 ** (-torch.arange(0, 4, 2, dtype=DOUBLE) / 4)
    return layer


def slow_weights(layer: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """Weights ``[heads, T, W]`` of each query of each head by itself, rotated by its absolute position."""
    length, width = x.shape
    size = width // layer.heads
    query, key = layer.query(x), layer.key_value(x)[:, :width]

    def rotated(vector: torch.Tensor, position: int) -> torch.Tensor:
        result = vector.clone()
        for pair in range(size // 2):
            angle = position * 100.0 ** (-2 * pair / size)
            a, b = vector[pair], vector[pair + size // 2]
            result[pair] = a * math.cos(angle) - b * math.sin(angle)
            result[pair + size // 2] = a * math.sin(angle) + b * math.cos(angle)
        return result

    weights = torch.zeros(layer.heads, length, layer.window, dtype=DOUBLE)
    for head in range(layer.heads):
        part = slice(head * size, (head + 1) * size)
        for t in range(length):
            lags = range(min(t, layer.window - 1), -1, -1)
            scores = [
                rotated(query[t, part], t) @ rotated(key[t - lag, part], t - lag) / math.sqrt(size) for lag in lags
            ]
            weights[head, t, -len(scores) :] = torch.stack(scores).softmax(0)
    return weights


def slow_attention(layer: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """Add up the values of each bar's window by ``slow_weights``."""
    length, width = x.shape
    size = width // layer.heads
    value, weights = layer.key_value(x)[:, width:], slow_weights(layer, x)
    rows = []
    for t in range(length):
        first = max(0, t - layer.window + 1)
        seen = value[first : t + 1].view(-1, layer.heads, size)
        rows.append(torch.einsum("hw,whd->hd", weights[:, t, -len(seen) :], seen).flatten())
    return layer.output(torch.stack(rows))


@torch.no_grad()
@given(st.integers(1, 14), st.integers(2, 6), st.data())
@settings(max_examples=12, deadline=None)
def test_attention_in_blocks_equals_a_slow_twin(length: int, window: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, length))
    layer = attention(window, seed=length)
    x = normal(2, length, 8, seed=window)
    found, weights = layer(x, keep), layer.weights(x, keep)
    for batch in range(2):
        torch.testing.assert_close(found[batch], slow_attention(layer, x[batch])[-keep:], rtol=1e-9, atol=1e-10)
        direct = slow_weights(layer, x[batch])[:, -keep:]
        torch.testing.assert_close(weights[batch], direct, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, keep, dtype=DOUBLE))


@torch.no_grad()
def test_how_long_ago_a_bar_was_matters_to_attention() -> None:
    layer = attention(6)
    x = normal(1, 6, 8)
    swapped = x[:, [0, 3, 2, 1, 4, 5]]
    assert (layer(x, 1) - layer(swapped, 1)).abs().max() > 1e-3
    later = torch.cat([normal(1, 1, 8, seed=5), x], dim=1)  # one bar later, the same lags
    torch.testing.assert_close(layer(later, 1), layer(x, 1), rtol=0, atol=1e-6)
