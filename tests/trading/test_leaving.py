"""Assets that leave a dated universe: positions are only reduced, closed at once, and settled after the exit bars."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.config import IngestionParameters, TradingParameters, UniverseParameters
from sentio_kedro.evaluation.backtest.baselines.schedules import simulate_schedules
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.trading.facts import market_facts

ROWS, LAST = 20, 9  # rows of the grid, and the last one at which B is a member
FREE = {"preset": "none", "initial_cash": 1000.0, "max_position": 1.0, "drawdown_sessions": None}


def bars_of(
    exit_bars: int = 3, returned: float | None = None, *, traded: bool = True, volume: float = 1e9
) -> AlignedBars:
    """A stays at 10; B is worth 10 as a member, then 20, 30, 40 and on, if it is ``traded`` after it has left."""
    stamps = pd.date_range("2020-01-01 21:00", periods=ROWS, freq="D", tz="UTC")
    wave = 0.01 * (np.arange(ROWS) % 2)
    after = np.maximum(np.arange(ROWS) - LAST, 0)
    parts = []
    for symbol, price in (("A", 10.0 + wave), ("B", 10.0 * (1.0 + after) + wave)):
        values = {"open": price, "high": price, "low": price, "close": price, "volume": volume}
        parts.append(pd.DataFrame({"timestamp": stamps, "symbol": symbol, **values}))
    frame = pd.concat(parts)
    if not traded:
        frame = frame[(frame["symbol"] == "A") | (frame["timestamp"] <= stamps[LAST])]
    ended = str(stamps[LAST].date())
    table = pd.DataFrame(
        {"symbol": ["A", "B"], "start": "2019-01-01", "end": ["", ended], "delisting_return": [None, returned]}
    )
    return align_bars(frame, IngestionParameters(universe="dated"), table, UniverseParameters(exit_bars))


def held(bars: AlignedBars, targets: np.ndarray, **trading: Any) -> tuple[np.ndarray, np.ndarray]:
    """Shares of B at the close of each row after the first, and the equity there."""
    parameters = TradingParameters(**{**FREE, **trading})
    context = BacktestContext.of(bars, np.zeros((ROWS, 2, 1)), {}, parameters)
    span = Segment(0, ROWS - 1)
    chunks = list(simulate_schedules(context, span, {"table": targets}))
    shares = np.concatenate([chunk.ledger.fills.shares[:, 0, 1] for chunk in chunks])
    return shares, np.concatenate([chunk.ledger.total.equity[:, 0] for chunk in chunks])


def targets_of(row: int, position: float) -> np.ndarray:
    """Request a position in B at a row, and nothing else."""
    table = np.full((ROWS - 1, 2), np.nan)
    table[row, 1] = position  # A is never due
    return table


def test_facts_say_where_positions_are_closed_and_at_which_prices() -> None:
    bars = bars_of()
    context = BacktestContext.of(bars, np.zeros((ROWS, 2, 1)), {}, TradingParameters(**FREE))
    facts = market_facts(context.market, 0, ROWS, context.trading).facts[:, 1]
    assert np.flatnonzero(facts.tradable).tolist() == list(range(LAST + 1))
    assert np.flatnonzero(facts.leaving).tolist() == [10, 11, 12]
    assert np.flatnonzero(facts.reducing).tolist() == [9, 10, 11]
    assert np.flatnonzero(facts.fillable).tolist() == list(range(12))
    assert np.flatnonzero(facts.delisted).tolist() == [12]
    np.testing.assert_allclose(facts.next_close[8:14], [10.01, 20.0, 30.01, 40.0, 40.0, 40.0])


@pytest.mark.parametrize("position", [0.5, -0.25])
def test_a_position_is_closed_at_the_open_after_the_first_bar_outside(position: float) -> None:
    shares, equity = held(bars_of(), targets_of(2, position))
    assert shares[8] == pytest.approx(100.0 * position, rel=1e-2)
    assert shares[9] == shares[8]  # that it has left is known at the close of the bar
    assert (shares[10:] == 0.0).all()
    assert equity[-1] == pytest.approx(1000.0 + shares[8] * 20.0, rel=1e-3)  # at the open of 30


def test_nothing_is_bought_at_the_first_bar_outside_nor_later() -> None:
    for row in (LAST, LAST + 1, LAST + 5):
        shares, equity = held(bars_of(), targets_of(row, 0.5))
        assert not shares.any()
        assert (equity == 1000.0).all()


def test_what_participation_leaves_after_the_exit_bars_is_settled() -> None:
    limits = {"orders": {"participation": 0.01, "participation_volume": "bar"}}
    shares, equity = held(bars_of(volume=1000.0), targets_of(2, 0.5), **limits)
    np.testing.assert_allclose(shares[8:13], [50.0, 50.0, 40.0, 30.0, 0.0], rtol=2e-3)
    sold = 10.0 * 30.0 + 10.0 * 40.0 + 30.0 * 40.0  # the rest at the last price
    assert equity[-1] == pytest.approx(1000.0 - 50.0 * 10.0 + sold, rel=2e-3)


@pytest.mark.parametrize(
    ("returned", "default", "kept"), [(-0.7, 0.0, 0.3), (0.1, 0.0, 1.1), (None, -0.4, 0.6), (-1, 0, 0)]
)
def test_a_delisting_pays_what_the_table_says_or_the_default(
    returned: float | None, default: float, kept: float
) -> None:
    bars = bars_of(returned=returned, traded=False)
    shares, equity = held(bars, targets_of(2, 0.5), delisting_return=default)
    assert shares[8] == pytest.approx(50.0, rel=1e-2)
    assert shares[-1] == 0.0
    assert equity[-1] == pytest.approx(500.0 + 500.0 * kept, rel=2e-3)


def test_a_short_position_earns_what_the_table_says_but_never_the_default() -> None:
    bars = bars_of(returned=-0.7, traded=False)
    assert held(bars, targets_of(2, -0.5))[1][-1] == pytest.approx(1350.0, rel=2e-3)
    bars = bars_of(traded=False)
    assert held(bars, targets_of(2, -0.5), delisting_return=-0.7)[1][-1] == pytest.approx(1000.0, rel=2e-3)
