"""Sentences say what the figures say, alarms ring when they should."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pandas as pd
import pytest

from sentio_kedro.config import ReportingParameters
from sentio_kedro.evaluation.alarms import alarms
from sentio_kedro.evaluation.measures.attribution import ledger_net
from sentio_kedro.evaluation.metrics import build_metrics
from sentio_kedro.evaluation.report.verdict import verdict
from sentio_kedro.evaluation.run_frames import LINES, RunFacts, RunFrames

MakeRun = Callable[..., RunFrames]
PARAMETERS = ReportingParameters(bootstrap_samples=60)
CALM = {
    **{"sharpe": 1.0, "max_drawdown": 0.1, "trades": 40, "own_exits": 36, "changed_decisions": 0.3},
    **{"weighted_holding_bars": 9.0, "forced_profit": 0.1, "bars": 2_000, "folds": 4},
}


@pytest.mark.parametrize(
    ("drift", "shown", "against"),
    [
        (2e-3, "whole interval lies above zero", "it is significantly better than buy and hold"),
        (0.0, "a Sharpe ratio above zero is not shown", "not significantly"),
        (-2e-3, "whole interval lies below zero", "it is significantly worse than buy and hold"),
    ],
)
def test_the_verdict_follows_the_interval(
    make_run: MakeRun, facts: RunFacts, drift: float, shown: str, against: str
) -> None:
    frames = make_run(drift={"ensemble": drift + 1.2e-4})
    text = " ".join(verdict(build_metrics(frames, facts, PARAMETERS)))
    assert shown in text
    assert against in text
    assert ("earned" if drift > 0 else "lost") in text or drift == 0.0


def test_no_alarm_rings_for_a_sound_run(make_run: MakeRun) -> None:
    assert alarms(make_run(), CALM) == []


def test_a_jump_of_a_judged_bar_raises_an_alarm_and_one_before_does_not(make_run: MakeRun) -> None:
    frames = make_run()
    ends = pd.to_datetime(frames.accounts.loc[frames.accounts["account"] == "ensemble", "timestamp"], utc=True)
    times = [ends.iloc[0], ends.iloc[1], ends.iloc[-1] + pd.Timedelta("1D")]
    breaks = [{"symbol": "BTC", "timestamp": time.isoformat(), "ratio": 0.05} for time in times]
    (sentence,) = alarms(frames, CALM, price_breaks=breaks)
    assert sentence.startswith(
        f"Prices jump in judged bars: BTC {times[1].isoformat()} (0.05 times the price before). A"
    )
    assert alarms(frames, CALM, price_breaks=[breaks[0], breaks[2]]) == []


def test_an_agent_that_never_changes_its_action_raises_an_alarm(make_run: MakeRun) -> None:
    frames = make_run()
    stuck = frames.actions.copy()
    stuck.loc[stuck["action"] != "+1", "count"] = 0
    assert alarms(dataclasses.replace(frames, actions=stuck), CALM) == [
        "The agent always chose the level '+1': it learnt a constant, not a strategy."
    ]


def test_an_agent_that_stops_trading_half_way_raises_an_alarm(make_run: MakeRun) -> None:
    frames = make_run()
    accounts = frames.accounts.copy()
    mine = accounts["account"] == "ensemble"
    late = accounts["row"] > accounts["row"].quantile(0.25)
    accounts.loc[mine & late, ["turnover", "commission", "spread", "impact"]] = 0.0
    accounts["return"] = ledger_net(accounts)
    (alarm,) = alarms(dataclasses.replace(frames, accounts=accounts), CALM)
    assert alarm.startswith("The agent did not trade in the last 75% of the bars")


@pytest.mark.parametrize(("stops", "text"), [(0.25, "did not trade in the last 75%"), (-1.0, "never traded")])
def test_a_rule_that_stops_trading_raises_an_alarm_although_its_agents_abstain(
    make_run: MakeRun, stops: float, text: str
) -> None:
    frames = make_run()
    stuck = frames.actions.assign(count=frames.actions["count"].where(frames.actions["action"] == "+1", 0))
    by_rule = frames.agent_table.assign(abstains=True, rule_sharpe=0.5)
    frames = dataclasses.replace(frames, agent_table=by_rule, actions=stuck)
    assert alarms(frames, CALM) == []  # the rule decides: that networks take one level is no alarm
    accounts = frames.accounts.copy()
    late = (accounts["account"] == "ensemble") & (accounts["row"] > accounts["row"].min() + stops * 2_000)
    accounts.loc[late, ["turnover", "commission", "spread", "impact"]] = 0.0
    accounts["return"] = ledger_net(accounts)
    (alarm,) = alarms(dataclasses.replace(frames, accounts=accounts), CALM)
    assert text in alarm


def test_accounts_that_do_not_add_up_raise_an_alarm(make_run: MakeRun) -> None:
    frames = make_run()
    accounts = frames.accounts.copy()
    accounts.loc[3, "return"] += 1e-6
    assert "1 rows of ensemble" in alarms(dataclasses.replace(frames, accounts=accounts), CALM)[0]


@pytest.mark.parametrize("line", LINES)
def test_every_line_of_the_ledger_belongs_to_the_identity(make_run: MakeRun, line: str) -> None:
    frames = make_run()
    accounts = frames.accounts.copy()
    accounts.loc[3, line] += 1e-6
    assert "1 rows of ensemble" in alarms(dataclasses.replace(frames, accounts=accounts), CALM)[0]


@pytest.mark.parametrize(("every", "rings"), [(4, True), (6, False)])
def test_joint_limits_that_cut_more_than_a_fifth_of_the_orders_raise_an_alarm(
    make_run: MakeRun, every: int, rings: bool
) -> None:
    frames = make_run()
    accounts = frames.accounts.assign(capped=0.0, projected=0.0, ordered=0.0)
    mine = accounts.index[accounts["account"] == "ensemble"]
    accounts.loc[mine, "ordered"] = 0.5
    accounts.loc[mine[::every], ["capped", "projected"]] = 0.5
    found = alarms(dataclasses.replace(frames, accounts=accounts), CALM)
    assert [text.split(":")[0] for text in found] == (
        ["Joint limits cut 25% of the agent's orders, more than 20%"] if rings else []
    )
    assert all("`trading.levels`" in text and "`trading.var_limit`" in text for text in found)


def test_a_bankrupt_agent_raises_an_alarm(make_run: MakeRun) -> None:
    frames = make_run()
    accounts = frames.accounts.copy()
    accounts.loc[(accounts["account"] == "ensemble") & (accounts["row"] >= 2_500), "equity"] = 900.0
    assert alarms(dataclasses.replace(frames, accounts=accounts), CALM) == [
        "The agent went bankrupt: its returns after that are zero, not earned."
    ]


@pytest.mark.parametrize(
    ("multiplier", "text"),
    [
        (2.0, "It breaks even at 2.00 times the trading costs, 3.60 bps per side instead of the 1.80 bps"),
        (0.25, "It would break even only at 0.25 times the trading costs, 0.45 bps per side"),
        (0.0, "It loses even without trading costs."),
        (float("inf"), "It earns at all simulated trading costs."),
    ],
)
def test_the_verdict_says_what_trading_may_cost(
    make_run: MakeRun, facts: RunFacts, multiplier: float, text: str
) -> None:
    frames = make_run()
    robustness = frames.robustness.copy()
    robustness.loc[robustness["kind"] == "break_even", "value"] = multiplier
    robustness.loc[robustness["kind"] == "break_even", "cost_bps"] = 1.8 * multiplier
    frames = dataclasses.replace(frames, robustness=robustness)
    assert text in " ".join(verdict(build_metrics(frames, facts, PARAMETERS)))


def test_the_verdict_is_silent_about_costs_that_were_not_simulated(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    frames = dataclasses.replace(frames, robustness=frames.robustness.iloc[:0])
    text = " ".join(verdict(build_metrics(frames, facts, PARAMETERS)))
    assert "trading costs" not in text


HELD = {"changed_decisions": 0.01, "own_exits": 4, "weighted_holding_bars": 900.0, "bars": 4_000}
RULE = {"changed_decisions": 0.02, "own_exits": 1_156, "weighted_holding_bars": 132.0, "bars": 14_371}


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        (HELD, ["99.0% of the decisions changed nothing", "Only 4 round trips were closed by a decision"]),
        (HELD | {"own_exits": 400}, ["round trips of at least 900 bars, where a fold has 1,000"]),
        ({"changed_decisions": 0.01, "own_exits": 29}, ["99.0% of the decisions changed", "Only 29 round trips"]),
        ({"own_exits": 29}, ["Only 29 round trips were closed by a decision, fewer than 30"]),
        ({"forced_profit": 0.76}, ["76% of the profit was made in round trips that the end of a fold closed"]),
        ({"forced_profit": None}, []),
        (RULE, []),  # it holds at most bars, and takes 1,156 decisions to leave
        (HELD | {"trades": 0}, []),
    ],
)
def test_an_agent_that_keeps_what_it_has_raises_alarms(
    make_run: MakeRun, changes: dict[str, float], texts: list[str]
) -> None:
    found = alarms(make_run(), CALM | changes)
    assert len(found) == len(texts)
    assert all(text in alarm for text, alarm in zip(texts, found, strict=True)), found


@pytest.mark.parametrize(("correlation", "rings"), [(0.79, True), (0.81, False), (None, False), (-0.99, True)])
def test_an_agent_that_holds_another_book_from_another_day_on_raises_an_alarm(
    make_run: MakeRun, correlation: float | None, rings: bool
) -> None:
    found = alarms(make_run(), CALM, {"correlation": correlation, "sharpe_spread": 1.0})
    assert ["another book" in alarm for alarm in found] == [True] * rings


def test_a_profit_of_agents_that_failed_validation_raises_an_alarm(make_run: MakeRun) -> None:
    frames = make_run(drift={"ensemble": 1e-3})
    failed = frames.agent_table["fold"].isin([0, 2, 3])
    table = frames.agent_table.assign(validation_sharpe=frames.agent_table["validation_sharpe"].where(~failed, -0.1))
    (alarm,) = alarms(dataclasses.replace(frames, agent_table=table), CALM)
    assert "by agents whose validation failed (folds 0, 2, 3:" in alarm
    table.loc[table["fold"] > 0, "validation_sharpe"] = 0.5
    assert alarms(dataclasses.replace(frames, agent_table=table), CALM) == []
    losing = make_run(drift={"ensemble": -5e-4})
    table["validation_sharpe"] = -1.0
    assert alarms(dataclasses.replace(losing, agent_table=table), CALM) == []


def test_a_sharpe_ratio_too_good_to_be_true_raises_an_alarm(make_run: MakeRun) -> None:
    assert "leak of future data" in alarms(make_run(), CALM | {"sharpe": 9.0})[0]


@pytest.mark.parametrize(
    ("pbo", "text"),
    [
        (0.1, "Neither chance nor selection among trials"),
        (None, "too few trials to test for overfitting"),
    ],
)
def test_skill_does_not_claim_a_test_of_the_search_that_was_not_made(
    make_run: MakeRun, facts: RunFacts, pbo: float | None, text: str
) -> None:
    metrics = build_metrics(make_run(), facts, PARAMETERS)
    skill = metrics["skill"] | {"verdict": "skill", "pbo": pbo, "minimum_track_record_bars": 9, "reasons": []}
    found = " ".join(verdict(metrics | {"skill": skill}))
    assert text in found
    assert found.count("Verdict: skill.") == 1


def test_the_verdict_says_how_the_agent_trades(make_run: MakeRun, facts: RunFacts) -> None:
    metrics = build_metrics(make_run(), facts, PARAMETERS)
    traded = {"invested": 0.75, "traded_bars": 0.0625, "holding_bars": 31.5, "trades": 9}
    agent = metrics["agent"] | traded | {"gross_exposure": 0.4, "turnover_per_year": 12.0}
    assert verdict(metrics | {"agent": agent})[1].replace("\u00a0", " ") == (
        "It holds a position on 75.00 % of the bars and changes one on 6.25 %. A round trip lasts 31.50 bars on "
        "average. Gross exposure averages 40.00 % of equity, turnover 12.00 times equity a year."
    )
    assert "holds a position" not in " ".join(verdict(metrics | {"agent": agent | {"trades": 0}}))
