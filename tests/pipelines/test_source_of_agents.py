"""Agents say which source their bars were of, if all bars say the same; otherwise their description has no such key."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from tests.conftest import synthetic_bars
from tests.serving.conftest import random_agent, recorded_bars, round_the_clock

from sentio_kedro.agent.bundle import SPEC
from sentio_kedro.config import IngestionParameters, NetworkParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.data_quality import data_quality
from sentio_kedro.pipelines.training import nodes


def quality_of(frame: pd.DataFrame) -> dict[str, Any]:
    return data_quality(frame, align_bars(frame, IngestionParameters()), IngestionParameters())


@pytest.mark.parametrize(
    ("sources", "known"), [(None, ""), (["yfinance-1d"], "yfinance-1d"), (["a", "b"], ""), ([1.0], "")]
)
def test_agents_know_the_one_source_of_their_bars(
    monkeypatch: pytest.MonkeyPatch, sources: list[Any] | None, known: str
) -> None:
    frame = synthetic_bars(bars=60)
    frame = frame if sources is None else frame.assign(source=(sources * len(frame))[: len(frame)])
    quality = quality_of(frame) | {"bars_hash": ""}
    assert quality.get("source", "") == known
    agent = random_agent(recorded_bars(round_the_clock()), 0)
    monkeypatch.setattr(
        nodes,
        "train_population",
        lambda *given: iter([(agent, [], {"fold": 3, "seed": 0, "peak_device_bytes": 0.0, "train_seconds": 1.0})]),
    )
    monkeypatch.setattr(nodes, "log_bars", lambda *given: None)
    of_fold: Any = SimpleNamespace(bars=SimpleNamespace(symbols=("AAA",)), fold=SimpleNamespace(train=()))
    folds: Any = SimpleNamespace(spans=None)
    parameters = NetworkParameters(), TrainingParameters(), TradingParameters()
    agents, *_ = nodes.train_agents([of_fold], folds, quality, None, *parameters)  # type: ignore[arg-type]
    assert agents[agent.name].spec.source == known
    assert SPEC.dump_python(agents[agent.name].spec, mode="json").get("source", "") == known
