"""A replay through the trader's agents and feed is the backtest: actions, money to 1e-9, and no bit from restarts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.conftest import Project
from tests.serving.conftest import TRADING, random_agent, recorded_bars, round_the_clock

import trader_replay
from sentio_kedro.config import TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.trader.contract import Decision, Settled, Simulated
from sentio_kedro.trader.decider import SessionDecider
from sentio_kedro.trader.identity import order_id
from trader_replay import Block

NAME = trader_replay.NAME
FIRST, STOP = 1_150, 1_360  # decision rows of the seeded case
SEVERE = replace(
    TRADING,
    orders=replace(TRADING.orders, participation=0.003, stop_loss=0.008),
    carry=replace(TRADING.carry, interest_rate=0.02),
)


def assert_folds(decisions: Sequence[Decision]) -> None:
    """Fills, charges and splits make the account's cash and shares, and no fill occurs twice."""
    for decision, (cash, shares) in zip(decisions[1:], trader_replay.folded(decisions), strict=True):
        assert cash == pytest.approx(decision.cash, rel=1e-9, abs=1e-9 * decisions[0].equity), decision.bar
        assert shares == pytest.approx(dict(decision.shares), rel=1e-9, abs=1e-9), decision.bar
    ids = [fill.id for decision in decisions for fill in decision.fills]
    assert len(set(ids)) == len(ids)


def texts(decisions: Iterable[Decision]) -> list[str]:
    """Decisions as JSON, to the last bit."""
    return [trader_replay.text(decision) for decision in decisions]


def assert_decides_alike(whole: Sequence[Decision], tested: Block) -> None:
    """Actions, legal levels and equity of the backtest."""
    equity, levels = [decision.equity for decision in whole[1:]], tested.agents[0].spec.trading.levels
    np.testing.assert_allclose(equity, tested.judged, rtol=1e-9)
    counts = trader_replay.counted(whole[:-1], len(levels))
    np.testing.assert_array_equal(counts, trader_replay.recorded(tested.actions, levels))


def test_the_smoke_run_replayed_is_the_backtest_with_and_without_restarts(finished: Project) -> None:
    tested = trader_replay.from_artifacts(finished.artifact(""), traced=False)
    whole = list(trader_replay.followed(tested))
    assert texts(trader_replay.followed(tested, 50)) == texts(whole)
    assert_decides_alike(whole, tested)
    assert len({decision.equity for decision in whole}) > 50
    assert_folds(whole)
    assert not any(whole[-1].shares.values())
    lockbox = json.loads(finished.artifact("05_model_input/folds.json").read_text())["lockbox"]
    assert whole[-1].bar < lockbox["first"]


def case_of(trading: TradingParameters) -> Block:
    bars = recorded_bars(round_the_clock())
    paid = np.where(np.arange(len(bars.timestamps)) % 10 == 0, 0.05, 0.0)[:, None]
    bars = bars.with_columns({"dividend": np.where(bars.present, paid, np.nan)})
    agents = [random_agent(bars, seed) for seed in (0, 1)]
    agents = [replace(agent, spec=replace(agent.spec, trading=trading)) for agent in agents]
    return trader_replay.tested_on(bars, agents, Segment(FIRST, STOP), traced=False)


@pytest.fixture(scope="module", name="case")
def case_fixture() -> Block:
    """Shorts, halts, a split, dividends, funding, orders a bar late and filled in parts, and stops."""
    return case_of(SEVERE)


@pytest.fixture(scope="module", name="whole")
def whole_fixture(case: Block) -> list[Decision]:
    return list(trader_replay.followed(case))


def test_the_seeded_case_is_the_backtest(case: Block, whole: list[Decision]) -> None:
    assert_decides_alike(whole, case)
    equity, judged = np.array([decision.equity for decision in whole]), case.accounts
    for name in ("commission", "spread", "impact"):
        paid = [sum(fill.costs[name] for fill in decision.fills) for decision in whole[1:]]
        np.testing.assert_allclose(paid / equity[:-1], judged[name], rtol=1e-9, atol=1e-15)
    for kind, name, side in (("dividend", "dividends", 1.0), ("borrow", "borrow", -1.0), ("funding", "funding", -1.0)):
        paid = [sum(c.cash for c in decision.charges if c.kind == kind) for decision in whole[1:]]
        np.testing.assert_allclose(side * np.array(paid) / equity[:-1], judged[name], rtol=1e-9, atol=1e-15)
        assert np.any(paid), kind
    traded = [sum(abs(fill.shares) * fill.price for fill in decision.fills) for decision in whole[1:]]
    np.testing.assert_allclose(traded / equity[:-1], judged["turnover"], rtol=1e-9, atol=1e-15)


