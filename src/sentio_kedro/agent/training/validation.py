"""Validation: greedy returns net of costs, many short accounts in one batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.network.head_arrays import head_arrays, head_weights
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.training.abstention import MIN_BARS, mean_t_statistic
from sentio_kedro.config import AgentParameters, TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.performance import sharpe_ratio
from sentio_kedro.trading.policies import HEADS, make_policies, with_heads
from sentio_kedro.trading.records import Market
from sentio_kedro.trading.simulate import net_returns, simulate

MIN_DEVIATION = 1e-12  # of returns per bar
CHUNK_BARS = 128  # decisions of one account; each starts flat


def split_validation(
    validation: Sequence[Segment], share: float | None, gap: int
) -> tuple[Sequence[Segment], Sequence[Segment]]:
    """Split validation rows into those that choose weights and later ones that only measure the validation t.

    Args:
        validation: Validation rows in order of time.
        share: Share of the rows that measures; None lets all rows do both.
        gap: Rows between the two, so that no bar is part of a reward on both sides: latency in bars.

    Raises:
        ValueError: If either would have fewer than two rows.
    """
    if share is None:
        return validation, validation
    total = sum(part.stop - part.start for part in validation)
    cut = total - round(share * total)
    choosing, measuring = _between(validation, 0, cut), _between(validation, cut + gap, total)
    for name, rows in (("choose weights", choosing), ("measure the validation t", measuring)):
        count = sum(part.stop - part.start for part in rows)
        if count < MIN_BARS:
            raise ValueError(
                f"`training.abstention.holdout_share` = {share:g} of {total} validation rows leaves {count} to "
                f"{name}; at least {MIN_BARS} are needed: change it, or validate on more rows."
            )
    return choosing, measuring


def validation_rows(
    training_set: TrainingSet, parameters: AgentParameters
) -> tuple[Sequence[Segment], Sequence[Segment]]:
    """Return the validation rows that choose weights, and those that measure an agent's validation t."""
    share, latency = parameters.training.abstention.holdout_share, parameters.trading.orders.latency_bars
    return split_validation(training_set.fold.validation, share, latency)


def scored_rows(training_set: TrainingSet, parameters: AgentParameters) -> tuple[Sequence[Segment], Sequence[Segment]]:
    """Return the rows that score members: the latest train rows, and the validation rows that choose weights."""
    return recent_train_rows(training_set), validation_rows(training_set, parameters)[0]


def recent_train_rows(training_set: TrainingSet) -> list[Segment]:
    """Return the latest train rows, as many as there are validation rows."""
    count = sum(part.stop - part.start for part in training_set.fold.validation)
    last = training_set.fold.train[-1]
    return [Segment(max(last.start, last.stop - count), last.stop)]


def _between(segments: Sequence[Segment], first: int, last: int) -> list[Segment]:
    """Rows number ``first`` to ``last`` (exclusive) of all rows of the segments."""
    parts, passed = [], 0
    for part in segments:
        start, stop = part.start + max(0, first - passed), part.start + max(0, last - passed)
        passed += part.stop - part.start
        if start < min(stop, part.stop):
            parts.append(Segment(start, min(stop, part.stop)))
    return parts


def chunk_starts(segments: Sequence[Segment], length: int) -> list[int]:
    """Return the first rows of whole chunks of ``length`` rows; the rest at a segment's end is dropped."""
    return [start for part in segments for start in range(part.start, part.stop - length + 1, length)]


def chunk_length(segments: Sequence[Segment]) -> int:
    """Return rows per chunk: about ``CHUNK_BARS``, so that whole chunks fill the longest segment."""
    longest = max(part.stop - part.start for part in segments)
    return longest // max(1, round(longest / CHUNK_BARS))


@torch.no_grad()
def greedy_returns(networks: Sequence[PolicyNetwork], windows: Windows, parameters: TradingParameters) -> Tensor:
    """Let an ensemble trade windows greedily, each from a flat start.

    Returns:
        Net simple returns per bar ``[bars]``, window after window.
    """
    count, steps, assets = windows.size, windows.steps, windows.assets
    posterior = windows.posterior[:-1, :, 0].transpose(0, 1)  # [W, S, K]
    embeddings = [network.encoder(windows.features[:, :-1], steps) for network in networks]  # [W, S, A, D]
    projected = [
        network.head.project(x, posterior).flatten(0, 1) for network, x in zip(networks, embeddings, strict=True)
    ]
    rows = torch.stack(projected, dim=1)[:, None]  # [W S, 1, M, A, hidden]
    heads = head_arrays(head_weights([[network.head for network in networks]]), rows, posterior.flatten(0, 1)[:, None])
    policies = make_policies(np.full(count, HEADS), assets, len(parameters.levels))
    policies = with_heads(policies, heads, windows.rows[:, 0] - np.arange(count) * steps)
    ledger = simulate(
        windows.market,
        open_accounts(count, assets, parameters),
        policies,
        terms_of(parameters, assets),
        windows.rows[:, :-1],
        np.arange(count),
        fills=False,
    )
    returns = net_returns(ledger).T.flatten()  # window after window
    return torch.from_numpy(returns).to(windows.features.device)


def chunk_returns(
    networks: Sequence[PolicyNetwork],
    market: MarketTensors,
    segments: Sequence[Segment],
    length: int,
    context: int,
    parameters: TradingParameters,
    facts: Market | None = None,
) -> Tensor:
    """Return the ``greedy_returns`` of whole chunks of ``length`` decisions of segments.

    ``context`` bars are needed by an embedding; ``facts`` are those of the market, None computes them.
    """
    starts = torch.tensor(chunk_starts(segments, length), device=market.close.device)
    return greedy_returns(networks, cut_windows(market, starts, length, context, parameters, facts), parameters)


def validate_parts(
    networks: Sequence[PolicyNetwork],
    market: MarketTensors,
    parts: Sequence[Sequence[Segment]],
    context: int,
    parameters: TradingParameters,
    facts: Market | None = None,
) -> list[Tensor]:
    """Return the net returns ``[bars]`` of each part, such as train and validation rows, simulated in one batch.

    All chunks are as long as the part with the shortest chunks needs. ``facts`` are those of the market, None computes
    them.
    """
    segments, length = [segment for part in parts for segment in part], min(chunk_length(part) for part in parts)
    returns = chunk_returns(networks, market, segments, length, context, parameters, facts)
    return list(torch.split(returns, [len(chunk_starts(part, length)) * length for part in parts]))


class Score(NamedTuple):
    """Greedy net performance of one member.

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
        """Score returns ``[bars]`` on train and on validation rows; NaN where a return is not a number."""
        train, validation = (
            float(sharpe_ratio(part, periods_per_year)) if bool(part.isfinite().all()) else math.nan for part in parts
        )
        return cls(train, validation, parts[1])


def sharpe_lead(better: Tensor, other: Tensor) -> float:
    """Return the difference of two Sharpe ratios on the same rows, in standard errors.

    The returns per bar ``[bars]`` of each account are divided by their deviation, and the mean of the difference by
    its Newey-West standard error, which takes the deviations as known.
    """
    scaled = [returns.double() / returns.double().std().clamp_min(MIN_DEVIATION) for returns in (better, other)]
    return float(mean_t_statistic(scaled[0] - scaled[1]))
