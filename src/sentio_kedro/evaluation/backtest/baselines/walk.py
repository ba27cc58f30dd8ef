"""Schedules simulated alone, through the one execution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from sentio_kedro.agent.ensemble import SideBySide
from sentio_kedro.evaluation.backtest.baselines.schedules import ScheduledPolicy
from sentio_kedro.evaluation.backtest.context import BacktestContext, liquidation
from sentio_kedro.evaluation.backtest.walk import Chunk, simulate_rows
from sentio_kedro.market.fold_shapes import Segment
from sentio_kedro.trading.accounts import Variation
from sentio_kedro.trading.simulate import Policy

Schedules = Mapping[str, ScheduledPolicy]
"""Schedules by name, each over the same decision rows."""


def batch_policy(schedules: Schedules, rows: Segment, span: Segment) -> list[tuple[Policy, int]]:
    """Schedules over ``span`` as one policy at ``rows``, with its number of accounts; none without schedules."""
    if not schedules:
        return []
    parts = [schedule.part(rows.start - span.start, rows.stop - span.start) for schedule in schedules.values()]
    return [(ScheduledPolicy.batch(parts), len(parts))]


def simulate_schedules(
    context: BacktestContext, span: Segment, schedules: Schedules, *, telemetry: bool = False
) -> Iterator[Chunk]:
    """Simulate one fresh account per schedule over ``span``, at whose end they close their positions.

    Accounts pay all costs and carry. The limits on positions, gross exposure and margin hold for them; the layers of
    the agents' mask do not.

    Args:
        context: The market, limits and costs.
        span: Decision rows.
        schedules: Schedules over ``span``.
        telemetry: As in ``simulate_rows``.
    """

    def policy(rows: Segment) -> SideBySide:
        ends = [span.stop] * len(schedules)
        last = liquidation(rows, ends, context.trading.orders.latency_bars)
        return SideBySide(batch_policy(schedules, rows, span), *last)

    unguarded = Variation(guarded=torch.zeros(len(schedules), 1, dtype=torch.bool))
    account = context.open_accounts((len(schedules),))
    return simulate_rows(
        context.market, span, policy, account, context.trading, variation=unguarded, telemetry=telemetry
    )
