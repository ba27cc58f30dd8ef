"""Agents that act on a forecast rule: served as they are tested, and the rule itself where they have no evidence."""

import json
import math
from dataclasses import replace
from typing import NamedTuple
from unittest.mock import Mock, create_autospec

import numpy as np
import pandas as pd
import pytest
import torch

from planted.catalogue import MARKETS
from planted.paths import path_bars
from sentio_kedro.agent.bundle import AgentBundle, AgentSpec
from sentio_kedro.agent.data.training_set import TrainingSet
from sentio_kedro.agent.forecasting.fold import FoldForecasts, forecast_fold
from sentio_kedro.agent.forecasting.frames import forecast_frame, out_of_fold_forecasts
from sentio_kedro.agent.forecasting.inputs.history import LOOKBACK
from sentio_kedro.agent.forecasting.market import ForecastMarket
from sentio_kedro.agent.forecasting.rule import ForecastRule
from sentio_kedro.agent.forecasting.rule_inputs import input_names, rule_inputs, training_path
from sentio_kedro.agent.network.encoder import NetworkShape
from sentio_kedro.agent.network.network import build_network
from sentio_kedro.agent.training.abstention import mean_t_statistic
from sentio_kedro.agent.training.member import network_shape
from sentio_kedro.agent.training.population import _validate_ensemble as validate_ensemble
from sentio_kedro.agent.training.validation import account_returns
from sentio_kedro.config import (
    AgentParameters,
    BacktestParameters,
    ForecastingParameters,
    IngestionParameters,
    NetworkParameters,
    RegimeParameters,
    SignalParameters,
    TradingParameters,
    TrainingParameters,
)
from sentio_kedro.evaluation.backtest import backtest
from sentio_kedro.evaluation.backtest.backtest import backtest_agent, backtest_folds
from sentio_kedro.evaluation.backtest.start_dates import held_correlation
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.sessions import market_clock
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.regimes import RegimeModel, fit_regimes, market_return
from sentio_kedro.pipelines.training.nodes import of_rule
from sentio_kedro.serving.accounts import ACCOUNT, Account, account_report, accounts_to_json
from sentio_kedro.serving.following.session import FollowingSession
from sentio_kedro.serving.live_market import RuleState
from sentio_kedro.serving.newest import newest_signals
from sentio_kedro.serving.session import DecisionSession
from sentio_kedro.trading.performance import sharpe_ratio

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
LATE = replace(
    TRADING,
    orders=replace(TRADING.orders, latency_bars=1),
    costs=replace(TRADING.costs, half_spread="estimated", spread_bars=100),
)
HANDED = 4_300  # first test row of the second fold
LATE_FOLDS = [
    replace(FOLD, number=number, test=(test,))
    for number, test in enumerate((Segment(FIRST, HANDED), Segment(HANDED, ROWS - 1)))
]
QUICK = BacktestParameters(
    baselines=[],
    robustness={"cost_multipliers": None, "latency_bars": None, "paths": None, "start_shares": [0.0, 0.25]},  # type: ignore[arg-type]
)


class Judged(NamedTuple):
    """Agents of the second fold, frames of the backtest, and the account with which that fold began."""

    agents: list[AgentBundle]
    frames: dict[str, pd.DataFrame]
    account: Account


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
    returns = torch.from_numpy(frames["accounts"].query("account == 'ensemble'")["return"].to_numpy().copy())
    without = frames["robustness"].query("kind == 'without'")["sharpe"]  # the rule whatever seed is left out
    assert without.tolist() == pytest.approx([float(sharpe_ratio(returns, 17_520.0))] * 2, rel=1e-9)
    assert without.nunique() == 1


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


