"""Validation: greedy returns net of costs of one account over all rows, as it would be traded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.data.windows import Windows, cut_windows, path_facts
from sentio_kedro.agent.network.head_arrays import HeadWeights, head_arrays, head_weights
from sentio_kedro.agent.network.network import PolicyNetwork
from sentio_kedro.agent.training.abstention import mean_t_statistic
from sentio_kedro.config import TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.performance import sharpe_ratio
from sentio_kedro.trading.records import Market
from sentio_kedro.trading.simulate import net_returns, simulate
from sentio_kedro.trading.step.policies import HEADS, make_policies, with_heads

MIN_DEVIATION = 1e-12  # of returns per bar


def recent_train_rows(training_set: TrainingSet) -> list[Segment]:
    """Return the latest train rows, as many as there are validation rows."""
    count = sum(part.stop - part.start for part in training_set.fold.validation)
    last = training_set.learned[-1]
    return [Segment(max(last.start, last.stop - count), last.stop)]


@torch.no_grad()
def account_returns(
    networks: Sequence[PolicyNetwork],
    market: MarketTensors,
    segments: Sequence[Segment],
    context: int,
    parameters: TradingParameters,
    facts: Market | None = None,
    fixed_level: float = math.nan,
) -> Tensor:
    """Let an ensemble trade segments greedily, one account over each, as it would be traded.

    Args:
        networks: The ensemble.
        market: The market that ``segments`` are rows of.
        segments: Decision rows; each account opens flat and is followed to its last row.
        context: Bars before its own that an embedding depends on.
        parameters: Limits and costs.
        facts: Those of the market; None computes them.
        fixed_level: Level that is taken whatever the networks say; NaN lets them decide.

    Returns:
        Net simple returns per bar ``[bars]``, segment after segment.
    """
    facts = path_facts(market, parameters) if facts is None else facts
    weights = head_weights([[network.head for network in networks]], [fixed_level])
    returns = []
    for part in segments:
        start = torch.tensor([part.start], device=market.close.device)
        windows = cut_windows(market, start, part.stop - part.start, context, parameters, facts)
        returns.append(_greedy_returns(networks, weights, windows, parameters))
    return torch.cat(returns)


def _greedy_returns(
    networks: Sequence[PolicyNetwork], weights: HeadWeights, windows: Windows, parameters: TradingParameters
) -> Tensor:
    """Net simple returns ``[bars]`` of one account over the only window."""
    posterior = windows.posterior[:-1, 0]  # [S, 1, K]
    embeddings = [network.encoder(windows.features[:, :-1], windows.steps)[0] for network in networks]  # [S, A, D]
    projected = [network.head.project(x, posterior[:, 0]) for network, x in zip(networks, embeddings, strict=True)]
    heads = head_arrays(weights, torch.stack(projected, dim=1)[:, None], posterior)  # [S, 1, M, A, hidden]
    policies = make_policies(np.array([HEADS]), windows.assets, len(parameters.levels))
    ledger = simulate(
        windows.market,
        open_accounts(1, windows.assets, parameters),
        with_heads(policies, heads, windows.rows[:, 0]),
        terms_of(parameters, windows.assets),
        windows.rows[:, :-1],
        fills=False,
    )
    return torch.from_numpy(net_returns(ledger)[:, 0]).to(windows.features.device)


def validate_parts(
    networks: Sequence[PolicyNetwork],
    market: MarketTensors,
    parts: Sequence[Sequence[Segment]],
    context: int,
    parameters: TradingParameters,
    facts: Market,
) -> list[Tensor]:
    """Return the ``account_returns`` ``[bars]`` of each part, such as train and validation rows."""
    return [account_returns(networks, market, part, context, parameters, facts) for part in parts]


class Score(NamedTuple):
    """Greedy net performance of one member.

    Attributes:
        train_sharpe: Annualised Sharpe ratio on the latest train rows.
        validation_sharpe: The same on the validation rows.
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
