"""Signals are the decisions of the backtest at the newest bar."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.backtest import test_abstaining_agents as abstaining
from tests.evaluation.backtest.test_backtest import AGENTS, COLUMNS, LIMITS, QUICK, make_agent, make_bars

from sentio_kedro.config import SignalParameters
from sentio_kedro.evaluation.backtest.backtest import backtest_agent
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.serving.accounts import Account
from sentio_kedro.serving.newest import choose_agents, newest_signals


def flat_at(bars: AlignedBars, row: int, cash: float) -> Account:
    return Account(cash=cash, time=pd.Timestamp(bars.timestamps[row], tz="UTC").to_pydatetime())


def test_signals_repeat_the_decision_of_the_backtest() -> None:
    bars = make_bars()
    features = compute_features(bars, COLUMNS)
    agent = make_agent(0, 0, replace(LIMITS, initial_cash=1.0))
    frames = backtest_agent(bars, features, agent, QUICK, 17520.0)
    begun = flat_at(bars, agent.spec.required_bars - 1, 1.0)
    for row in (140, 151, 200):
        part = {name: getattr(bars, name)[: row + 1] for name in ("open", "high", "low", "close", "volume")}
        newest = AlignedBars(timestamps=bars.timestamps[: row + 1], symbols=bars.symbols, **part)
        signals = newest_signals([agent], newest, SignalParameters(equity=1.0), begun)
        timestamp = pd.Timestamp(bars.timestamps[row]).tz_localize("UTC")
        position = frames["positions"][frames["positions"]["timestamp"] == timestamp]["position"].to_numpy()
        assert np.allclose(signals["target"], position, atol=1e-6)  # these bars open at the previous close
        assert np.allclose(signals["shares"], position / bars.close[row], atol=1e-6)
    states = ["state_0", "state_1"]
    sized = ["timestamp", "symbol", "target", "shares", "order", "regime"]
    said = ["tail_risk", "binding", "agents", "other_target", "start_agrees", "untested"]
    assert list(signals.columns) == [*sized, *states, *said]
    assert (signals["tail_risk"] >= 0).all()


def test_the_latest_fold_decides_unless_another_is_named() -> None:
    assert [agent.name for agent in choose_agents(AGENTS, None)] == ["fold_1/seed_0", "fold_1/seed_1"]
    assert [agent.name for agent in choose_agents(AGENTS, 0)] == ["fold_0/seed_0", "fold_0/seed_1"]
    with pytest.raises(ValueError, match=r"`signals.fold` must be one of \[0, 1\], was 5"):
        choose_agents(AGENTS, 5)


def test_signals_of_agents_that_abstain_are_flat() -> None:
    bars, begun = abstaining.bars(), flat_at(abstaining.bars(), 19, 1_000_000.0)
    alone = [
        newest_signals([abstaining.make_agent(0, 0, out)], bars, SignalParameters(), begun) for out in (False, True)
    ]
    assert abs(alone[0]["target"][0]) == pytest.approx(1.0, rel=0.01)  # the position that it keeps, which drifts
    assert alone[0]["tail_risk"][0] > 0.0
    assert alone[1][["target", "shares", "tail_risk"]].iloc[0].tolist() == [0.0, 0.0, 0.0]
    agents = [abstaining.make_agent(0, 0, False), abstaining.make_agent(0, 1, True)]
    both = newest_signals(agents, bars, SignalParameters(), begun)
    assert both[["target", "shares", "tail_risk"]].iloc[0].tolist() == [0.0, 0.0, 0.0]  # no majority trades
    assert both["agents"][0] == 2
