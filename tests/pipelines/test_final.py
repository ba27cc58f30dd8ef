"""The fit on all bars: the same rule on more rows, marked, from the start that the backtest recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.serving.test_session_of_rule import (
    FIRST,
    FOLD,
    ROWS,
    TRADING,
    agents,
    bars_fixture,
    found_fixture,
    regimes_fixture,
)

from sentio_kedro.agent.bundle import AgentBundle, refuse_seen_bars
from sentio_kedro.agent.forecasting.fold import FoldForecasts, forecast_fold
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.config import ForecastingParameters, IngestionParameters, SignalParameters
from sentio_kedro.evaluation.backtest.backtest import timestamp
from sentio_kedro.market.folds import Folds
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import aligned_to_frame
from sentio_kedro.market.ingestion.timestamps import periods_per_year
from sentio_kedro.market.purged_folds import Segment, Spans
from sentio_kedro.market.regimes import RegimeModel, market_return
from sentio_kedro.pipelines.forecasting.nodes import fit_final
from sentio_kedro.pipelines.signals.nodes import decide
from sentio_kedro.serving.accounts import Account, accounts_to_json
from sentio_kedro.serving.session import DecisionSession

__all__ = ["bars_fixture", "found_fixture", "regimes_fixture"]
LOCKBOX = Segment(ROWS - 100, ROWS)
DIRECTIONAL, INGESTION = ForecastingParameters(sleeves=("directional",)), IngestionParameters()


@pytest.fixture(scope="module", name="tested")
def tested_fixture(bars: AlignedBars, regimes: RegimeModel, found: FoldForecasts) -> dict[str, AgentBundle]:
    return agents(bars, regimes, found, abstains=True)


@pytest.fixture(scope="module", name="folds")
def folds_fixture(bars: AlignedBars) -> Folds:
    return Folds.of([FOLD], Spans(1_025, 1, 64), bars.timestamps, LOCKBOX)


@pytest.fixture(scope="module", name="final")
def final_fixture(bars: AlignedBars, folds: Folds, tested: dict[str, AgentBundle]) -> dict[str, AgentBundle]:
    return fit_final(bars, folds, tested, DIRECTIONAL, INGESTION)


def test_the_rule_is_fitted_on_train_and_test_rows_and_on_nothing_of_the_lockbox(
    bars: AlignedBars,
    folds: Folds,
    regimes: RegimeModel,
    tested: dict[str, AgentBundle],
    final: dict[str, AgentBundle],
) -> None:
    seen = bars.rows(slice(0, LOCKBOX.start))
    per_year = periods_per_year(seen.timestamps, INGESTION.sessions_per_year)
    market = ForecastMarket.of(seen, TRADING, per_year).with_regimes(regimes.filter(market_return(seen)))
    all_rows = replace(
        FOLD, train=(Segment(600, LOCKBOX.start - 1),), test=(Segment(LOCKBOX.start - 1, LOCKBOX.start),)
    )
    expected = forecast_fold(market, all_rows, DIRECTIONAL).rule.to_arrays()[0]
    arrays = final["fold_0/seed_0"].rule.to_arrays()[0]
    assert arrays.keys() == expected.keys()
    assert all(np.array_equal(arrays[name], expected[name]) for name in arrays)
    before = tested["fold_0/seed_0"].rule.to_arrays()[0]
    assert any(not np.array_equal(arrays[name], before[name]) for name in arrays.keys() & before.keys())


def test_its_agents_are_marked_and_no_bar_that_they_saw_tests_them(
    bars: AlignedBars, tested: dict[str, AgentBundle], final: dict[str, AgentBundle]
) -> None:
    assert [agent.spec.untested for agent in tested.values()] == [False, False]
    assert [agent.spec.untested for agent in final.values()] == [True, True]
    last = LOCKBOX.start - 1
    for agent in final.values():
        with pytest.raises(ValueError, match="was trained on bars from"):
            refuse_seen_bars(agent.spec, timestamp(bars, last), timestamp(bars, last + 9))
        refuse_seen_bars(agent.spec, timestamp(bars, last + 1), timestamp(bars, last + 9))


def test_it_decides_from_the_recorded_start_and_says_that_it_is_untested(
    bars: AlignedBars, tested: dict[str, AgentBundle], final: dict[str, AgentBundle]
) -> None:
    begun = Account(cash=100_000.0, time=f"{bars.timestamps[FIRST]}Z")  # type: ignore[arg-type]
    saved, raw = accounts_to_json({"fold_0": begun}), aligned_to_frame(bars)
    ingestion = IngestionParameters(bar_label="end")
    signals = decide(raw, final, saved, ingestion, SignalParameters())
    session = DecisionSession(list(final.values()))
    session.start(bars.rows(slice(0, FIRST + 1)), begun)
    for row in range(FIRST + 1, ROWS):
        signal = session.decide(bars.rows(slice(row, row + 1)))
    np.testing.assert_allclose(signals["target"], signal.target, rtol=1e-12)
    assert signals["untested"].tolist() == [True, True]
    assert signals["start_agrees"].tolist() == [True, True]
    assert decide(raw, tested, saved, ingestion, SignalParameters())["untested"].tolist() == [False, False]
    with pytest.raises(
        ValueError, match=r"must have an account of `fold_0`, has \['fold_9'\]; run `kedro run --pipeline b"
    ):
        decide(raw, tested, {"fold_9": saved["fold_0"]}, ingestion, SignalParameters())


def test_networks_that_a_closed_rule_left_untrained_do_not_decide(
    bars: AlignedBars, folds: Folds, regimes: RegimeModel, found: FoldForecasts
) -> None:
    deciding = agents(bars, regimes, found, abstains=False)
    assert not any(agent.spec.abstains for agent in fit_final(bars, folds, deciding, DIRECTIONAL, INGESTION).values())
    closed = {name: replace(agent, rule=replace(found.rule, sleeves=())) for name, agent in deciding.items()}
    final = fit_final(bars, folds, closed, DIRECTIONAL, INGESTION)
    assert all(agent.spec.abstains and agent.rule.opened for agent in final.values())


def test_agents_without_a_rule_are_refused(bars: AlignedBars, folds: Folds, tested: dict[str, AgentBundle]) -> None:
    alone = {name: replace(agent, rule=None) for name, agent in tested.items()}
    with pytest.raises(ValueError, match=r"agent fold_0/seed_0 acts on none. Train agents with `trading.unit: rule`"):
        fit_final(bars, folds, alone, DIRECTIONAL, INGESTION)
