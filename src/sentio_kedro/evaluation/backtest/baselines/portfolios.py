"""Portfolio baselines: long-only weights estimated from trailing returns."""

from __future__ import annotations

import logging
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sentio_kedro.config import BacktestParameters, TradingParameters
from sentio_kedro.config.trading import is_mixed
from sentio_kedro.evaluation.backtest.baselines.schedules import every, scheduled
from sentio_kedro.market.ingestion.timestamps import Floats
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import allocation

logger = logging.getLogger(__name__)

MIN_PRESENT = 0.5  # share of the trailing bars that an asset must have to be given a weight

Rule = Literal["minimum_variance", "risk_parity"]
MINIMUM_VARIANCE: Final = "minimum_variance"
RISK_PARITY: Final = "risk_parity"


def trailing_portfolio(
    rule: Rule,
    market: MarketTensors,
    timestamps: NDArray[np.datetime64],
    start: int,
    stop: int,
    parameters: BacktestParameters,
    trading: TradingParameters,
) -> Floats:
    """Hold the weights of ``rule`` over rows ``[start, stop)``, estimated every ``rebalance_days``.

    Estimates use the last ``portfolio_bars`` returns. An asset gets a weight if it has an allocation, trades at the
    decision, has a bar at half of the trailing rows or more, and its price moved; where calendars are mixed a single
    bar is enough, and it need not trade at the decision. Weights add up to
    ``trading.gross_limit`` unless ``trading.max_position`` leaves less.
    """
    due = every(timestamps[start:stop], parameters.rebalance_days)
    positions, allocated = np.zeros((stop - start, market.assets)), allocation(trading, market.assets) > 0.0
    largest = min(1.0, trading.max_position / trading.gross_limit)  # weight of one asset in the invested part
    for row in (start + np.flatnonzero(due)).tolist():
        first = max(1, row + 1 - parameters.portfolio_bars)  # the first row of all has no return
        eligible = eligible_assets(market, first, row, is_mixed(trading)) & allocated
        weights = portfolio_weights(rule, trailing_returns(market, first, row)[:, eligible], largest)
        positions[row - start, eligible] = trading.gross_limit * weights
    return scheduled(positions, due, market.assets)


def trailing_returns(market: MarketTensors, first: int, row: int) -> Floats:
    """Simple total returns ``[rows, A]`` of the bars ``first .. row``, 0 where an asset has no bar."""
    if market.returns is None:
        log_returns = market.close[first - 1 : row + 1].log().diff(dim=0)
    else:
        log_returns = market.returns[first : row + 1]
    return np.asarray(torch.expm1(log_returns.double()).numpy())


def eligible_assets(market: MarketTensors, first: int, row: int, mixed: bool = False) -> NDArray[np.bool_]:
    """Assets ``[A]`` that may get a weight at ``row``, by the bars ``first .. row``.

    Where calendars are mixed, an asset may be closed at the row and at most others: one of its bars is enough.
    """
    present = market.tradable if market.present is None else market.present
    if mixed:
        return np.asarray(present[first : row + 1].any(0).numpy() & (trailing_returns(market, first, row).std(0) > 0.0))
    enough = present[first : row + 1].double().mean(0) >= MIN_PRESENT
    varies = trailing_returns(market, first, row).std(axis=0) > 0.0
    return np.asarray((enough & market.tradable[row]).numpy() & varies)


def portfolio_weights(rule: Rule, returns: Floats, largest: float) -> Floats:
    """Weights of one portfolio, by skfolio with the covariance of Ledoit and Wolf (2004).

    Args:
        rule: Minimum variance, or equal contributions to risk.
        returns: ``[rows, N]`` simple returns, each of which varies.
        largest: Upper bound of a weight.

    Returns:
        ``[N]`` not negative, of sum 1 or N x ``largest`` if that is less. Equal weights, with a warning, if skfolio
        finds none.
    """
    assets = returns.shape[1]
    equal = np.full(assets, min(largest, 1.0 / max(assets, 1)))
    if assets * largest <= 1.0 or assets <= 1:
        return equal
    # Imported here, since skfolio brings scikit-learn and scipy.stats, half a second, to every use of the backtest.
    from cvxpy.error import SolverError as ConvexSolverError  # noqa: PLC0415
    from skfolio.exceptions import (  # type: ignore[import-untyped]  # noqa: PLC0415
        NonPositiveVarianceError,
        OptimizationError,
        SolverError,
    )
    from skfolio.moments import LedoitWolf  # type: ignore[import-untyped]  # noqa: PLC0415
    from skfolio.optimization import MeanRisk, RiskBudgeting  # type: ignore[import-untyped]  # noqa: PLC0415
    from skfolio.prior import EmpiricalPrior  # type: ignore[import-untyped]  # noqa: PLC0415

    failures = (SolverError, OptimizationError, NonPositiveVarianceError, ConvexSolverError, ValueError)
    prior = EmpiricalPrior(covariance_estimator=LedoitWolf())
    kind = MeanRisk if rule == MINIMUM_VARIANCE else RiskBudgeting
    try:
        fitted = kind(prior_estimator=prior, max_weights=largest).fit(returns / returns.std(axis=0).mean())
        weights = np.asarray(fitted.weights_, dtype=np.float64).clip(0.0, largest)
    except failures as problem:
        logger.warning("skfolio found no weights of %s (%s); these assets get equal weights.", rule, problem)
        return equal
    return np.asarray(weights / max(1.0, weights.sum()))
