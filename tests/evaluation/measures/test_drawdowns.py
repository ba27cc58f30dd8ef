"""Breaches of the drawdown limit and the worst drawdowns, by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.evaluation.measures.drawdowns import drawdown_limit, worst_drawdowns
from sentio_kedro.evaluation.run_frames import RunFacts, RunFrames, Scheme, row_times

MakeRun = Callable[..., RunFrames]


def _run(make_run: MakeRun, returns: dict[int, float], **columns: object) -> RunFrames:
    """One agent with the given returns at places along its rows and none elsewhere."""
    frames = make_run(seeds=1)
    accounts = frames.accounts.copy()
    mine = accounts["account"] == "seed_0"
    series = np.zeros(2_000)
    series[list(returns)] = list(returns.values())
    accounts.loc[mine, "return"] = series
    for name, value in columns.items():
        accounts.loc[mine, name] = value
    return dataclasses.replace(frames, accounts=accounts)


@pytest.fixture
def limited(facts: RunFacts) -> RunFacts:
    """Facts with a drawdown limit of 8 %."""
    return dataclasses.replace(facts, max_drawdown=0.08)


def test_a_breach_is_set_beside_the_move_that_was_left(make_run: MakeRun, limited: RunFacts) -> None:
    frames = _run(make_run, {10: -0.05, 20: -0.06}, gross_exposure=0.5, price_pnl=-0.055)
    (agent,) = drawdown_limit(frames, limited)["agents"]
    (breach,) = agent["breaches"]
    assert breach["timestamp"] == row_times(frames).iloc[20]
    assert breach["drawdown_before"] == pytest.approx(0.05)
    assert breach["drawdown"] == pytest.approx(1.0 - 0.95 * 0.94)
    assert (breach["loss"], breach["gross_exposure"]) == (pytest.approx(0.06), 0.5)
    assert breach["market_move"] == pytest.approx(0.11)
    assert breach["move_to_limit"] == pytest.approx((1.0 - 0.92 / 0.95) / 0.5)  # 0.95 may fall to 0.92
    assert agent["deepest"] == pytest.approx(0.107)


def test_an_account_that_comes_back_can_breach_again(make_run: MakeRun, limited: RunFacts) -> None:
    frames = _run(make_run, {10: -0.09, 11: -0.01, 20: 0.05, 30: -0.05})
    (agent,) = drawdown_limit(frames, limited)["agents"]
    assert [breach["timestamp"] for breach in agent["breaches"]] == row_times(frames).iloc[[10, 30]].tolist()


def test_reaching_the_limit_exactly_is_a_breach(make_run: MakeRun, facts: RunFacts) -> None:
    frames = _run(make_run, {10: -0.25})
    assert len(drawdown_limit(frames, dataclasses.replace(facts, max_drawdown=0.25))["agents"][0]["breaches"]) == 1


def test_bars_without_headroom_are_counted(make_run: MakeRun, limited: RunFacts) -> None:
    frames = _run(make_run, {}, headroom=np.repeat([0.0, 0.4], [500, 1_500]))
    (agent,) = drawdown_limit(frames, limited)["agents"]
    assert (agent["bars_without_headroom"], agent["breaches"], agent["deepest"]) == (0.25, [], 0.0)


def test_a_breach_without_exposure_has_no_move(make_run: MakeRun, limited: RunFacts) -> None:
    (agent,) = drawdown_limit(_run(make_run, {10: -0.09}, gross_exposure=0.0), limited)["agents"]
    assert (agent["breaches"][0]["market_move"], agent["breaches"][0]["move_to_limit"]) == (None, None)


def test_no_limit_gives_no_breaches(make_run: MakeRun, facts: RunFacts) -> None:
    found = drawdown_limit(_run(make_run, {10: -0.5}), facts)
    assert found["limit"] is None
    assert (found["agents"][0]["breaches"], found["agents"][0]["bars_without_headroom"]) == ([], None)
    assert found["agents"][0]["deepest"] == pytest.approx(0.5)


@pytest.mark.parametrize("scheme", ["combinatorial", "k_fold"])
def test_agents_of_folds_that_are_no_path_start_from_a_new_peak(
    make_run: MakeRun, limited: RunFacts, scheme: Scheme
) -> None:
    frames = _run(make_run, {400: -0.05, 600: -0.05})  # in folds 0 and 1
    assert len(drawdown_limit(frames, limited)["agents"][0]["breaches"]) == 1
    apart = dataclasses.replace(limited, scheme=scheme)
    assert drawdown_limit(frames, apart)["agents"][0]["breaches"] == []


def test_worst_drawdowns_stand_in_order_of_their_depth(make_run: MakeRun) -> None:
    frames = _run(make_run, {10: -0.02, 20: 0.05, 30: -0.1, 35: -0.1, 50: 0.5, 60: -0.05})
    times = row_times(frames).tolist()
    worst = worst_drawdowns(frames)
    assert [entry["depth"] for entry in worst] == pytest.approx([0.19, 0.05, 0.02])
    first, second, _ = worst
    assert (first["start"], first["bottom"], first["recovery"]) == (times[30], times[35], times[50])
    assert (first["bars_down"], first["bars_to_recover"]) == (6, 15)
    assert (second["recovery"], second["bars_to_recover"]) == (None, None)


def test_worst_drawdowns_are_those_of_the_ensemble(make_run: MakeRun) -> None:
    frames = make_run(seeds=3, drift={"seed_0": 1e-3, "seed_1": -1e-3})
    (worst, *_) = worst_drawdowns(frames)
    wealth = (1.0 + frames.accounts.loc[frames.accounts["account"] == "ensemble", "return"]).cumprod()
    peak = pd.Series(np.maximum(wealth.cummax(), 1.0), index=wealth.index)
    assert worst["depth"] == pytest.approx((1.0 - wealth / peak).max())
