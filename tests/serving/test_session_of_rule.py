"""Agents that act on a forecast rule: served as they are tested, and the rule itself where they have no evidence."""

import numpy as np
import pandas as pd
import pytest
import torch

from planted.catalogue import MARKETS
from planted.paths import path_bars
from sentio_kedro.agent.bundle import AgentBundle, AgentSpec
from sentio_kedro.agent.forecasting.fold import FoldForecasts, forecast_fold
from sentio_kedro.agent.forecasting.frames import forecast_frame, out_of_fold_forecasts
from sentio_kedro.agent.forecasting.inputs import LOOKBACK
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.agent.forecasting.rule_inputs import input_names, training_path
from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import build_network
from sentio_kedro.config import (
    BacktestParameters,
    ForecastingParameters,
    IngestionParameters,
    NetworkParameters,
    RegimeParameters,
    TradingParameters,
)
from sentio_kedro.evaluation.backtest.backtest import backtest_agent, backtest_folds
from sentio_kedro.market.aligned_bars import AlignedBars
from sentio_kedro.market.bars import align_bars
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.regimes import RegimeModel, fit_regimes, market_return
from sentio_kedro.serving.session import DecisionSession

ROWS, BEGIN, FIRST = 4_400, 4_000, 4_150
FOLD = Fold(0, (Segment(600, BEGIN),), (), (Segment(FIRST, ROWS - 1),))
NETWORK = NetworkParameters(encoder="mlp", width=8, hidden=8, quantiles=5)
TRADING = TradingParameters(
    unit="rule",
    initial_cash=100_000,
    max_drawdown=0.2,
    memory_sessions=2,
    costs={"commission_bps": 1.0, "half_spread_bps": 1.0},  # type: ignore[arg-type]
    masks={"target_volatility": 0.02},  # type: ignore[arg-type]
)
QUICK = BacktestParameters(
    baselines=[],
    robustness={"cost_multipliers": None, "latency_bars": None, "paths": None, "start_shares": [0.0, 0.25]},  # type: ignore[arg-type]
)


@pytest.fixture(scope="module", name="bars")
def bars_fixture() -> AlignedBars:
    """Two assets whose returns revert; one is halted in the test rows."""
    frames = [path_bars(MARKETS["reversal"].law.draw(ROWS, seed)).assign(symbol=f"S{seed}") for seed in (3, 4)]
    hidden = np.zeros((ROWS, 2), bool)
    hidden[FIRST + 40 : FIRST + 46, 0] = True
    return align_bars(pd.concat(frames), IngestionParameters()).without(hidden)


@pytest.fixture(scope="module", name="regimes")
def regimes_fixture(bars: AlignedBars) -> RegimeModel:
    seen = [market_return(bars.rows(slice(0, BEGIN)))]
    return fit_regimes(seen, RegimeParameters(states=2, memory=64, restarts=1), seed=0)


@pytest.fixture(scope="module", name="found")
def found_fixture(bars: AlignedBars, regimes: RegimeModel) -> FoldForecasts:
    market = ForecastMarket.of(bars, TRADING, 17_520.0).with_regimes(regimes.filter(market_return(bars)))
    found = forecast_fold(market, FOLD, ForecastingParameters(sleeves=("directional",)))
    assert found.rule.opened
    return found


