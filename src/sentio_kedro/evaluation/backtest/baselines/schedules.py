"""Baselines: the schedules that any agent has to beat, through the same execution at the same costs.

A schedule is a table of target positions ``[S, A]``, fractions of equity; NaN sends no order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sentio_kedro.config import BacktestParameters, TradingParameters
from sentio_kedro.config.trading import is_mixed
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.walk import Chunk, simulate_rows
from sentio_kedro.evaluation.run_frames import FORECAST_RULE
from sentio_kedro.market.ingestion.panels import bar_share
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import allocation
from sentio_kedro.trading.step.policies import TARGETS, Policies, make_policies

Mask = NDArray[np.bool_]
Schedules = Mapping[str, Floats]
"""Schedules by name, each over the same decision rows."""

BUY_AND_HOLD, EQUAL_WEIGHT, MOMENTUM, RANDOM = "buy_and_hold", "equal_weight", "momentum", "random"
SIDES = (-1.0, 0.0, 1.0)  # levels of the allocation
NO_TREND = 1e-12  # log return below which a price counts as unchanged


def scheduled(positions: Floats | float, due: Mask, assets: int) -> Floats:
    """Order ``positions`` (broadcastable to ``[S, A]``) at the steps ``[S]``, or steps and assets ``[S, A]``, due."""
    due = np.broadcast_to(due if due.ndim > 1 else due[:, None], (len(due), assets))
    return np.where(due, positions, np.nan)


def full_share(trading: TradingParameters, assets: int) -> Floats:
    """Fraction of equity in each asset ``[A]`` if all are held: the allocation, or less to keep the gross limit."""
    share = allocation(trading, assets)
    return np.asarray(share * min(1.0, trading.gross_limit / share.sum()))


def random_positions(steps: int, trading: TradingParameters, assets: int, seed: int) -> Floats:
    """Positions ``[steps, A]`` of an account that draws a level of the allocation for each asset at every step."""
    levels = np.array(trading.levels if trading.unit == "allocation" else SIDES)
    drawn = np.random.default_rng(seed).integers(len(levels), size=(steps, assets))
    return np.asarray(levels[drawn] * allocation(trading, assets))


def every(timestamps: NDArray[np.datetime64], days: float) -> Mask:
    """Mark the first row and the first row of every further period of ``days`` days ``[S]`` (bool)."""
    elapsed = (timestamps - timestamps[0]) / np.timedelta64(1, "D")
    period = np.floor(elapsed / days + 1e-9)
    due = np.ones(len(period), dtype=bool)
    due[1:] = np.diff(period) > 0
    return due


def buy_and_hold(market: MarketTensors, start: int, stop: int, trading: TradingParameters) -> Floats:
    """Buy the share of every asset at the first row at which it trades, and keep it."""
    fills = filling_rows(market, start, stop)
    return scheduled(full_share(trading, market.assets), fills & (fills.cumsum(axis=0) == 1), market.assets)


def filling_rows(market: MarketTensors, start: int, stop: int) -> Mask:
    """Whether an order of each asset is taken at the decision rows and fills at the next bar ``[S, A]``."""
    traded = market.tradable[start : stop + 1].numpy()
    return np.asarray(traded[:-1] & traded[1:])


def equal_weight(
    timestamps: NDArray[np.datetime64], assets: int, parameters: BacktestParameters, trading: TradingParameters
) -> Floats:
    """Hold the share of every asset, restored every ``rebalance_days``; ``timestamps`` are ``[S]``."""
    return scheduled(full_share(trading, assets), every(timestamps, parameters.rebalance_days), assets)


def momentum(
    market: MarketTensors,
    timestamps: NDArray[np.datetime64],
    start: int,
    stop: int,
    parameters: BacktestParameters,
    trading: TradingParameters,
    periods_per_year: float,
) -> Floats:
    """Follow the sign of the trailing return, sized for a target volatility, once a day.

    Time-series momentum in the manner of Moskowitz, Ooi and Pedersen (Journal of Financial Economics, 2012): each
    asset's level is the sign of its last ``momentum_bars`` total return, splits and dividends counted, times target
    over trailing volatility, at most 1.
    """
    rows = torch.arange(start, stop)
    before = (rows - parameters.momentum_bars).clamp_min(0)
    total = market.close.log() if market.returns is None else market.returns.cumsum(0)  # [T, A]
    growth = total[rows] - total[before]
    trend = torch.where(growth.abs() > NO_TREND, growth.sign(), 0.0)
    yearly: float | torch.Tensor = periods_per_year
    if is_mixed(trading) and market.present is not None:  # bars of each asset, not of the grid
        yearly = torch.from_numpy(periods_per_year * bar_share(market.present.numpy()))
    size = (parameters.volatility_target / (market.volatility[rows] * yearly**0.5)).clamp_max(1.0)
    levels = np.asarray((trend * size).double().numpy())
    return scheduled(levels * allocation(trading, market.assets), every(timestamps[start:stop], 1.0), market.assets)


def forecast_rule(
    context: BacktestContext, folds: Sequence[Fold], span: Segment, units: Mapping[int, Floats]
) -> Floats:
    """Hold the positions of each fold's forecast rule at its test rows, in units of what the caps of size allow.

    Args:
        context: The market and limits.
        folds: Folds; of several that test a row the first one counts.
        span: Decision rows.
        units: ``[T, A]`` positions of each fold's rule, in units of risk.
    """
    size = context.read_facts(span, lambda facts: facts.full)
    targets = np.full(size.shape, np.nan)
    for fold in reversed(folds):
        for rows in fold.test:
            part = slice(rows.start - span.start, rows.stop - span.start)
            targets[part] = units[fold.number][slice(*rows)] * size[part]
    return targets


def when_open(targets: Floats, fills: Mask) -> Floats:
    """Send each order of a schedule at the first row at which it fills, unless the next order comes before.

    Args:
        targets: ``[S, A]`` a schedule.
        fills: ``[S, A]`` from ``filling_rows``.
    """
    table = targets.copy()
    for a in range(targets.shape[1]):
        due, open_rows = np.flatnonzero(~np.isnan(targets[:, a])), np.flatnonzero(fills[:, a])
        place = np.searchsorted(open_rows, due)
        later = np.append(open_rows, len(targets))[place]  # [due] first open row from each order on
        moved = later < np.append(due[1:], len(targets))
        table[due[moved], a] = np.nan
        table[later[moved], a] = targets[due[moved], a]
    return table


def restated(targets: Floats, capacity: Floats) -> Floats:
    """State targets again at the steps that follow, until the participation limit lets all of their change be traded.

    What an order leaves unfilled lapses. How much that is depends on the account, so a schedule takes it as that of its
    starting equity.

    Args:
        targets: ``[S, A]`` a schedule; flat before.
        capacity: ``[S, A]`` largest order, fraction of the starting equity; infinite without a limit.
    """
    table = targets.copy()
    for a in range(targets.shape[1]):
        due, held = np.flatnonzero(~np.isnan(targets[:, a])).tolist(), 0.0
        for step, end in zip(due, [*due, len(targets)][1:], strict=True):
            target, following = targets[step, a], step + 1
            missing = abs(target - held) - capacity[step, a]
            while missing > 0.0 and following < end:
                table[following, a] = target
                missing, following = missing - capacity[following, a], following + 1
            held = target
    return table


def schedule_tables(context: BacktestContext, schedules: Schedules, span: Segment) -> Floats:
    """Schedules over ``span`` as one table of targets ``[S, tables, A]``; no rows without schedules."""
    if not schedules:
        return np.zeros((0, 1, context.market.assets))
    capacity = context.capacity(span) / context.trading.initial_cash
    if is_mixed(context.trading):  # a market may be closed whenever orders are due
        fills = filling_rows(context.market, *span)
        capacity = np.where(fills, capacity, 0.0)
        schedules = {name: when_open(schedule, fills) for name, schedule in schedules.items()}
    return np.stack([restated(schedule, capacity) for schedule in schedules.values()], axis=1)


def last_step(rows: Segment, end: int, latency: int) -> int:
    """Step of ``rows`` at which an account closes its positions, so that the order fills before the row ``end``."""
    return end - 1 - latency - rows.start


def run_ends(segments: Sequence[Segment]) -> dict[Segment, int]:
    """End of the run of consecutive rows that each segment, in order, is a part of."""
    by_start, ends = {segment.start: segment for segment in segments}, dict[Segment, int]()
    for segment in reversed(segments):
        following = by_start.get(segment.stop)
        ends[segment] = segment.stop if following is None else ends[following]
    return ends


def simulate_schedules(
    context: BacktestContext, span: Segment, schedules: Schedules, *, telemetry: bool = False
) -> Iterator[Chunk]:
    """Simulate one fresh account per schedule over ``span``, at whose end they close their positions.

    Accounts pay all costs and carry. The limits on positions, gross exposure and margin hold for them; the layers of
    the agents' mask hold for the forecast rule alone, which comes first.

    Args:
        context: The market, limits and costs.
        span: Decision rows.
        schedules: Schedules over ``span``.
        telemetry: As in ``simulate_rows``.
    """
    count, assets, trading = len(schedules), context.market.assets, context.trading
    targets = schedule_tables(context, schedules, span)
    closes = np.full(count, last_step(span, span.stop, trading.orders.latency_bars))
    kinds = np.full(count, TARGETS)
    policies = make_policies(kinds, assets, len(trading.levels), source=np.arange(count), closes=closes)

    def of_rows(rows: Segment) -> Policies:
        return policies._replace(targets=targets[rows.start - span.start : rows.stop - span.start])

    accounts = context.open_accounts(count, guarded=int(FORECAST_RULE in schedules))
    return simulate_rows(context.market, span, of_rows, accounts, trading, telemetry=telemetry)
