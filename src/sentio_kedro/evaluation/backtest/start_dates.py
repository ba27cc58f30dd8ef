"""The start-date test: the same agent begun later in each fold should come to hold the same book."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from sentio_kedro.agent.ensemble import AgentNetworks
from sentio_kedro.evaluation.backtest.baselines.schedules import last_step
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.ledger_frames import equity_returns
from sentio_kedro.evaluation.backtest.walk import simulate_rows
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.trading.step.limits import MIN_EQUITY
from sentio_kedro.trading.step.policies import HEADS, Policies, make_policies, with_heads


class StartResults(NamedTuple):
    """Accounts of one agent that were begun at V shares of each test segment.

    Attributes:
        returns: ``[T, V]`` simple returns, net, on the rows of all segments on which the last one has started.
        turnover: ``[T, V]`` traded notional over equity on these rows.
        correlation: ``[V]`` of positions with those of the account begun first, where both have started: the mean over
            segments; NaN where no account ever held anything.
    """

    returns: Floats
    turnover: Floats
    correlation: Floats


def simulate_starts(context: BacktestContext, folds: Sequence[Fold], shares: Sequence[float]) -> StartResults:
    """Begin fresh, flat accounts at ``shares`` of the rows of each test segment, rising, and close them at its end.

    A forecast rule is followed from the account's first row too, but for share 0.

    Args:
        context: The market and the agent of each fold.
        folds: Folds with the rows to test.
        shares: V shares of a segment's rows that an account stays out.
    """
    parts = []
    for fold in folds:
        for segment in fold.test:
            starts = [int(share * (segment.stop - segment.start)) for share in shares]
            walks = [_simulate_segment(context, fold, segment, start) for start in starts]
            positions, returns, turnover = (np.stack(part, axis=1) for part in zip(*walks, strict=True))
            correlation = np.array([held_correlation(positions[start:, [0, v]]) for v, start in enumerate(starts)])
            parts.append((returns[starts[-1] :], turnover[starts[-1] :], correlation))
    returns, turnover, correlations = zip(*parts, strict=True)
    known = ~np.isnan(np.stack(correlations))
    sums = np.where(known, np.stack(correlations), 0.0).sum(axis=0)
    mean = np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), np.nan)
    return StartResults(np.concatenate(returns), np.concatenate(turnover), mean)


def _simulate_segment(
    context: BacktestContext, fold: Fold, segment: Segment, start: int
) -> tuple[Floats, Floats, Floats]:
    """Positions ``[S, A]``, returns and turnover ``[S]`` of an account that starts at the step ``start``."""
    begun = context.with_rules([fold], segment.start + start if start else None)
    posteriors, trading = begun.posteriors(fold.number), begun.trading
    networks = AgentNetworks(begun.by_fold[fold.number], torch.float64)
    policies = make_policies(
        np.array([HEADS]),
        begun.market.assets,
        len(trading.levels),
        starts=np.array([start]),
        closes=np.array([last_step(segment, segment.stop, trading.orders.latency_bars)]),
    )

    def of_rows(rows: Segment) -> Policies:
        return with_heads(policies, networks.heads(begun.market.features, posteriors, *rows))

    parts = []
    for _, _, ledger, _ in simulate_rows(begun.market, segment, of_rows, begun.open_accounts(1), trading, posteriors):
        traded = ledger.fills.traded.sum(-1) / np.maximum(ledger.total.equity_before, MIN_EQUITY)
        parts.append((ledger.fills.position, equity_returns(ledger.total, trading.initial_cash), traded))
    positions, returns, turnover = (np.concatenate(part)[:, 0] for part in zip(*parts, strict=True))
    return positions, returns, turnover


def held_correlation(positions: Floats) -> float:
    """Correlation of two books over all rows and assets ``[S, 2, A]``.

    Of equal books it is 1, also where they never change. It is NaN if neither holds anything, and 0 if only one varies.
    """
    one, other = positions[:, 0].ravel(), positions[:, 1].ravel()
    if not one.any() and not other.any():
        return float("nan")
    if np.array_equal(one, other):
        return 1.0
    deviation = one.std() * other.std()
    return float(((one - one.mean()) * (other - other.mean())).mean() / deviation) if deviation > 0.0 else 0.0