def agents(bars: AlignedBars, regimes: RegimeModel, found: FoldForecasts, *, abstains: bool) -> dict[str, AgentBundle]:
    """Two agents whose networks often leave the rule."""
    inputs, bundles = input_names(found.rule.segments), {}
    shape = NetworkShape(len(inputs), 2, regimes.states, len(TRADING.levels), TRADING.levels.index(1.0))
    for seed in range(2):
        network = build_network(NETWORK, shape, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            network.head.policy.weight.mul_(1_000.0)
        spec = AgentSpec(
            fold=0, seed=seed, members=1, symbols=list(bars.symbols), periods_per_year=17520.0, gamma=0.99,
            required_bars=LOOKBACK, train_start=f"{bars.timestamps[600]}+00:00",
            train_end=f"{bars.timestamps[BEGIN]}+00:00", features=[], network=NETWORK, trading=TRADING,
            regimes=regimes.to_dict(), train_sharpe=0.0, validation_sharpe=0.0, hashes={}, bars_per_session=48.0,
            abstains=abstains,
        )  # fmt: skip
        bundles[f"fold_0/seed_{seed}"] = AgentBundle(spec, (network.state_dict(),), found.rule)
    return bundles


def judged_by(bars: AlignedBars, bundles: dict[str, AgentBundle], found: FoldForecasts) -> dict[str, pd.DataFrame]:
    features = np.zeros((ROWS, 2, 1))
    return backtest_folds(bars, features, [FOLD], bundles, TRADING, QUICK, 17_520.0, {0: found.units})


def equity_of(frames: dict[str, pd.DataFrame], account: str) -> np.ndarray:
    return frames["accounts"].query("account == @account")["equity"].to_numpy()


def test_an_agent_without_evidence_is_the_rule_to_the_last_bit(
    bars: AlignedBars, regimes: RegimeModel, found: FoldForecasts
) -> None:
    frames = judged_by(bars, agents(bars, regimes, found, abstains=True), found)
    judged, rule = equity_of(frames, "ensemble"), equity_of(frames, "forecast_rule")
    assert len(np.unique(rule)) > 100
    np.testing.assert_array_equal(judged, rule)
    assert (equity_of(frames, "networks") != rule).any()  # what they would have done


@pytest.mark.parametrize("abstains", [False, True])
def test_decisions_served_equal_decisions_tested(
    bars: AlignedBars, regimes: RegimeModel, found: FoldForecasts, abstains: bool
) -> None:
    bundles = agents(bars, regimes, found, abstains=abstains)
    judged = equity_of(judged_by(bars, bundles, found), "ensemble")
    session, kept = DecisionSession(list(bundles.values())), []
    for row in range(FIRST, ROWS - 1):
        _ = (
            session.start(bars.rows(slice(0, row + 1)))
            if row == FIRST
            else session.decide(bars.rows(slice(row, row + 1)))
        )
        kept.append(session.accounts.account.equity[0])
    np.testing.assert_allclose(kept[1:-1], judged[: len(kept) - 2], rtol=1e-12)
    assert len(np.unique(judged)) > 100


def test_a_saved_agent_brings_its_rule(
    bars: AlignedBars, regimes: RegimeModel, found: FoldForecasts, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bundles = agents(bars, regimes, found, abstains=False)
    folder = tmp_path_factory.mktemp("agents")
    for name, agent in bundles.items():
        agent.save(folder / name)
    again = {name: AgentBundle.load(folder / name) for name in bundles}
    np.testing.assert_array_equal(
        equity_of(judged_by(bars, again, found), "ensemble"), equity_of(judged_by(bars, bundles, found), "ensemble")
    )


def test_accounts_that_begin_later_follow_the_rule_from_there(
    bars: AlignedBars, regimes: RegimeModel, found: FoldForecasts
) -> None:
    bundles = agents(bars, regimes, found, abstains=True)
    starts = judged_by(bars, bundles, found)["robustness"].query("kind == 'start'").set_index("value")["correlation"]
    assert starts[0.0] == 1.0
    assert 0.9 < starts[0.25] <= 1.0


def test_an_agent_is_tested_on_other_bars_from_its_folder_alone(
    bars: AlignedBars, regimes: RegimeModel, found: FoldForecasts
) -> None:
    agent = agents(bars, regimes, found, abstains=True)["fold_0/seed_0"]
    later = bars.rows(slice(BEGIN + 20 - LOOKBACK, None))
    frames = backtest_agent(later, agent.inputs(later), agent, QUICK, 17_520.0)
    assert agent.inputs(later).shape[2] > 20
    assert len(np.unique(equity_of(frames, "seed_0"))) > 100


def test_networks_learn_on_forecasts_that_were_made_out_of_fold(
    bars: AlignedBars, regimes: RegimeModel, found: FoldForecasts
) -> None:
    posterior = regimes.filter(market_return(bars))
    market = ForecastMarket.of(bars, TRADING, 17_520.0).with_regimes(posterior)
    forecasts, rows = out_of_fold_forecasts(forecast_frame(bars, market, found), bars, 0)
    np.testing.assert_array_equal(rows, found.train_rows)
    path = training_path(found.rule, bars, posterior, TRADING, forecasts, rows)
    (sleeve,) = found.rule.opened
    out_of_fold = sleeve.weight * found.forecasts["directional"][rows]
    np.testing.assert_allclose(path.forecasts[rows], out_of_fold, rtol=1e-6, atol=1e-9)
    fitted_on_them = sleeve.weight * found.rule.forecasts(market.inputs, rows)["directional"]
    assert np.abs(out_of_fold - fitted_on_them).mean() > 0.1 * np.abs(fitted_on_them).mean()
    assert not path.units[: rows[0]].any()
    later = found.rule.follow(bars, posterior, TRADING)
    np.testing.assert_array_equal(path.units[BEGIN:], later.units[BEGIN:])
