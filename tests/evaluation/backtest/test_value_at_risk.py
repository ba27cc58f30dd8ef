"""Sessions that go beyond the value at risk are counted, and only where a forecast was made and tested."""

import numpy as np
import pandas as pd

from sentio_kedro.config import TradingParameters
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.evaluation.backtest.value_at_risk import value_at_risk_frame
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.purged_folds import Segment

DAYS, PER_DAY = 10, 4
BARS = DAYS * PER_DAY
TRADING = TradingParameters(masks={"var_confidence": 0.95})
ROWS = [Segment(4, BARS - 1)]


def bars(hidden: tuple[int, int] | None = None) -> AlignedBars:
    """Quiet days but for a fall of 18 % on day 5 of AAA and a rise of 22 % on day 7 of BBB."""
    moves = np.where(np.arange(BARS) % 2, 0.001, -0.001)[:, None].repeat(2, axis=1)
    moves[5 * PER_DAY : 6 * PER_DAY, 0], moves[7 * PER_DAY : 8 * PER_DAY, 1] = -0.05, 0.05
    close = 100.0 * np.exp(moves.cumsum(axis=0))
    opened = np.vstack([[[100.0, 100.0]], close[:-1]])
    days = np.datetime64("2020-01-01T01:00", "ns") + np.arange(DAYS).repeat(PER_DAY) * np.timedelta64(1, "D")
    timestamps = days + np.tile(np.arange(PER_DAY), DAYS) * np.timedelta64(6, "h")
    top, bottom = np.maximum(opened, close), np.minimum(opened, close)
    made = AlignedBars(timestamps, ("AAA", "BBB"), opened, top, bottom, close, np.ones((BARS, 2)))
    if hidden is None:
        return made
    mask = np.zeros((BARS, 2), dtype=bool)
    mask[hidden] = True
    return made.without(mask)


def counted(made: AlignedBars, rows: list[Segment]) -> dict[tuple[str, str], tuple[int, int]]:
    """Sessions and exceedances by symbol and side."""
    frame = value_at_risk_frame(BacktestContext.of(made, np.zeros((BARS, 2, 1)), {}, TRADING), rows)
    assert set(frame["confidence"]) == {0.95}
    return {(row.symbol, row.side): (row.sessions, row.exceedances) for row in frame.itertuples()}


def test_a_session_beyond_its_forecast_is_one_exceedance_of_its_side() -> None:
    assert counted(bars(), ROWS) == {
        ("AAA", "fall"): (7, 1),  # days 2 to 8: nothing forecasts day 1, and the bars do not end day 9
        ("BBB", "fall"): (7, 0),
        ("AAA", "rise"): (7, 0),
        ("BBB", "rise"): (7, 1),
    }


def test_rows_that_were_not_tested_forecast_nothing_and_rows_tested_twice_do_so_once() -> None:
    halves = [Segment(4, 19), Segment(8, 16)]  # forecasts at the ends of days 1, 2 and 3
    assert set(counted(bars(), halves).values()) == {(3, 0)}


def test_an_asset_without_a_bar_at_either_end_is_not_tested() -> None:
    assert counted(bars((5 * PER_DAY - 1, 0)), ROWS)["AAA", "fall"] == (5, 0)  # no forecast of day 5, no end of day 4
    assert counted(bars((6 * PER_DAY - 1, 0)), ROWS)["AAA", "fall"] == (5, 0)  # no end of day 5, no forecast of day 6


def test_a_dividend_is_no_fall() -> None:
    made = bars()
    dividend = np.zeros((BARS, 2))
    fallen = made.close[5 * PER_DAY - 1, 0] - made.close[5 * PER_DAY, 0]
    quiet = {name: getattr(made, name).copy() for name in ("open", "high", "low", "close")}
    for values in quiet.values():
        values[5 * PER_DAY + 1 :, 0] = made.close[5 * PER_DAY, 0]  # the rest of the fall is gone
    dividend[5 * PER_DAY, 0] = fallen
    for paid, exceedances in ((dividend, 0), (0.0 * dividend, 1)):
        changed = AlignedBars(made.timestamps, made.symbols, **quiet, volume=made.volume, dividend=paid)
        assert counted(changed, ROWS)["AAA", "fall"][1] == exceedances


def test_a_market_without_sessions_is_not_tested() -> None:
    context = BacktestContext.of(bars(), np.zeros((BARS, 2, 1)), {}, TRADING)
    still = BacktestContext(context.bars, context.market._replace(session=None), context.market_returns, {}, TRADING)
    assert value_at_risk_frame(still, ROWS).empty
    assert isinstance(value_at_risk_frame(still, ROWS), pd.DataFrame)
