"""The out-of-sample test: agents and baselines on rows that no training saw, through the one execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch

from sentio_kedro.agent.bundle import AgentBundle, refuse_seen_bars, same_symbols
from sentio_kedro.agent.ensemble import SideBySide, agents_policy
from sentio_kedro.config import BacktestParameters, TradingParameters
from sentio_kedro.evaluation import baselines
from sentio_kedro.evaluation.walks import Frames, Walk, walk_frames
from sentio_kedro.market.bars import AlignedBars, Floats
from sentio_kedro.market.regimes import market_return
from sentio_kedro.market.splits import Fold, Segment
from sentio_kedro.market.tensors import MarketTensors, market_tensors
from sentio_kedro.trading.execution import AccountState, open_accounts
from sentio_kedro.trading.simulate import gather_prices, one_thread, simulate


def backtest_folds(
    bars: AlignedBars,
    features: Floats,
    folds: Sequence[Fold],
    agents: Mapping[str, AgentBundle],
    trading: TradingParameters,
    parameters: BacktestParameters,
    periods_per_year: float,
) -> Frames:
    """Test every fold's agents on its test rows.

    Accounts start each segment flat and leave their positions at its last decision, paying for it. In walk-forward
    order, equity and its peak carry over from fold to fold, so that the joined path is one account's history; where
    test rows come back (combinatorial folds), each fold starts afresh.

    Args:
        bars: Aligned bars, all of them.
        features: ``[T, A, F]`` features of these bars, of the agents' columns.
        folds: Folds with the rows to test.
        agents: Agents by name ``fold_<f>/seed_<s>``.
        trading: Limits and costs.
        parameters: Baselines and capital.
        periods_per_year: Bars per year.

    Returns:
        Frames ``accounts``, ``positions``, ``trades`` and ``actions``.

    Raises:
        ValueError: If an agent trades other symbols or has seen the rows.
    """
    by_fold = {fold.number: _agents_of(fold.number, agents) for fold in folds}
    same_symbols(list(agents.values()), bars.symbols)
    market = market_tensors(bars, features, np.ones((len(bars.timestamps), 1)))
    joined = walk_forward(folds)
    with torch.no_grad(), one_thread():
        walks = _walk_all(folds, by_fold, market, bars, trading, parameters, periods_per_year, joined=joined)
    return walk_frames(walks, bars, folds)


def _walk_all(
    folds: Sequence[Fold],
    by_fold: Mapping[int, Sequence[AgentBundle]],
    market: MarketTensors,
    bars: AlignedBars,
    trading: TradingParameters,
    parameters: BacktestParameters,
    periods_per_year: float,
    *,
    joined: bool,
) -> list[Walk]:
    """Walk the agents of every fold, then the baselines."""
    walks: list[Walk] = []
    account: AccountState | None = None
    for fold in folds:
        for segment in fold.test:
            _refuse_seen(by_fold[fold.number], bars, segment, joined=joined)
            fresh = account is None or not joined
            cash = torch.full((len(by_fold[fold.number]) + 1,), parameters.initial_cash, dtype=torch.float64)
            begin = open_accounts(cash, len(bars.symbols)) if fresh or account is None else account
            walk, account = _walk_agents(fold.number, segment, by_fold[fold.number], market, bars, begin, trading)
            walks.append(walk)
    first, last = min(s.start for f in folds for s in f.test), max(s.stop for f in folds for s in f.test)
    walks.append(_walk_baselines(Segment(first, last), market, bars, trading, parameters, periods_per_year))
    return walks


def walk_forward(folds: Sequence[Fold]) -> bool:
    """Whether folds follow each other in time and train on the past alone, so that their tests join to one path."""
    ordered = all(first.test[-1].stop <= second.test[0].start for first, second in pairwise(folds))
    return ordered and all(part.stop <= fold.test[0].start for fold in folds for part in fold.train)


def backtest_agent(
    bars: AlignedBars, features: Floats, agent: AgentBundle, parameters: BacktestParameters, periods_per_year: float
) -> Frames:
    """Test one agent, trained elsewhere, on all rows that its features allow.

    Args:
        bars: Aligned bars that the agent has not seen.
        features: ``[T, A, F]`` of the agent's own columns.
        agent: The agent.
        parameters: Baselines and capital.
        periods_per_year: Bars per year.

    Returns:
        Frames as from ``backtest_folds``.

    Raises:
        ValueError: If the agent has seen a row, trades other symbols, or there are too few bars.
    """
    first, stop = agent.spec.required_bars - 1, len(bars.timestamps) - 1
    if stop - first < 2:  # noqa: PLR2004 - a return needs two rows
        raise ValueError(
            f"The agent needs {agent.spec.required_bars} bars before its first decision and two rows to trade, the "
            f"bars are {len(bars.timestamps)}; give at least {agent.spec.required_bars + 2}."
        )
    fold = Fold(agent.spec.fold, (), (), (Segment(first, stop),))
    return backtest_folds(bars, features, [fold], {agent.name: agent}, agent.spec.trading, parameters, periods_per_year)


def _agents_of(fold: int, agents: Mapping[str, AgentBundle]) -> list[AgentBundle]:
    found = sorted((agent for agent in agents.values() if agent.spec.fold == fold), key=lambda agent: agent.spec.seed)
    if not found:
        raise ValueError(f"No agent of fold {fold} among {sorted(agents)}; run `kedro run --pipeline training`.")
    return found


def _refuse_seen(agents: Sequence[AgentBundle], bars: AlignedBars, rows: Segment, *, joined: bool) -> None:
    if not joined:  # combinatorial folds train on both sides of a test block; its rows were purged
        return
    for agent in agents:
        refuse_seen_bars(agent.spec, stamp(bars, rows.start + 1), stamp(bars, rows.stop))


def stamp(bars: AlignedBars, row: int) -> str:
    """Return the stamp of a row as ISO 8601 in UTC."""
    return str(pd.Timestamp(bars.timestamps[row]).tz_localize("UTC").isoformat())


def _walk_agents(
    fold: int,
    rows: Segment,
    agents: Sequence[AgentBundle],
    market: MarketTensors,
    bars: AlignedBars,
    account: AccountState,
    trading: TradingParameters,
) -> tuple[Walk, AccountState]:
    """Walk a fold's agents and the random policy side by side."""
    start, stop = rows
    moves = market_return(bars)
    posteriors = [torch.from_numpy(agent.regime_model().filter(moves)) for agent in agents]
    policy = agents_policy(agents, market, posteriors, start, stop)
    chance = baselines.RandomPolicy(stop - start, trading, market.close, seed=fold)
    prices = gather_prices(market, torch.arange(start, stop)[:, None])
    side_by_side = SideBySide([(policy, len(agents)), (chance, 1)], last_step=stop - start - 1)
    account, fill = simulate(prices, side_by_side, account, trading)
    names = (*(f"seed_{agent.spec.seed}" for agent in agents), baselines.RANDOM)
    return Walk(fold, rows, names, prices, fill, policy), account


def _walk_baselines(
    rows: Segment,
    market: MarketTensors,
    bars: AlignedBars,
    trading: TradingParameters,
    parameters: BacktestParameters,
    periods_per_year: float,
) -> Walk:
    """Walk the rules that know no drawdown limit, over all rows at once."""
    start, stop = rows
    policies = {
        baselines.BUY_AND_HOLD: baselines.buy_and_hold(market, start, stop),
        baselines.EQUAL_WEIGHT: baselines.equal_weight(market, bars.timestamps, start, stop, parameters),
        baselines.MOMENTUM: baselines.momentum(market, bars.timestamps, start, stop, parameters, periods_per_year),
    }
    unlimited = TradingParameters(
        levels=trading.levels, gross_limit=trading.gross_limit, max_position=trading.max_position, costs=trading.costs
    )
    prices = gather_prices(market, torch.arange(start, stop)[:, None])
    cash = torch.full((len(policies),), parameters.initial_cash, dtype=torch.float64)
    side_by_side = SideBySide([(policy, 1) for policy in policies.values()], last_step=stop - start - 1)
    _, fill = simulate(prices, side_by_side, open_accounts(cash, market.assets), unlimited)
    return Walk(-1, rows, tuple(policies), prices, fill, None)
