"""Windows of a market path, the input of a rollout."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.network.encoder import Encoder
from sentio_kedro.config import TradingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.records import Integers, Market


class Windows(NamedTuple):
    """Windows of a market path: tensors for the network, and rows of the path for the step.

    Attributes:
        features: ``[W, C + S + 1, A, F]``: C context bars, S decisions, and the bar that the end bootstraps on.
        posterior: ``[S + 1, W, 1, K]``.
        unit: ``[S, W, 1, A]`` unit of reward at the decisions, fraction of equity.
        market: Facts of the whole path, on the CPU in double precision.
        rows: ``[W, S + 1]`` rows of the decisions and of the bar after, which is only observed.
        risk_price: Price of risk a bar, units of reward.
        dropout: ``[W, layers, D]`` from ``draw_dropout``, the same in the rollout and all its updates; None drops
            nothing.
    """

    features: Tensor
    posterior: Tensor
    unit: Tensor
    market: Market
    rows: Integers
    risk_price: float = 0.0
    dropout: Tensor | None = None

    @property
    def size(self) -> int:
        """Number of windows W."""
        return len(self.rows)

    @property
    def steps(self) -> int:
        """Number of decisions S."""
        return int(self.rows.shape[1]) - 1

    @property
    def assets(self) -> int:
        """Number of assets A."""
        return self.features.shape[2]

    def embedded(self, encoder: Encoder) -> Tensor:
        """Embed the decisions and the bar after them: ``[S + 1, W, 1, A, D]``."""
        embedded = encoder(self.features, self.steps + 1, self.dropout)
        return torch.as_tensor(embedded).transpose(0, 1)[:, :, None]

    def embedded_decisions(self, encoder: Encoder, index: Tensor) -> Tensor:
        """Embed the decisions of the windows in ``index`` ``[w]``: ``[S, w, 1, A, D]``."""
        dropout = None if self.dropout is None else self.dropout[index]
        embedded = encoder(self.features[index, :-1], self.steps, dropout)
        return torch.as_tensor(embedded).transpose(0, 1)[:, :, None]


def path_facts(market: MarketTensors, parameters: TradingParameters) -> Market:
    """Facts of all rows of a path; row 0 is the path's first."""
    return market_facts(market.to(torch.device("cpu"), torch.float64), 0, market.bars, parameters)


def cut_windows(
    market: MarketTensors,
    starts: Tensor,
    steps: int,
    context: int,
    parameters: TradingParameters,
    facts: Market | None = None,
) -> Windows:
    """Cut windows of ``steps`` decisions that start at rows ``starts`` ``[W]``, each with ``context`` bars before.

    ``facts`` are the ``path_facts`` of the market; None computes them.
    """
    facts = path_facts(market, parameters) if facts is None else facts
    span = torch.arange(-context, steps + 1, device=starts.device)
    bars = starts[:, None] + span  # [W, C + S + 1]
    rows = starts.cpu().numpy().astype(np.int64)[:, None] + np.arange(steps + 1)  # [W, S + 1]
    unit = torch.from_numpy(np.ascontiguousarray(facts.facts.reward_unit[rows[:, :-1].T]))  # [S, W, A]
    return Windows(
        features=market.features[bars],
        posterior=market.posterior[bars[:, context:].T, None],
        unit=unit.to(market.features)[:, :, None],
        market=facts,
        rows=rows,
    )
