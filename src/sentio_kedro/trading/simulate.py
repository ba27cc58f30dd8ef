"""The one loop that walks a policy over rows: rollout, validation, backtest, baselines and serving."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.action_masks import legal_actions, level_mask
from sentio_kedro.trading.execution import AccountState, BarPair, Decision, Fill, execute

RUIN = 1e-9  # of the first equity; what is below counts as nothing


class Policy(Protocol):
    """Decides for a batch of accounts."""

    def __call__(self, step: int, account: AccountState, close: Tensor, legal: Tensor) -> Decision:
        """Decide at one step.

        Args:
            step: Index into the walk, 0 to S - 1.
            account: Accounts ``[...]`` marked at the close of the decision bar.
            close: ``[..., A]`` prices of the decision bar.
            legal: ``[..., A, actions]`` legal actions.

        Returns:
            The decision ``[..., A]``.
        """
        ...


class Prices(NamedTuple):
    """Prices along a walk, each ``[S, ..., A]``, gathered once so that the loop only indexes."""

    close: Tensor
    tradable: Tensor
    next_open: Tensor
    next_close: Tensor
    next_tradable: Tensor


def gather_prices(market: MarketTensors, rows: Tensor) -> Prices:
    """Look up the prices of decision rows ``[S, ...]`` and of the bar after each."""
    after = rows + 1
    return Prices(
        market.close[rows], market.tradable[rows], market.open[after], market.close[after], market.tradable[after]
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside: a walk is a chain of operations too small to wake threads for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def net_returns(fill: Fill) -> Tensor:
    """Simple returns of equity per step ``[S, ...]``: -1 where an account dies, 0 afterwards.

    Args:
        fill: Ledger of a walk ``[S, ...]``.
    """
    floor = fill.equity_before[:1].clamp_min(1e-12) * RUIN
    return torch.maximum(fill.equity, floor) / torch.maximum(fill.equity_before, floor) - 1.0


def simulate(
    prices: Prices, policy: Policy, account: AccountState, parameters: TradingParameters
) -> tuple[AccountState, Fill]:
    """Walk ``policy`` along ``prices``.

    Args:
        prices: Prices of S steps, broadcastable to the accounts' shape.
        policy: Who decides.
        account: Accounts at the close of the first decision row.
        parameters: Limits and costs.

    Returns:
        Accounts after the last fill, and the ledger of all steps ``[S, ...]``.
    """
    fills: list[Fill] = []
    levels = level_mask(parameters, prices.close.shape[-1], prices.close)
    for step in range(prices.close.shape[0]):
        close = prices.close[step]
        legal = legal_actions(account, close, prices.tradable[step], parameters, levels)
        decision = policy(step, account, close, legal)
        bars = BarPair(close, prices.next_open[step], prices.next_close[step], prices.next_tradable[step])
        account, fill = execute(account, decision, bars, parameters)
        fills.append(fill)
    return account, Fill(*(torch.stack(column) for column in zip(*fills, strict=True)))
