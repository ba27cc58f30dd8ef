"""Bootstrapped paths of test rows, with prices continued where blocks join."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.evaluation.statistics.bootstrap import default_block, stationary_bootstrap_indices
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.trading.step_data import StepData

PRICES = ("close", "open", "next_close", "high", "low", "dividend")


def draw_rows(rows: int, paths: Sequence[int | None], block_bars: float | None, rng: np.random.Generator) -> Tensor:
    """Draw the steps ``[rows, V]`` of a segment that each variant simulates.

    Args:
        rows: Steps of the segment.
        paths: Path number of each variant, None for the market as it was; variants with one number share the path.
        block_bars: Mean block of the stationary bootstrap (Politis and Romano 1994); None takes the root of ``rows``.
        rng: Source of the draws.
    """
    numbers = sorted({path for path in paths if path is not None})
    block = default_block(rows) if block_bars is None else block_bars
    drawn = torch.from_numpy(stationary_bootstrap_indices(rows, max(1, len(numbers)), block, rng)) if numbers else None
    column = torch.arange(rows)
    return torch.stack(
        [column if drawn is None or path is None else drawn[numbers.index(path)] for path in paths], dim=1
    )


class PathPrices:
    """Price levels along paths: each step keeps its own ratios and goes on from the last close."""

    def __init__(self, on_path: Sequence[bool]) -> None:
        """Take which of V variants follow a path; the others see prices as they were."""
        self.on_path = torch.tensor(on_path)
        self.last: Tensor | None = None  # [paths, A] last close of each path

    def rescale(self, step_data: StepData) -> StepData:
        """Rescale step data ``[S, V, 1, A]`` that follows that of the call before.

        Prices and dividends scale, and shares traded in the market inversely, so that its value in quote currency is
        that of the source row; spreads, volatilities and caps are ratios already.
        """
        if not bool(self.on_path.any()):
            return step_data
        close, after = step_data.close[:, self.on_path, 0], step_data.next_close[:, self.on_path, 0]  # [S, paths, A]
        begin = torch.ones_like(close[0]) if self.last is None else self.last / close[0]
        joins = torch.cat([begin[None], after[:-1] / close[1:]])  # 1 where rows follow each other
        level = joins.cumprod(0)
        self.last = (level * after)[-1]
        scale = torch.ones_like(step_data.close)
        scale[:, self.on_path, 0] = level
        scaled = {name: value * scale for name in PRICES if (value := getattr(step_data, name)) is not None}
        if step_data.impact is not None:  # per root of a share
            scaled["impact"] = step_data.impact * scale.sqrt()
        if step_data.max_shares is not None:
            scaled["max_shares"] = step_data.max_shares / scale
        return step_data._replace(**scaled)


def begin_sessions(step_data: StepData, source: Tensor, steps: Segment) -> StepData:
    """Let a session begin where two blocks join; ``source`` ``[rows, V]`` holds all steps of the segment."""
    if step_data.session_starts is None:
        return step_data
    joins = torch.zeros_like(source, dtype=torch.bool)
    joins[1:] = source[1:] != source[:-1] + 1
    return step_data._replace(session_starts=step_data.session_starts | joins[slice(*steps), :, None, None])
