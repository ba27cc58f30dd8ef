"""Variants of an out-of-sample test: other costs, later fills, a later start, other paths, all in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sentio_kedro.agent.ensemble import AgentsPolicy, BatchedPolicies, agents_policy
from sentio_kedro.evaluation.backtest.bootstrap_paths import PathPrices, begin_sessions, drawn_rows
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.ledger_frames import equity_returns
from sentio_kedro.evaluation.backtest.walk import pieces
from sentio_kedro.market.fold_shapes import Fold, Segment
from sentio_kedro.trading.accounts import MIN_EQUITY, AccountState, Decision, Fill, Variation
from sentio_kedro.trading.position_limits import PositionLimits
from sentio_kedro.trading.precompute import make_step_data, session_ends
from sentio_kedro.trading.simulate import PolicyTrace, one_thread, simulate
from sentio_kedro.trading.step_data import StepData

PIECE_ROWS = 1024  # decision rows held at once


class Variant(NamedTuple):
    """How one simulation of all agents differs.

    Attributes:
        multipliers: Factor on commission, spread and impact of each agent; one for all, or one per agent.
        latency: Bars that orders are under way beyond the next open.
        offset: Rows that accounts stay out at first.
        path: Number of the bootstrapped path; None is what happened.
    """

    multipliers: tuple[float, ...] = (1.0,)
    latency: int = 0
    offset: int = 0
    path: int | None = None


@dataclass(frozen=True)
class VariantResults:
    """What V variants of N agents made over the test rows T.

    Attributes:
        returns: ``[T, V, N]`` simple returns, net.
        turnover: ``[V, N]`` sum over rows of traded notional over equity.
        costs: ``[V, N]`` sum over rows of commission, spread and impact over equity.
    """

    returns: Tensor
    turnover: Tensor
    costs: Tensor

    def log_growth(self) -> Tensor:
        """Logarithm of the last equity over the first ``[V, N]``."""
        return torch.log1p(self.returns).sum(0)


class SourcedAgents:
    """Agents that see, at each step of each variant, what they saw at a source row."""

    def __init__(self, agents: AgentsPolicy, source: Tensor) -> None:
        """Take agents prepared for a segment and the steps ``[S, V]`` of that segment that are seen."""
        self.agents, self.source = agents, source

    @property
    def inputs(self) -> PolicyTrace:
        """Source steps ``[S, V]``."""
        return (self.source,)

    def decide(
        self, inputs: PolicyTrace, account: AccountState, view: PositionLimits, legal: Tensor
    ) -> tuple[Decision, PolicyTrace]:
        """Decide on what the source row showed; nothing is remembered."""
        seen = tuple(x[inputs[0]] for x in self.agents.inputs)  # [V, N, ...]
        return self.agents.decide(seen, account, view, legal)[0], ()


def simulate_variants(
    context: BacktestContext, folds: Sequence[Fold], variants: Sequence[Variant], block_bars: float | None, seed: int
) -> VariantResults:
    """Walk all variants of all agents over the joined test rows, fold after fold.

    Paths are stationary bootstraps of each fold's own test rows, so that a fold's agents trade them. A step keeps all
    ratios of its prices, and what agents saw at its source row; prices go on from the step before.

    Args:
        context: Market and agents.
        folds: Folds whose tests join to one path.
        variants: V variants.
        block_bars: Mean block of a path; None takes the root of the rows of a segment.
        seed: Seed of the paths.
    """
    latency = max(context.trading.orders.latency_bars, *(variant.latency for variant in variants))
    orders = replace(context.trading.orders, latency_bars=latency)
    context = replace(context, trading=replace(context.trading, orders=orders))
    agents = len(context.by_fold[folds[0].number])
    account = context.open_accounts((len(variants), agents))
    prices = PathPrices(context.market, [variant.path is not None for variant in variants])
    parts: list[Tensor] = []
    sums = torch.zeros(2, len(variants), agents, dtype=torch.float64)
    rng = np.random.default_rng(seed)
    first = folds[0].test[0].start
    for fold in folds:
        for segment in fold.test:
            source = drawn_rows(segment.stop - segment.start, [v.path for v in variants], block_bars, rng)
            walk = _SegmentSimulation(context, fold.number, segment, variants, source, first)
            for steps in pieces(Segment(0, segment.stop - segment.start), PIECE_ROWS):
                account, fill = walk.walk(steps, account, prices)
                parts.append(equity_returns(fill, context.trading.initial_cash))
                sums += _paid(fill)
    return VariantResults(torch.cat(parts), sums[0], sums[1])


def _paid(fill: Fill) -> Tensor:
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
        several = max(len(variant.multipliers) for variant in variants)
        multipliers = [v.multipliers * (several // len(v.multipliers)) for v in variants]
        self.variation = Variation(
            cost_multiplier=torch.tensor(multipliers, dtype=torch.float64)[..., None],  # [V, N or 1, 1]
            latency=self.latency[:, None, None].double(),
        )

    @torch.no_grad()
    def walk(self, steps: Segment, account: AccountState, prices: PathPrices) -> tuple[AccountState, Fill]:
        """Trade the rows ``steps`` from ``account`` on; return the account after them and their fills."""
        source = self.source[slice(*steps)]
        row = self.segment.start + torch.arange(*steps)[:, None]  # [S, 1] where the step stands in the test
        last = self.segment.stop - 1 - self.latency  # [V]
        rest = (row > last) | (row < self.first + self.offset)
        policy = BatchedPolicies(
            [(SourcedAgents(self.agents, source), account.equity.shape[-1])],
            close=(row == last)[..., None],
            rest=rest[..., None],
        )
        step_data = prices.continued(self._step_data(steps, source))
        with one_thread():
            account, step = simulate(step_data, policy, account, self.context.trading, self.variation)
        return account, step.fill

    def _step_data(self, steps: Segment, source: Tensor) -> StepData:
        """Facts of the source rows ``[S, V, 1, ...]``; the session's last order depends on a variant's latency."""
        market, trading = self.context.market, self.context.trading
        rows = (self.segment.start + source)[..., None]
        masks = trading.masks
        told = masks.regime_exposure is not None or masks.crisis_probability is not None
        step_data = make_step_data(market, rows, trading, self.agents.posterior[source] if told else None)
        if step_data.must_leave is not None:
            filled = (rows + 1 + self.latency[:, None]).clamp_max(market.bars - 1)
            step_data = step_data._replace(must_leave=session_ends(market)[filled, None])
        return begin_sessions(step_data, self.source, steps)
