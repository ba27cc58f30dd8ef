"""Size and parts of the policy network."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from sentio_kedro.config.fields import Count, parameters


@parameters
class NetworkParameters:
    """Size of the policy network.

    Attributes:
        width: Width D of the market embedding.
        layers: Attention layers L.
        heads: Attention heads; must divide ``width`` into even parts (rotary positions turn pairs).
        window: Bars W that one attention layer sees, the current one included.
        convolution: Taps k of the causal convolution before the attention.
        hidden: Width of the account head.
        quantiles: Quantiles of the critic.
    """

    width: Annotated[int, Field(ge=4)] = 16
    layers: Count = 1
    heads: Count = 2
    window: Annotated[int, Field(ge=2)] = 16
    convolution: Count = 4
    hidden: Annotated[int, Field(ge=4)] = 32
    quantiles: Annotated[int, Field(ge=3)] = 51

    @model_validator(mode="after")
    def _heads_divide_width(self) -> NetworkParameters:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"`network.width` must be a multiple of 2 x `network.heads` = {2 * self.heads}, was {self.width}; "
                f"try {2 * self.heads * max(1, round(self.width / (2 * self.heads)))}."
            )
        return self
