"""Variants of a backtest in one batch: other costs, later fills, a later start, bootstrapped paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.ensemble import AgentsPolicy, BatchedPolicies, agents_policy
from sentio_kedro.evaluation.backtest.bootstrap_paths import PathPrices, begin_sessions, draw_rows
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.ledger_frames import equity_returns
from sentio_kedro.evaluation.backtest.walk import row_chunks
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.trading.accounts import MIN_EQUITY, AccountState, Decision, Fill, Variation
from sentio_kedro.trading.position_limits import PositionLimits
from sentio_kedro.trading.precompute import make_step_data, session_ends
from sentio_kedro.trading.simulate import PolicyTrace, one_thread, simulate
from sentio_kedro.trading.step_data import StepData

CHUNK_ROWS = 1024  # decision rows simulated at once


class Variant(NamedTuple):
    """Settings of one simulation of all agents.

    Attributes:
        multiplier: Factor on commission, spread and impact.
        latency: Bars that orders are under way beyond the next open.
        offset: Rows that accounts stay out at first.
        path: Number of the bootstrapped path; None is the market as it was.
    """

    multiplier: float = 1.0
    latency: int = 0
    offset: int = 0
    path: int | None = None


class VariantResults(NamedTuple):
    """Returns, turnover and costs of V variants of N agents over the test rows T.

    Attributes:
        returns: ``[T, V, N]`` simple returns, net.
        turnover: ``[V, N]`` sum over rows of traded notional over equity.
        costs: ``[V, N]`` sum over rows of commission, spread and impact over equity.
    """

    returns: Tensor
    turnover: Tensor
    costs: Tensor


class SourcedAgents:
    """Agents that decide, at each step of each variant, on the inputs of a source row."""

    def __init__(self, agents: AgentsPolicy, source: Tensor) -> None:
        """Take agents prepared for a segment and the source steps ``[S, V]`` in that segment."""
        self.agents, self.source = agents, source

    @property
    def inputs(self) -> PolicyTrace:
        """Source steps ``[S, V]``."""
        return (self.source,)

    def decide(
        self, inputs: PolicyTrace, account: AccountState, limits: PositionLimits, legal: Tensor
    ) -> tuple[Decision, PolicyTrace]:
        """Decide on the source rows; the trace is empty."""
        sourced = tuple(x[inputs[0]] for x in self.agents.inputs)  # [V, N, ...]
        return self.agents.decide(sourced, account, limits, legal)[0], ()


def simulate_variants(
    context: BacktestContext, folds: Sequence[Fold], variants: Sequence[Variant], block_bars: float | None, seed: int
) -> VariantResults:
    """Simulate V variants of all agents over the test rows of folds that make one path.

    Paths are stationary bootstraps of each fold's own test rows, so that a fold's agents trade them. A step keeps all
    ratios of its prices and the agents' inputs of its source row; prices go on from the step before. ``block_bars`` is
    the mean block of a path, ``seed`` its seed.
    """
    latency = max(context.trading.orders.latency_bars, *(variant.latency for variant in variants))
    orders = replace(context.trading.orders, latency_bars=latency)
    context = replace(context, trading=replace(context.trading, orders=orders))
    agents = len(context.by_fold[folds[0].number])
    account = context.open_accounts((len(variants), agents))
    prices = PathPrices([variant.path is not None for variant in variants])
    parts: list[Tensor] = []
    sums = torch.zeros(2, len(variants), agents, dtype=torch.float64)
    rng = np.random.default_rng(seed)
    first = folds[0].test[0].start
    for fold in folds:
        for segment in fold.test:
            source = draw_rows(segment.stop - segment.start, [v.path for v in variants], block_bars, rng)
            simulation = _SegmentSimulation(context, fold.number, segment, variants, source, first)
            for steps in row_chunks(Segment(0, segment.stop - segment.start), CHUNK_ROWS):
                account, fill = simulation.run(steps, account, prices)
                parts.append(equity_returns(fill, context.trading.initial_cash))
                sums += _turnover_and_costs(fill)
    return VariantResults(torch.cat(parts), sums[0], sums[1])


def _turnover_and_costs(fill: Fill) -> Tensor:
    """Traded notional and trading costs over equity, summed over rows ``[2, V, N]``."""
    before = fill.equity_before.clamp_min(MIN_EQUITY)
    costs = fill.commission + fill.spread
    costs = costs if fill.impact is None else costs + fill.impact
    return torch.stack([(x.sum(-1) / before).sum(0) for x in (fill.traded, costs)])


class _SegmentSimulation:
    """The variants on the test rows of one segment."""

    def __init__(
        self,
        context: BacktestContext,
        fold: int,
        segment: Segment,
        variants: Sequence[Variant],
        source: Tensor,
        first: int,
    ) -> None:
        self.context, self.segment, self.source, self.first = context, segment, source, first
        posteriors = context.posteriors(fold)
        with torch.no_grad():
            self.agents = agents_policy(context.by_fold[fold], context.market, posteriors, *segment)
        self.latency = torch.tensor([variant.latency for variant in variants])
        self.offset = torch.tensor([variant.offset for variant in variants])
        multipliers = torch.tensor([variant.multiplier for variant in variants], dtype=torch.float64)
        self.variation = Variation(
            cost_multiplier=multipliers[:, None, None], latency=self.latency[:, None, None].double()
        )  # [V, 1, 1]

    @torch.no_grad()
    def run(self, steps: Segment, account: AccountState, prices: PathPrices) -> tuple[AccountState, Fill]:
        """Trade the rows ``steps`` from ``account`` on; return the account after them and their fills."""
        source = self.source[slice(*steps)]
        row = self.segment.start + torch.arange(*steps)[:, None]  # [S, 1]
        last = self.segment.stop - 1 - self.latency  # [V]
        rest = (row > last) | (row < self.first + self.offset)
        policy = BatchedPolicies(
            [(SourcedAgents(self.agents, source), account.equity.shape[-1])],
            close=(row == last)[..., None],
            rest=rest[..., None],
        )
        step_data = prices.rescale(self._step_data(steps, source))
        with one_thread():
            account, step = simulate(step_data, policy, account, self.context.trading, self.variation)
        return account, step.fill

    def _step_data(self, steps: Segment, source: Tensor) -> StepData:
        """Step data of the source rows ``[S, V, 1, ...]``; a session's last order depends on the variant's latency."""
        market, trading = self.context.market, self.context.trading
        rows = (self.segment.start + source)[..., None]
        masks = trading.masks
        by_regime = masks.regime_exposure is not None or masks.crisis_probability is not None
        step_data = make_step_data(market, rows, trading, self.agents.posterior[source] if by_regime else None)
        if step_data.must_leave is not None:
            filled = (rows + 1 + self.latency[:, None]).clamp_max(market.bars - 1)
            step_data = step_data._replace(must_leave=session_ends(market)[filled, None])
        return begin_sessions(step_data, self.source, steps)
