"""Settings of trading that must fit the bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sentio_kedro.config.trading import own_calendars
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.panels import symbol_clocks
from sentio_kedro.market.tensors import market_tensors
from sentio_kedro.trading.accounts import for_symbols
from sentio_kedro.trading.facts import market_facts

_ROWS = 64  # of the bars


def check_trading(bars: AlignedBars, parameters: Mapping[str, Any]) -> None:
    """Compute the facts of trading on the first bars, which names every column, symbol or regime that is lacking.

    Args:
        bars: Aligned bars.
        parameters: Typed sections by name.

    Raises:
        ValueError: With what is lacking, or the bars that lie outside the calendars of their symbols.
    """
    trading = for_symbols(parameters["trading"], bars.symbols)
    symbol_clocks(bars, own_calendars(trading, bars.symbols))
    some = bars.rows(slice(0, _ROWS))
    rows, states = len(some.timestamps), parameters["regimes"].states
    posterior = np.full((rows, states), 1.0 / states)
    market_facts(market_tensors(some, np.zeros((*some.close.shape, 1)), posterior, trading), 0, rows, trading)
