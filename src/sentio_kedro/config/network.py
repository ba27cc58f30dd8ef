"""Size and parts of the policy network."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sentio_kedro.config.fields import LARGEST, Count, TwoOrMore, parameters
from sentio_kedro.config.presets import VariantName, with_variant

MIN_QUANTILES = 3  # one is a critic of the mean alone; two have no tails


@parameters
class NetworkParameters:
    """Size and parts of the policy network.

    Attributes:
        variant: Learner to start from: ``standard`` has no mask and a critic of one value, ``maskable`` has the mask,
            ``enhanced`` has the defaults below, ``forecasts`` is an ``mlp`` of width 32; other keys override it.
        encoder: ``transformer`` reads the last bars; ``mlp`` is its control and reads the present bar's features alone,
            without convolution and attention.
        width: Width D of the market embedding.
        layers: Layers L of the encoder.
        heads: Attention heads; must divide ``width`` into even parts (rotary positions rotate pairs).
        window: Bars W that one attention layer sees, the current one included.
        convolution: Taps k of the causal convolution before the attention.
        asset_identity: Whether each asset has a gain and an offset per channel of its own, by which the network
            distinguishes it; off, all assets share one function. With attention across assets each also learns a bias
            per asset, and one for attending to none.
        asset_attention: Attention across the assets of each bar.
        hidden: Width of the account head.
        regime_experts: One policy per regime, mixed by the regimes' probabilities; off is one policy, whose head is
            widened to as many parameters.
        quantiles: Quantiles of the critic: 1 (the value alone) or at least 3.
        masked: Whether the policy chooses among legal actions only. Off, it may choose any action of an asset that can
            be traded; limits then cut its orders.
        dropout: Share of the channels that each layer leaves unchanged in a training window; 0 is off.
        precision: ``bfloat16`` lets the encoder multiply matrices in half precision where it is given float32, as in
            training; the head, its probabilities and all losses stay in float32, and a backtest in double precision.
        checkpoint_layers: Keep only the inputs of layers for the gradient and compute the rest again, which saves
            memory and costs time.
    """

    variant: VariantName = "enhanced"
    encoder: Literal["transformer", "mlp"] = "transformer"
    width: Annotated[int, Field(ge=4, le=LARGEST)] = 16
    layers: Count = 1
    heads: Count = 2
    window: TwoOrMore = 16
    convolution: Count = 4
    asset_identity: bool = False
    asset_attention: bool = True
    hidden: Annotated[int, Field(ge=4, le=LARGEST)] = 64
    regime_experts: bool = True
    quantiles: Count = 51
    masked: bool = True
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpoint_layers: bool = False

    @model_validator(mode="before")
    @classmethod
    def _start_from_variant(cls, given: Any) -> Any:
        return with_variant("network", given)

    @model_validator(mode="after")
    def _parts_fit_each_other(self) -> NetworkParameters:
        problems = []
        if self.width % (2 * self.heads):
            problems.append(
                f"`network.width` must be a multiple of 2 x `network.heads` = {2 * self.heads}, was {self.width}; "
                f"try {2 * self.heads * max(1, round(self.width / (2 * self.heads)))}."
            )
        if 1 < self.quantiles < MIN_QUANTILES:
            problems.append(
                f"`network.quantiles` must be 1 (the value alone) or at least {MIN_QUANTILES}, was {self.quantiles}; "
                "set it to 1 or raise it."
            )
        if problems:
            raise ValueError(" ".join(problems))
        return self


def layer_reach(parameters: NetworkParameters) -> int:
    """Bars before its own that one layer reads: W - 1, or none without attention."""
    return 0 if parameters.encoder == "mlp" else parameters.window - 1


def receptive_field(parameters: NetworkParameters) -> int:
    """Bars that one embedding depends on, its own included: L (W - 1) + k, or 1 for the ``mlp``."""
    taps = 1 if parameters.encoder == "mlp" else parameters.convolution
    return parameters.layers * layer_reach(parameters) + taps
