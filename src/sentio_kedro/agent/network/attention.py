"""Attention over the last bars of one asset, and across the assets of one bar.

Dimensions: B sequences, T bars, A assets, D width, W bars of the window; d is the width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Rotary(nn.Module):
    """Rotary positions (Su et al., arXiv 2104.09864): pairs of channels rotate with time, so scores depend on lag."""

    def __init__(self, size: int) -> None:
        """Prepare frequencies for heads of ``size`` channels (even)."""
        super().__init__()
        self.register_buffer("frequency", 100.0 ** (-torch.arange(0, size, 2).float() / size), persistent=False)

    def forward(self, x: Tensor, offset: int) -> Tensor:
        """Rotate ``x`` ``[B, heads, T, d]`` whose first row is at position ``offset``."""
        wide = (
            x.dtype if x.dtype == torch.float64 else torch.float32
        )  # bfloat16 rounds bars 257 and 258 to the same number
        frequency = self.get_buffer("frequency").to(wide)
        angle = torch.arange(offset, offset + x.shape[-2], device=x.device, dtype=wide)[:, None] * frequency
        cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Cut the channels of ``x`` ``[B, T, D]`` into heads: ``[B, heads, T, d]``."""
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(1, 2)


class WindowAttention(nn.Module):
    """Causal sliding-window attention over time, in blocks, so that its cost is linear in bars."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        """Make attention of ``heads`` heads in which a bar sees the last ``window`` bars, itself included."""
        super().__init__()
        self.heads, self.window = heads, window
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.rotary = Rotary(width // heads)

    def forward(self, x: Tensor, keep: int) -> Tensor:
        """Attend.

        Args:
            x: ``[B, T, D]``.
            keep: Number of last bars to return; those before serve as context.

        Returns:
            ``[B, keep, D]``.
        """
        weights, value = self._attend(x, keep)
        mixed = (weights @ value).flatten(2, 3)[:, :, -keep:]
        return torch.as_tensor(self.output(mixed.transpose(1, 2).flatten(2)))

    def weights(self, x: Tensor, keep: int) -> Tensor:
        """Attention weights of the last ``keep`` bars of ``x`` ``[B, T, D]`` over the bars of their windows.

        Returns:
            ``[B, heads, keep, W]``, oldest bar first and the bar itself last; rows sum to 1, and bars before the first
            of ``x`` have weight 0.
        """
        weights, _ = self._attend(x, keep)  # [B, heads, blocks, W, 2 W]
        row = torch.arange(self.window, device=x.device)
        column = row[:, None] + 1 + row  # place of query i's window among the keys of its block
        return weights.gather(-1, column.expand(*weights.shape[:-1], -1)).flatten(2, 3)[:, :, -keep:]

    def _attend(self, x: Tensor, keep: int) -> tuple[Tensor, Tensor]:
        """Weights ``[B, heads, blocks, W, 2 W]`` of the last bars, and values ``[B, heads, blocks, 2 W, d]``."""
        window, length = self.window, x.shape[1]
        blocks = -(-keep // window)
        rows = (blocks + 1) * window  # block i of the queries attends to blocks i and i + 1 of the keys
        skip, pad = max(0, length - rows), max(0, rows - length)
        key, value = self.key_value(x[:, skip:]).chunk(2, dim=-1)
        key = self.rotary(split_heads(key, self.heads), pad)
        queries = min(blocks * window, length)
        query = self.rotary(split_heads(self.query(x[:, length - queries :]), self.heads), rows - queries)
        query = F.pad(query * query.shape[-1] ** -0.5, (0, 0, blocks * window - queries, 0))
        query = query.view(*query.shape[:2], blocks, window, -1)
        key, value = self._block_pairs(key, pad), self._block_pairs(split_heads(value, self.heads), pad)
        scores = query @ key.transpose(-1, -2) + self._window_mask(blocks, pad, x)
        return scores.softmax(-1), value

    def _block_pairs(self, x: Tensor, pad: int) -> Tensor:
        """Concatenate each block with the one before: ``[B, heads, blocks, 2 W, d]``."""
        x = F.pad(x, (0, 0, pad, 0))
        x = x.view(*x.shape[:2], -1, self.window, x.shape[-1])
        return torch.cat([x[:, :, :-1], x[:, :, 1:]], dim=3)

    def _window_mask(self, blocks: int, pad: int, like: Tensor) -> Tensor:
        """Mask to add to the scores ``[blocks, W, 2 W]``: minus infinity where a key is too old or to come."""
        query = torch.arange(self.window, device=like.device)[:, None]
        key = torch.arange(2 * self.window, device=like.device)
        lag = query + self.window - key
        visible = (lag >= 0) & (lag < self.window)
        if pad > 1:  # the first key of the first block is too old for every query
            real = torch.arange(blocks, device=like.device)[:, None] * self.window + key >= pad
            visible = (visible & real[:, None]) | (lag == 0)  # a padded query sees itself, so that no row is empty
        return torch.zeros((), dtype=like.dtype, device=like.device).where(visible, float("-inf"))


class AssetAttention(nn.Module):
    """Attention across the assets of one bar."""

    def __init__(self, width: int, heads: int, assets: int | None = None) -> None:
        """Make attention of ``heads`` heads.

        Args:
            width: Channels D.
            heads: Attention heads.
            assets: Number of assets A where each has an identity: scores then have a learned bias per pair of assets,
                and per asset for a key and a value of zero, which let it attend to none. All biases start at zero. None
                computes scores from channels alone.
        """
        super().__init__()
        self.heads = heads
        self.input = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.bias = None if assets is None else nn.Parameter(torch.zeros(heads, assets, assets + 1))

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the assets of ``x`` ``[B, A, D]``."""
        query, key, value = (split_heads(part, self.heads) for part in self.input(x).chunk(3, dim=-1))
        if self.bias is None:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:  # the last key and value are zero: attend to none
            key, value = F.pad(key, (0, 0, 0, 1)), F.pad(value, (0, 0, 0, 1))
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self.bias.to(query.dtype))
        return torch.as_tensor(self.output(mixed.transpose(1, 2).flatten(2)))