def test_the_seeded_case_has_all_that_it_must_prove(case: Block, whole: list[Decision]) -> None:
    assert_folds(whole)
    held = np.array([list(decision.shares.values()) for decision in whole])
    assert (held < 0.0).any()
    assert (held > 0.0).any()
    assert any(len(row.bars) < 3 for row in case.rows())
    splits = [decision for decision in whole if decision.splits]
    assert [decision.splits for decision in splits] == [{"AAA": 2.0}]
    assert splits[0].shares["AAA"]
    fills = [fill for decision in whole for fill in decision.fills]
    assert any(not fill.order and fill.id.endswith("|exit") for fill in fills)  # stops
    by_bar = {decision.bar: decision for decision in whole}
    bars = [decision.bar for decision in whole]
    for decision in whole[2:]:
        decided = by_bar[bars[bars.index(decision.bar) - 2]]  # orders are a bar late
        for fill in decision.fills:
            if fill.order:
                assert fill.order == order_id(NAME, decided.bar, fill.symbol)
                ordered = decided.orders[fill.symbol] * decision.splits.get(fill.symbol, 1.0)
                assert abs(fill.shares) <= abs(ordered) * (1.0 + 1e-9)
    assert trader_replay.partial_fills(whole, latency=1) > 5
    closes = [decision.bar for decision in whole if set(decision.actions.values()) == {-1}]
    assert closes == bars[-3:]


def test_a_restart_every_fifty_bars_changes_no_bit(case: Block, whole: list[Decision]) -> None:
    assert texts(trader_replay.followed(case, 50)) == texts(whole)


def test_what_was_not_sent_is_not_traded_and_the_rest_is(case: Block) -> None:
    prompt = replace(case.agents[0].spec.trading, orders=replace(SEVERE.orders, latency_bars=0))
    case = case_of(prompt)
    (decider, decision), denied = case.started(), 0
    for row in case.rows()[:80]:
        refused = {symbol for symbol in decision.orders if symbol == "AAA" and len(decision.orders) > 1}
        before = decision
        ids = {symbol: order_id(NAME, before.bar, symbol) for symbol in before.orders if symbol not in refused}
        decision = decider.advance(row, Simulated(frozenset(ids.values())))
        at_open = {fill.symbol: fill for fill in decision.fills if fill.id.endswith("|entry")}
        assert {fill.order for fill in at_open.values()} <= set(ids.values())
        for symbol, fill in at_open.items():
            assert abs(fill.shares) <= abs(before.orders[symbol]) * (1.0 + 1e-9)
        denied += len(refused)
    assert denied > 5


def test_settling_with_the_backtests_own_fills_gives_its_account() -> None:
    trading = replace(TRADING, orders=replace(TRADING.orders, latency_bars=0))  # no stops: a venue has its own
    case = case_of(trading)
    (simulated, decision), (settled, other) = case.started(), case.started()
    assert texts([decision]) == texts([other])
    for row in case.rows()[:100]:
        decision = simulated.advance(row, trader_replay.sent(decision))
        traded = {fill.symbol: (fill.shares, fill.price) for fill in decision.fills}
        other = settled.advance(row, Settled(decision.shares, decision.cash, traded))
        assert (decision.actions, decision.legal) == (other.actions, other.legal)
        assert decision.orders == pytest.approx(dict(other.orders), rel=1e-9)
        one, two = ({k: v for k, v in d.account.items() if k != "digest"} for d in (decision, other))
        for name in ("account", "holdings"):
            assert two[name] == {field: pytest.approx(value, rel=1e-12) for field, value in one[name].items()}, name
        np.testing.assert_allclose(two["session_highs"], one["session_highs"], rtol=1e-12)
        assert two["day_trades"] == one["day_trades"]
    assert sum(decision.account["day_trades"]) > 0


