"""Synthetic bars for the tests of the market package."""

from dataclasses import replace

import numpy as np
import pytest

from sentio_kedro.market.ingestion.aligned_bars import AlignedBars


def random_walk(rows, assets=1, seed=0, volatility=0.005, missing=0.0):
    """Random walks whose open is the previous close and whose range is the body; asset by asset from its own seed."""
    start = np.datetime64("2020-01-01T00:30", "ns")
    columns = {name: np.full((rows, assets), np.nan) for name in ("open", "high", "low", "close", "volume")}
    for asset in range(assets):
        rng = np.random.default_rng([seed, asset])
        close = 100.0 * np.exp(np.cumsum(volatility * rng.standard_normal(rows)))
        opened = np.concatenate([[100.0], close[:-1]])
        wick = np.abs(volatility * rng.standard_normal((2, rows)))
        values = {
            "open": opened,
            "high": np.maximum(opened, close) * (1.0 + wick[0]),
            "low": np.minimum(opened, close) * (1.0 - wick[1]),
            "close": close,
            "volume": rng.lognormal(size=rows),
        }
        here = rng.random(rows) >= missing
        for name, value in values.items():
            columns[name][:, asset] = np.where(here, value, np.nan)
    timestamps = start + np.arange(rows) * np.timedelta64(30, "m")
    return AlignedBars(timestamps, tuple("ABCDEFGH"[:assets]), **columns)


@pytest.fixture(name="walk", scope="session")
def walk_fixture():
    """The function that makes random walks."""
    return random_walk


def as_traded(whole, actions):
    """The bars whose total-return prices are ``whole``, if assets split and pay as ``actions`` say.

    ``actions`` maps (row, asset) to (split, dividend); each bar is worked out from the one before it.
    """
    columns = {name: column.copy() for name, column in whole.columns().items()}
    split, dividend = np.where(whole.present, 1.0, np.nan), np.where(whole.present, 0.0, np.nan)
    for asset in range(len(whole.symbols)):
        factor, shares, before = 1.0, 1.0, None
        for row in np.flatnonzero(whole.present[:, asset]):
            split[row, asset], dividend[row, asset] = actions.get((row, asset), (1.0, 0.0))
            if before is not None:
                price = before / split[row, asset]
                factor *= split[row, asset] * price / (price - dividend[row, asset])
                shares *= split[row, asset]
            for name in ("open", "high", "low", "close"):
                columns[name][row, asset] /= factor
            columns["volume"][row, asset] *= shares
            before = columns["close"][row, asset]
    return replace(whole, **columns, split=split, dividend=dividend)


@pytest.fixture(name="traded", scope="session")
def traded_fixture():
    """The function that turns total-return bars into bars as traded."""
    return as_traded
