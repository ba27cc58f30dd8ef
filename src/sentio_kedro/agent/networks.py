"""The policy network: an encoder of the market, shared by every account, and a small head per account.

The encoder never sees an account, so one encoding of a bar serves all replicas; only the head runs step by step.
Dimensions: B windows, T bars, A assets, F features, D width, K regimes, G account features, Q quantiles.
"""

from __future__ import annotations

from threading import Lock
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentio_kedro.config import NetworkParameters
from sentio_kedro.trading.environment import ACCOUNT_FEATURES

_BUILDING = Lock()
SCALED_LIMIT = 5.0  # scaled features are clipped here, so that one wild bar cannot dominate


class NetworkShape(NamedTuple):
    """Sizes that the data fix: features F, assets A, regimes K and actions."""

    features: int
    assets: int
    regimes: int
    actions: int


def receptive_field(parameters: NetworkParameters) -> int:
    """Bars that one embedding depends on, its own included: L (W - 1) + k."""
    return parameters.layers * (parameters.window - 1) + parameters.convolution


class Rotary(nn.Module):
    """Rotary positions (Su et al., arXiv 2104.09864): pairs of channels turn with time, so scores depend on lag."""

    def __init__(self, size: int) -> None:
        """Prepare frequencies for heads of ``size`` channels (even)."""
        super().__init__()
        self.register_buffer("frequency", 100.0 ** (-torch.arange(0, size, 2).float() / size), persistent=False)

    def forward(self, x: Tensor, offset: int) -> Tensor:
        """Turn ``x`` ``[B, heads, T, d]`` whose first row stands at position ``offset``."""
        frequency = self.get_buffer("frequency").to(x.dtype)
        angle = torch.arange(offset, offset + x.shape[-2], device=x.device, dtype=x.dtype)[:, None] * frequency
        cosine, sine = angle.cos(), angle.sin()
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
            keep: Last bars whose output is wanted; those before serve as context.

        Returns:
            ``[B, keep, D]``.
        """
        window, length = self.window, x.shape[1]
        blocks = -(-keep // window)
        rows = (blocks + 1) * window  # block i of the queries meets blocks i and i + 1 of the keys
        skip, pad = max(0, length - rows), max(0, rows - length)
        key, value = self.key_value(x[:, skip:]).chunk(2, dim=-1)
        key = self.rotary(split_heads(key, self.heads), pad)
        queries = min(blocks * window, length)
        query = self.rotary(split_heads(self.query(x[:, length - queries :]), self.heads), rows - queries)
        query = F.pad(query * query.shape[-1] ** -0.5, (0, 0, blocks * window - queries, 0))
        query = query.view(*query.shape[:2], blocks, window, -1)
        key, value = self._pairs(key, pad), self._pairs(split_heads(value, self.heads), pad)
        scores = query @ key.transpose(-1, -2) + self._mask(blocks, pad, x)
        mixed = (scores.softmax(-1) @ value).flatten(2, 3)[:, :, -keep:]
        return torch.as_tensor(self.output(mixed.transpose(1, 2).flatten(2)))

    def _pairs(self, x: Tensor, pad: int) -> Tensor:
        """Lay each block beside the one before: ``[B, heads, blocks, 2 W, d]``."""
        x = F.pad(x, (0, 0, pad, 0))
        x = x.view(*x.shape[:2], -1, self.window, x.shape[-1])
        return torch.cat([x[:, :, :-1], x[:, :, 1:]], dim=3)

    def _mask(self, blocks: int, pad: int, like: Tensor) -> Tensor:
        """Return what to add to the scores ``[blocks, W, 2 W]``: minus infinity where a key is too old or to come."""
        query = torch.arange(self.window, device=like.device)[:, None]
        key = torch.arange(2 * self.window, device=like.device)
        seen = (key > query) & (key - query <= self.window)
        if pad > 1:  # the first key of the first block is too old for every query
            real = torch.arange(blocks, device=like.device)[:, None] * self.window + key >= pad
            own = key == query + self.window  # a padded query sees itself, so that no row is empty
            seen = (seen & real[:, None]) | own
        return torch.zeros((), dtype=like.dtype, device=like.device).where(seen, float("-inf"))


class AssetAttention(nn.Module):
    """Attention across the assets of one bar."""

    def __init__(self, width: int, heads: int) -> None:
        """Make attention of ``heads`` heads."""
        super().__init__()
        self.heads = heads
        self.input = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the second-last dimension of ``x`` ``[B, A, D]``."""
        query, key, value = (split_heads(part, self.heads) for part in self.input(x).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(query, key, value)
        return torch.as_tensor(self.output(mixed.transpose(1, 2).flatten(2)))


class Layer(nn.Module):
    """Pre-norm attention over time, attention across assets, and a two-layer perceptron."""

    def __init__(self, parameters: NetworkParameters, assets: int) -> None:
        """Build the layer; a market of one asset needs no attention across assets."""
        super().__init__()
        width = parameters.width
        self.time_norm, self.time = nn.LayerNorm(width), WindowAttention(width, parameters.heads, parameters.window)
        self.asset_norm = nn.LayerNorm(width) if assets > 1 else None
        self.asset = AssetAttention(width, parameters.heads) if assets > 1 else None
        self.mix_norm = nn.LayerNorm(width)
        self.mix = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, keep: int) -> Tensor:
        """Map ``x`` ``[B, A, T, D]`` to its last ``keep`` bars ``[B, A, keep, D]``."""
        batch, assets = x.shape[:2]
        attended = self.time(self.time_norm(x).flatten(0, 1), keep)
        x = x[:, :, -keep:] + attended.view(batch, assets, keep, -1)
        if self.asset is not None and self.asset_norm is not None:
            across = self.asset(self.asset_norm(x).transpose(1, 2).flatten(0, 1))
            x = x + across.view(batch, keep, assets, -1).transpose(1, 2)
        return x + torch.as_tensor(self.mix(self.mix_norm(x)))


