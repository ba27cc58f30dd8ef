"""`kedro trader run`: what is refused before any work, and what is compared with the report."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tests.conftest import ROOT

from sentio_kedro.commands import runs
from sentio_kedro.commands.project import TraderProject
from sentio_kedro.config import RegistryParameters
from sentio_kedro.config.live.trader import FeedParameters, TraderParameters
from sentio_kedro.locks import LockedError
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.purged_folds import Segment, Spans
from sentio_kedro.tracking import client
from sentio_kedro.trader.clock import ReplayClock
from sentio_kedro.trader.feeds.replay import ReplayFeed, before_lockbox
from sentio_kedro.trader.journal.store import Journal
from sentio_kedro.trader.launch import models, running
from sentio_kedro.trader.orders import UnreadableError


@pytest.fixture
def project(tmp_path: Path) -> SimpleNamespace:
    """A project without agents: whoever asks for them fails."""
    return SimpleNamespace(journal=tmp_path / "replay.sqlite", parameters=TraderParameters())


@pytest.mark.parametrize("again", [False, True])
def test_a_second_run_is_refused_before_agents_are_loaded_and_leaves_the_journal(project, again):
    with Journal(project.journal):
        before = sorted(project.journal.parent.iterdir())
        with pytest.raises(LockedError, match="must have one writer at a time"):
            runs.run_trader(project, again=again)
        assert sorted(project.journal.parent.iterdir()) == before


def test_again_sets_the_journal_aside_only_when_the_new_replay_can_start(project, monkeypatch):
    Journal(project.journal).close()

    def refused(_: object) -> None:
        raise ValueError("no agents")

    monkeypatch.setattr(runs, "parts_of", refused)
    with pytest.raises(ValueError, match="no agents"):
        runs.run_trader(project, again=True)
    assert project.journal.exists()
    project.parameters = replace(project.parameters, mode="paper", feed=FeedParameters(type="ccxt"))
    with pytest.raises(ValueError, match="`--again` must go with mode replay, was paper"):
        runs.run_trader(project, again=True)


def test_a_replay_that_was_stopped_is_not_compared_with_the_end_of_the_report():
    stamps = pd.to_datetime(["2026-01-02T15:00:00Z", "2026-01-02T15:30:00Z"])
    accounts = pd.DataFrame({"timestamp": stamps, "account": "ensemble", "equity": [1.0, 2.0]})
    project = SimpleNamespace(load=lambda name: {"accounts": accounts}[name])
    assert [runs._reported(project, bar) for bar in ("", "2026-01-02T15:30:00Z", "2026-01-02T16:00:00Z")] == [
        None,
        None,
        2.0,
    ]


def test_a_registered_model_is_asked_for_by_its_name(monkeypatch):
    monkeypatch.chdir(ROOT)
    project = TraderProject("smoke", {"trader": {"model": "champion"}})
    mlflow = SimpleNamespace(server=SimpleNamespace(mlflow_tracking_uri="sqlite:///nowhere.db"))
    context = SimpleNamespace(params={"registry": RegistryParameters(model="mine")}, mlflow=mlflow)
    monkeypatch.setitem(vars(project), "context", context)  # Kedro gives parameters as their types
    monkeypatch.setattr(project, "load", lambda name: [name])
    monkeypatch.setattr(client, "use_store", lambda address: None)
    monkeypatch.setattr(models, "registered_agents", lambda parameters, *given: (parameters.model, *given))
    assert project.agents() == ("champion", "mine", ["earlier_promotions"])


def test_a_venue_or_feed_that_does_not_answer_is_one_text():
    async def silent(*_: object) -> None:
        raise UnreadableError("no network")

    decider = SimpleNamespace(symbols=("A",), required_bars=1)
    parts = SimpleNamespace(decider=decider, feed=SimpleNamespace(history=silent), note="")
    with pytest.raises(ValueError, match=r"must answer before anything is traded, it does not \(no network\)"):
        asyncio.run(running.examine(TraderParameters(), parts))


def test_the_start_of_a_replay_that_is_no_stamp_is_named():
    frame = pd.DataFrame({"timestamp": pd.to_datetime(["2026-01-02T15:00:00Z"]), "symbol": "A"})
    frame[["open", "high", "low", "close", "volume"]] = 1.0
    with pytest.raises(ValueError, match=r"`trader.feed.start` must be test, or a stamp such as .*, was 'yesterday'"):
        ReplayFeed(frame, "yesterday", ReplayClock())


def test_a_replay_from_a_stamp_ends_before_the_lockbox():
    stamps = np.arange("2026-01-01", "2026-01-11", dtype="datetime64[D]").astype("datetime64[ns]")
    columns = {name: np.ones((10, 1)) for name in ("open", "high", "low", "close", "volume")}
    bars = AlignedBars.of(stamps, ("A",), columns)
    folds = Folds.of([], Spans(1, 1, 1), stamps, Segment(7, 10))
    assert list(before_lockbox(folds, bars).timestamps) == list(stamps[:7])
    assert before_lockbox(Folds.of([], Spans(1, 1, 1), stamps), bars) is bars
