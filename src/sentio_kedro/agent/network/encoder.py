"""Encoders of the market: from the features of the last bars to one embedding per bar and asset.

Dimensions: B windows, T bars, A assets, F features, D width, L layers, W bars of an attention window.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sentio_kedro.agent.network.attention import AssetAttention, WindowAttention
from sentio_kedro.config import NetworkParameters
from sentio_kedro.config.network import layer_reach, receptive_field

SCALED_LIMIT = 5.0  # scaled features are clipped here, so that one wild bar cannot dominate


class NetworkShape(NamedTuple):
    """Sizes that the data fix.

    Attributes:
        features: Feature columns F.
        assets: Assets A.
        regimes: Regimes K.
        actions: Actions of one asset: its target levels.
        followed: Action that the policy starts from, the rule's own position; null starts near uniform.
    """

    features: int
    assets: int
    regimes: int
    actions: int
    followed: int | None = None


def draw_dropout(
    parameters: NetworkParameters, windows: int, generator: torch.Generator, like: Tensor
) -> Tensor | None:
    """Draw which channels each layer leaves unchanged in each window, for a rollout and all its updates.

    Consistent dropout (Hausknecht and Wagener, arXiv 2202.11818): rollout and update must drop the same
    channels, or else probability ratios are wrong from the first minibatch on. So the mask is drawn once per rollout.
    All bars and assets of a window share it (Gal and Ghahramani, arXiv 1512.05287).

    Args:
        parameters: ``dropout``, layers and width.
        windows: Number of windows.
        generator: Source of the draws, on the device of ``like``; untouched where dropout is off.
        like: Tensor whose device and dtype the result has.

    Returns:
        ``[windows, L, D]``: 0 for a channel left unchanged, else 1 / (1 - dropout); None where dropout is off.
    """
    if parameters.dropout == 0.0:
        return None
    shape = (windows, parameters.layers, parameters.width)
    active = torch.rand(shape, generator=generator, device=like.device) >= parameters.dropout
    return active.to(like.dtype) / (1.0 - parameters.dropout)


class Layer(nn.Module):
    """Pre-norm attention over time, attention across assets, and a two-layer perceptron.

    The ``mlp`` has the perceptron alone.
    """

    def __init__(self, parameters: NetworkParameters, assets: int) -> None:
        """Build the layer; a market of one asset needs no attention across assets."""
        super().__init__()
        width, heads = parameters.width, parameters.heads
        attends = parameters.encoder == "transformer"
        across = attends and parameters.asset_attention and assets > 1
        self.time_norm = nn.LayerNorm(width) if attends else None
        self.time = WindowAttention(width, heads, parameters.window) if attends else None
        self.asset_norm = nn.LayerNorm(width) if across else None
        self.asset = AssetAttention(width, heads, assets if parameters.asset_identity else None) if across else None
        self.mix_norm = nn.LayerNorm(width)
        self.mix = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self._start_silent()

    @torch.no_grad()
    def _start_silent(self) -> None:
        """Initialise the output of each branch to zero (Zhang et al., arXiv 1901.09321)."""
        ends = [self.mix[2], *(branch.output for branch in (self.time, self.asset) if branch is not None)]
        for end in ends:
            for weight in end.parameters():
                weight.zero_()

    def forward(self, x: Tensor, keep: int, dropout: Tensor | None = None) -> Tensor:
        """Map ``x`` ``[B, A, T, D]`` to its last ``keep`` bars ``[B, A, keep, D]``.

        ``dropout`` ``[B, D]`` multiplies whatever the layer adds to its input.
        """
        batch, assets = x.shape[:2]
        stream = x[:, :, -keep:]
        if self.time is not None and self.time_norm is not None:
            attended = self.time(self.time_norm(x).flatten(0, 1), keep)
            stream = stream + _thinned(attended.view(batch, assets, keep, -1), dropout)
        if self.asset is not None and self.asset_norm is not None:
            across = self.asset(_by_bar(self.asset_norm(stream))).view(batch, keep, assets, -1)
            stream = stream + _thinned(across.transpose(1, 2), dropout)
        return stream + _thinned(torch.as_tensor(self.mix(self.mix_norm(stream))), dropout)

    def time_weights(self, x: Tensor) -> Tensor:
        """Return the attention over time ``[A, heads, T, W]`` in one window ``x`` ``[1, A, T, D]``.

        Raises:
            ValueError: If the layer has no attention.
        """
        if self.time is None or self.time_norm is None:
            raise ValueError(
                "`network.encoder` is mlp, which has no attention; train an agent with `network.encoder: transformer`."
            )
        return self.time.weights(self.time_norm(x).flatten(0, 1), x.shape[2])


def _by_bar(x: Tensor) -> Tensor:
    """Reshape ``[B, A, T, D]`` to ``[B T, A, D]``."""
    return x.transpose(1, 2).flatten(0, 1)


def _thinned(added: Tensor, dropout: Tensor | None) -> Tensor:
    return added if dropout is None else added * dropout[:, None, None]


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
        identified = parameters.asset_identity and shape.assets > 1
        self.identity = nn.Parameter(torch.randn(2, shape.assets, 1, width) * 0.5) if identified else None
        convolves = parameters.encoder == "transformer"
        self.taps = nn.Parameter(torch.randn(parameters.convolution, width) * 0.3) if convolves else None
        self.layers = nn.ModuleList(Layer(parameters, shape.assets) for _ in range(parameters.layers))
        self.norm = nn.LayerNorm(width)

    def set_scaler(self, mean: Tensor, deviation: Tensor) -> None:
        """Freeze the scaler ``[F]``, fitted on train rows: mean and deviation."""
        self.get_buffer("mean").copy_(mean)
        self.get_buffer("deviation").copy_(deviation)

    def forward(self, features: Tensor, keep: int, dropout: Tensor | None = None) -> Tensor:
        """Embed the last ``keep`` bars.

        Args:
            features: ``[B, T, A, F]``; bars before the last ``keep`` are context. With ``receptive_field - 1`` of
                them, an embedding does not depend on where the window was cut.
            keep: Number of last bars to embed.
            dropout: ``[B, L, D]`` from ``draw_dropout``, in training; None drops nothing.

        Returns:
            ``[B, keep, A, D]``.
        """
        half = self.parameters_.precision == "bfloat16" and features.dtype == torch.float32
        with torch.autocast(features.device.type, torch.bfloat16, enabled=half):
            x = self._through_layers(self.before_layers(features), keep, dropout)
            return torch.as_tensor(self.norm(x).transpose(1, 2)).to(features.dtype)

    def _through_layers(self, x: Tensor, keep: int, dropout: Tensor | None) -> Tensor:
        reach, saving = layer_reach(self.parameters_), self.parameters_.checkpoint_layers and torch.is_grad_enabled()
        for index, layer in enumerate(self.layers):
            rows = min(keep + (len(self.layers) - 1 - index) * reach, x.shape[2])
            thinned = None if dropout is None else dropout[:, index]
            if saving:
                x = checkpoint(layer, x, rows, thinned, use_reentrant=False, preserve_rng_state=False)
            else:
                x = layer(x, rows, thinned)
        return x

    def before_layers(self, features: Tensor) -> Tensor:
        """Scale, project and convolve features ``[B, T, A, F]``: ``[B, A, T, D]``.

        With ``asset_identity`` each asset has a gain and an offset per channel of its own (Perez et al., FiLM, arXiv
        1709.07871), by which the network distinguishes them; all other weights are shared.
        """
        scaled = (features.transpose(1, 2) - self.get_buffer("mean")) / self.get_buffer("deviation")
        x = torch.as_tensor(self.input(scaled.clamp(-SCALED_LIMIT, SCALED_LIMIT)))
        if self.identity is not None:  # a channel may act differently, or with another sign, in each asset
            gain, offset = self.identity
            x = x + x * gain + offset
        if self.taps is None:
            return x
        taps, length = self.parameters_.convolution, x.shape[2]
        past = F.pad(x, (0, 0, taps - 1, 0))
        mixed = self.taps[0] * x
        for lag in range(1, taps):
            mixed = torch.addcmul(mixed, self.taps[lag], past[:, :, taps - 1 - lag : taps - 1 - lag + length])
        return x + F.silu(mixed)


@torch.no_grad()
def attention_weights(encoder: Encoder, features: Tensor, rows: Tensor) -> Tensor:
    """Attention weights of chosen bars over the bars before them, in each layer and head.

    The cost grows with the bars between the first and the last row.

    Args:
        encoder: The encoder.
        features: ``[T, A, F]``, from the first bar; rows before ``receptive_field - 1`` see fewer bars.
        rows: ``[R]`` indices of bars.

    Returns:
        ``[L, R, A, heads, W]``, weights over the last W bars, oldest first and the bar itself last. They sum to 1; bars
        before the first have weight 0.

    Raises:
        ValueError: If a row is not in the features, or the encoder has no attention.
    """
    bars = features.shape[0]
    if rows.numel() == 0 or int(rows.min()) < 0 or int(rows.max()) >= bars:
        raise ValueError(f"`rows` must name at least one bar and lie in [0, {bars - 1}], was {rows.tolist()}.")
    start = max(0, int(rows.min()) - receptive_field(encoder.parameters_) + 1)
    x = encoder.before_layers(features[None, start : int(rows.max()) + 1])
    weights = []
    for layer in encoder.layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"`encoder.layers` must hold layers, held {type(layer).__name__}.")
        weights.append(layer.time_weights(x)[:, :, rows - start].permute(2, 0, 1, 3))
        x = layer(x, x.shape[2])
    return torch.stack(weights)