class Encoder(nn.Module):
    """From features to market embeddings."""

    def __init__(self, parameters: NetworkParameters, shape: NetworkShape) -> None:
        """Build the encoder; its scaler starts as the identity (see ``set_scaler``)."""
        super().__init__()
        width = parameters.width
        self.parameters_ = parameters
        self.register_buffer("mean", torch.zeros(shape.features))
        self.register_buffer("deviation", torch.ones(shape.features))
        self.input = nn.Linear(shape.features, width)
        self.taps = nn.Parameter(torch.randn(parameters.convolution, width) * 0.3)
        self.layers = nn.ModuleList(Layer(parameters, shape.assets) for _ in range(parameters.layers))
        self.norm = nn.LayerNorm(width)

    def set_scaler(self, mean: Tensor, deviation: Tensor) -> None:
        """Freeze the scaler ``[F]``, fitted on train rows."""
        self.get_buffer("mean").copy_(mean)
        self.get_buffer("deviation").copy_(deviation)

    def forward(self, features: Tensor, keep: int) -> Tensor:
        """Embed the last ``keep`` bars.

        Args:
            features: ``[B, T, A, F]``; bars before the last ``keep`` are context. With ``receptive_field - 1`` of
                them, an embedding does not depend on where the window was cut.
            keep: Bars wanted.

        Returns:
            ``[B, keep, A, D]``.
        """
        scaled = (features - self.get_buffer("mean")) / self.get_buffer("deviation")
        x = self.input(scaled.clamp(-SCALED_LIMIT, SCALED_LIMIT).transpose(1, 2))  # [B, A, T, D]
        taps, length = self.parameters_.convolution, x.shape[2]
        past = F.pad(x, (0, 0, taps - 1, 0))
        mixed = self.taps[0] * x
        for lag in range(1, taps):
            mixed = torch.addcmul(mixed, self.taps[lag], past[:, :, taps - 1 - lag : taps - 1 - lag + length])
        x = x + F.silu(mixed)
        for left, layer in zip(range(len(self.layers) - 1, -1, -1), self.layers, strict=True):
            x = layer(x, min(keep + left * (self.parameters_.window - 1), x.shape[2]))
        return torch.as_tensor(self.norm(x).transpose(1, 2))


