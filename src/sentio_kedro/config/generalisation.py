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
        mirror_blocks: Mirror each block in log price with probability one half. Forgets drift, and even signals that
            are not turned.
        flip_invariant: Where a bar is mirrored, change the sign of what mirroring leaves as it is and screening finds
            to predict the return whatever the regime: the value of an even column such as volume, about its mean, and
            sizes. Else random signs forget it. Needs ``training.screening``. What is skewed tells by its turned values
            that a bar is mirrored, so that drift is not quite forgotten beside it.
        detrended: Take each asset's mean return over the train rows from its paths. Forgets drift alone.
    """

    block_bars: Annotated[int, Field(ge=0)] = 128
    mirror_blocks: bool = True
    flip_invariant: bool = True
    detrended: bool = False

    @property
    def mirrors(self) -> bool:
        """Whether bars of a path may be mirrored."""
        return self.mirror_blocks and self.block_bars > 0


@parameters
class AbstentionParameters:
    """When an agent stays out of the market because nothing shows that it has found anything.

    Attributes:
        threshold: The agent trades only if the t statistic of its mean net return per bar on the validation rows is
            above this; else it stays flat everywhere. Null is off.
        holdout_share: Share of the validation rows, the latest, that is kept from the choice of weights and from
            early stopping, and on which alone the t statistic is measured; 0 chooses and measures on all of them,
            which makes it too high.
    """

    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    holdout_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
