"""What training says before it starts."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.config import IngestionParameters, NetworkParameters, TradingParameters, TrainingParameters
from sentio_kedro.evaluation.run_frames import COLUMNS
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.pipelines.training import nodes
from sentio_kedro.pipelines.training.nodes import prepare_training_sets, train_agents, warn_of_lots

TRADING = TradingParameters(initial_cash=1_000.0, orders={"lot_size": 1.0})


def bars(*prices: float) -> AlignedBars:
    timestamps = pd.date_range("2024-01-01", periods=3, freq="D", tz="UTC")
    frames = []
    for name, price in zip("ABCDE", prices, strict=False):
        moving = price * np.array([0.5, 1.0, 2.0])
        columns = dict.fromkeys(("open", "high", "low", "close"), moving)
        frames.append(pd.DataFrame({"timestamp": timestamps, "symbol": name, **columns, "volume": 1.0}))
    return align_bars(pd.concat(frames), IngestionParameters())


def test_symbols_of_which_no_whole_share_can_be_bought_are_named_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_lots(bars(100.0, 501.0), TRADING)  # an allocation is 500
    assert "of B within" in caplog.text
    assert "`trading.initial_cash` = 1000" in caplog.text


def test_weights_of_symbols_that_the_bars_lack_stop_the_training_before_it_starts() -> None:
    given = TradingParameters(allocation={"A": 0.5, "Z": 0.5})
    with pytest.raises(
        ValueError, match=r"`trading.allocation` must name symbols of the bars, \['A', 'B'\], .*\['Z'\]"
    ):
        prepare_training_sets(bars(1.0, 2.0), *[None] * 6, IngestionParameters(), given)  # type: ignore[arg-type]


@pytest.mark.parametrize("trading", [replace(TRADING, initial_cash=1_002.0), TradingParameters(initial_cash=1.0)])
def test_affordable_lots_and_fractions_are_not_mentioned(
    trading: TradingParameters, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_lots(bars(100.0, 501.0), trading)
    assert not caplog.records


def test_curves_of_untrained_agents_have_their_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = SimpleNamespace(name="fold_0/seed_0", spec=SimpleNamespace(fold=0, seed=0))
    about = {"fold": 0, "untrained": "no sleeve is open", "train_seconds": 1.5, "peak_device_bytes": float("nan")}
    trained = (agent, [], about)
    monkeypatch.setattr(nodes, "train_population", lambda *_: iter([trained]))
    fold, folds = SimpleNamespace(train=(Segment(0, 9),)), SimpleNamespace(spans=None)
    training_set = SimpleNamespace(bars=SimpleNamespace(symbols=("A",)), fold=fold)
    settings = NetworkParameters(), TrainingParameters(), TradingParameters()
    agents, curves, table, timings = train_agents([training_set], folds, {"bars_hash": ""}, None, *settings)  # type: ignore[list-item,arg-type]
    assert (list(agents), len(curves), table["untrained"].tolist()) == (["fold_0/seed_0"], 0, ["no sleeve is open"])
    assert set(COLUMNS["training_curves"]) <= set(curves.columns)
    assert list(table.columns) == ["fold", "untrained"]  # nothing that a repeated training does not repeat
    assert list(timings.columns) == ["fold", "seed", "member", "update", *nodes.TIMED]
    assert set(nodes.TIMED).isdisjoint(curves.columns)
