"""Judging a policy on rows: many short accounts side by side, greedy, net of costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.ppo.rollout import EnsemblePolicy
from sentio_kedro.agent.training.abstention import mean_t_statistic
from sentio_kedro.config import TradingParameters
from sentio_kedro.market.fold_shapes import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts
from sentio_kedro.trading.action_masks import where_chosen
from sentio_kedro.trading.performance import sharpe_ratio
from sentio_kedro.trading.simulate import net_returns, simulate

MIN_BARS = 2  # rows that have a deviation
MIN_DEVIATION = 1e-12  # of returns per bar
CHUNK_BARS = 128  # decisions of one account; each starts flat


def split_validation(
    validation: Sequence[Segment], share: float | None, gap: int
) -> tuple[Sequence[Segment], Sequence[Segment]]:
    """Split validation rows into those that choose weights and later ones that only measure evidence.

    Args:
        validation: Validation rows in order of time.
        share: Share of the rows that measures; None lets all rows do both.
        gap: Rows left out between the two, so that no bar is part of a reward on both sides: latency in bars.

    Returns:
        Rows that choose and rows that measure.

    Raises:
        ValueError: If either would have fewer than two rows.
    """
    if share is None:
        return validation, validation
    total = sum(part.stop - part.start for part in validation)
    cut = total - round(share * total)
    choosing, measuring = _between(validation, 0, cut), _between(validation, cut + gap, total)
    for name, rows in (("choose weights", choosing), ("measure evidence", measuring)):
        count = sum(part.stop - part.start for part in rows)
        if count < MIN_BARS:
            raise ValueError(
                f"`training.abstention.holdout_share` = {share:g} of {total} validation rows leaves {count} to "
                f"{name}; at least {MIN_BARS} are needed: change it, or validate on more rows."
            )
    return choosing, measuring


def _between(segments: Sequence[Segment], first: int, last: int) -> list[Segment]:
    """Rows number ``first`` to ``last`` (exclusive) of all rows of the segments."""
    found, passed = [], 0
    for part in segments:
        start, stop = part.start + max(0, first - passed), part.start + max(0, last - passed)
        passed += part.stop - part.start
        if start < min(stop, part.stop):
            found.append(Segment(start, min(stop, part.stop)))
    return found


def chunk_starts(segments: Sequence[Segment], length: int) -> list[int]:
    """Cut segments into whole chunks of ``length`` rows; a rest shorter than a chunk at a segment's end is dropped."""
    return [start for part in segments for start in range(part.start, part.stop - length + 1, length)]


def chunk_length(segments: Sequence[Segment]) -> int:
    """Rows per chunk: about ``CHUNK_BARS``, so that whole chunks fill the longest segment."""
    longest = max(part.stop - part.start for part in segments)
    return longest // max(1, round(longest / CHUNK_BARS))


@torch.no_grad()
def judge(
    networks: Sequence[PolicyNetwork],
    market: MarketTensors,
    segments: Sequence[Segment],
    length: int,
    context: int,
    parameters: TradingParameters,
) -> Tensor:
    """Let an ensemble trade rows greedily, in chunks of equal length.

    Args:
        networks: Members.
        market: The market, on the members' device.
        segments: Decision rows to judge, given by the caller: train or validation rows, never test rows.
        length: Rows per chunk.
        context: Bars that an embedding needs before its own.
        parameters: Limits and costs.

    Returns:
        Net simple returns per bar ``[bars]``, chunk after chunk; not numbers if a decision had no legal action.
    """
    windows = chunk_windows(market, segments, length, context, parameters)
    return greedy_returns(networks, windows, parameters)


def chunk_windows(
    market: MarketTensors, segments: Sequence[Segment], length: int, context: int, parameters: TradingParameters
) -> Windows:
    """Cut the chunks that ``judge`` lets an ensemble trade, with their context; arguments as there."""
    starts = torch.tensor(chunk_starts(segments, length), device=market.close.device)
    return cut_windows(market, starts, length, context, parameters)


@torch.no_grad()
def greedy_returns(networks: Sequence[PolicyNetwork], windows: Windows, parameters: TradingParameters) -> Tensor:
    """Let an ensemble trade windows greedily, each from a flat start: net simple returns ``[bars]``, one after another.

    Pure.
    """
    length = windows.step_data.steps - 1
    posterior = windows.posterior[:-1]  # [S, W, 1, K]
    embeddings = [network.encoder(windows.features[:, :-1], length).transpose(0, 1)[:, :, None] for network in networks]
    projected = [network.head.project(x, posterior) for network, x in zip(networks, embeddings, strict=True)]
    policy = EnsemblePolicy([network.head for network in networks], projected, posterior, parameters)
    close = windows.step_data.close  # [S + 1, W, 1, A]
    cash = close.new_full((close.shape[1], 1), parameters.initial_cash)
    account = open_accounts(cash, windows.step_data.assets, parameters.orders.latency_bars)
    _, (fill, (_, legal)) = simulate(windows.decisions, policy, account, parameters)
    return where_chosen(net_returns(fill)[..., 0].transpose(0, 1).flatten(), legal)


def validate_parts(
    networks: Sequence[PolicyNetwork],
    market: MarketTensors,
    parts: Sequence[Sequence[Segment]],
    context: int,
    parameters: TradingParameters,
) -> list[Tensor]:
    """Net simple returns per bar of each part's rows, all walked in one batch.

    Args:
        networks: Members.
        market: The market, on the members' device.
        parts: Groups of segments, such as train rows and validation rows.
        context: Bars that an embedding needs before its own.
        parameters: Limits and costs.

    Returns:
        ``[bars]`` per part as of ``judge``; all chunks are as long as the part with the shortest ones wants them.
    """
    length = shared_length(parts)
    segments = [segment for part in parts for segment in part]
    return split_parts(judge(networks, market, segments, length, context, parameters), parts)


def shared_length(parts: Sequence[Sequence[Segment]]) -> int:
    """Rows per chunk where several parts are walked in one batch."""
    return min(chunk_length(part) for part in parts)


def split_parts(returns: Tensor, parts: Sequence[Sequence[Segment]]) -> list[Tensor]:
    """Give each part its own of the returns ``[bars]`` of all of them."""
    length = shared_length(parts)
    return list(torch.split(returns, [len(chunk_starts(part, length)) * length for part in parts]))


class Score(NamedTuple):
    """What weights earned, greedy and net of costs.

    Attributes:
        train_sharpe: Annualised Sharpe ratio on the latest train rows.
        validation_sharpe: The same on the validation rows that choose.
        returns: Simple returns per bar on those ``[bars]``.
    """

    train_sharpe: float
    validation_sharpe: float
    returns: Tensor

    @classmethod
    def of(cls, parts: Sequence[Tensor], periods_per_year: float) -> Score:
        """Score returns on train and on validation rows, each ``[bars]``; NaN where a return is not a number."""
        train, validation = (
            float(sharpe_ratio(part, periods_per_year)) if bool(part.isfinite().all()) else math.nan for part in parts
        )
        return cls(train, validation, parts[1])


def lead(better: Tensor, other: Tensor) -> float:
    """Difference of two Sharpe ratios on the same rows, in standard errors.

    Each account's returns per bar ``[bars]`` are divided by their deviation, and the mean of the difference by its
    Newey-West standard error. That the deviations are estimates is left out.
    """
    scaled = [returns.double() / returns.double().std().clamp_min(MIN_DEVIATION) for returns in (better, other)]
    return float(mean_t_statistic(scaled[0] - scaled[1]))
