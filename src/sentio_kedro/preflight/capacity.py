"""Whether any order can be filled: volume against participation, liquidity, lots and minimum orders."""

from __future__ import annotations

import logging

import numpy as np

from sentio_kedro.config import TradingParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.timestamps import Floats

logger = logging.getLogger(__name__)

MOST = 0.5  # share of a symbol's bars without room for an order, from which on it is told


def void_shares(bars: AlignedBars, trading: TradingParameters) -> Floats:
    """Return the share of each symbol's bars [A] whose volume leaves no room for the smallest order.

    The room is ``orders.participation`` and ``masks.liquidity`` of the bar's volume; the smallest order is one lot, and
    ``orders.min_notional``. Both limits read trailing means of volume, so that this is a rough figure, exact at 0.
    """
    limits = [share for share in (trading.orders.participation, trading.masks.liquidity) if share is not None]
    if not limits:
        return np.zeros(len(bars.symbols))
    smallest = np.maximum((trading.orders.lot_size or 0.0) * bars.close, trading.orders.min_notional or 0.0)
    with np.errstate(over="ignore"):
        room = max(limits) * bars.volume * bars.close  # NaN without a bar, and then no bar counts
    void = bars.present & ((room <= 0.0) | (room < smallest))
    return np.asarray(void.sum(axis=0) / np.maximum(bars.present.sum(axis=0), 1))


def check_capacity(bars: AlignedBars, trading: TradingParameters) -> None:
    """Warn of symbols that can hardly trade.

    Raises:
        ValueError: If none can ever trade, with the keys to change.
    """
    shares = void_shares(bars, trading)
    if not (shares > MOST).any():
        return
    cases = ", ".join(
        f"{symbol} at {share:.0%} of its bars"
        for symbol, share in zip(bars.symbols, shares.tolist(), strict=True)
        if share > MOST
    )
    text = (
        f"Volume leaves no room for an order: {cases}. `trading.orders.participation` is "
        f"{trading.orders.participation}, `trading.masks.liquidity` {trading.masks.liquidity}, both fractions of volume"
        "; if the feed has no volume, set both to null and `trading.costs.impact` to 0."
    )
    if (shares >= 1.0).all():
        raise ValueError(text)
    logger.warning("%s", text)
