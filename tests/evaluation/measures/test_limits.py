"""What limits forbade and cut is counted once, and weighted by bars."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pandas as pd
import pytest

from sentio_kedro.evaluation.measures.limits import mask_shares, order_metrics, value_at_risk_test
from sentio_kedro.evaluation.run_frames import COLUMNS, RunFrames
from sentio_kedro.trading.records import LAYERS

MakeRun = Callable[..., RunFrames]


def _with(frames: RunFrames, account: str, **columns: object) -> RunFrames:
    accounts = frames.accounts.copy()
    for name, value in columns.items():
        accounts.loc[accounts["account"] == account, name] = value
    return dataclasses.replace(frames, accounts=accounts)


def test_folds_weigh_by_their_bars(make_run: MakeRun) -> None:
    rows = [
        ("seed_0", 0, 0, "kelly", 0.1, 30),
        ("seed_0", 1, 0, "kelly", 0.5, 10),
        ("seed_0", 0, 0, "validity", 0.0, 40),
    ]
    masks = pd.DataFrame(rows, columns=list(COLUMNS["masks"]))
    entries = mask_shares(dataclasses.replace(make_run(), masks=masks))
    assert [(entry["layer"], entry["regime"]) for entry in entries] == [
        (layer, regime) for layer in ("validity", "kelly") for regime in range(3)
    ]
    assert entries[3]["forbidden"] == pytest.approx(0.2)
    assert (entries[3]["bars"], entries[4]["forbidden"]) == (40, None)


def test_layers_keep_their_order(make_run: MakeRun) -> None:
    entries = mask_shares(make_run())
    assert tuple(dict.fromkeys(entry["layer"] for entry in entries)) == LAYERS


def test_no_telemetry_gives_no_entries(make_run: MakeRun) -> None:
    frames = make_run()
    assert mask_shares(dataclasses.replace(frames, masks=frames.masks.iloc[:0])) == []


def test_orders_cut_to_nothing_count_as_orders(make_run: MakeRun) -> None:
    frames = make_run()
    half = [0.5, 0.0] * 1_000  # every other bar one of two assets
    frames = _with(frames, "seed_0", ordered=half, capped=half[::-1], projected=0.0)
    found = order_metrics(frames)["seed_0"]
    assert (found["ordered"], found["capped_orders"], found["projected_orders"]) == (0.5, 0.5, 0.0)


def test_an_account_without_orders_has_no_shares(make_run: MakeRun) -> None:
    found = order_metrics(_with(make_run(), "random", ordered=0.0, capped=0.0, projected=0.0))["random"]
    assert (found["ordered"], found["capped_orders"], found["projected_orders"]) == (0.0, None, None)


def test_margin_calls_and_bankruptcies_are_counted(make_run: MakeRun) -> None:
    frames = make_run()
    called = frames.accounts["row"].isin([700, 900])[frames.accounts["account"] == "momentum"].to_numpy()
    frames = _with(frames, "momentum", called=called)
    poor = [1e6] * 1_500 + [1e3] * 500  # from there a thousandth of the start
    frames = _with(frames, "momentum", equity=poor, **{"return": 0.0})
    found = order_metrics(frames)
    assert (found["momentum"]["margin_calls"], found["momentum"]["bankruptcies"]) == (2, 1)
    assert (found["seed_0"]["margin_calls"], found["seed_0"]["bankruptcies"]) == (0, 0)


def test_an_agent_that_starts_afresh_can_go_bankrupt_in_every_fold(make_run: MakeRun) -> None:
    frames = make_run(seeds=1)
    mine = frames.accounts[frames.accounts["account"] == "seed_0"]
    again = pd.concat([mine, mine.assign(fold=mine["fold"] + 4)])
    again["return"] = 0.0
    again["equity"] = 1e6
    again.loc[again["row"] > 2_000, "equity"] = 0.0
    others = frames.accounts[frames.accounts["account"] != "seed_0"]
    frames = dataclasses.replace(frames, accounts=pd.concat([others, again], ignore_index=True))
    assert order_metrics(frames)["seed_0"]["bankruptcies"] == 2


def test_bars_at_which_the_drawdown_limit_leaves_nothing_are_idle(make_run: MakeRun) -> None:
    found = order_metrics(_with(make_run(), "seed_0", headroom=[0.0, 0.0, 0.2, 1.0] * 500))
    assert (found["seed_0"]["idle"], found["momentum"]["idle"]) == (0.5, 0.0)


def test_exceedances_of_all_symbols_are_tested_by_side(make_run: MakeRun) -> None:
    rows = [("A", "rise", 0.99, 150, 3), ("B", "rise", 0.99, 100, 0), ("A", "fall", 0.99, 250, 0)]
    frames = dataclasses.replace(make_run(), value_at_risk=pd.DataFrame(rows, columns=list(COLUMNS["value_at_risk"])))
    fall, rise = value_at_risk_test(frames)
    assert (fall["side"], fall["sessions"], fall["exceedances"], fall["share"]) == ("fall", 250, 0, 0.0)
    assert fall["expected"] == 0.01
    assert fall["p"] == pytest.approx(0.024982, abs=1e-6)  # of a likelihood ratio of -500 log 0.99
    assert (rise["side"], rise["sessions"], rise["exceedances"], rise["share"]) == ("rise", 250, 3, 0.012)
    assert rise["p"] == pytest.approx(0.758, abs=1e-3)


def test_nothing_tested_gives_no_share_and_no_frame_no_entries(make_run: MakeRun) -> None:
    frames = make_run()
    none = frames.value_at_risk.assign(sessions=0, exceedances=0)
    assert [
        (entry["share"], entry["p"]) for entry in value_at_risk_test(dataclasses.replace(frames, value_at_risk=none))
    ] == [(None, None)] * 2
    assert value_at_risk_test(dataclasses.replace(frames, value_at_risk=none.iloc[:0])) == []
