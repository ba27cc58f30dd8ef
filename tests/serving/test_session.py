"""The decision session repeats the backtest: features, regimes, masks, actions and money, bar by bar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.serving.conftest import TRADING

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.ensemble import AgentNetworks, as_one
from sentio_kedro.config import BacktestParameters, RobustnessParameters, SignalParameters, TradingParameters
from sentio_kedro.evaluation.backtest.backtest import backtest_folds
from sentio_kedro.market.indicators import compute_features
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bar_checks import BarsError
from sentio_kedro.market.ingestion.bars import aligned_to_frame
from sentio_kedro.market.ingestion.sessions import market_clock
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.regimes import market_return
from sentio_kedro.market.tensors import market_tensors
from sentio_kedro.serving.accounts import ACCOUNT, Account, accounts_to_json
from sentio_kedro.serving.newest import newest_signals
from sentio_kedro.serving.session import DecisionSession
from sentio_kedro.serving.signal import Signal
from sentio_kedro.trading.accounts import for_symbols, open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.records import LAYERS, Accounts
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.policies import HEADS, make_policies, with_heads
from sentio_kedro.trading.step.walk import Ledger

FIRST, STOP = 1_150, 1_480  # decision rows that are replayed
FLAT_ONLY = [False, True, False]  # of levels -1, 0 and 1
SPARE = 30  # bars of history beyond the required ones, since assets are halted in it
QUICK = BacktestParameters(
    robustness=RobustnessParameters(cost_multipliers=None, latency_bars=None, start_shares=None, paths=None)
)


@dataclass(frozen=True)
class Live:
    """What a session said and held at each row from FIRST on."""

    verdicts: list[Signal]
    features: list[np.ndarray]
    posteriors: list[torch.Tensor]
    accounts: list[Accounts]


def history(bars: AlignedBars, agent: AgentBundle, row: int = FIRST) -> AlignedBars:
    """The bars that a session is given first, the newest in ``row``; the earlier ones it never sees."""
    return bars.rows(slice(row + 1 - agent.spec.required_bars - SPARE, row + 1))


def follow(agents: Sequence[AgentBundle], bars: AlignedBars, stop: int = STOP) -> Live:
    """Feed recorded bars one by one; the session keeps the accounts."""
    session, live = DecisionSession(agents), Live([], [], [], [])
    for row in range(FIRST, stop):
        new = bars.rows(slice(row, row + 1))
        live.verdicts.append(session.start(history(bars, agents[0])) if row == FIRST else session.decide(new))
        live.features.append(session.market.features[-1])
        live.posteriors.append(torch.stack([known[-1] for known in session.market.posteriors]))
        live.accounts.append(session.accounts)
    return live


def walked(
    several: Sequence[AgentBundle], bars: AlignedBars, stop: int = STOP
) -> tuple[np.ndarray, list[torch.Tensor], Ledger]:
    """Features and regimes of all bars, and the walk of the ensemble over the same rows from a flat account."""
    agents = [as_one(several)]
    trading, count, assets = agents[0].spec.trading, len(agents), len(bars.symbols)
    features = compute_features(bars, agents[0].spec.features)
    clock = market_clock(bars.timestamps, trading.calendar)._replace(bars_per_session=agents[0].spec.bars_per_session)
    market = market_tensors(bars, features, np.ones((len(features), 1)), trading, clock)
    posteriors = [torch.from_numpy(agent.regime_model().filter(market_return(bars))) for agent in agents]
    heads = AgentNetworks(agents, torch.float64).heads(market.features, posteriors, FIRST, stop)
    policies = make_policies(np.full(count, HEADS), assets, len(trading.levels), source=np.arange(count))
    ledger = simulate(
        market_facts(market, FIRST, stop, trading, posteriors),
        open_accounts(count, assets, trading),
        with_heads(policies, heads),
        terms_of(trading, assets),
        models=policies.source,
        trace=True,
    )
    return features, posteriors, ledger


def assert_repeats(live: Live, agents: Sequence[AgentBundle], bars: AlignedBars, stop: int = STOP) -> Ledger:
    """Same features, regimes, legal levels, actions and money to 1e-6."""
    features, posteriors, ledger = walked(agents, bars, stop)
    np.testing.assert_allclose(np.stack(live.features), features[FIRST:stop], rtol=0, atol=1e-6)
    known = torch.stack([posterior[FIRST:stop] for posterior in posteriors], dim=1)
    torch.testing.assert_close(torch.stack(live.posteriors), known, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(np.stack([signal.legal for signal in live.verdicts]), ledger.legal[:, 0])
    np.testing.assert_array_equal(np.stack([signal.actions for signal in live.verdicts]), ledger.actions[:, 0])
    equity = np.stack([accounts.account.equity for accounts in live.accounts])
    shares = np.stack([accounts.holdings.shares for accounts in live.accounts])
    np.testing.assert_allclose(equity, ledger.total.equity_before, rtol=1e-6, atol=0)
    np.testing.assert_allclose(shares[1:], ledger.fills.shares[:-1], rtol=1e-6, atol=1e-6)
    return ledger


@pytest.fixture(scope="module", name="live")
def live_fixture(agents: list[AgentBundle], bars: AlignedBars) -> Live:
    return follow(agents, bars)


def test_bars_fed_one_by_one_repeat_the_features_and_actions_of_the_backtest(
    live: Live, agents: list[AgentBundle], bars: AlignedBars
) -> None:
    ledger = assert_repeats(live, agents, bars)
    present = bars.present[FIRST:STOP]
    assert not present.all(axis=0).any()  # every asset is halted once
    assert all(len(np.unique(ledger.actions[..., asset])) > 2 for asset in range(3))
    assert (ledger.fills.shares < 0.0).any()
    assert (ledger.fills.shares > 0.0).any()
    assert (~ledger.legal[np.broadcast_to(present[:, None], ledger.legal.shape[:-1])]).any()
    binding = np.stack([signal.binding for signal in live.verdicts]).any(axis=(0, 1))
    binds = {layer for layer, cuts in zip(LAYERS, binding, strict=True) if cuts}
    assert {"validity", "daily_loss", "value_at_risk", "regime", "compliance", "kelly"} <= binds


def test_the_decisions_served_are_those_of_the_account_that_is_judged(
    live: Live, agents: list[AgentBundle], bars: AlignedBars
) -> None:
    trading = agents[0].spec.trading
    fold = Fold(3, (), (), (Segment(FIRST, STOP),))
    features = compute_features(bars, agents[0].spec.features)
    named = {agent.name: agent for agent in agents}
    frames = backtest_folds(bars, features, [fold], named, trading, QUICK, 17520.0)
    judged = frames["accounts"].query("account == 'ensemble'")
    equity = judged["equity"].to_numpy()[: STOP - FIRST - 1]
    kept = np.array([accounts.account.equity[0] for accounts in live.accounts[1:]])
    leaves = 2 + trading.orders.latency_bars  # at its end the backtest sells everything
    np.testing.assert_allclose(kept[:-leaves], equity[:-leaves], rtol=1e-9)
    assert len(np.unique(equity)) > 100
    served = np.stack([signal.actions for signal in live.verdicts])
    decided = (
        np.stack([signal.legal.sum(-1) > 1 for signal in live.verdicts])
        & (np.arange(STOP - FIRST) < STOP - FIRST - leaves + 1)[:, None]
    )
    counts = frames["actions"].pivot(index="symbol", columns="action", values="count")[["-1", "0", "+1"]].to_numpy()
    np.testing.assert_array_equal(
        counts, np.stack([((served == level) & decided).sum(axis=0) for level in range(3)], axis=1)
    )


def test_on_an_exchange_the_session_knows_which_decision_is_the_last_before_the_close(
    session_agent: AgentBundle, session_bars: AlignedBars
) -> None:
    stop = FIRST + 80
    live = follow([session_agent], session_bars, stop)
    assert_repeats(live, [session_agent], session_bars, stop)
    session = np.array(LAYERS).tolist().index("session")
    assert np.stack([signal.binding[..., session] for signal in live.verdicts]).any()


def test_a_replay_at_the_start_ends_where_a_session_that_was_fed_bar_by_bar_ends(
    live: Live, agents: list[AgentBundle], bars: AlignedBars
) -> None:
    row = FIRST + 120
    session = DecisionSession(agents)
    known = bars.rows(slice(FIRST + 1 - agents[0].spec.required_bars - SPARE, row + 1))
    begun = Account(cash=100_000.0, time=pd.Timestamp(bars.timestamps[FIRST]).to_pydatetime())
    signal = session.start(known, begun)
    np.testing.assert_array_equal(signal.actions, live.verdicts[120].actions)
    np.testing.assert_allclose(signal.target, live.verdicts[120].target, rtol=0, atol=1e-6)
    np.testing.assert_allclose(session.accounts.account.equity, live.accounts[120].account.equity, rtol=1e-9)
    signals = newest_signals(agents, known, SignalParameters(), begun)
    np.testing.assert_allclose(signals["target"], live.verdicts[120].target, rtol=0, atol=1e-6)
    np.testing.assert_allclose(signals["tail_risk"], live.verdicts[120].tail_risk, rtol=0, atol=1e-6)


def test_several_bars_at_once_are_the_same_as_one_by_one(
    live: Live, agents: list[AgentBundle], bars: AlignedBars
) -> None:
    session = DecisionSession(agents)
    session.start(history(bars, agents[0]))
    signal = session.decide(bars.rows(slice(FIRST + 1, FIRST + 41)))
    np.testing.assert_array_equal(signal.actions, live.verdicts[40].actions)
    np.testing.assert_allclose(session.accounts.account.equity, live.accounts[40].account.equity, rtol=1e-12)


def test_an_account_in_plain_numbers_decides_as_the_one_that_is_kept(agent: AgentBundle, bars: AlignedBars) -> None:
    kept, told = DecisionSession(agent), DecisionSession(agent)
    kept.start(history(bars, agent))
    told.start(history(bars, agent))
    seen = []
    for row in range(FIRST + 1, FIRST + 60):
        new = bars.rows(slice(row, row + 1))
        expected = kept.decide(new)
        seen.append(kept.account())
        signal = told.decide(aligned_to_frame(new), kept.account())
        np.testing.assert_array_equal(signal.actions, expected.actions)
        np.testing.assert_array_equal(signal.legal, expected.legal)
        np.testing.assert_allclose(signal.orders, expected.orders, rtol=1e-9, atol=1e-9)
    for name in ("shares", "in_flight", "bars_held", "trades_today", "opened_today"):
        assert any(getattr(account, name) for account in seen), name


def test_a_session_that_goes_on_from_its_saved_account_trades_on_to_the_last_bit(
    live: Live, agents: list[AgentBundle], bars: AlignedBars
) -> None:
    session = DecisionSession(agents)
    session.start(history(bars, agents[0]))
    session.decide(bars.rows(slice(FIRST + 1, FIRST + 150)))
    account = session.account()
    saved = json.loads(json.dumps(accounts_to_json({"kept": account})))["kept"]
    assert ACCOUNT.validate_python(saved) == account
    assert len(account.session_highs) == 5  # round the clock a session is a day
    again = DecisionSession(agents)
    again.start(bars.rows(slice(FIRST + 1 - agents[0].spec.required_bars, FIRST + 170)), account)
    session.decide(bars.rows(slice(FIRST + 150, FIRST + 170)))
    assert again.account() == session.account()


def test_an_account_of_an_earlier_bar_begins_a_session_and_nothing_else(
    started: DecisionSession, agent: AgentBundle, bars: AlignedBars
) -> None:
    account, before = started.account(), started.account().bar
    assert before == bars.timestamps[FIRST]
    new = bars.rows(slice(FIRST + 1, FIRST + 2))
    with pytest.raises(
        ValueError, match=r"`account.time` must be the end of one bar from 2020-01-25T00:00:00Z to 2020"
    ):
        started.decide(new, account)
    with pytest.raises(ValueError, match=r"was 2020-01-24T23:30:00Z; give the bars from there on"):
        DecisionSession(agent).start(bars.rows(slice(FIRST + 1, FIRST + 1 + agent.spec.required_bars)), account)
    with pytest.raises(ValueError, match=r"for all accounts the same, was 2020-01-24T23:30:00Z, 2020-01-25T00:00:00Z"):
        DecisionSession(agent).start(history(bars, agent, FIRST + 1), [account, Account(cash=1.0)])
    needed = agent.spec.required_bars
    with pytest.raises(ValueError, match=f"need {needed + 1} bars to decide, were given {needed}; give 1 more"):
        DecisionSession(agent).start(bars.rows(slice(FIRST + 2 - needed, FIRST + 2)), account)


def test_the_peak_that_an_account_names_counts_for_the_drawdown(agent: AgentBundle, bars: AlignedBars) -> None:
    session = DecisionSession(agent)
    session.start(history(bars, agent), Account(cash=1e5))
    free = session.decide(None, Account(cash=1e5, peak_equity=1.1e5))
    lost = session.decide(None, Account(cash=1e5, peak_equity=1.3e5))  # 23 % below it, 20 % may be lost
    assert np.abs(free.target).max() > 0.0
    assert lost.target.tolist() == [0.0, 0.0, 0.0]
    assert lost.binding[:, LAYERS.index("drawdown")].all()
    assert session.accounts.account.peak_equity.tolist() == session.accounts.session_highs[:, 0].tolist() == [1.3e5]


def test_orders_lead_from_what_is_held_to_the_target(agent: AgentBundle, bars: AlignedBars) -> None:
    session = DecisionSession(agent)
    session.start(history(bars, agent))
    for row in range(FIRST + 1, FIRST + 30):
        held = {"AAA": 300.0, "BBB": -200.0}
        signal = session.decide(bars.rows(slice(row, row + 1)), Account(cash=80_000.0, shares=held))
        before = np.array([300.0, -200.0, 0.0])
        equity = 80_000.0 + before @ signal.close
        np.testing.assert_allclose(signal.shares, before + signal.orders)
        np.testing.assert_allclose(signal.target, signal.shares * signal.close / equity)


def test_a_batch_of_accounts_decides_as_each_alone(agents: list[AgentBundle], bars: AlignedBars) -> None:
    accounts = [
        Account(cash=1e5),
        Account(cash=5e4, shares={"AAA": 700.0}, peak_equity=2e5),
        Account(cash=2e5, shares={"BBB": -900.0, "CCC": 10.0}, session_equity=2.2e5, bars_held={"BBB": 9}),
        Account(cash=1.0, initial_equity=1e6),  # is dead
    ]
    session, row = DecisionSession(agents), FIRST + 40  # where it is not best for each account to be flat
    session.start(history(bars, agents[0], row - 1))
    batch = session.decide(bars.rows(slice(row, row + 1)), accounts)
    assert batch.target.shape == (4, 3)
    assert batch.actions.shape == (4, 3)
    for place, account in enumerate(accounts):
        alone = session.decide(None, account)
        for name in ("target", "shares", "orders", "tail_risk"):
            np.testing.assert_allclose(getattr(batch, name)[place], getattr(alone, name), rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(batch.actions[place], alone.actions)
        np.testing.assert_array_equal(batch.binding[place], alone.binding)
    assert (batch.orders[3] == 0.0).all()
    assert len({tuple(row) for row in batch.target.round(6).tolist()}) > 2


def test_a_batch_of_records_is_kept_and_carried_on_by_the_session(agent: AgentBundle, bars: AlignedBars) -> None:
    session = DecisionSession(agent)
    batch = open_accounts(2, 3, agent.spec.trading).part(np.s_[:, None])
    batch.account.cash[1] = batch.account.equity[1] = batch.account.initial_equity[1] = 2e5
    session.start(history(bars, agent), batch)
    for row in range(FIRST + 1, FIRST + 40):
        session.decide(bars.rows(slice(row, row + 1)))
    assert session.accounts.account.shape == (2, 1)
    assert (session.accounts.account.equity != batch.account.equity).all()
    assert batch.account.equity.tolist() == [[1e5], [2e5]]  # stays the caller's


def test_agents_that_abstain_leave_and_risk_nothing(agent: AgentBundle, bars: AlignedBars) -> None:
    out = AgentBundle(replace(agent.spec, abstains=True), agent.weights)
    session = DecisionSession(out)
    session.start(history(bars, agent))
    signal = session.decide(bars.rows(slice(FIRST + 1, FIRST + 2)), Account(cash=1e5, shares={"AAA": 100.0}))
    assert signal.target.tolist() == [0.0, 0.0, 0.0]
    assert signal.orders.tolist() == [-100.0, 0.0, 0.0]
    assert signal.tail_risk.tolist() == [0.0, 0.0, 0.0]


def test_the_frame_tells_all_of_a_single_account(agent: AgentBundle, bars: AlignedBars) -> None:
    frame = DecisionSession(agent).start(history(bars, agent)).frame()
    assert frame["timestamp"].unique().tolist() == [pd.Timestamp(bars.timestamps[FIRST]).tz_localize("UTC")]
    assert frame["symbol"].tolist() == ["AAA", "BBB", "CCC"]
    np.testing.assert_allclose(frame["state_0"] + frame["state_1"], 1.0)
    assert set(",".join(frame["binding"]).split(",")) <= {*LAYERS, ""}


@pytest.fixture(name="started")
def started_fixture(agent: AgentBundle, bars: AlignedBars) -> DecisionSession:
    session = DecisionSession(agent)
    session.start(history(bars, agent))
    return session


def test_bars_that_are_known_already_are_refused(started: DecisionSession, bars: AlignedBars) -> None:
    with pytest.raises(ValueError, match=r"later than the newest bar known, 2020-01-24T23:30:00Z"):
        started.decide(bars.rows(slice(FIRST, FIRST + 1)))
    started.decide(bars.rows(slice(FIRST + 1, FIRST + 2)))


def test_a_gap_is_refused_unless_it_is_allowed(started: DecisionSession, agent: AgentBundle, bars: AlignedBars) -> None:
    late = bars.rows(slice(FIRST + 3, FIRST + 4))
    with pytest.raises(ValueError, match=r"are missing: 90 minutes have passed, at most 30 may; give the bars in"):
        started.decide(late)
    lenient = DecisionSession(agent, longest_gap=np.timedelta64(2, "h"))
    lenient.start(history(bars, agent))
    expected = lenient.decide(late)
    signal = started.decide(late, longest_gap=np.timedelta64(90, "m"))
    np.testing.assert_array_equal(signal.target, expected.target)
    started.decide(bars.rows(slice(FIRST + 4, FIRST + 5)))  # the feed is back
    with pytest.raises(ValueError, match=r"if there were none, give `decide` a `longest_gap` of that length"):
        started.decide(bars.rows(slice(FIRST + 7, FIRST + 8)))


def test_no_bars_at_all_are_refused(started: DecisionSession, bars: AlignedBars) -> None:
    with pytest.raises(ValueError, match=r"There must be new bars, were 0 rows"):
        started.decide(bars.rows(slice(0, 0)))


def test_bars_of_other_symbols_are_refused(started: DecisionSession, bars: AlignedBars) -> None:
    frame = aligned_to_frame(bars.rows(slice(FIRST + 1, FIRST + 2)))
    with pytest.raises(ValueError, match=r"trade \['AAA', 'BBB', 'CCC'\], the bars hold \['XXX'\] too"):
        started.decide(frame.replace({"symbol": {"BBB": "XXX"}}))
    signal = started.decide(frame[frame["symbol"] != "BBB"])  # is halted
    assert signal.legal[1].tolist() == FLAT_ONLY


@pytest.mark.parametrize(
    ("name", "value"), [("close", np.nan), ("open", np.inf), ("low", -1.0), ("high", 1.0), ("volume", -2.0)]
)
def test_bars_that_make_no_sense_are_refused(
    started: DecisionSession, bars: AlignedBars, name: str, value: float
) -> None:
    row = bars.rows(slice(FIRST + 1, FIRST + 2))
    frame = aligned_to_frame(row)
    frame.loc[1, name] = value
    with pytest.raises(BarsError, match=r"BBB 2020-01-25T00:00"):
        started.decide(frame)
    column = getattr(row, name).copy()
    column[0, 1] = value
    with pytest.raises(BarsError, match=r"BBB 2020-01-25T00:00"):
        started.decide(replace(row, **{name: column}))
    started.decide(row)  # nothing was taken in


@pytest.mark.parametrize("account", [None, Account(cash=1e5, shares={"AAA": 100.0})])
def test_a_dividend_above_the_price_leaves_the_session_as_it_was(
    started: DecisionSession, agent: AgentBundle, bars: AlignedBars, account: Account | None
) -> None:
    two = bars.rows(slice(FIRST + 1, FIRST + 3))
    assert two.dividend is not None
    wrong = two.dividend.copy()
    wrong[1, 1] = 10_000.0  # the first of the two bars is right, and must not be taken in either
    with pytest.raises(ValueError, match=r"BBB 2020-01-25T00:30:00Z paid 10000 on a price of"):
        started.decide(replace(two, dividend=wrong), account)
    untroubled = DecisionSession(agent)
    untroubled.start(history(bars, agent))
    assert_same(started, untroubled)
    np.testing.assert_array_equal(started.decide(two, account).target, untroubled.decide(two, account).target)
    assert_same(started, untroubled)


def test_a_bar_outside_the_sessions_of_the_exchange_leaves_the_session_as_it_was(
    session_agent: AgentBundle, session_bars: AlignedBars
) -> None:
    session, untroubled = DecisionSession(session_agent), DecisionSession(session_agent)
    row = FIRST + next(
        n for n in range(1, 20) if np.diff(session_bars.timestamps)[FIRST + n - 1] > np.timedelta64(1, "h")
    )
    for each in (session, untroubled):
        each.start(history(session_bars, session_agent, row - 1))
    new = session_bars.rows(slice(row, row + 1))  # the first bar of a session
    early = replace(new, timestamps=new.timestamps - np.timedelta64(3, "h"))
    with pytest.raises(ValueError, match=r"end outside the sessions of `trading.calendar` XNYS"):
        session.decide(early)
    assert_same(session, untroubled)
    np.testing.assert_array_equal(session.decide(new).target, untroubled.decide(new).target)


def test_a_symbol_without_any_bar_is_halted(agent: AgentBundle, bars: AlignedBars) -> None:
    frame = aligned_to_frame(history(bars, agent))
    session = DecisionSession(agent)
    earlier = pd.Timestamp(bars.timestamps[FIRST - 5]).to_pydatetime()
    signal = session.start(frame[frame["symbol"] != "BBB"], Account(cash=100_000.0, time=earlier))
    assert signal.symbols == ("AAA", "BBB", "CCC")
    assert signal.target[1] == 0.0
    assert signal.legal[1].tolist() == FLAT_ONLY
    assert signal.legal[0].sum() > 1
    new = aligned_to_frame(bars.rows(slice(FIRST + 1, FIRST + 2)))
    with pytest.raises(
        ValueError, match=r"`account.shares` holds \['BBB'\], of which there was no bar and so no price"
    ):
        session.decide(new[new["symbol"] != "BBB"], Account(cash=1.0, shares={"BBB": 1.0}))
    session.decide(new, Account(cash=1.0, shares={"BBB": 1.0}))


def test_agents_that_were_trained_without_halts_drop_the_stamps_that_a_symbol_lacks(
    agent: AgentBundle, bars: AlignedBars
) -> None:
    session = DecisionSession(AgentBundle(replace(agent.spec, missing="drop_bar"), agent.weights))
    known, halted = history(bars, agent), np.zeros((3, 3), dtype=bool)
    session.start(known)
    kept = known.timestamps[known.present.all(axis=1)]
    np.testing.assert_array_equal(
        session.market.bars.grid.timestamps, kept[-len(session.market.bars.grid.timestamps) :]
    )
    halted[0, 1] = True
    new = bars.rows(slice(FIRST + 1, FIRST + 4)).without(halted)
    with pytest.raises(ValueError, match=r"drop_bar` leaves no bar.* give the bars together with the next"):
        session.decide(new.rows(slice(0, 1)))
    signal = session.decide(new.rows(slice(0, 2)))
    assert signal.timestamp == new.timestamps[1]
    assert new.timestamps[0] not in session.market.bars.grid.timestamps


def test_a_new_start_that_is_refused_leaves_the_session_as_it_was(
    started: DecisionSession, agent: AgentBundle, bars: AlignedBars
) -> None:
    untroubled = DecisionSession(agent)
    untroubled.start(history(bars, agent))
    with pytest.raises(ValueError, match=r"`account.shares` names \['XXX'\]"):
        started.start(history(bars, agent, FIRST + 100), Account(cash=1e5, shares={"XXX": 1.0}))
    assert_same(started, untroubled)
    new = bars.rows(slice(FIRST + 1, FIRST + 2))
    np.testing.assert_array_equal(started.decide(new).target, untroubled.decide(new).target)
    assert_same(started, untroubled)


def assert_same(session: DecisionSession, other: DecisionSession) -> None:
    """Same bars, features, regimes and accounts."""
    np.testing.assert_array_equal(session.market.bars.grid.timestamps, other.market.bars.grid.timestamps)
    np.testing.assert_array_equal(session.market.features, other.market.features)
    torch.testing.assert_close(session.market.posteriors, other.market.posteriors, rtol=0, atol=0)
    for ours, theirs in zip(session.accounts, other.accounts, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_history_that_is_too_short_is_refused(agent: AgentBundle, bars: AlignedBars) -> None:
    needed = agent.spec.required_bars
    with pytest.raises(ValueError, match=f"need {needed} bars to decide, were given {needed - 5}; give 5 more"):
        DecisionSession(agent).start(bars.rows(slice(0, needed - 5)))
    with pytest.raises(RuntimeError, match="call `start`"):
        DecisionSession(agent).decide()


@pytest.mark.parametrize(
    ("account", "message"),
    [
        (Account(cash=1.0, shares={"XXX": 1.0}), r"`account.shares` names \['XXX'\], the agents trade"),
        (
            Account(cash=-1e6, shares={"AAA": 1.0}),
            r"`account` is ruined and must hold nothing: it is worth -9999\d\d\.\d+, which",
        ),
        (
            Account(cash=0.0, in_flight={"AAA": [1.0]}),
            r"`account` is ruined and must hold nothing.*name what is left as",
        ),
        (Account(cash=1.0, initial_equity=1e5, shares={"AAA": 1e-9}), r"above 0.001 of its `initial_equity`, 100000;"),
        (Account(cash=1.0, in_flight={"AAA": [1.0, 2.0]}), r"`account.in_flight\[AAA\]` must hold one number per bar"),
        (Account(cash=1.0, session_highs=[1.0] * 127), r"at most 126 sessions .*named 127; leave out the oldest"),
        (open_accounts(2, 3, TRADING), r"`account` must have the shape \[..., 1\], was \[2\]; add a last dimension"),
        (
            open_accounts(2, 2, TRADING).part(np.s_[:, None]),
            r"`holdings` of the accounts must have the shape \[2, 1, 3\].*was \[2, 1, 2\]",
        ),
        (
            open_accounts(2, 3, TradingParameters()).part(np.s_[:, None]),
            r"`in_flight` of the accounts must have the shape \[2, 1, 3, 1\]",
        ),
    ],
)
def test_accounts_that_are_not_the_agents_are_refused(
    started: DecisionSession, bars: AlignedBars, account: Account | Accounts, message: str
) -> None:
    new = bars.rows(slice(FIRST + 1, FIRST + 2))
    with pytest.raises(ValueError, match=message):
        started.decide(new, account)
    started.decide(new)  # the bars were not taken in


@pytest.mark.parametrize(
    "fields",
    [
        {"cash": float("nan")},
        {"cash": 1e19},
        {"cash": 1.0, "shares": {"AAA": float("inf")}},
        {"cash": 1.0, "in_flight": {"AAA": [float("nan")]}},
        {"cash": 1.0, "equity": float("inf")},
        {"cash": 1.0, "entry_price": {"AAA": float("nan")}},
        {"cash": 1.0, "bars_held": {"AAA": 10**400}},
    ],
)
def test_numbers_that_no_account_has_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"less than or equal to 10+ |valid integer|finite number"):
        Account(**fields)


def test_agents_that_differ_need_sessions_of_their_own(agent: AgentBundle) -> None:
    other = AgentBundle(replace(agent.spec, fold=4), agent.weights)
    with pytest.raises(ValueError, match=r"but their `fold` differs"):
        DecisionSession([agent, other])


def test_weights_by_symbol_decide_live_what_a_backtest_decides(agent: AgentBundle, bars: AlignedBars) -> None:
    named = for_symbols(replace(agent.spec.trading, allocation={bars.symbols[1]: 0.6}), bars.symbols)
    few = AgentBundle(replace(agent.spec, trading=named), agent.weights)
    ledger = assert_repeats(follow([few], bars, FIRST + 60), [few], bars, FIRST + 60)
    assert ledger.fills.shares[..., 1].any()
    assert not ledger.fills.shares[..., [0, 2]].any()