class Head(nn.Module):
    """From embedding, regime and account to action logits and quantiles of the return."""

    def __init__(self, parameters: NetworkParameters, shape: NetworkShape) -> None:
        """Build the head; its policy starts near uniform."""
        super().__init__()
        hidden = parameters.hidden
        self.actions, self.regimes = shape.actions, shape.regimes
        self.market = nn.Linear(parameters.width + shape.regimes, hidden)
        self.account = nn.Linear(ACCOUNT_FEATURES, hidden, bias=False)
        self.policy = nn.Linear(hidden, shape.regimes * shape.actions)
        self.critic = nn.Linear(hidden, parameters.quantiles)
        with torch.no_grad():
            self.policy.weight.mul_(0.01)
            self.policy.bias.zero_()
            self.critic.weight.mul_(0.1)
            self.critic.bias.zero_()

    def project(self, embedding: Tensor, posterior: Tensor) -> Tensor:
        """Do the part that no account changes, once per bar.

        Args:
            embedding: ``[..., A, D]``.
            posterior: ``[..., K]``.

        Returns:
            ``[..., A, hidden]``.
        """
        regime = posterior[..., None, :].expand(*embedding.shape[:-1], -1)
        return torch.as_tensor(self.market(torch.cat([embedding, regime], dim=-1)))

    def hidden(self, projected: Tensor, account: Tensor) -> Tensor:
        """Join what is known of the market and of the accounts.

        Args:
            projected: ``[..., A, hidden]`` from ``project``, broadcastable to the accounts.
            account: ``[..., A, G]`` account features.

        Returns:
            ``[..., A, hidden]``.
        """
        return F.silu(projected + torch.as_tensor(self.account(account)))

    def logits(self, hidden: Tensor, posterior: Tensor) -> Tensor:
        """Mix the regime experts' logits by the filtered posterior ``[..., K]``: ``[..., A, actions]``."""
        experts = torch.as_tensor(self.policy(hidden))
        if self.regimes == 1:
            return experts
        experts = experts.view(*experts.shape[:-1], self.regimes, self.actions)
        return (experts * posterior[..., None, :, None]).sum(-2)

    def quantiles(self, hidden: Tensor) -> Tensor:
        """Rising quantiles of the discounted reward ``[..., A, Q]``, in units of its scale."""
        return rising(torch.as_tensor(self.critic(hidden)))

    def value(self, hidden: Tensor) -> Tensor:
        """Mean of ``quantiles`` ``[..., A]``, which is the critic's first output, so that no quantile is computed."""
        return F.linear(hidden, self.critic.weight[:1], self.critic.bias[:1])[..., 0]


def rising(raw: Tensor) -> Tensor:
    """Make quantiles that never cross: a centre, and steps that are never negative.

    Args:
        raw: ``[..., Q]``.

    Returns:
        ``[..., Q]`` rising; their mean is ``raw``'s first entry.
    """
    count = raw.shape[-1]
    # step i lifts the quantiles above it; less the mean over quantiles, so that the centre is their mean
    above = torch.ones(count - 1, count, dtype=raw.dtype, device=raw.device).triu(1)
    lift = (above - above.mean(-1, keepdim=True)) * (3.0 / count)
    return raw[..., :1] + (F.elu(raw[..., 1:]) + 1.0) @ lift  # elu + 1 is positive, and cheaper than softplus


class PolicyNetwork(nn.Module):
    """Encoder and head of one member."""

    def __init__(self, parameters: NetworkParameters, shape: NetworkShape) -> None:
        """Build both."""
        super().__init__()
        self.encoder = Encoder(parameters, shape)
        self.head = Head(parameters, shape)


def build_network(parameters: NetworkParameters, shape: NetworkShape, generator: torch.Generator) -> PolicyNetwork:
    """Build a network whose weights depend on ``generator`` alone."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with _BUILDING, torch.random.fork_rng(devices=[]):  # the constructors draw from torch's one global generator
        torch.manual_seed(seed)
        return PolicyNetwork(parameters, shape)
