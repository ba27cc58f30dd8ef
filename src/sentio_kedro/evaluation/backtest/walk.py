"""Walks over many rows, piece by piece, so that memory does not grow with the history."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.fold_shapes import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import AccountState, Variation
from sentio_kedro.trading.precompute import make_step_data
from sentio_kedro.trading.simulate import Advance, Policy, Step, advance, one_thread, simulate
from sentio_kedro.trading.step_data import StepData

CHUNK_ROWS = 4096  # decision rows whose facts and ledger are held at once

Chunks = Iterator[tuple[Segment, StepData, Step]]
PolicyMaker = Callable[[Segment], Policy]
"""Makes the policy that decides at the rows of a piece; its step 0 is the piece's first row."""


def pieces(rows: Segment, size: int) -> Iterator[Segment]:
    """Cut rows into consecutive pieces of ``size`` rows, the last one shorter."""
    for start in range(rows.start, rows.stop, size):
        yield Segment(start, min(start + size, rows.stop))


class ChunkedSimulation:
    """A walk under way: iterate over it once.

    Attributes:
        account: Accounts after the last piece that was walked.
    """

    def __init__(self, account: AccountState, walked: Callable[[ChunkedSimulation], Chunks]) -> None:
        """Take accounts at the close of the first row, and what walks them on; see ``simulate_rows``."""
        self.account = account
        self._walked = walked(self)

    def __iter__(self) -> Chunks:
        """Walk piece by piece."""
        return self._walked

    def finish(self) -> AccountState:
        """Walk to the end, keep nothing of the way, and return the accounts there."""
        for _ in self:
            pass
        return self.account


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
) -> ChunkedSimulation:
    """Walk accounts ``[N]`` along rows, in pieces whose ledger is the caller's to keep or to forget.

    Args:
        market: The market.
        rows: Decision rows.
        policy: Makes the policy of each piece.
        account: Accounts at the close of the first row.
        trading: Limits and costs.
        posterior: ``[rows, N, K]`` or ``[rows, 1, K]`` regime probabilities of each account; None takes the market's.
        variation: Accounts that differ.
        telemetry: Whether the ledger tells positions, what limits cut and what each layer of the mask forbade.
        chunk: Rows per piece; results do not depend on it.
        step: The step to take; ``compilation.CompiledStep`` gives a faster one.

    Returns:
        An iterable over ``(rows, tape, step)`` of the pieces: facts ``[S, 1, A]``, ledger and records ``[S, N, ...]``.
        Its ``account`` is the state after the last piece walked.
    """

    def walked(walk: ChunkedSimulation) -> Chunks:
        for piece in pieces(rows, chunk):
            known = None if posterior is None else posterior[piece.start - rows.start : piece.stop - rows.start]
            with torch.no_grad():
                step_data = make_step_data(market, torch.arange(*piece)[:, None], trading, known)
                deciding = policy(piece)
                with one_thread():
                    walk.account, happened = simulate(
                        step_data, deciding, walk.account, trading, variation, telemetry=telemetry, step=step
                    )
            yield piece, step_data, happened

    return ChunkedSimulation(account, walked)
