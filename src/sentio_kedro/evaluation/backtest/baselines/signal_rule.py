"""From foretold returns to positions: trade where the foretold pays for the trade, if validation rows bear it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sentio_kedro.agent.ensemble import BatchedPolicies
from sentio_kedro.config import TradingParameters
from sentio_kedro.evaluation.backtest.baselines.schedules import ScheduledPolicy, every
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.walk import pieces
from sentio_kedro.market.fold_shapes import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.market.timestamps import Floats
from sentio_kedro.trading.accounts import Variation
from sentio_kedro.trading.costs import BASIS_POINT
from sentio_kedro.trading.precompute import make_step_data
from sentio_kedro.trading.simulate import one_thread, simulate

LARGEST_PERSISTENCE = 0.99
CHUNK_STEPS = 16_384  # steps of all trials together whose facts are held at once
MIN_GROWTH = 1e-300  # a lost account has a logarithm too


def trade_cost(market: MarketTensors, trading: TradingParameters) -> Floats:
    """Commission and half spread of a trade ``[T, A]``, fraction of notional, as known at the decision.

    Impact and the least commission of an order depend on its size and are left out here; accounts pay them.
    """
    costs = trading.costs
    half_spread = torch.full_like(market.close, costs.half_spread_bps * BASIS_POINT)
    if costs.half_spread != "constant" and market.spread is not None:
        half_spread = torch.maximum(half_spread, 0.5 * market.spread)
    commission = costs.commission_bps * BASIS_POINT + costs.commission_per_share / market.close
    return np.asarray((half_spread + commission).double().numpy())


def persistence(edges: Floats, segments: Sequence[Segment]) -> float:
    """First autocorrelation of ``edges`` ``[T, A]`` within ``segments``, all assets together, in [0, 0.99]."""
    parts = [edges[slice(*rows)] for rows in segments]
    mean = np.concatenate(parts).mean(axis=0)
    market_returns = [part - mean for part in parts]
    variance = sum(float((part[:-1] ** 2).sum()) for part in market_returns)
    together = sum(float((part[1:] * part[:-1]).sum()) for part in market_returns)
    return float(np.clip(together / variance, 0.0, LARGEST_PERSISTENCE)) if variance > 0.0 else LARGEST_PERSISTENCE


def held_sides(edges: Floats, threshold: Floats) -> NDArray[np.int64]:
    """Side of each row: taken where the edge is beyond the threshold, kept until it is as far beyond on the other side.

    Args:
        edges: ``[S, A]`` foretold log returns.
        threshold: ``[S, A]`` edge that a trade needs, not negative.

    Returns:
        ``[S, A]`` 1 long, 0 not entered yet, -1 short.
    """
    up, down = _last(edges > threshold), _last(edges < -threshold)
    return np.asarray(np.sign(up - down))


def _last(happened: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Last row ``[S, A]`` up to each row at which something happened, -1 if none."""
    rows = np.arange(len(happened))[:, None]
    return np.asarray(np.maximum.accumulate(np.where(happened, rows, -1), axis=0))


class Signal(NamedTuple):
    """What a regression foretells.

    Attributes:
        edges: ``[T, A]`` log return of a position until the next decision.
        persistence: First autocorrelation of the edges.
    """

    edges: Floats
    persistence: float

    @classmethod
    def of(cls, edges: Floats, train: Sequence[Segment]) -> Signal:
        """Measure how edges persist on train rows."""
        return cls(edges, persistence(edges, train))

    def silent(self) -> Signal:
        """Return a signal that foretells nothing."""
        return Signal(np.zeros_like(self.edges), self.persistence)


def signal_schedule(context: BacktestContext, signal: Signal, rows: Segment) -> ScheduledPolicy:
    """Follow foretold returns over ``rows``, starting flat.

    Edges that follow a first-order autoregression of persistence p add up to edge / (1 - p) from here on. A trade pays
    where that is more than it costs, so an asset is held at the highest level from an edge above cost x (1 - p) to one
    below the same on the other side, then at the lowest level. It is ordered where it changes and once a day, so that
    an order that a halt left unfilled is sent again.

    Args:
        context: The market, its costs and levels.
        signal: Edges, and their persistence p.
        rows: Decision rows.
    """
    part, levels = slice(*rows), context.trading.levels
    threshold = (1.0 - signal.persistence) * trade_cost(context.market, context.trading)[part]
    side = held_sides(signal.edges[part], threshold)
    wished = np.select([side > 0, side < 0], [max(*levels, 0.0), min(*levels, 0.0)], 0.0)
    if context.market.shortable is not None:
        wished = np.where((wished < 0.0) & ~context.market.shortable.numpy(), 0.0, wished)
    changed = np.diff(wished, axis=0, prepend=0.0) != 0.0
    daily = every(context.bars.timestamps[part], 1.0)[:, None]
    return ScheduledPolicy(torch.from_numpy(wished), torch.from_numpy(changed) | daily)


class RuleTrial(NamedTuple):
    """A schedule to try.

    Attributes:
        rows: Decision rows.
        policy: Schedule over these rows.
    """

    rows: Segment
    policy: ScheduledPolicy


def trial_growth(context: BacktestContext, trials: Sequence[RuleTrial]) -> list[float]:
    """Log growth of a fresh account on each schedule, all walked side by side through the one execution.

    As in the test, accounts pay all costs, leave their positions at the end of their rows and know no layer of the
    agents' mask.

    Args:
        context: The market, limits and costs.
        trials: Schedules, each with rows of its own.
    """
    if not trials:
        return []
    market, trading = context.market, context.trading
    account = context.open_accounts((len(trials),))
    unguarded = Variation(guarded=torch.zeros(len(trials), 1, dtype=torch.bool))
    lengths = torch.tensor([rows.stop - rows.start for rows, _ in trials])
    starts = torch.tensor([rows.start for rows, _ in trials])
    equity = account.equity.clone()
    for piece in pieces(Segment(0, int(lengths.max())), -(-CHUNK_STEPS // len(trials))):
        steps = torch.arange(*piece)[:, None]  # [S, 1] since each trial's start
        rows = (starts + steps).clamp_max(market.bars - 1)
        last = lengths - 1 - trading.orders.latency_bars
        beside = ScheduledPolicy.beside([_padded(trial.policy, piece) for trial in trials])
        policy = BatchedPolicies([(beside, len(trials))], steps == last, steps > last)
        with torch.no_grad(), one_thread():
            account, step = simulate(make_step_data(market, rows, trading), policy, account, trading, unguarded)
        ends = (lengths > piece.start) & (lengths <= piece.stop)  # trials whose last row is in this piece
        place = (lengths - 1 - piece.start).clamp(0, len(steps) - 1)
        equity = torch.where(ends, step.fill.equity.gather(0, place[None])[0], equity)
    return [float(grown) for grown in (equity / context.trading.initial_cash).clamp_min(MIN_GROWTH).log()]


def _padded(policy: ScheduledPolicy, piece: Segment) -> ScheduledPolicy:
    """Steps of ``piece``, of which those beyond the schedule's end order nothing."""
    part = policy.part(*piece)
    missing = piece.stop - piece.start - len(part.levels)
    levels = torch.nn.functional.pad(part.levels, (0, 0, 0, missing))
    return ScheduledPolicy(levels, torch.nn.functional.pad(~part.hold, (0, 0, 0, missing)))
