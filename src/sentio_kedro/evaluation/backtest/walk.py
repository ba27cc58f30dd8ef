"""Simulation over many rows in chunks, so that memory does not grow with the history."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import terms_of
from sentio_kedro.trading.facts import market_facts, market_outline
from sentio_kedro.trading.records import Accounts, Integers, Market
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.policies import Policies
from sentio_kedro.trading.step.walk import Ledger

CHUNK_ASSET_BARS = 12_800  # assets x decision rows that are walked at once: larger arrays come fresh from the system
LEDGER_ROWS = 2**19  # assets x accounts x decision rows, likewise

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


def chunk_rows(assets: int, accounts: int = 1) -> int:
    """Return the rows that are walked at once."""
    return max(1, min(CHUNK_ASSET_BARS // assets, LEDGER_ROWS // (assets * accounts)))


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
    chunk: int | None = None,
) -> Iterator[Chunk]:
    """Simulate accounts ``[N]`` over rows, chunk by chunk, in place; one thread prepares the next chunk's policies.

    Args:
        market: The market.
        rows: Decision rows; the first one is step 0.
        policies: Makes the policies of each chunk.
        accounts: Accounts at the close of the first row.
        trading: Limits and costs.
        posteriors: Filtered regimes ``[T, K]`` of each regime model; None takes the market's.
        models: ``[N]`` regime model of each account; None is the first.
        telemetry: Whether the ledger holds decisions and what each layer of the mask forbids.
        chunk: Rows per chunk; results do not depend on it. None takes ``chunk_rows``.
    """
    terms = terms_of(trading, market.assets)
    parts = list(row_chunks(rows, chunk or chunk_rows(market.assets, accounts.size)))
    outline = market_outline(market)
    with ThreadPoolExecutor(1) as ahead:
        coming = [ahead.submit(policies, part) for part in parts[:1]]
        for number, part in enumerate(parts):
            facts = market_facts(market, *part, trading, posteriors, outline)
            decided = coming.pop().result()
            coming += [ahead.submit(policies, later) for later in parts[number + 1 : number + 2]]
            ledger = simulate(
                facts,
                accounts,
                decided,
                terms,
                models=models,
                first_step=part.start - rows.start,
                trace=telemetry,
                layers=telemetry,
            )
            yield Chunk(part, facts, ledger, accounts)


def final_accounts(chunks: Iterator[Chunk]) -> Accounts:
    """Simulate to the end, drop the chunks, and return the accounts there."""
    return deque(chunks, maxlen=1).pop().accounts
