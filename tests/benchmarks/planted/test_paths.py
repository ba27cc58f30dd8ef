"""Planted bars show the returns and volumes of their path."""

import numpy as np

from planted.catalogue import MARKETS
from planted.paths import autoregressive_returns, path_bars, planted_bars
from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.bars import align_bars


def test_bars_open_at_the_previous_close_and_give_the_returns_back() -> None:
    returns = autoregressive_returns(50, 0.1, 0.004, seed=0)
    frame = planted_bars(returns)
    assert np.allclose(np.diff(np.log(frame["close"])), returns[1:])
    assert np.array_equal(frame["open"][1:], frame["close"][:-1])
    assert (frame["high"] >= frame[["open", "close"]].max(axis=1)).all()


def test_aligned_bars_keep_the_order_of_the_assets_and_their_volume() -> None:
    for name in ("assets20", "lead_lag", "signal"):
        path = MARKETS[name].law.draw(40, seed=1)
        bars = align_bars(path_bars(path), IngestionParameters())
        assert np.allclose(np.diff(np.log(bars.close), axis=0), path.returns[1:])
        assert np.array_equal(bars.volume, path.volume)


def test_the_market_ar1_is_the_autoregression() -> None:
    path = MARKETS["ar1"].law.draw(100, seed=3)
    assert np.array_equal(path.returns[:, 0], autoregressive_returns(100, 0.1, 0.004, seed=3))
    assert np.array_equal(path.means, 0.1 * path.returns)
