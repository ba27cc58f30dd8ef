"""What keeps an agent from learning one price history by heart."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sentio_kedro.config.fields import parameters


@parameters
class ResamplingParameters:
    """Synthetic train paths, drawn anew for every update so that one price history cannot be learnt by heart.

    Attributes:
        block_bars: Mean length of the blocks of consecutive train bars that a path is made of; 0 replays the history.
        random_signs: Mirror each block in log price with probability one half. Forgets drift and even signals.
    """

    block_bars: Annotated[int, Field(ge=0)] = 128
    random_signs: bool = True
