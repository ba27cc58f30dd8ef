"""Legal levels: flat always, none twice, none that a cap repeats."""

from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trading.cases import uniform_heads
from tests.trading.exact import account, bar, bars, equity, holding, legal, objecting, settle, shares, trading

from sentio_kedro.config import MaskParameters, TradingParameters
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.simulate import simulate
from sentio_kedro.trading.step.policies import SAMPLED, make_policies, with_heads

FIVE = [-1.0, -0.5, 0.0, 0.5, 1.0]
FLAT_ONLY = [False, False, True, False, False]


def rules(**masks: Any) -> TradingParameters:
    return trading(levels=FIVE, masks=MaskParameters(**masks))


def drawn_down(position: float, drawdown: float) -> Any:
    """An account of 1000 that has lost a fraction of its peak, with a position as a fraction of equity."""
    made = holding([10.0 * position], [100.0], 1000.0 * (1.0 - position))
    made.account.peak_equity = 1000.0 / (1.0 - drawdown)
    return made


def test_an_asset_without_a_bar_has_flat_alone_and_sends_no_order() -> None:
    for start in (account(), holding([8.0], [100.0], 200.0)):
        assert legal(start, bar(tradable=False), rules()) == [FLAT_ONLY]
        assert objecting(start, bar(tradable=False), rules()) == {"validity"}
        before = shares(start)
        settle(start, 0.0, bar(tradable=False), rules())
        assert shares(start) == before


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    position=st.floats(-3, 3), drawdown=st.floats(0, 0.5), limit=st.none() | st.floats(0.01, 0.99),
    cap=st.floats(0.05, 2), var=st.floats(0.0, 2.0), tradable=st.booleans(), alive=st.booleans(), leave=st.booleans(),
    maintenance=st.floats(0.05, 1.0), short=st.booleans(),
)  # fmt: skip
def test_no_row_is_ever_empty_and_flat_is_always_legal(
    position: float, drawdown: float, limit: float | None, cap: float, var: float, tradable: bool, alive: bool,
    leave: bool, maintenance: float, short: bool,
) -> None:  # fmt: skip
    trader = drawn_down(position, drawdown)
    trader.account.alive = alive
    setting = TradingParameters(
        levels=FIVE, max_drawdown=limit, max_position=cap, calendar="XNYS", margin={"maintenance": maintenance},
        orders={"min_notional": 100.0}, masks={"overnight": False},
    )  # fmt: skip
    row = bar(tradable=tradable, var_cap=var, bars_to_session_end=0 if leave else 9, shortable=short)
    table = legal(trader, row, setting)[0]
    assert table[2]
    assert (tradable and alive) or table == FLAT_ONLY
    if any(table[:2]) or any(table[3:]):
        assert not leave


@settings(max_examples=100, deadline=None, derandomize=True)
@given(position=st.floats(-1.5, 1.5), cap=st.floats(0.0, 1.5), growth=st.floats(0.0, 1.5))
def test_legal_levels_lead_to_positions_that_differ_and_illegal_ones_repeat_them(
    position: float, cap: float, growth: float
) -> None:
    setting = trading(levels=FIVE, gross_limit=4.0, allocation=1.0)
    row, start = bar(var_cap=cap, kelly_cap=growth), holding([10.0 * position], [100.0], 1000.0 * (1.0 - position))
    table, reached = legal(start, row, setting)[0], {}
    for level in FIVE:
        trader = start.copy()
        settle(trader, level, row, setting)
        reached[level] = shares(trader)[0] / 10.0
    free = [reached[level] for level, may in zip(FIVE, table, strict=True) if may]
    assert all(abs(a - b) > 1e-7 for i, a in enumerate(free) for b in free[:i])
    for value in reached.values():
        assert any(value == pytest.approx(other, abs=2e-6) for other in free)


def test_random_accounts_decide_for_legal_levels_alone() -> None:
    setting, steps = trading(levels=FIVE), 50
    market = bars(*[bar(kelly_cap=0.0 if s % 2 else inf, tradable=s % 5 > 0) for s in range(steps)])
    noise = np.random.default_rng(0).gumbel(size=(steps, 8, 1, 5))
    policies = make_policies(np.full(8, SAMPLED), 1, 5, draws=np.arange(8), noise=noise)
    policies = with_heads(policies, uniform_heads(steps, 1, 1, 5))
    ledger = simulate(market, open_accounts(8, 1, setting), policies, terms_of(setting, 1), trace=True)
    assert np.take_along_axis(ledger.legal, ledger.actions[..., None], axis=-1).all()
    assert len(np.unique(ledger.actions)) == 5


def test_equity_moves_no_limit_that_is_a_fraction_of_it() -> None:
    for cash in (1.0, 1e9):
        trader = account(cash)
        settle(trader, 1.0, bar(var_cap=0.4), trading())
        assert shares(trader)[0] * 100.0 / equity(trader) == pytest.approx(0.4)
