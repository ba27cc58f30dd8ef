"""What policies see of an account, and how they decide."""

import math
from math import log
from typing import Any

import numpy as np
import pytest
from tests.trading.exact import account, bar, bars, holding, shares, trading, walk

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.accounts import hold_positions, open_accounts, terms_of
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.policies import (
    ACCOUNT_FEATURES,
    HEADS,
    LANES,
    SAMPLED,
    TARGETS,
    Heads,
    make_policies,
    with_heads,
)
from sentio_kedro.trading.step.walk import Ledger

LOGITS = (0.3, -0.2, 1.1)


def features(accounts: Any, market: Any, setting: TradingParameters) -> np.ndarray:
    return walk(accounts, [None], market, setting, trace=True).features[0, 0]


# Observations


def test_features_of_an_account_are_in_units_of_the_limits() -> None:
    pair = [50.0, 50.0]
    trader = holding([5.0, -2.5], pair, 875.0, bars_held=[1.0, 0.0])
    seen = features(trader, bar(pair, pair, pair), trading())
    assert seen.shape == (2, ACCOUNT_FEATURES)
    assert seen[:, 0].tolist() == pytest.approx([0.5, -0.25])  # position over the allocation of one half
    assert seen[:, 1].tolist() == pytest.approx([0.375, 0.375])  # gross exposure over the gross limit
    assert seen[:, 2].tolist() == pytest.approx([0.2 * log(2.0), 0.0])  # log(1 + 1 bar) / 5
    assert seen[:, 3].tolist() == [1.0, 1.0]  # no layer caps the allocation


def test_features_tell_what_the_drawdown_leaves() -> None:
    trader = holding([8.5], [50.0], 425.0)  # half of 850
    trader.account.peak_equity = 1000.0  # 15 % down
    seen = features(trader, bar(50.0, 50.0, 50.0), trading(max_drawdown=0.2, drawdown_soft_limit=0.5))[0]
    assert seen.tolist()[:2] == pytest.approx([1.0, 1.0])  # half of equity where half is allowed
    assert seen[3] == pytest.approx(0.5)


def test_features_tell_what_forbids_an_increase_and_stay_bounded() -> None:
    trader = holding([40.0], [50.0], -1000.0)
    seen = features(trader, bar(50.0, 50.0, 50.0, kelly_cap=0.0, var_cap=0.0), trading())[0]
    assert seen.tolist() == pytest.approx([2.0, 2.0, 0.2 * log(2.0), 0.0])


def test_positions_that_accounts_start_with_are_bought_without_costs() -> None:
    trader = open_accounts(1, 2, trading(initial_cash=1000.0))
    hold_positions(trader, np.array([[0.4, -0.2]]), np.array([[40.0, 10.0]]))
    assert shares(trader) == [10.0, -20.0]
    assert trader.account.cash.tolist() == [800.0]
    assert trader.account.equity.tolist() == [1000.0]
    assert trader.holdings.entry_price.tolist() == [[40.0, 10.0]]
    assert trader.holdings.bars_held.tolist() == [[1.0, 1.0]]


def test_a_new_account_remembers_nothing() -> None:
    fresh = open_accounts(3, 2, trading(orders={"latency_bars": 2}, max_drawdown=0.1, drawdown_sessions=7))
    assert (fresh.in_flight.shape, fresh.session_highs.shape) == ((3, 2, 2), (3, 7))
    assert not fresh.in_flight.any()
    assert not fresh.day_trades.any()
    assert not any(fresh.holdings[name].any() for name in fresh.holdings.dtype.names)
    assert fresh.account.alive.all()
    assert (fresh.account.peak_equity == fresh.account.cash).all()


# Decisions


