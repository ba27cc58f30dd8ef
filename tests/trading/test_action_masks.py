"""Action masks: never empty, HOLD alone where nothing trades, no way to stay beyond a cap."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentio_kedro.config import TradingParameters
from sentio_kedro.trading.action_masks import HOLD, decode, legal_actions, level_tensor
from sentio_kedro.trading.execution import AccountState, open_accounts

DOUBLE = torch.float64


def holding(position: float, drawdown: float = 0.0) -> AccountState:
    state = open_accounts(torch.tensor([1.0], dtype=DOUBLE), 1)
    return state._replace(
        shares=torch.tensor([[position]], dtype=DOUBLE), cash=torch.tensor([1.0 - position], dtype=DOUBLE),
        peak_equity=torch.tensor([1.0 / (1.0 - drawdown)], dtype=DOUBLE),
    )  # fmt: skip


def legal(state: AccountState, trading: TradingParameters, tradable: bool = True) -> list[bool]:
    one = torch.ones(1, 1, dtype=DOUBLE)
    return legal_actions(state, one, torch.full((1, 1), tradable), trading)[0, 0].tolist()


def test_an_asset_without_a_bar_can_only_be_held() -> None:
    assert legal(holding(0.0), TradingParameters(), tradable=False) == [True, False, False, False]


def test_levels_beyond_the_position_cap_are_illegal_and_flat_is_not() -> None:
    assert legal(holding(0.0), TradingParameters(max_position=0.5)) == [True, False, True, False]


def test_a_position_beyond_its_cap_cannot_be_held() -> None:
    trading = TradingParameters()
    assert legal(holding(1.2), trading)[HOLD]
    assert not legal(holding(1.3), trading)[HOLD]
    assert not legal(holding(-1.3), trading)[HOLD]


def test_at_the_drawdown_limit_an_open_position_must_go_and_a_flat_account_may_rest() -> None:
    trading = TradingParameters(max_drawdown=0.08)
    assert not legal(holding(0.5, drawdown=0.08), trading)[HOLD]
    assert legal(holding(0.0, drawdown=0.08), trading)[HOLD]
    assert legal(holding(0.5, drawdown=0.08), TradingParameters(max_drawdown=1.0))[HOLD]


@settings(max_examples=100, deadline=None)
@given(
    position=st.floats(-3, 3), drawdown=st.floats(0, 0.5), limit=st.floats(0.01, 1.0), cap=st.floats(0.05, 2),
    tradable=st.booleans(), alive=st.booleans(),
)  # fmt: skip
def test_no_row_is_ever_empty(
    position: float, drawdown: float, limit: float, cap: float, tradable: bool, alive: bool
) -> None:
    state = holding(position, drawdown)._replace(alive=torch.tensor([alive]))
    trading = TradingParameters(max_drawdown=limit, max_position=cap)
    row = legal(state, trading, tradable)
    assert any(row)
    if tradable and alive:
        assert row[1 + trading.levels.index(0.0)]


def test_actions_decode_to_levels_and_hold() -> None:
    levels = level_tensor(TradingParameters(levels=[-1, 0, 0.5]), torch.zeros(1, dtype=DOUBLE))
    decision = decode(torch.tensor([0, 1, 2, 3]), levels)
    assert decision.level.tolist() == [0.0, -1.0, 0.0, 0.5]
    assert decision.hold.tolist() == [True, False, False, False]
