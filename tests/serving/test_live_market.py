"""A live panel of several calendars: the newest row is that of the whole history."""

from dataclasses import replace

import numpy as np
import pytest
from tests.serving.conftest import SYMBOLS, TRADING, recorded_bars

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import SymbolRules
from sentio_kedro.market.ingestion.panels import panel_clock
from sentio_kedro.market.ingestion.sessions import session_schedule
from sentio_kedro.market.tensors import market_tensors
from sentio_kedro.serving.live_market import LiveMarket

HALF_HOUR = np.timedelta64(30, "m")


def test_each_symbol_counts_its_own_sessions_as_in_the_backtest(agent: AgentBundle) -> None:
    ends = np.datetime64("2020-01-01T00:30", "ns") + HALF_HOUR * np.arange(48 * 55)
    schedule = session_schedule(ends, "XNYS")
    number = np.searchsorted(schedule.opens, ends) - 1
    outside = (number < 0) | (ends > schedule.closes[np.maximum(number, 0)])
    bars = recorded_bars(ends).without(outside[:, None] & np.array([False, True, True]))
    symbols = {
        symbol: SymbolRules(calendar=name) for symbol, name in zip(SYMBOLS, ("24/7", "XNYS", "XNYS"), strict=True)
    }
    trading = replace(TRADING, symbols=symbols)
    clock = panel_clock(bars, trading)
    counts = {part.calendar: part.clock.bars_per_session for part in clock.own}
    assert counts == {"24/7": 48.0, "XNYS": 13.0}
    mixed = AgentBundle(replace(agent.spec, trading=trading, own_bars_per_session=counts), agent.weights)
    whole = market_tensors(bars, np.zeros((*bars.close.shape, 1)), np.ones((len(ends), 1)), trading)
    first = len(ends) - 40
    live = LiveMarket([mixed], bars.rows(slice(first - 1200, first)))
    for row in range(first, len(ends)):
        live = live.with_bar(bars.rows(slice(row, row + 1)))
        if row % 9 == 0:
            found, newest = live.decision_rows().market, live.decision_rows().newest
            for name in ("volatility", "daily_volatility", "daily_volume", "bar_volume", "tail", "correlation"):
                wanted = getattr(whole, name)[row].numpy()
                assert getattr(found, name)[newest].numpy() == pytest.approx(wanted, rel=1e-9), (row, name)
