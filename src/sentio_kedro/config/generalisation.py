"""Measures against overfitting to one price history."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sentio_kedro.config.fields import Count, null_is_off, parameters


@parameters
class ResamplingParameters:
    """Synthetic train paths, drawn anew for every update so that no network can memorise one price history.

    Attributes:
        block_bars: Mean length of the blocks of consecutive train bars in a path; null replays the history.
        mirror_blocks: Mirror each block in log price with probability one half. Removes drift, and signals of
            mirror-invariant features that are not flipped.
        flip_invariant: On a mirrored bar, change the sign of the mirror-invariant inputs that screening selects
            whatever the regime: values of columns such as volume, about their mean, and sizes. Otherwise mirrored
            blocks remove their signal. Needs ``training.screening``. A skewed input reveals by its flipped values that
            a bar is mirrored, so that some drift remains.
        detrended: Subtract each asset's mean return over the train rows from its paths. Removes drift alone.
    """

    block_bars: Annotated[Count | None, null_is_off("training.resampling.block_bars")] = 128
    mirror_blocks: bool = True
    flip_invariant: bool = True
    detrended: bool = False

    @property
    def mirrors(self) -> bool:
        """Return whether bars of a path may be mirrored."""
        return self.mirror_blocks and self.block_bars is not None


@parameters
class AbstentionParameters:
    """Abstention gate: stay flat unless validation profit is significant.

    Attributes:
        threshold: The agent trades only if the t statistic of its mean net return per bar on the validation rows is
            above this; else it stays flat everywhere. Null is off.
        holdout_share: Share of the validation rows, the latest, that is excluded from the choice of weights and from
            early stopping, and that alone measures the t statistic; null chooses and measures on all rows, which makes
            the t statistic too high.
    """

    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    holdout_share: Annotated[
        Annotated[float, Field(gt=0.0, lt=1.0)] | None, null_is_off("training.abstention.holdout_share")
    ] = None
