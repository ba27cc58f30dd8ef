"""Figures by regime and by calendar year are those of the rows in question."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.evaluation.measures.accounts import account_metrics, ledger_tables
from sentio_kedro.evaluation.measures.breakdowns import (
    regime_metrics,
    symbol_metrics,
    year_metrics,
)
from sentio_kedro.evaluation.run_frames import RunFacts, RunFrames

MakeRun = Callable[..., RunFrames]


def test_regimes_split_every_bar_once(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    tables = ledger_tables(frames)
    entries = [
        entry for entry in regime_metrics(frames, tables, facts.periods_per_year) if entry["account"] == "momentum"
    ]
    assert [entry["regime"] for entry in entries] == [0, 1, 2]
    assert sum(entry["bars"] for entry in entries) == 2_000
    whole = (1.0 + tables["return"]["momentum"]).prod()
    assert np.prod([1.0 + entry["total_return"] for entry in entries]) == pytest.approx(whole)
    mine = frames.accounts[(frames.accounts["account"] == "momentum") & (frames.accounts["regime"] == 1)]
    returns = mine["return"]
    assert entries[1]["sharpe"] == pytest.approx(returns.mean() / returns.std() * np.sqrt(facts.periods_per_year))
    costs = mine[["commission", "spread", "impact", "borrow", "financing", "funding"]].sum().sum()
    assert entries[1]["cost_share"] == pytest.approx(costs / abs((mine["price_pnl"] + mine["dividends"]).sum()))


def test_regimes_of_the_agent_are_the_ensembles_and_bear_one_that_nobody_saw(
    make_run: MakeRun, facts: RunFacts
) -> None:
    frames = make_run(seeds=3)
    accounts = frames.accounts.assign(regime=frames.accounts["regime"].clip(upper=1))
    frames = dataclasses.replace(frames, accounts=accounts)
    found = {
        (entry["account"], entry["regime"]): entry
        for entry in regime_metrics(frames, ledger_tables(frames), facts.periods_per_year)
    }
    mine = accounts[(accounts["account"] == "ensemble") & (accounts["regime"] == 1)]["return"]
    assert found["agent", 1]["sharpe"] == pytest.approx(mine.mean() / mine.std() * np.sqrt(facts.periods_per_year))
    assert (found["agent", 2]["bars"], found["agent", 2]["sharpe"]) == (0, None)


def test_round_trips_belong_to_the_regime_at_their_entry(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    entries = regime_metrics(frames, ledger_tables(frames), facts.periods_per_year)
    round_trips = frames.trades[frames.trades["account"] == "seed_1"]
    accounts = frames.accounts[frames.accounts["account"] == "seed_1"].set_index("row")
    mine = round_trips[accounts["regime"].loc[round_trips["entry_row"]].to_numpy() == 2]
    (found,) = [entry for entry in entries if (entry["account"], entry["regime"]) == ("seed_1", 2)]
    assert (found["trades"], found["win_rate"]) == (len(mine), pytest.approx((mine["pnl"] > 0).mean()))
    assert sum(entry["trades"] for entry in entries if entry["account"] == "seed_1") == len(round_trips)


def _into_two_years(frames: RunFrames) -> RunFrames:
    """Move the run so that 700 of its 2,000 decisions lie in 2018 and the others in 2019."""
    rows = frames.accounts["row"]
    midnight = pd.Timestamp("2019-01-01", tz="UTC")
    return dataclasses.replace(
        frames, accounts=frames.accounts.assign(timestamp=midnight + pd.to_timedelta((rows - 1_300) * 30, unit="min"))
    )


def test_years_split_every_bar_once_by_its_decision(make_run: MakeRun, facts: RunFacts) -> None:
    frames = _into_two_years(make_run(seeds=3))
    entries = year_metrics(frames, ledger_tables(frames), facts.periods_per_year)
    by_key = {(entry["account"], entry["year"]): entry for entry in entries}
    assert [(year, by_key["momentum", year]["bars"]) for year in (2018, 2019)] == [(2018, 700), (2019, 1_300)]
    returns = frames.accounts[frames.accounts["account"] == "seed_1"].set_index("row")["return"]
    assert by_key["seed_1", 2018]["total_return"] == pytest.approx((1 + returns.loc[:1_299]).prod() - 1)
    judged = frames.accounts[frames.accounts["account"] == "ensemble"].set_index("row")["return"]
    assert by_key["agent", 2019]["total_return"] == pytest.approx((1 + judged.loc[1_300:]).prod() - 1)
    round_trips = frames.trades[frames.trades["account"] == "seed_0"]
    assert by_key["seed_0", 2018]["trades"] == (round_trips["entry_row"] < 1_300).sum()


def test_exposure_and_turnover_are_those_of_the_bars(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    figures = account_metrics(ledger_tables(frames), frames.trades, facts.periods_per_year)["seed_0"]
    mine = frames.accounts[frames.accounts["account"] == "seed_0"]
    assert figures["invested"] == pytest.approx((mine["gross_exposure"] > 0).mean())
    assert figures["net_exposure"] == pytest.approx(mine["net_exposure"].mean())
    assert figures["turnover_per_year"] == pytest.approx(mine["turnover"].mean() * facts.periods_per_year)


def test_days_are_those_of_the_decisions(make_run: MakeRun) -> None:
    frames = make_run()
    day = ledger_tables(frames)["day"]["day"]
    first = pd.Timestamp("2018-09-13T12:00", tz="UTC")  # the first decision: 24 of its day are left
    assert day.iloc[0] == (first - pd.Timestamp(0, tz="UTC")).days
    assert np.unique(day, return_counts=True)[1][:3].tolist() == [24, 48, 48]


def test_symbols_show_what_was_held_and_how_its_round_trips_ended(make_run: MakeRun) -> None:
    frames = make_run()
    (bitcoin, _) = symbol_metrics(frames)
    held = frames.positions[frames.positions["symbol"] == "BTC"]["position"]
    round_trips = frames.trades[(frames.trades["symbol"] == "BTC") & (frames.trades["account"] == "ensemble")]
    assert bitcoin["symbol"] == "BTC"
    assert bitcoin["gross_exposure"] == pytest.approx(held.abs().mean())
    assert bitcoin["net_exposure"] == pytest.approx(held.mean())
    assert (bitcoin["trades"], bitcoin["win_rate"]) == (
        len(round_trips),
        pytest.approx((round_trips["pnl"] > 0).mean()),
    )
    assert symbol_metrics(dataclasses.replace(frames, positions=frames.positions.iloc[:0])) == []
