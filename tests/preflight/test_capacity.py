"""Feeds on which nothing can be traded."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from sentio_kedro.config import OrderParameters, TradingParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.preflight.capacity import check_capacity, void_shares

STAMPS = np.datetime64("2024-01-03", "ns") + np.arange(4) * np.timedelta64(1, "D")


def bars_with(volume):
    price = np.full((4, 2), 10.0)
    return AlignedBars(STAMPS, ("A", "B"), price, price, price, price, np.array(volume, dtype=float))


def test_without_volume_nothing_can_be_traded(caplog):
    trading = TradingParameters(preset="realistic")
    with pytest.raises(
        ValueError, match=r"A at 100% of its bars, B at 100%.*participation` is 0\.1, .*set both to null"
    ):
        check_capacity(bars_with([[0, 0]] * 4), trading)
    check_capacity(bars_with([[0, 0]] * 4), TradingParameters())  # no limit reads volume
    with caplog.at_level(logging.WARNING):
        check_capacity(bars_with([[0, 1e4]] * 4), trading)
    assert "A at 100% of its bars. " in caplog.text


def test_lots_and_minimum_orders_need_room():
    bars = bars_with([[100, 1_000], [100, 1_000], [100, 0], [1_000, 1_000]])
    orders = OrderParameters(participation=0.1, lot_size=20.0)
    assert void_shares(bars, TradingParameters(orders=orders)).tolist() == [0.75, 0.25]
    assert void_shares(bars, TradingParameters(orders=replace(orders, lot_size=None, min_notional=100.0))).tolist() == [
        0.0,
        0.25,
    ]