@pytest.fixture(scope="module", name="tested", params=[False, True], ids=["networks", "rule"])
def tested_fixture(
    request: pytest.FixtureRequest, bars: AlignedBars, regimes: RegimeModel, found: FoldForecasts
) -> Judged:
    """Two folds whose agents hand one account over, with orders a bar late; the second fold's start as JSON."""
    bundles = {}
    for fold in LATE_FOLDS:
        for agent in agents(bars, regimes, found, abstains=request.param).values():
            spec = replace(agent.spec, fold=fold.number, trading=LATE)
            bundles[f"fold_{fold.number}/seed_{spec.seed}"] = replace(agent, spec=spec)
    units = dict.fromkeys((0, 1), found.units)
    frames = backtest_folds(bars, np.zeros((ROWS, 2, 1)), LATE_FOLDS, bundles, LATE, QUICK, 17_520.0, units)
    state = frames["states"].set_index("fold").loc[1]
    account = account_report(state["account"], bars.symbols, state["timestamp"].to_datetime64())
    saved = json.loads(json.dumps(accounts_to_json({"fold_1": account})))["fold_1"]
    return Judged([agent for agent in bundles.values() if agent.spec.fold == 1], frames, ACCOUNT.validate_python(saved))


def test_the_last_fold_begins_with_the_account_that_the_one_before_left(tested: Judged, bars: AlignedBars) -> None:
    account, frames = tested.account, tested.frames
    assert frames["states"][["fold", "timestamp"]].to_numpy().tolist() == [
        [fold.number, pd.Timestamp(bars.timestamps[fold.test[0].start])] for fold in LATE_FOLDS
    ]
    before = frames["accounts"].query(f"account == 'ensemble' and row == {HANDED - 1}").iloc[0]
    assert account.equity == before["equity"] != TRADING.initial_cash
    assert account.bar == bars.timestamps[HANDED]
    assert set(account.shares) == set(bars.symbols)
    assert len(account.session_highs) == 4  # sessions since the first fold began
    assert account.peak_equity == max(account.session_highs)


@pytest.mark.parametrize("row", [HANDED, HANDED + 1, HANDED + 60, ROWS - 4])
def test_signals_from_the_saved_account_are_the_positions_of_the_backtest_to_the_last_bit(
    tested: Judged, bars: AlignedBars, row: int
) -> None:
    session = DecisionSession(tested.agents, traced=False)
    signal = session.start(bars.rows(slice(0, row + 1)), tested.account)
    judged = tested.frames["accounts"].query("account == 'ensemble'").set_index("row")
    assert session.accounts.account.equity.tolist() == [judged.loc[row - 1, "equity"]]
    held = tested.frames["positions"].pivot(index="timestamp", columns="symbol", values="position")
    late = pd.Timestamp(bars.timestamps[row + 1], tz="UTC")  # the bar before whose open the order arrives
    np.testing.assert_array_equal(held.loc[late], signal.shares * bars.open[row + 2] / judged.loc[row, "equity"])
    assert signal.shares.any()


def test_the_pipeline_gives_these_signals_and_compares_them_with_a_later_start(
    tested: Judged, bars: AlignedBars
) -> None:
    row = ROWS - 4
    known = bars.rows(slice(0, row + 1))
    signals = newest_signals(tested.agents, known, SignalParameters(), tested.account)
    expected = DecisionSession(tested.agents, traced=False).start(known, tested.account)
    assert signals["target"].tolist() == expected.target.tolist()
    assert signals["order"].tolist() == expected.orders.tolist()
    begin = (HANDED + row) // 2
    later = DecisionSession([replace(one, rule=one.rule.begun_at(bars.timestamps[begin])) for one in tested.agents])
    later.start(bars.rows(slice(0, begin + 1)))
    for now in range(begin + 1, row + 1):
        other = later.decide(bars.rows(slice(now, now + 1)))
    np.testing.assert_allclose(signals["other_target"], other.target, rtol=1e-9)
    assert signals["start_agrees"].tolist() == (abs(other.target - expected.target) <= 0.1 * other.largest).tolist()


def test_a_later_start_follows_the_rule_from_there(tested: Judged, bars: AlignedBars) -> None:
    session = DecisionSession(tested.agents, traced=False)
    later = session.begun_at(bars.timestamps[HANDED])
    for each, begin in ((session, BEGIN), (later, HANDED)):
        each.start(bars.rows(slice(0, HANDED + 60)))
        assert each.market.units is not None
        assert not each.market.units[:begin].any()
        assert each.market.units[begin : begin + 40].any()


