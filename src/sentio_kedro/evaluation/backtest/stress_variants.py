"""Variants of a backtest in one batch: other costs, later fills, bootstrapped paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from sentio_kedro.agent.ensemble import AgentNetworks
from sentio_kedro.evaluation.backtest.baselines.schedules import last_step, run_ends
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.ledger_frames import equity_returns
from sentio_kedro.evaluation.backtest.walk import row_chunks
from sentio_kedro.evaluation.statistics.bootstrap import stationary_bootstrap_indices
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.trading.accounts import terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.records import Accounts, Integers, Market
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.limits import MIN_EQUITY
from sentio_kedro.trading.step.policies import HEADS, Policies, make_policies, with_heads
from sentio_kedro.trading.step.walk import Ledger, move_prices

CHUNK_ROWS = 1024  # steps whose ledger is held at once


class Variant(NamedTuple):
    """Settings of one simulation of all agents.

    Attributes:
        multiplier: Factor on commission, spread and impact.
        latency: Bars that orders are under way beyond the next open.
        path: Number of the bootstrapped path; None is the market as it was.
    """

    multiplier: float = 1.0
    latency: int = 0
    path: int | None = None


class VariantResults(NamedTuple):
    """Returns, turnover and costs of V variants of N agents over the test rows T.

    Attributes:
        returns: ``[T, V, N]`` simple returns, net.
        turnover: ``[V, N]`` sum over rows of traded notional over equity.
        costs: ``[V, N]`` sum over rows of commission, spread and impact over equity.
    """

    returns: Floats
    turnover: Floats
    costs: Floats


def simulate_variants(
    context: BacktestContext, folds: Sequence[Fold], variants: Sequence[Variant], block_bars: float | None, seed: int
) -> VariantResults:
    """Simulate V variants of all agents over the test rows of folds that make one path.

    Paths are stationary bootstraps of each fold's own test rows, so that a fold's agents trade them. A step keeps all
    ratios of its prices and the agents' inputs of its source row; prices go on from the step before. ``block_bars`` is
    the mean block of a path, ``seed`` its seed.
    """
    agents = len(context.by_fold[folds[0].number])
    accounts, paths = _open_accounts(context, variants, agents), _path_of(variants, agents)
    terms = terms_of(context.trading, context.market.assets)
    span = Segment(folds[0].test[0].start, folds[-1].test[-1].stop)
    posteriors = [posterior for fold in folds for posterior in context.posteriors(fold.number)]
    market = market_facts(context.market, *span, context.trading, posteriors)
    returns, sums, last = [], np.zeros((2, accounts.size)), None
    ends = run_ends([segment for fold in folds for segment in fold.test])
    rng = np.random.default_rng(seed)
    for place, fold in enumerate(folds):
        models = place * agents + np.tile(np.arange(agents), len(variants))
        for segment in fold.test:
            policies = _policies(context, fold, segment, ends[segment], span, variants)
            rows = segment.start - span.start + draw_paths(segment.stop - segment.start, max(paths), block_bars, rng)
            for steps in row_chunks(Segment(0, rows.shape[1]), CHUNK_ROWS):
                part = np.ascontiguousarray(rows[:, slice(*steps)])
                if last is not None:
                    _join(last, part[:, 0], paths, market, accounts)
                ledger = simulate(market, accounts, policies, terms, part, paths, models, first_step=steps.start)
                returns.append(equity_returns(ledger.total, context.trading.initial_cash))
                sums += _turnover_and_costs(ledger)
                last = part[:, -1]
    shape = len(variants), agents
    return VariantResults(np.concatenate(returns).reshape(-1, *shape), *sums.reshape(2, *shape))


def draw_paths(rows: int, paths: int, block_bars: float | None, rng: np.random.Generator) -> Integers:
    """Draw bootstrapped paths of the steps of a segment ``[1 + paths, rows]``; path 0 is the market as it was.

    Args:
        rows: Steps of the segment.
        paths: Number of paths.
        block_bars: Mean block of the stationary bootstrap (Politis and Romano 1994); None takes the root of ``rows``.
        rng: Source of the draws.
    """
    in_order = np.arange(rows)[None]
    if paths == 0:
        return in_order
    block = math.sqrt(rows) if block_bars is None else block_bars
    return np.concatenate([in_order, stationary_bootstrap_indices(rows, paths, block, rng)])


def _open_accounts(context: BacktestContext, variants: Sequence[Variant], agents: int) -> Accounts:
    """Open one account per variant and agent, in this order, with room for the orders of the largest latency."""
    orders = replace(context.trading.orders, latency_bars=max(variant.latency for variant in variants))
    wide = replace(context, trading=replace(context.trading, orders=orders))
    accounts = wide.open_accounts(len(variants) * agents)
    accounts.account.cost_multiplier = np.repeat([variant.multiplier for variant in variants], agents)
    accounts.account.latency = np.repeat([variant.latency for variant in variants], agents)
    return accounts


def _path_of(variants: Sequence[Variant], agents: int) -> Integers:
    """Path of each account, see ``draw_paths``."""
    return np.repeat([0 if variant.path is None else 1 + variant.path for variant in variants], agents)


def _policies(
    context: BacktestContext, fold: Fold, segment: Segment, end: int, span: Segment, variants: Sequence[Variant]
) -> Policies:
    """Agents of a fold in all variants at the rows of a segment; rows count from the start of ``span``.

    Accounts close their positions before the row ``end``.
    """
    bundles, posteriors = context.by_fold[fold.number], context.posteriors(fold.number)
    agents, trading = len(bundles), context.trading
    closes = [last_step(segment, end, variant.latency) for variant in variants]
    policies = make_policies(
        np.full(agents * len(variants), HEADS),
        context.market.assets,
        len(trading.levels),
        source=np.tile(np.arange(agents), len(variants)),
        closes=np.repeat(closes, agents),
    )
    heads = AgentNetworks(bundles, torch.float64).heads(context.market.features, posteriors, *segment)
    return with_heads(policies, heads, segment.start - span.start)


def _join(last: Integers, first: Integers, paths: Integers, market: Market, accounts: Accounts) -> None:
    """Let prices of bootstrapped paths go on where a walk continues at other rows than it ended at."""
    for n in np.flatnonzero((paths > 0) & (first != last + 1)[paths]).tolist():
        move_prices(n, last[paths[n]], first[paths[n]], market, accounts)


def _turnover_and_costs(ledger: Ledger) -> Floats:
    """Traded notional and trading costs over equity, summed over steps ``[2, accounts]``."""
    fills, before = ledger.fills, np.maximum(ledger.total.equity_before, MIN_EQUITY)
    costs = fills.commission + fills.spread + fills.impact
    return np.stack([(x.sum(-1) / before).sum(0) for x in (fills.traded, costs)])
