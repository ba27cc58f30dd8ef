"""Sentences say what the figures say, alarms ring when they should."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from sentio_kedro.config import ReportingParameters
from sentio_kedro.evaluation.findings import alarms, verdict
from sentio_kedro.evaluation.frames import RunFacts, RunFrames
from sentio_kedro.evaluation.metrics import build_metrics

MakeRun = Callable[..., RunFrames]
PARAMETERS = ReportingParameters(bootstrap_samples=60)
CALM = {"sharpe": 1.0, "max_drawdown": 0.1}


@pytest.mark.parametrize(
    ("drift", "luck", "against"),
    [
        (2e-3, "whole interval lies above zero", "it clearly beat buy and hold"),
        (0.0, "interval holds zero", "luck explains"),
        (-2e-3, "whole interval lies below zero", "it was clearly beaten by buy and hold"),
    ],
)
def test_the_verdict_follows_the_interval(
    make_run: MakeRun, facts: RunFacts, drift: float, luck: str, against: str
) -> None:
    frames = make_run(drift={"seed_0": drift + 1.2e-4, "seed_1": drift + 1.2e-4})
    text = " ".join(verdict(build_metrics(frames, facts, PARAMETERS)))
    assert luck in text
    assert against in text
    assert ("earned" if drift > 0 else "lost") in text or drift == 0.0


def test_no_alarm_rings_for_a_sound_run(make_run: MakeRun) -> None:
    assert alarms(make_run(), CALM) == []


def test_an_agent_that_never_changes_its_action_raises_an_alarm(make_run: MakeRun) -> None:
    frames = make_run()
    stuck = frames.actions.copy()
    stuck.loc[(stuck["account"] == "seed_1") & (stuck["action"] != "+1"), "count"] = 0
    assert alarms(dataclasses.replace(frames, actions=stuck), CALM) == [
        "seed_1 always took the action '+1': it learnt a constant, not a strategy."
    ]


def test_an_agent_that_stops_trading_half_way_raises_an_alarm(make_run: MakeRun) -> None:
    frames = make_run()
    accounts = frames.accounts.copy()
    mine = accounts["account"] == "seed_1"
    late = accounts["row"] > accounts["row"].quantile(0.25)
    accounts.loc[mine & late, ["turnover", "commission", "spread"]] = 0.0
    accounts.loc[mine & late, "return"] = accounts.loc[mine & late, "price_pnl"]
    (alarm,) = alarms(dataclasses.replace(frames, accounts=accounts), CALM)
    assert alarm.startswith("seed_1 did not trade in the last 75% of the bars")


def test_accounts_that_do_not_add_up_raise_an_alarm(make_run: MakeRun) -> None:
    frames = make_run()
    accounts = frames.accounts.copy()
    accounts.loc[3, "return"] += 1e-6
    assert "1 rows of seed_0" in alarms(dataclasses.replace(frames, accounts=accounts), CALM)[0]


def test_a_sharpe_ratio_too_good_to_be_true_raises_an_alarm(make_run: MakeRun) -> None:
    assert "leak of the future" in alarms(make_run(), CALM | {"sharpe": 9.0})[0]