def test_a_target_that_depends_on_the_first_day_is_marked_or_refused(tested: Judged, bars: AlignedBars) -> None:
    known, lost = bars.rows(slice(0, ROWS - 3)), replace(tested.account, peak_equity=2e5, session_highs=[2e5])
    signals = newest_signals(tested.agents, known, SignalParameters(), lost)
    assert signals["target"].tolist() == [0.0, 0.0]  # has no headroom left
    assert signals["start_agrees"].tolist() == (signals["other_target"] == 0.0).tolist()
    assert not signals["start_agrees"].all()
    with pytest.raises(ValueError, match=r"if trading had begun later.* Set `signals.refuse_disagreement` to false"):
        newest_signals(tested.agents, known, SignalParameters(refuse_disagreement=True), lost)
    alone = newest_signals(tested.agents, known, SignalParameters(refuse_disagreement=True))
    assert alone[["other_target", "start_agrees"]].isna().all(axis=None)  # it traded nothing: there is no other start


def test_a_backtest_follows_the_rule_once_and_fits_baselines_on_the_features_before(
    bars: AlignedBars, regimes: RegimeModel, found: FoldForecasts, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, seen = (
        Mock(wraps=backtest.fold_baselines),
        create_autospec(ForecastRule.follow, side_effect=ForecastRule.follow),
    )
    monkeypatch.setattr(backtest, "fold_baselines", fit)
    monkeypatch.setattr(ForecastRule, "follow", seen)
    bundles = agents(bars, regimes, found, abstains=False)
    off = {"cost_multipliers": None, "latency_bars": None, "paths": None, "start_shares": None}
    parameters = BacktestParameters(baselines=[], robustness=off)  # type: ignore[arg-type]
    features = np.full((ROWS, 2, 1), 7.0)
    backtest_folds(bars, features, [FOLD], bundles, TRADING, parameters, 17_520.0, {0: found.units})
    assert seen.call_count == 1
    assert (fit.call_args.args[0].market.features == 7.0).all()


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


def test_accounts_that_begin_later_come_to_hold_the_same_book(
    bars: AlignedBars, regimes: RegimeModel, found: FoldForecasts
) -> None:
    bundles = agents(bars, regimes, found, abstains=True)
    starts = judged_by(bars, bundles, found)["robustness"].query("kind == 'start'")["correlation"].tolist()
    assert starts == [1.0, pytest.approx(1.0, abs=1e-3)]


def test_a_rule_goes_on_from_its_positions_whenever_it_was_begun(
    bars: AlignedBars, regimes: RegimeModel, found: FoldForecasts
) -> None:
    bundles = list(agents(bars, regimes, replace(found, rule=patient(found.rule)), abstains=True).values())
    session, row = FollowingSession(bundles, traced=False), FIRST + 20
    later = session.begun_at(bars.timestamps[row - 10])
    session.resume(bars.rows(slice(0, FIRST + 1)))
    for new in range(FIRST + 1, row + 1):
        signal = session.follow(bars.rows(slice(new, new + 1)), np.zeros(2, bool))
    state, short = session.state(), bars.rows(slice(row + 1 - later.followed_bars, row + 1))
    assert (later.resume(short, state._replace(rule=None)).target != signal.target).any()
    assert later.resume(short, state).target.tolist() == signal.target.tolist()
    for new in range(row + 1, row + 20):
        both = [each.follow(bars.rows(slice(new, new + 1)), np.zeros(2, bool)) for each in (session, later)]
        assert both[0].target.tolist() == both[1].target.tolist()
    assert state.rule is not None
    with pytest.raises(ValueError, match=r"have the shape \[3, 2\], the agents' rule has \(1, 2\)"):
        session.market.with_rule(RuleState(np.zeros((3, 2)), state.rule.units))


def patient(rule: ForecastRule) -> ForecastRule:
    """Let a rule keep what it has for long, so that it matters when it was begun."""
    (sleeve,) = rule.opened
    weak = [part._replace(weights=0.05 * part.weights) for part in sleeve.forecaster.evidence]
    free = replace(sleeve.control, price=1e-6, surprise=0.0)
    keeps = replace(sleeve, forecaster=replace(sleeve.forecaster, evidence=weak), control=free)
    return replace(rule, sleeves=(keeps,))


def test_accounts_that_begin_later_follow_the_rule_from_there(
    bars: AlignedBars, regimes: RegimeModel, found: FoldForecasts
) -> None:
    bundles = agents(bars, regimes, replace(found, rule=patient(found.rule)), abstains=True)
    whole = judged_by(bars, bundles, found)
    starts = whole["robustness"].query("kind == 'start'").set_index("value")["correlation"]
    assert starts[0.0] == 1.0
    assert starts[0.25] < 0.999
    begin = FIRST + (ROWS - 1 - FIRST) // 4
    late = replace(FOLD, train=(Segment(600, begin),), test=(Segment(begin, ROWS - 1),))
    later = backtest_folds(bars, np.zeros((ROWS, 2, 1)), [late], bundles, TRADING, QUICK, 17_520.0)
    books = [part["positions"].pivot(index="timestamp", columns="symbol", values="position") for part in (whole, later)]
    both = np.stack([books[0].loc[books[1].index].to_numpy(), books[1].to_numpy()], axis=1)
    assert starts[0.25] == pytest.approx(held_correlation(both), abs=1e-12)


def test_an_agent_is_tested_on_other_bars_from_its_folder_alone(
    bars: AlignedBars, regimes: RegimeModel, found: FoldForecasts
) -> None:
    agent = agents(bars, regimes, found, abstains=True)["fold_0/seed_0"]
    later = bars.rows(slice(BEGIN + 20 - LOOKBACK, None))
    frames = backtest_agent(later, agent.inputs(later), agent, QUICK, 17_520.0)
    assert agent.inputs(later).shape[2] > 20
    assert len(np.unique(equity_of(frames, "seed_0"))) > 100


@pytest.mark.parametrize("leaves", [False, True])
def test_the_evidence_of_networks_is_their_profit_less_that_of_the_rule(
    bars: AlignedBars, regimes: RegimeModel, found: FoldForecasts, leaves: bool
) -> None:
    posterior = regimes.filter(market_return(bars))
    path = found.rule.follow(bars, posterior, TRADING)
    inputs = rule_inputs(path, found.rule.segments, market_clock(bars.timestamps, TRADING.calendar))
    validation = [Segment(BEGIN, FIRST)]
    fold = replace(FOLD, validation=tuple(validation))
    of_fold = TrainingSet(
        fold, bars, inputs, [], regimes, 17_520.0, TRADING, "halt", found.rule, path.units, found.train_rows
    )
    parameters = AgentParameters(
        replace(NETWORK, variant="forecasts"), TrainingParameters(variant="forecasts"), TRADING
    )
    network = build_network(NETWORK, network_shape(of_fold, TRADING), torch.Generator().manual_seed(0))
    if leaves:
        with torch.no_grad():
            network.head.policy.weight.normal_(0.0, 1e3, generator=torch.Generator().manual_seed(1))
    result = validate_ensemble(of_fold, [network.state_dict()], parameters, torch.device("cpu"))
    market = of_fold.market_on(torch.device("cpu"), torch.float32)
    earned, of_rule = (
        account_returns([network], market, validation, 0, TRADING, of_fold.facts, level) for level in (math.nan, 1.0)
    )
    assert result.rule_sharpe == pytest.approx(float(sharpe_ratio(of_rule, 17_520.0)), rel=1e-6)
    assert abs(float(mean_t_statistic(of_rule))) > 0.1  # the rule's own profit is no evidence for networks
    assert result.validation_t == pytest.approx(float(mean_t_statistic(earned - of_rule)), rel=1e-6)
    assert (result.validation_t != 0.0) is leaves


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
    bare = TrainingSet(FOLD, bars, np.zeros((ROWS, 2, 1)), [], regimes, 17_520.0, TRADING)
    training_set = of_rule(bare, found.rule, forecast_frame(bars, market, found))
    inputs = rule_inputs(path, found.rule.segments, market_clock(bars.timestamps, TRADING.calendar))
    np.testing.assert_array_equal(training_set.features, inputs)
    np.testing.assert_array_equal(training_set.units, path.units)
    assert training_set.learned == [(rows[0], rows[-1] + 1)]  # no row that experts were fitted on alone
