"""Bars of a random walk, at any timestamps."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.config import IngestionParameters
from sentio_kedro.market.ingestion.bar_checks import ExaminedBars, examine_bars
from sentio_kedro.market.ingestion.problems import Severity

PRICES = ["open", "high", "low", "close"]
Walk = Callable[..., pd.DataFrame]


@pytest.fixture
def make_walk() -> Walk:
    """Return a function that makes bars of one symbol."""

    def make(timestamps: Any, symbol: str = "A", volatility: float = 0.01, seed: int = 0) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, volatility, len(timestamps))))
        opens = np.concatenate([close[:1], close[:-1]])
        return pd.DataFrame(
            {
                "timestamp": timestamps,
                "symbol": symbol,
                "open": opens,
                "high": np.maximum(opens, close) * 1.001,
                "low": np.minimum(opens, close) * 0.999,
                "close": close,
                "volume": rng.integers(1, 1000, len(timestamps)).astype(float),
            }
        )

    return make


@pytest.fixture
def examine() -> Callable[..., ExaminedBars]:
    """Return a function that examines bars that start at their timestamps, UTC."""

    def look(frame: Any, **keys: Any) -> ExaminedBars:
        return examine_bars(frame, IngestionParameters(**({"bar_label": "start", "timezone": "UTC"} | keys)))

    return look


def only(examined: ExaminedBars, severity: Severity) -> tuple[str, int, tuple[str, ...]]:
    """Return rule, count and cases of the only problem, which has that severity."""
    (problem,) = examined.problems
    assert problem.severity == severity
    return problem.rule, problem.count, problem.cases
