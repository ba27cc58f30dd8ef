"""The MLflow model: raw bars in, the agents' signals out."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tests.agent.awake import awaken

from sentio_kedro.agent.bundle import AgentBundle, AgentSpec
from sentio_kedro.agent.networks import NetworkShape, build_network
from sentio_kedro.config import (
    FeatureColumn,
    IngestionParameters,
    NetworkParameters,
    SignalParameters,
    TradingParameters,
)
from sentio_kedro.evaluation.planted import autoregressive_returns, planted_bars
from sentio_kedro.market.bars import align_bars
from sentio_kedro.serving.decisions import newest_signals
from sentio_kedro.serving.model import SignalModel

NETWORK = NetworkParameters(width=8, heads=2, window=4, convolution=2, hidden=8, quantiles=5)
REGIMES = {"means": [0.0], "deviations": [0.01], "transition": [[1.0]], "stationary": [1.0], "memory": 4}


@pytest.fixture(name="agent")
def agent_fixture() -> AgentBundle:
    network = awaken(build_network(NETWORK, NetworkShape(1, 1, 1, 4), torch.Generator().manual_seed(0)))
    spec = AgentSpec(
        fold=0, seed=0, members=1, symbols=["AAA"], periods_per_year=17520.0, gamma=0.9, required_bars=110,
        train_start="2019-01-01T00:00:00+00:00", train_end="2019-06-01T00:00:00+00:00",
        features=[FeatureColumn(name="r", indicator="log_return")], network=NETWORK, trading=TradingParameters(),
        regimes=REGIMES, train_sharpe=0.0, validation_sharpe=0.0, hashes={},
    )  # fmt: skip
    return AgentBundle(spec, (network.state_dict(),))


@pytest.fixture(name="bars")
def bars_fixture() -> pd.DataFrame:
    return planted_bars(autoregressive_returns(400, 0.1, 0.004, seed=0), "AAA")


def test_the_model_gives_the_signals_of_its_agents(agent: AgentBundle, bars: pd.DataFrame, tmp_path: Path) -> None:
    agent.save(tmp_path / "fold_0" / "seed_0")
    model = SignalModel()
    context = SimpleNamespace(artifacts={"agents": str(tmp_path)})
    model.load_context(context)
    expected = newest_signals([agent], align_bars(bars, IngestionParameters()), SignalParameters(equity=5.0))
    pd.testing.assert_frame_equal(model.predict(context, bars, {"equity": 5.0}), expected)


def test_a_long_history_and_the_required_bars_give_the_same_signal(agent: AgentBundle, bars: pd.DataFrame) -> None:
    whole, least = (
        newest_signals([agent], align_bars(frame, IngestionParameters()), SignalParameters(replay_bars=1))
        for frame in (bars, bars.iloc[-111:])
    )
    assert np.allclose(whole["target"], least["target"], atol=1e-6)
    assert np.allclose(whole["tail_risk"], least["tail_risk"], atol=1e-6)


def test_too_few_bars_are_refused_with_what_is_missing(agent: AgentBundle, bars: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="need 110 bars to decide, were given 100; give 10 more"):
        newest_signals([agent], align_bars(bars.iloc[:100], IngestionParameters()), SignalParameters())