def heads(logits: np.ndarray, *, masked: bool = True, level: float = math.nan) -> Heads:
    """One agent whose M members have constant logits ``[M, B]`` of one asset at one row."""
    members, levels = logits.shape
    return Heads(
        projected=np.zeros((1, 1, members, 1, 2)),
        account_weight=np.zeros((1, members, ACCOUNT_FEATURES, 2)),
        policy_weight=np.zeros((1, 1, members, 2, LANES * -(-levels // LANES))),
        policy_bias=logits[None, None],
        fixed_level=np.array([level]),
        masked=np.array([masked]),
    )


def decided(kind: int, logits: Any, market: Any = None, draws: int = 1, **options: Any) -> Ledger:
    setting = trading()
    market = market or bar()
    noise = np.random.default_rng(2).gumbel(size=(1, draws, 1, 3))
    policies = make_policies(np.full(draws, kind), 1, 3, draws=np.arange(draws), noise=noise)
    policies = with_heads(policies, heads(np.atleast_2d(logits), **options))
    return simulate(market, open_accounts(draws, 1, setting), policies, terms_of(setting, 1), trace=True)


def test_the_likeliest_legal_level_is_chosen() -> None:
    assert decided(HEADS, LOGITS).actions.item() == 2
    assert decided(HEADS, LOGITS, bar(shortable=False)).actions.item() == 2
    assert decided(HEADS, (3.0, 2.0, 1.0), bar(shortable=False)).actions.item() == 1
    assert decided(HEADS, (3.0, 2.0, 9.0), bar(kelly_cap=0.0)).actions.item() == 1


def test_members_vote_by_their_mean_probabilities() -> None:
    votes = np.array([[5.0, 0.0, 0.0], [0.0, 1.5, 0.0], [0.0, 1.5, 0.0]])
    assert decided(HEADS, votes).actions.item() == 1  # most votes; the mean of the logits would be the first
    probabilities = np.exp(votes) / np.exp(votes).sum(-1, keepdims=True)
    assert probabilities.mean(0).argmax() == 1
    assert votes.mean(0).argmax() == 0


def test_an_unmasked_policy_may_ask_for_what_is_forbidden_and_gets_the_cap() -> None:
    ledger = decided(HEADS, (5.0, 1.0, 0.0), bar(shortable=False), masked=False)
    assert (ledger.actions.item(), ledger.fills.shares.item(), ledger.fills.capped.item()) == (0, 0.0, True)
    assert decided(HEADS, (0.0, 1.0, 5.0), bar(tradable=False), masked=False).actions.item() == 1


def test_an_agent_that_abstains_is_flat() -> None:
    ledger = decided(HEADS, LOGITS, level=0.0)
    assert (ledger.actions.item(), ledger.fills.shares.item()) == (-1, 0.0)


def test_an_agent_without_evidence_holds_the_position_of_the_rule_exactly() -> None:
    ledger = decided(HEADS, LOGITS, bar(unit=-0.3125), level=1.0)
    assert (ledger.actions.item(), ledger.fills.position.item()) == (-1, -0.3125)
    assert decided(HEADS, LOGITS, bar(unit=0.0), level=1.0).fills.shares.item() == 0.0


def test_levels_are_multiples_of_the_unit_of_the_bar() -> None:
    assert decided(HEADS, LOGITS, bar(unit=-0.25)).fills.position.item() == -0.25  # level 1
    assert decided(HEADS, (3.0, 2.0, 1.0), bar(unit=-0.25)).fills.position.item() == 0.25  # level -1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_networks_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(FloatingPointError, match="policy_bias of the policies must be finite"):
        decided(HEADS, (0.0, value, 0.0))


def test_levels_are_drawn_by_their_probabilities() -> None:
    drawn = decided(SAMPLED, LOGITS, draws=4000).actions[0, :, 0]
    expected = np.exp(LOGITS) / np.exp(LOGITS).sum()
    shares_ = np.bincount(drawn, minlength=3) / len(drawn)
    assert shares_ == pytest.approx(expected, abs=4.0 * (0.25 / len(drawn)) ** 0.5)
    without_short = decided(SAMPLED, LOGITS, bar(shortable=False), draws=4000).actions
    assert 0 not in without_short


def test_a_table_requests_positions_as_they_are_and_nothing_where_it_is_empty() -> None:
    targets = np.array([0.3, np.nan, -0.7])[:, None, None]
    policies = make_policies(np.array([TARGETS]), 1, 3, targets=targets)
    ledger = simulate(bars(*[bar()] * 3), account(), policies, terms_of(trading(), 1), trace=True)
    assert ledger.fills.shares[:, 0, 0].tolist() == pytest.approx([3.0, 3.0, -7.0])
    assert (ledger.actions == -1).all()
