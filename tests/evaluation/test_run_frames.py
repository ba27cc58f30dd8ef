"""Baselines that a run may leave out: found in one order, and cut into walks where they start afresh."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from sentio_kedro.evaluation.labels import TITLES
from sentio_kedro.evaluation.plots.style import COLOURS, DASHES
from sentio_kedro.evaluation.run_frames import (
    BASELINES,
    NETWORKS,
    OF_A_FOLD,
    OPTIONAL_BASELINES,
    RunFacts,
    RunFrames,
    account_paths,
    account_table,
)


def with_accounts(frames: RunFrames, *names: str) -> RunFrames:
    like = frames.accounts[frames.accounts["account"] == "momentum"]
    added = [like.assign(account=name) for name in names]
    return replace(frames, accounts=pd.concat([frames.accounts, *added], ignore_index=True))


def test_every_baseline_has_a_title_a_colour_and_a_dash() -> None:
    names = {*BASELINES, *OPTIONAL_BASELINES}
    assert names <= set(TITLES)
    assert names <= set(COLOURS)
    assert names <= set(DASHES)
    styles = [(COLOURS[name], DASHES[name]) for name in names]
    assert len(set(styles)) == len(names)


def test_baselines_are_those_of_the_run_in_a_fixed_order(make_run: Callable[..., RunFrames]) -> None:
    frames = make_run()
    assert frames.baselines == BASELINES
    more = with_accounts(frames, "targets", "regime_rule", "ridge")
    assert more.baselines == (*BASELINES, "ridge", "regime_rule", "targets")


def test_baselines_of_a_fold_are_walks_of_their_own_where_test_rows_come_back(
    make_run: Callable[..., RunFrames], facts: RunFacts
) -> None:
    frames = with_accounts(make_run(), "ridge", "boosted_trees", "minimum_variance", "regime_rule")
    walks = list(account_paths(frames, replace(facts, scheme="combinatorial")))
    by_fold = account_paths(frames, replace(facts, scheme="k_fold"))
    assert {walk.account for walk in by_fold if walk.fold is not None} == {*frames.seeds, *OF_A_FOLD} - {NETWORKS}
    apart = {walk.account for walk in walks if walk.fold is not None}
    assert apart == {*frames.seeds, *OF_A_FOLD} - {NETWORKS}
    assert all(walk.fold is None for walk in account_paths(frames, facts))


def test_the_rule_is_no_baseline_of_agents_that_act_on_it(make_run: Callable[..., RunFrames]) -> None:
    compared = with_accounts(make_run(), "forecast_rule").baselines
    assert "forecast_rule" in compared
    acting = with_accounts(make_run(), "forecast_rule", NETWORKS).baselines
    assert set(compared) - set(acting) == {"forecast_rule"}
    assert NETWORKS not in acting


def test_a_baseline_that_traded_a_row_in_two_folds_is_told_fold_by_fold(make_run: Callable[..., RunFrames]) -> None:
    frames = with_accounts(make_run(), "ridge")
    again = frames.accounts[(frames.accounts["fold"] == 3) & ~frames.accounts["account"].isin(["momentum"])]
    twice = pd.concat([frames.accounts, again.assign(fold=4, **{"return": again["return"] + 1.0})], ignore_index=True)
    table = account_table(replace(frames, accounts=twice), "return")
    pd.testing.assert_series_equal(
        table.loc[4, "ridge"], table.loc[3, "ridge"] + 1.0, check_names=False
    )  # its own fold's, not the first one's
    pd.testing.assert_series_equal(table.loc[4, "momentum"], table.loc[3, "momentum"])
