"""Rules that know nothing of an account, as one policy, walked alone through the one execution."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sentio_kedro.agent.ensemble import BatchedPolicies
from sentio_kedro.evaluation.backtest.baselines.schedules import ScheduledPolicy
from sentio_kedro.evaluation.backtest.context import BacktestContext, closing
from sentio_kedro.evaluation.backtest.walk import ChunkedSimulation, simulate_rows
from sentio_kedro.market.fold_shapes import Segment
from sentio_kedro.trading.accounts import Variation
from sentio_kedro.trading.simulate import Policy

Rules = Mapping[str, ScheduledPolicy]
"""Schedules by name, each over the same decision rows."""


def scheduled(rules: Rules, piece: Segment, span: Segment) -> list[tuple[Policy, int]]:
    """Rules over ``span`` as one policy at the rows of a piece, with its number of accounts; none without rules."""
    if not rules:
        return []
    parts = [rule.part(piece.start - span.start, piece.stop - span.start) for rule in rules.values()]
    return [(ScheduledPolicy.beside(parts), len(parts))]


def simulate_schedules(
    context: BacktestContext, span: Segment, rules: Rules, *, telemetry: bool = False
) -> ChunkedSimulation:
    """Walk rules from fresh accounts along ``span``, at whose end they leave their positions.

    They pay all costs and carry, and know the limits on positions, gross exposure and margin but no layer of the
    agents' mask.

    Args:
        context: The market, limits and costs.
        span: Decision rows.
        rules: Schedules over ``span``, one account each.
        telemetry: Whether the ledger tells positions and what limits cut.
    """

    def policy(piece: Segment) -> BatchedPolicies:
        ends = [span.stop] * len(rules)
        return BatchedPolicies(
            scheduled(rules, piece, span), *closing(piece, ends, context.trading.orders.latency_bars)
        )

    unguarded = Variation(guarded=torch.zeros(len(rules), 1, dtype=torch.bool))
    account = context.open_accounts((len(rules),))
    return simulate_rows(
        context.market, span, policy, account, context.trading, variation=unguarded, telemetry=telemetry
    )
