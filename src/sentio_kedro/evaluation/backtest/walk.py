"""Simulation over many rows in chunks, so that memory does not grow with the history."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import AccountState, Variation
from sentio_kedro.trading.precompute import make_step_data
from sentio_kedro.trading.simulate import Advance, Policy, Step, advance, one_thread, simulate
from sentio_kedro.trading.step_data import StepData

CHUNK_ROWS = 4096  # decision rows whose step data and ledger are held at once

PolicyMaker = Callable[[Segment], Policy]
"""Makes the policy that decides at the rows of a chunk; its step 0 is the chunk's first row."""


class Chunk(NamedTuple):
    """Simulated rows.

    Attributes:
        rows: Decision rows S.
        step_data: Step data ``[S, 1, A]``.
        step: Ledger and policy trace ``[S, N, ...]``.
        account: Accounts ``[N]`` after the last row.
    """

    rows: Segment
    step_data: StepData
    step: Step
    account: AccountState


def row_chunks(rows: Segment, size: int) -> Iterator[Segment]:
    """Cut rows into consecutive chunks of ``size`` rows, the last one shorter."""
    for start in range(rows.start, rows.stop, size):
        yield Segment(start, min(start + size, rows.stop))


def simulate_rows(
    market: MarketTensors,
    rows: Segment,
    policy: PolicyMaker,
    account: AccountState,
    trading: TradingParameters,
    posterior: Tensor | None = None,
    variation: Variation | None = None,
    telemetry: bool = False,
    chunk: int = CHUNK_ROWS,
    step: Advance = advance,
) -> Iterator[Chunk]:
    """Simulate accounts ``[N]`` over rows, chunk by chunk.

    Args:
        market: The market.
        rows: Decision rows.
        policy: Makes the policy of each chunk.
        account: Accounts at the close of the first row.
        trading: Limits and costs.
        posterior: ``[rows, N, K]`` or ``[rows, 1, K]`` regime probabilities of each account; None takes the market's.
        variation: Accounts that differ.
        telemetry: Whether the ledger holds positions, what limits cut and what each layer of the mask forbids.
        chunk: Rows per chunk; results do not depend on it.
        step: The step function; ``ppo.compiled.CompiledStep`` is a faster one.
    """
    for part in row_chunks(rows, chunk):
        regimes = None if posterior is None else posterior[part.start - rows.start : part.stop - rows.start]
        with torch.no_grad():
            step_data = make_step_data(market, torch.arange(*part)[:, None], trading, regimes)
            decide = policy(part)
            with one_thread():
                account, result = simulate(
                    step_data, decide, account, trading, variation, telemetry=telemetry, step=step
                )
        yield Chunk(part, step_data, result, account)


def final_account(chunks: Iterator[Chunk]) -> AccountState:
    """Simulate to the end, drop the chunks, and return the accounts there."""
    return deque(chunks, maxlen=1).pop().account
