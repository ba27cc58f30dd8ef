"""Action masks: never empty, HOLD alone where nothing trades, no way to stay beyond a cap, each layer by itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.config import MaskParameters, TradingParameters
from sentio_kedro.trading.accounts import AccountState, open_accounts
from sentio_kedro.trading.action_masks import (
    HOLD,
    LAYERS,
    decode,
    forbidden_shares,
    legal_actions,
    level_tensor,
    objections,
    require_choice,
)
from sentio_kedro.trading.position_limits import position_limits
from sentio_kedro.trading.step_data import StepData

DOUBLE = torch.float64
FINE = [-1.0, -0.5, 0.0, 0.5, 1.0]


def holding(position: float, drawdown: float = 0.0) -> AccountState:
    state = open_accounts(torch.tensor([1.0], dtype=DOUBLE), 1)
    return state._replace(
        shares=torch.tensor([[position]], dtype=DOUBLE), cash=torch.tensor([1.0 - position], dtype=DOUBLE),
        peak_equity=torch.tensor([1.0 / (1.0 - drawdown)], dtype=DOUBLE),
    )  # fmt: skip


def facts(tradable: bool = True, **caps: float | bool) -> StepData:
    one, yes = torch.ones(1, 1, dtype=DOUBLE), torch.full((1, 1), tradable)
    given = {
        name: torch.tensor([value]) if name == "shortable" else torch.full((1, 1), value)
        for name, value in caps.items()
    }
    return StepData(one, yes, one, one, yes, 0.0 * one, **given)  # type: ignore[arg-type]


def legal(state: AccountState, trading: TradingParameters, tradable: bool = True, **caps: float | bool) -> list[bool]:
    row = facts(tradable, **caps)
    return legal_actions(state, position_limits(state, row, trading), row, trading)[0, 0].tolist()


def test_an_asset_without_a_bar_can_only_be_held() -> None:
    assert legal(holding(0.0), TradingParameters(), tradable=False) == [True, False, False, False]
    assert legal(holding(3.0), TradingParameters(), tradable=False) == [True, False, False, False]


def test_of_the_levels_beyond_a_cap_the_smallest_stays_and_stands_for_the_cap() -> None:
    fine = TradingParameters(levels=FINE, max_position=0.4)
    assert legal(holding(0.0), fine) == [True, False, True, True, True, False]
    assert legal(holding(0.0), TradingParameters(max_position=0.4)) == [True, True, True, True]


def test_a_position_beyond_its_cap_cannot_be_held() -> None:
    trading = TradingParameters()
    assert legal(holding(1.2), trading)[HOLD]
    assert not legal(holding(1.3), trading)[HOLD]
    assert not legal(holding(-1.3), trading)[HOLD]


def test_at_the_drawdown_limit_an_open_position_must_go_and_a_flat_account_may_rest() -> None:
    trading = TradingParameters(max_drawdown=0.08)
    assert legal(holding(0.5, drawdown=0.08), trading) == [False, False, True, False]
    assert legal(holding(0.0, drawdown=0.08), trading) == [True, False, True, False]
    assert legal(holding(0.5, drawdown=0.08), TradingParameters(max_drawdown=None))[HOLD]


def test_past_the_rung_an_account_may_still_enter_small() -> None:
    trading = TradingParameters(max_drawdown=0.08, levels=FINE)
    assert legal(holding(0.0, drawdown=0.07), trading) == [True, False, True, True, True, False]
    row = facts()
    state = holding(0.0, drawdown=0.07)
    assert position_limits(state, row, trading).cap.item() == pytest.approx(0.01 / 0.06)


@pytest.mark.parametrize(
    ("cap", "layer"),
    [
        ("var_cap", "value_at_risk"),
        ("volatility_cap", "volatility"),
        ("regime_cap", "regime"),
        ("session_cap", "session"),
        ("kelly_cap", "kelly"),
        ("liquidity", "liquidity"),
    ],
)
def test_each_cap_forbids_what_lies_beyond_it_and_counts_as_its_own_layer(cap: str, layer: str) -> None:
    trading = TradingParameters(levels=FINE)
    row, state = facts(**{cap: 0.7}), holding(0.0)
    view = position_limits(state, row, trading)
    assert legal_actions(state, view, row, trading)[0, 0].tolist() == [True] * 6  # the levels 1 stand for 0.7
    assert view.cap.item() == pytest.approx(0.7)
    small = facts(**{cap: 0.3})
    assert legal(state, trading, **{cap: 0.3}) == [True, False, True, True, True, False]  # 0.5 stands for 0.3
    assert position_limits(state, small, trading).cap.item() == pytest.approx(0.3)
    shares = dict(zip(LAYERS, forbidden_shares(state.alive, state.equity, view, row, trading)[0].tolist(), strict=True))
    assert shares == {name: pytest.approx(0.4 if name == layer else 0.0) for name in LAYERS}
    reduced = facts(**{cap: 0.0})
    assert legal(holding(0.8), trading, **{cap: 0.0})[1:] == [False, False, True, True, False]
    assert position_limits(holding(0.8), reduced, trading).cap.item() == 0.0


def test_the_no_short_list_forbids_shorts_but_not_buying_them_back() -> None:
    trading = TradingParameters(levels=FINE, masks=MaskParameters(no_short=["*"]))
    assert legal(holding(0.0), trading, shortable=False) == [True, False, False, True, True, True]
    assert legal(holding(-1.0), trading, shortable=False)[1:] == [True, True, True, True, True]


def test_an_order_below_the_minimum_notional_or_a_lot_is_not_offered() -> None:
    for orders in ({"min_notional": 0.6}, {"lot_size": 0.6}):
        trading = TradingParameters(levels=FINE, initial_cash=1.0, orders=orders)  # type: ignore[arg-type]
        assert legal(holding(0.0), trading) == [True, True, False, True, False, True]
        assert legal(holding(0.5), trading)[1:] == [True, True, True, True, False]  # from 0.5 to 1 is too little


@settings(max_examples=200, deadline=None)
@given(
    position=st.floats(-3, 3), drawdown=st.floats(0, 0.5), limit=st.none() | st.floats(0.01, 0.99),
    cap=st.floats(0.05, 2), var=st.floats(0.0, 2.0), tradable=st.booleans(), alive=st.booleans(), leave=st.booleans(),
    maintenance=st.floats(0.05, 1.0), short=st.booleans(),
)  # fmt: skip
def test_no_row_is_ever_empty_and_flat_is_legal_whenever_something_trades(
    position: float, drawdown: float, limit: float | None, cap: float, var: float, tradable: bool, alive: bool,
    leave: bool, maintenance: float, short: bool,
) -> None:  # fmt: skip
    state = holding(position, drawdown)._replace(alive=torch.tensor([alive]))
    trading = TradingParameters(
        levels=FINE, max_drawdown=limit, max_position=cap,
        margin={"maintenance": maintenance}, orders={"min_notional": 0.1},  # type: ignore[arg-type]
    )  # fmt: skip
    row = legal(state, trading, tradable, var_cap=var, must_leave=leave, shortable=short)
    assert any(row)
    if tradable and alive:
        assert row[1 + trading.levels.index(0.0)]
    else:
        assert row == [True, False, False, False, False, False]


@settings(max_examples=200, deadline=None)
@given(
    positions=st.lists(st.floats(-2, 2), min_size=3, max_size=3), var=st.floats(0.0, 1.5), kelly=st.floats(0.0, 1.5),
    tradable=st.booleans(), least=st.sampled_from([None, 0.05]),
)  # fmt: skip
def test_what_all_layers_allow_is_legal_and_shares_count_what_each_forbids(
    positions: list[float], var: float, kelly: float, tradable: bool, least: float | None
) -> None:
    trading = TradingParameters(levels=FINE, gross_limit=3.0, orders={"min_notional": least})  # type: ignore[arg-type]
    state = open_accounts(torch.ones(1, dtype=DOUBLE), 3)
    held = torch.tensor([positions], dtype=DOUBLE)
    state = state._replace(shares=held, cash=1.0 - held.sum(-1))
    one, yes = torch.ones(1, 3, dtype=DOUBLE), torch.tensor([[True, tradable, True]])
    caps = torch.tensor([[var, 1.0, 0.5]], dtype=DOUBLE), torch.full((1, 1), kelly, dtype=DOUBLE)
    shortable = torch.tensor([True, True, False])
    row = StepData(one, yes, one, one, yes, 0.0 * one, var_cap=caps[0], kelly_cap=caps[1], shortable=shortable)
    view = position_limits(state, row, trading)
    objected = objections(state.alive, state.equity, view, row, trading)
    assert list(objected) == list(LAYERS)
    found = legal_actions(state, view, row, trading)[..., 1:]
    off = torch.zeros_like(found)
    cut = torch.stack([off if levels is None else levels for levels in objected.values()])
    assert (found | cut.any(0)).all()
    shares = forbidden_shares(state.alive, state.equity, view, row, trading)
    torch.testing.assert_close(shares, cut.to(DOUBLE).mean((-2, -1)).movedim(0, -1))


def test_rows_without_a_legal_action_are_refused_with_their_number() -> None:
    mask = torch.ones(3, 2, 4, dtype=torch.bool)
    require_choice(mask)
    mask[1, 0] = False
    mask[2, 1, 1:] = False  # HOLD is left
    with pytest.raises(ValueError, match=r"allowed none in 1; let the mask leave flat"):
        require_choice(mask)


def test_actions_decode_to_levels_and_hold() -> None:
    levels = level_tensor(TradingParameters(levels=[-1, 0, 0.5]), torch.zeros(1, dtype=DOUBLE))
    decision = decode(torch.tensor([0, 1, 2, 3]), levels)
    assert decision.level.tolist() == [0.0, -1.0, 0.0, 0.5]
    assert decision.hold.tolist() == [True, False, False, False]
