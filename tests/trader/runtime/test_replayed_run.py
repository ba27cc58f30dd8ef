"""The whole trader on the bars of a finished run: it ends with the report's equity, also when it was ended half way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.conftest import Project

import trader_replay
from sentio_kedro.config.live.trader import SendingParameters, TraderLimits
from sentio_kedro.trader.brokers.simulated import SimulatedBroker
from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.decider import SessionDecider
from sentio_kedro.trader.feeds.replay import ReplayFeed
from sentio_kedro.trader.journal.store import Journal, JournalReader
from sentio_kedro.trader.runtime import Trader
from sentio_kedro.trader.state import Rules, State

WIDE = TraderLimits(
    order_notional=10.0,
    symbol_exposure=10.0,
    gross=10.0,
    turnover_per_day=1_000.0,
    orders_per_minute=1_000,
    price_deviation=0.9,
    daily_loss=0.99,
    drawdown=0.99,
)


def run(tested: trader_replay.Block, path: Path, stop: str) -> State:
    """Trade until a stamp, from wherever the journal ends."""
    first, closing, _ = tested.stamps
    clock = ReplayClock()
    feed = ReplayFeed(tested.bars, first, clock, stop=stop, closing=closing)
    decider = SessionDecider(tested.agents, trader_replay.NAME, traced=False)
    rules = Rules(trader_replay.NAME, decider.symbols, 86_400.0, WIDE, SendingParameters())
    with Journal(path) as journal:
        trader = Trader(rules, journal, SimulatedBroker(clock), feed, decider, clock, account=tested.account)
        return asyncio.run(trader.run())


def test_the_trader_ends_with_the_equity_of_the_report_although_it_was_stopped(
    finished: Project, tmp_path: Path
) -> None:
    tested = trader_replay.from_artifacts(finished.artifact(""), traced=False)
    path, rows = tmp_path / "journal.sqlite", tested.rows()
    for last in (len(rows) // 2, len(rows) - 1):
        state = run(tested, path, rows[last].stamp)
    assert state.mode == "active", state.reason
    assert state.equity == pytest.approx(tested.judged[-1], rel=1e-9)
    assert state.cash == pytest.approx(tested.judged[-1], rel=1e-9)
    assert not any(state.shares.values())
    with JournalReader(path) as journal:
        kept = {stored.event.key: stored.event.body for stored in journal.events(kinds={"decided"})}
        filled = [stored.event for stored in journal.events(kinds={"filled"})]
    equity = [body["equity"] for body in kept.values()][1:]
    assert equity == pytest.approx(tested.judged.tolist(), rel=1e-9)
    assert len(filled) == len({event.key for event in filled}) > 10
