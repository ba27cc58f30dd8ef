"""Windows of a market path, the input of a rollout."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.agent.network.encoder import Encoder
from sentio_kedro.config import TradingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.observations import reward_unit
from sentio_kedro.trading.precompute import make_step_data
from sentio_kedro.trading.step_data import StepData


class Windows(NamedTuple):
    """Windows of a market path with the context that their embeddings need.

    Attributes:
        features: ``[W, C + S + 1, A, F]``: C context bars, S decisions, and the bar that the end bootstraps on.
        posterior: ``[S + 1, W, 1, K]``.
        unit: ``[S, W, 1, A]`` unit of reward at the decisions, fraction of equity.
        step_data: Market facts of the S decisions and of the bar after, which is only observed
            ``[S + 1, W, 1, A]``.
        signs: ``[W, C + S + 1]`` -1 where a bar is mirrored, else 1; None mirrors nothing.
        dropout: ``[W, layers, D]`` from ``draw_dropout``, the same in the rollout and all its updates; None drops
            nothing.
    """

    features: Tensor
    posterior: Tensor
    unit: Tensor
    step_data: StepData
    signs: Tensor | None = None
    dropout: Tensor | None = None

    @property
    def decisions(self) -> StepData:
        """Market facts of the S decisions alone."""
        return self.step_data.part(0, self.step_data.steps - 1)

    def embedded(self, encoder: Encoder) -> Tensor:
        """Embed the decisions and the bar after them: ``[S + 1, W, 1, A, D]``."""
        embedded = encoder(self.features, self.step_data.steps, self.dropout, self.signs)
        return torch.as_tensor(embedded).transpose(0, 1)[:, :, None]

    def embedded_decisions(self, encoder: Encoder, index: Tensor) -> Tensor:
        """Embed the decisions of the windows in ``index`` ``[w]``: ``[S, w, 1, A, D]``."""
        dropout = None if self.dropout is None else self.dropout[index]
        signs = None if self.signs is None else self.signs[index, :-1]
        embedded = encoder(self.features[index, :-1], self.step_data.steps - 1, dropout, signs)
        return torch.as_tensor(embedded).transpose(0, 1)[:, :, None]


def cut_windows(
    market: MarketTensors, starts: Tensor, steps: int, context: int, parameters: TradingParameters
) -> Windows:
    """Cut windows of ``steps`` decisions that start at rows ``starts`` ``[W]``, each with ``context`` bars before."""
    span = torch.arange(-context, steps + 1, device=starts.device)
    rows = starts[None, :, None] + torch.arange(steps + 1, device=starts.device)[:, None, None]  # [S + 1, W, 1]
    step_data = make_step_data(market, rows, parameters)
    bars = starts[:, None] + span  # [W, C + S + 1]
    return Windows(
        features=market.features[bars],
        posterior=market.posterior[rows],
        unit=reward_unit(step_data, market.volatility[rows], parameters)[:-1],
        step_data=step_data,
        signs=None if market.signs is None else market.signs[bars],
    )
