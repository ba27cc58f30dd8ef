"""Simulation over many rows in chunks, so that memory does not grow with the history."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.policies import Policies
from sentio_kedro.trading.records import Accounts, Integers, Market
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.walk import Ledger

CHUNK_ROWS = 4096  # decision rows whose facts and ledger are held at once

PolicyMaker = Callable[[Segment], Policies]
"""Makes the policies at the rows of a chunk: arrays by row begin with its first row, steps with the walk's."""


class Chunk(NamedTuple):
    """Simulated rows.

    Attributes:
        rows: Decision rows S.
        market: Facts of these rows.
        ledger: Ledger ``[S, N, ...]``.
        accounts: Accounts ``[N]`` after the last row; the next chunk changes them.
    """

    rows: Segment
    market: Market
    ledger: Ledger
    accounts: Accounts


def row_chunks(rows: Segment, size: int) -> Iterator[Segment]:
    """Cut rows into consecutive chunks of ``size`` rows, the last one shorter."""
    for start in range(rows.start, rows.stop, size):
        yield Segment(start, min(start + size, rows.stop))


def simulate_rows(
    market: MarketTensors,
    rows: Segment,
    policies: PolicyMaker,
    accounts: Accounts,
    trading: TradingParameters,
    posteriors: Sequence[Tensor] | None = None,
    models: Integers | None = None,
    *,
    telemetry: bool = False,
    chunk: int = CHUNK_ROWS,
) -> Iterator[Chunk]:
    """Simulate accounts ``[N]`` over rows, chunk by chunk, in place.

    Args:
        market: The market.
        rows: Decision rows; the first one is step 0.
        policies: Makes the policies of each chunk.
        accounts: Accounts at the close of the first row.
        trading: Limits and costs.
        posteriors: Filtered regimes ``[T, K]`` of each regime model; None takes the market's.
        models: ``[N]`` regime model of each account; None is the first.
        telemetry: Whether the ledger holds decisions and what each layer of the mask forbids.
        chunk: Rows per chunk; results do not depend on it.
    """
    terms = terms_of(trading, market.assets)
    for part in row_chunks(rows, chunk):
        facts = market_facts(market, *part, trading, posteriors)
        step = part.start - rows.start
        ledger = simulate(
            facts,
            accounts,
            policies(part),
            terms,
            models=models,
            first_step=step,
            trace=telemetry,
            layers=telemetry,
        )
        yield Chunk(part, facts, ledger, accounts)


def final_accounts(chunks: Iterator[Chunk]) -> Accounts:
    """Simulate to the end, drop the chunks, and return the accounts there."""
    return deque(chunks, maxlen=1).pop().accounts