def test_a_position_that_nobody_traded_is_taken_as_the_venue_says(case: Block) -> None:
    decider, decision = case.started()
    rows = case.rows()
    decision = decider.advance(rows[0], Settled({"AAA": 100.0, "BBB": -7.0, "ZZZ": 3.0}, 50_000.0, {}))
    assert dict(decision.shares) == {"AAA": 100.0, "BBB": -7.0, "CCC": 0.0}
    assert decision.cash == 50_000.0
    closes = decision.closes
    assert decision.equity == pytest.approx(50_000.0 + 100.0 * closes["AAA"] - 7.0 * closes["BBB"], rel=1e-12)
    assert decision.account["holdings"]["entry_price"] == [closes["AAA"], closes["BBB"], 0.0]
    assert decision.account["holdings"]["bars_held"] == [1.0, 1.0, 0.0]
    split = {"AAA": {**rows[1].bars["AAA"], "split": 2.0}}
    later = decider.advance(
        replace(rows[1], bars={**rows[1].bars, **split}), Settled({"AAA": 200.0, "BBB": -7.0}, 5e4, {})
    )
    assert later.account["holdings"]["entry_price"][0] == closes["AAA"] / 2.0
    assert later.account["holdings"]["bars_held"][0] == 2.0


def test_an_account_that_is_ruined_folds_too_and_orders_nothing(case: Block, whole: list[Decision]) -> None:
    short = next(n for n, d in enumerate(whole) if sum(d.shares[s] * d.closes[s] for s in d.shares) < -0.1 * d.equity)
    decider, before = case.started(dict(whole[short].account), whole[short].bar)
    row = case.rows()[short]
    side = {symbol: 20.0 if shares < 0.0 else 0.05 for symbol, shares in before.shares.items()}
    priced = {
        symbol: {name: v * side[symbol] if name in ("open", "high", "low", "close") else v for name, v in bar.items()}
        for symbol, bar in row.bars.items()
    }
    after = decider.advance(replace(row, bars=priced), trader_replay.sent(before))
    assert not after.account["account"]["alive"]
    assert after.equity == after.cash >= 0.0
    assert_folds([before, after])
    assert [charge.kind for charge in after.charges][-1] == "ruin"
    assert not after.orders


def test_an_account_state_is_read_to_the_last_bit_or_refused(case: Block, whole: list[Decision]) -> None:
    kept = json.loads(json.dumps(whole[200].account))
    _, again = case.started(kept, whole[200].bar)
    assert texts([replace(again, fills=[], charges=[], splits={})]) == texts(
        [replace(whole[200], fills=[], charges=[], splits={})]
    )
    changed = {**kept, "account": {**kept["account"], "cash": kept["account"]["cash"] + 1.0}}
    with pytest.raises(ValueError, match="is not the one that was written"):
        case.started(changed, whole[200].bar)
    with pytest.raises(ValueError, match=r"The account stands at the close of .* the newest bar of the history is"):
        case.started(kept, whole[201].bar)
    longer = replace(TRADING, orders=replace(SEVERE.orders, latency_bars=2))
    others = [replace(agent, spec=replace(agent.spec, trading=longer)) for agent in case.agents]
    with pytest.raises(ValueError, match=r"`in_flight` of the account state has the shape \[3, 1\]"):
        SessionDecider(others, NAME, traced=False).start(case.bars.rows(slice(0, FIRST + 201)), kept)


def test_a_bar_that_agents_cannot_decide_at_is_refused_and_changes_nothing(case: Block) -> None:
    decider, decision = case.started()
    row = case.rows()[0]
    wrong = replace(row, bars={**row.bars, "AAA": {**row.bars["AAA"], "low": -1.0}})
    with pytest.raises(ValueError, match="AAA"):
        decider.advance(wrong, trader_replay.sent(decision))
    with pytest.raises(ValueError, match=r"has \['XXX'\] too"):
        decider.advance(replace(row, bars={**row.bars, "XXX": row.bars["AAA"]}), trader_replay.sent(decision))
    undisturbed, same = case.started()
    assert texts([decider.advance(row, trader_replay.sent(decision))]) == texts(
        [undisturbed.advance(row, trader_replay.sent(same))]
    )


def test_positions_are_closed_as_long_as_rows_say_so(case: Block) -> None:
    (decider, decision), rows = case.started(), case.rows()
    for number, row in enumerate(rows[:60]):
        decision = decider.advance(replace(row, closing=20 <= number < 40), trader_replay.sent(decision))
        if number == 19:
            assert any(decision.shares.values())
        if number == 30:
            decider, again = case.started(dict(decision.account), decision.bar)
            assert set(again.actions.values()) == {-1}
    assert any(decision.shares.values())  # the agents trade again
    decider, decision = case.started()
    for row in rows[:40]:
        decision = decider.advance(replace(row, closing=True), trader_replay.sent(decision))
    assert not any(decision.shares.values())
    assert not decision.orders
