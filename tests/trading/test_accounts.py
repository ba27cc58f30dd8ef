"""Allocations: one number for all assets, or weights of a few of them."""

from dataclasses import replace

import numpy as np
import pytest
from tests.trading.cases import random_case
from tests.trading.exact import account, bar, holding, legal, settle, shares, trading, walk

from sentio_kedro.config import CarryParameters, OrderParameters, TradingParameters
from sentio_kedro.trading.accounts import allocation, for_symbols, terms_of, unaffordable
from sentio_kedro.trading.simulate import asset_rewards, simulate

SYMBOLS = ("A", "B", "C")
WEIGHTS = for_symbols(trading(allocation={"B": 0.25, "A": 0.5}), SYMBOLS)
PRICES = [10.0, 20.0, 40.0]
BAR = bar(PRICES, PRICES, PRICES)


def test_weights_size_each_asset_and_what_they_do_not_name_is_never_traded() -> None:
    trader = account(assets=3)
    settle(trader, [1.0, -1.0, 1.0], BAR, WEIGHTS)
    assert shares(trader) == [50.0, -12.5, 0.0]
    settle(trader, [-1.0, -1.0, -1.0], BAR, WEIGHTS)
    assert shares(trader) == [-50.0, -12.5, 0.0]
    assert legal(trader, BAR, WEIGHTS) == [[True, True, True], [True, True, True], [False, True, False]]


def test_without_an_allocation_features_are_finite_and_a_position_leaves() -> None:
    trader = holding([0.0, 0.0, 5.0], PRICES, 800.0)
    ledger = walk(trader, [[None, None, 1.0]], BAR, WEIGHTS, trace=True)
    assert ledger.features[0, 0, :, 0].tolist() == [0.0, 0.0, 0.0]
    assert ledger.features[0, 0, :, 3].tolist() == [1.0, 1.0, 0.0]
    assert shares(trader) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("seed", range(5))
def test_equal_weights_of_all_assets_are_the_number(seed: int) -> None:
    case = random_case(seed)
    assets = case.market.facts.shape[1]
    alike = TradingParameters(allocation={f"asset {a}": 1.0 / assets for a in range(assets)})
    weights = allocation(alike, assets)
    assert weights.tolist() == allocation(TradingParameters(), assets).tolist() == [1.0 / assets] * assets
    for named, number in zip(terms_of(alike, assets), terms_of(TradingParameters(), assets), strict=True):
        np.testing.assert_array_equal(named, number)
    terms, accounts = case.terms._replace(allocation=weights), case.accounts.copy()
    simulate(case.market, accounts, case.policies, terms, models=case.models)
    simulate(case.market, case.accounts, case.policies, terms._replace(allocation=np.full(assets, 1.0 / assets)),
             models=case.models)  # fmt: skip
    np.testing.assert_array_equal(accounts.holdings, case.accounts.holdings)


def test_symbols_that_are_not_of_the_bars_and_weights_of_other_assets_are_refused() -> None:
    given = TradingParameters(allocation={"A": 0.5, "X": 0.25})
    with pytest.raises(ValueError, match=r"`trading.allocation` must name symbols .*'A', 'B', 'C'.*\['X'\]; correct"):
        for_symbols(given, SYMBOLS)
    with pytest.raises(ValueError, match=r"had \['a'\] \(perhaps 'A' is meant by 'a'\)"):
        for_symbols(TradingParameters(allocation={"a": 0.5}), SYMBOLS)
    with pytest.raises(ValueError, match=r"each of the 3 assets here, named \['A', 'X'\]"):
        terms_of(given, 3)
    assert for_symbols(WEIGHTS, SYMBOLS) == WEIGHTS
    assert allocation(WEIGHTS, 3).tolist() == [0.5, 0.25, 0.0]
    assert allocation(TradingParameters(allocation={"B": 0.25, "A": 0.5}), 2).tolist() == [0.5, 0.25]  # by name
    assert for_symbols(TradingParameters(allocation=0.5), SYMBOLS).allocation == 0.5


def test_an_asset_without_an_allocation_is_not_called_unaffordable() -> None:
    rich = replace(WEIGHTS, orders=OrderParameters(lot_size=1.0), initial_cash=100.0)
    assert unaffordable(np.array([50.0, 25.1, 1000.0]), rich).tolist() == [False, True, False]


def test_interest_is_shared_by_the_allocation() -> None:
    paid = replace(WEIGHTS, carry=CarryParameters(interest_rate=0.1))
    ledger = walk(account(assets=3), [0.0], bar(PRICES, PRICES, PRICES, years=0.6), paid)
    assert ledger.total.financing[0, 0] == pytest.approx(-60.0)
    rewards = asset_rewards(ledger, np.full((1, 1, 3), 0.01), allocation(paid, 3))
    assert rewards[0, 0] == pytest.approx([4.0, 2.0, 0.0])
