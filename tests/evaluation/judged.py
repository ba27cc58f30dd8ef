"""Runs as they were judged, made up."""

import numpy as np
import pandas as pd

from sentio_kedro.evaluation.comparison.compare import TestedRun

PER_YEAR = 252.0


def returns(*columns, bars=400, market=None):
    timestamps = pd.date_range("2024-01-01", periods=bars, freq="D", tz="UTC")
    market_returns = np.linspace(-0.01, 0.01, bars) if market is None else market
    frame = pd.DataFrame({"timestamp": timestamps, "fold": 0, "market": market_returns})
    return frame.assign(**{f"seed_{number}": column for number, column in enumerate(columns)})


def run(number, frame, **changes):
    made = {
        "run_id": f"{number}" * 32,
        "name": f"run {number}",
        "variant": "enhanced",
        "started": pd.Timestamp("2024-06-01", tz="UTC"),
        "metrics": {"agent.sharpe": float(number), "agent.sharpe_low": -1.0, "agent.sharpe_high": 9.0},
        "origin": {"bars": "b", "execution": "e"},
        "returns": frame,
        "periods_per_year": PER_YEAR,
    }
    return TestedRun(**{**made, **changes})
