"""Lines of the ledger add up to the result, whole and by regime."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from sentio_kedro.evaluation.attribution import cost_share, ledger_net, ledger_sums, regime_figures
from sentio_kedro.evaluation.frames import LINES, RunFacts, RunFrames, account_table, median_seed

MakeRun = Callable[..., RunFrames]
COLUMNS = ("return", "turnover", "gross_exposure", *LINES)


def _tables(frames: RunFrames) -> dict[str, pd.DataFrame]:
    return {name: account_table(frames, name) for name in COLUMNS}


def test_costs_lower_the_result_and_profits_raise_it() -> None:
    row = pd.DataFrame({line: [2.0**place] for place, line in enumerate(LINES)})
    assert ledger_net(row).tolist() == [1 + 2 - 4 - 8 - 16 - 32 - 64 - 128 + 256]


def test_sums_of_the_lines_add_up_to_the_sum_of_the_returns(make_run: MakeRun) -> None:
    tables = _tables(make_run())
    for account in tables["return"]:
        sums = ledger_sums({line: tables[line][account] for line in LINES})
        assert sums["net"] == pytest.approx(tables["return"][account].sum(), abs=1e-12)
        assert sums["gross"] - sums["costs"] + sums["shortfall"] == pytest.approx(sums["net"], abs=1e-12)
        assert sums["commission"] == pytest.approx(tables["commission"][account].sum())


@pytest.mark.parametrize(("gross", "share"), [(0.4, 0.5), (-0.4, 0.5), (0.0, None)])
def test_costs_are_compared_with_what_prices_gave_or_took(gross: float, share: float | None) -> None:
    assert cost_share({"gross": gross, "costs": 0.2}) == share


def test_regimes_split_every_bar_once(make_run: MakeRun, facts: RunFacts) -> None:
    frames = make_run()
    tables = _tables(frames)
    entries = [
        entry for entry in regime_figures(frames, tables, facts.periods_per_year) if entry["account"] == "momentum"
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


def test_regimes_of_the_agent_are_medians_over_seeds_and_bear_one_that_nobody_saw(
    make_run: MakeRun, facts: RunFacts
) -> None:
    frames = make_run(seeds=3)
    accounts = frames.accounts.assign(regime=frames.accounts["regime"].clip(upper=1))
    frames = dataclasses.replace(frames, accounts=accounts)
    found = {
        (entry["account"], entry["regime"]): entry
        for entry in regime_figures(frames, _tables(frames), facts.periods_per_year)
    }
    seeds = [found[f"seed_{seed}", 1]["sharpe"] for seed in range(3)]
    assert found["agent", 1]["sharpe"] == pytest.approx(sorted(seeds)[1])
    assert (found["agent", 2]["bars"], found["agent", 2]["sharpe"]) == (0, None)


@pytest.mark.parametrize(("drift", "median"), [((2e-3, 0.0, 1e-3), "seed_2"), ((1e-3, 0.0), "seed_1")])
def test_the_median_agent_is_the_lower_one_of_two(make_run: MakeRun, drift: tuple[float, ...], median: str) -> None:
    drifts = {f"seed_{seed}": value for seed, value in enumerate(drift)}
    assert median_seed(make_run(seeds=len(drift), drift=drifts)) == median
