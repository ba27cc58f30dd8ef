"""Latency of the challenger's decisions, and drift of the market since its training."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sentio_kedro.agent.bundle import AgentBundle, same_symbols
from sentio_kedro.evaluation.comparison.drift import feature_drift
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import aligned_to_frame
from sentio_kedro.market.ingestion.timestamps import moment
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.serving.model import SignalModel
from sentio_kedro.tracking.model import newest_bars

WARM_UP = 2  # decisions before the clock runs
MILLISECONDS = 1_000.0


def decision_latency(model: SignalModel, bars: pd.DataFrame, calls: int) -> float:
    """Time decisions of a model in this process, without a server.

    Args:
        model: The model.
        bars: Bars of the decision.
        calls: Number of decisions that are timed.
    """
    seconds = []
    for call in range(WARM_UP + calls):
        started = time.perf_counter()
        model.predict(None, bars)
        if call >= WARM_UP:
            seconds.append(time.perf_counter() - started)
    return float(np.quantile(seconds, 0.99)) * MILLISECONDS


def example_bars(agents: Sequence[AgentBundle], aligned_bars: AlignedBars) -> pd.DataFrame:
    """Return as many of the newest bars as the agents need to decide."""
    return aligned_to_frame(newest_bars({agent.name: agent for agent in agents}, aligned_bars))


def market_drift(
    agents: Sequence[AgentBundle], bars: AlignedBars, newest: int, lockbox: Segment | None = None
) -> float | None:
    """Return the drift of the features from the agents' train bars to the newest bars after them.

    Args:
        agents: Agents of one fold.
        bars: Bars up to now, the train bars among them.
        newest: Newest bars to take, of those after the train span.
        lockbox: Bars that stay closed; bars that came later are open.

    Returns:
        ``feature_drift``; None if there are no train bars or none after them.

    Raises:
        ValueError: If the bars are of other symbols.
    """
    same_symbols(agents, bars.symbols)
    spec = agents[0].spec
    features = agents[0].inputs(bars)
    first, last = (moment(getattr(spec, name), name) for name in ("train_start", "train_end"))
    train, later = (bars.timestamps >= first) & (bars.timestamps <= last), bars.timestamps > last
    if lockbox is not None:
        later[lockbox.start : lockbox.stop] = False
    return feature_drift(features[train], features[later][-newest:])
