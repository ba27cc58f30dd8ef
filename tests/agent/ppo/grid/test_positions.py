"""The position grid: it stands where it says, and its accounts earn what accounts outside of it earn."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sentio_kedro.agent.data.windows import Windows, cut_windows
from sentio_kedro.agent.ppo.grid.positions import PositionGrid, draw_grid, position_grid
from sentio_kedro.config import AgentParameters, NetworkParameters, TradingParameters, TrainingParameters
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import hold_positions, open_accounts, terms_of
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.simulate import asset_rewards, simulate
from sentio_kedro.trading.step.policies import TARGETS, make_policies
from sentio_kedro.trading.step.walk import Ledger

DOUBLE = torch.float64
TRADING = TradingParameters(
    levels=[-1.0, 0.0, 0.5, 1.0],
    gross_limit=1.5,
    max_drawdown=0.3,
    costs={"commission_bps": 20.0, "half_spread_bps": 10.0},  # type: ignore[arg-type]
)
FREE = {"costs": {"commission_bps": 0.0, "half_spread_bps": 0.0}}
STEPS, CONTEXT = 4, 8
Markets = Callable[..., MarketTensors]


def windows_of(market: MarketTensors, steps: int = STEPS, trading: TradingParameters = TRADING) -> Windows:
    return cut_windows(market, torch.tensor([10, 20, 25]), steps, CONTEXT, trading)


def grid_of(windows: Windows, trading: TradingParameters = TRADING, seed: int = 0) -> tuple[PositionGrid, np.ndarray]:
    """The grid, and the level of each replica ``[W, P, A]``."""
    size = len(trading.levels)
    draws = draw_grid(windows, size, torch.Generator().manual_seed(seed))
    return position_grid(windows, trading, draws), (np.arange(size)[:, None] + draws.shift.numpy()) % size


def with_sessions(market: MarketTensors, bars: int) -> MarketTensors:
    """The market in sessions of so many bars."""
    bar = torch.arange(market.bars) % bars
    return market._replace(
        session=torch.arange(market.bars) // bars,
        elapsed=torch.full((market.bars,), 1.0 / bars, dtype=DOUBLE),
        minutes_since_open=30.0 * (1 + bar),
        minutes_to_close=30.0 * (bars - 1 - bar),
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_asset_meets_each_level_once_per_bar(market: Markets, seed: int) -> None:
    grid, level = grid_of(windows_of(market(assets=3)), seed=seed)
    position = grid.account[..., 0]  # in units of what the drawdown leaves: [S + 1, W, P, A]
    assert np.array_equal(np.sort(level, axis=1), np.broadcast_to(np.arange(4)[:, None], level.shape))
    for window, replica, asset in np.ndindex(*level.shape):
        held = TRADING.levels[level[window, replica, asset]]
        assert position[:, window, replica, asset].tolist() == pytest.approx([held] * (STEPS + 1))


def test_positions_are_sized_by_the_limits_of_the_bar_before(market: Markets) -> None:
    trading = TradingParameters(masks={"target_volatility": 0.004}, net_limit=0.4)  # type: ignore[arg-type]
    whole = market(assets=1)
    windows = windows_of(whole, trading=trading)
    grid, level = grid_of(windows, trading)
    for window, start in enumerate((10, 20, 25)):
        for step in range(STEPS + 1):
            before = start + max(step - 1, 0)  # the first row has none
            cap = min(0.4, 0.004 / whole.volatility[before, 0].item())
            expected = [(index - 1) * cap for index in level[window, :, 0]]
            assert grid.position[step, window, :, 0].tolist() == pytest.approx(expected, abs=1e-12)


def test_the_grid_depends_on_its_generator_alone_and_combines_assets_anew(market: Markets) -> None:
    windows = windows_of(market(assets=3))
    torch.manual_seed(0)
    first, _ = grid_of(windows, seed=3)
    torch.manual_seed(1)
    again, _ = grid_of(windows, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first[:-1], again[:-1], strict=True))  # the last are its limits
    assert len({tuple(grid_of(windows, seed=seed)[1][:, 0].ravel().tolist()) for seed in range(5)}) > 1


def test_grid_accounts_differ_in_what_they_lost_and_how_long_they_held(market: Markets) -> None:
    grid, _ = grid_of(windows_of(market()))
    left, held, position = grid.account[..., 3], grid.account[..., 2], grid.account[..., 0]
    assert left.min() > 0.0
    assert left.unique().numel() > 6
    assert (held[position == 0.0] == 0.0).all()
    assert (held[position != 0.0] > 0.0).all()
    unlimited, _ = grid_of(windows_of(market()), TradingParameters())
    assert (unlimited.account[..., 3] == 1.0).all()


def test_legal_actions_are_those_of_the_accounts(market: Markets) -> None:
    whole = market()._replace(shortable=torch.tensor([True, False]))
    whole.tradable[22, 0] = False
    grid, level = grid_of(windows_of(whole, trading=TradingParameters()), TradingParameters())
    assert grid.legal[2, 1, :, 0].tolist() == [[False, True, False]] * 3
    assert grid.legal[:, :, :, 1].unique(dim=2).flatten(0, 2).tolist() == [[False, True, True]] * (STEPS * 3)
    assert (grid.position[:, :, :, 1] >= 0.0).all()
    assert (grid.position[:, torch.from_numpy(level == 0)[..., 0]][..., 0] < 0.0).all()


def walked(
    market: MarketTensors,
    asset: int,
    start: int,
    position: float,
    actions: list[int],
    trading: TradingParameters,
    lost: float = 0.0,
) -> Ledger:
    """Ledger of a real account in one asset that holds a position and takes actions."""
    facts, alone = market_facts(market, start, start + len(actions), trading), slice(asset, asset + 1)
    facts = facts._replace(facts=np.ascontiguousarray(facts.facts[:, alone]).view(np.recarray))
    one, terms = open_accounts(1, 1, trading), terms_of(trading, market.assets)
    one.account.peak_equity = one.account.equity / (1.0 - lost)
    hold_positions(one, np.array([[position]]), market.close[start, alone].numpy()[None], 20.0)
    targets = (terms.levels[actions] * terms.allocation[0])[:, None, None]
    policies = make_policies(np.array([TARGETS]), 1, len(terms.levels), targets=targets)
    lone = terms._replace(allocation=terms.allocation[alone], charges=terms.charges[alone].copy())
    return simulate(facts, one, policies, lone)


OWN = {"A": {"commission_bps": 50.0, "lot_size": 700.0}, "B": {"half_spread_bps": 9.0, "borrow_rate": 0.5}}


@pytest.mark.parametrize(
    ("preset", "rules"), [("proportional", {}), ("realistic", {}), ("perpetual", {}), ("proportional", OWN)]
)
def test_each_action_earns_and_leads_to_what_an_account_in_that_asset_alone_earns_and_holds(
    market: Markets, preset: str, rules: dict[str, Any]
) -> None:
    whole = with_sessions(market()._replace(volume=torch.full((40, 2), 4e4, dtype=DOUBLE)), 7)
    whole = whole._replace(daily_volume=torch.full((40, 2), 4e5, dtype=DOUBLE))
    whole.tradable[22:24, 1] = False
    trading = TradingParameters(preset=preset, levels=[-1.0, 0.5, 0.0], max_drawdown=None, symbols=rules)
    windows = windows_of(whole, trading=trading)
    grid, _ = grid_of(windows, trading)
    for step, window, replica, asset, action in np.ndindex(*grid.rewards.shape):
        row, place = int(windows.rows[window, step]), (step, window, replica, asset)
        ledger = walked(whole, asset, row, grid.position[place].item(), [action], trading)
        reward = asset_rewards(ledger, windows.unit[step, window, :, asset].numpy())[0, 0, 0]
        assert grid.rewards[place][action].item() == pytest.approx(reward, rel=1e-9, abs=1e-12)
        found = grid.following(grid.position[step + 1], step)[place[1:]][action].item()  # positions interpolated
        reached = ledger.fills.shares[0, 0, 0] * whole.close[row + 1, asset].item() / ledger.total.equity[0, 0]
        ends = grid.position[step + 1, window, :, asset]
        assert found == pytest.approx(min(max(reached, ends.min().item()), ends.max().item()), abs=1e-9)


def test_an_account_that_has_lost_earns_what_its_drawdown_leaves(market: Markets) -> None:
    whole, trading = market(assets=1), TradingParameters(max_drawdown=0.3, **FREE)  # type: ignore[arg-type]
    windows = windows_of(whole, trading=trading)
    grid, _ = grid_of(windows, trading)
    for window, replica in np.ndindex(3, 3):
        left = grid.account[0, window, replica, 0, 3].item()
        lost = 0.3 - left * 0.225 if left < 1.0 else 0.0
        ledger = walked(whole, 0, int(windows.rows[window, 0]), 0.0, [2], trading, lost)
        assert ledger.fills.position[0, 0, 0] == pytest.approx(
            left * float((whole.open / whole.close.roll(1, 0))[windows.rows[window, 1], 0]), rel=1e-9
        )
        reward = asset_rewards(ledger, windows.unit[0, window].numpy())[0, 0, 0]
        flat = grid.position[0, window, :, 0].abs().argmin().item()
        if left == grid.account[0, window, flat, 0, 3].item():
            assert grid.rewards[0, window, flat, 0, 2].item() == pytest.approx(reward, rel=1e-9)


def profit_on_grid(grid: PositionGrid, windows: Windows, actions: np.ndarray) -> torch.Tensor:
    """Profit ``[W, P]`` of taking actions ``[S]`` from each position, sum of fractions of equity; for one asset."""
    value = torch.zeros_like(grid.position[0])
    for step in range(len(actions) - 1, -1, -1):
        action = int(actions[step])
        earned = grid.rewards[step, ..., action] * windows.unit[step]
        value = earned + grid.following(value, step)[..., action]
    return value[..., 0]


def compare(
    market: MarketTensors, trading: TradingParameters, actions: list[int], start: int = 10
) -> tuple[float, float]:
    """Profit of an account from flat on the grid, and outside of it."""
    windows = cut_windows(market, torch.tensor([start]), len(actions), CONTEXT, trading)
    grid, _ = grid_of(windows, trading)
    flat = int(grid.position[0, 0, :, 0].abs().argmin())
    ledger = walked(market, 0, start, 0.0, actions, trading)
    real = (ledger.total.equity / ledger.total.equity_before - 1.0).sum()
    return profit_on_grid(grid, windows, np.array(actions))[0, flat].item(), float(real)


LONG_OR_FLAT: dict[str, Any] = {"levels": [0.0, 1.0], **FREE}


@pytest.mark.parametrize(
    ("changes", "halted", "delisted"),
    [
        ({}, [], None),
        ({}, [13, 14, 18], None),  # nothing can be traded: the position stays
        ({"calendar": "24/7", "orders": {"flat_at_close": True}}, [], None),
        ({"calendar": "24/7", "masks": {"overnight": False}}, [], None),
        ({"delisting_return": -0.3}, list(range(20, 40)), 20),
    ],
    ids=["plain", "halts", "flat at close", "overnight", "delisting"],
)
@pytest.mark.parametrize("seed", range(4))
def test_an_account_earns_the_same_on_the_grid_and_outside_of_it(
    market: Markets, changes: dict[str, Any], halted: list[int], delisted: int | None, seed: int
) -> None:
    """All its positions are on the grid: without costs and gaps a full position stays one."""
    whole = with_sessions(market(assets=1, seed=seed), 5)
    whole = whole._replace(open=torch.cat([whole.close[:1], whole.close[:-1]]))
    whole.tradable[halted] = False
    if delisted is not None:
        ended = torch.zeros(40, 1, dtype=torch.bool)
        ended[delisted] = True
        whole = whole._replace(delisted=ended)
    actions = (np.random.default_rng(seed).random(16) < 0.6).astype(int).tolist()
    actions[9] = 1
    trading = TradingParameters(**(LONG_OR_FLAT | changes))
    found, real = compare(whole, trading, actions)
    assert abs(real) > 1e-4
    assert found == pytest.approx(real, rel=1e-6)


def test_a_position_that_is_built_in_parts_earns_what_was_filled(market: Markets) -> None:
    """Three tenths of the account a bar; levels stand a quarter apart, and profit is nearly linear in between."""
    whole = market(assets=1)._replace(volume=torch.full((40, 1), 3e4 / 100.0 * 100.0, dtype=DOUBLE))
    trading = TradingParameters(
        levels=[0.0, 0.25, 0.5, 0.75, 1.0],
        orders={"participation": 0.1},
        initial_cash=1e6,
        **FREE,  # type: ignore[arg-type]
    )
    found, real = compare(whole, trading, [4] * 6)
    _, at_once = compare(whole._replace(volume=None), trading, [4] * 6)
    assert abs(at_once / real - 1.0) > 0.2
    assert found == pytest.approx(real, rel=0.03)


def test_a_position_whose_cap_shrinks_pays_for_its_reduction(market: Markets) -> None:
    """Prices stand still: all that is earned is costs, 30 bps of what is traded."""
    whole = market(assets=1)
    still = torch.full_like(whole.close, 100.0)
    volatility = torch.where(torch.arange(40) < 14, 0.01, 0.04)[:, None].to(DOUBLE)
    whole = whole._replace(close=still, open=still, volatility=volatility)
    costs = {"commission_bps": 20.0, "half_spread_bps": 10.0}
    trading = TradingParameters(levels=[0.0, 1.0], costs=costs, masks={"target_volatility": 0.01})  # type: ignore[arg-type]
    found, real = compare(whole, trading, [1] * 8)
    assert real == pytest.approx(-30e-4 * (1.0 + 0.75), rel=1e-2)  # buys all, and sells three quarters of it
    assert found == pytest.approx(real, rel=1e-2)  # on the grid equity does not compound


def test_staying_at_a_level_trades_nothing(market: Markets) -> None:
    whole = market(assets=1)
    trading = TradingParameters(levels=[-1.0, 0.0, 1.0])
    windows = windows_of(whole, trading=trading)
    grid, level = grid_of(windows, trading)
    for window, replica in np.ndindex(3, 3):
        own = int(level[window, replica, 0])
        move = whole.close[windows.rows[window, 1:], 0] / whole.close[windows.rows[window, :-1], 0] - 1.0
        expected = (own - 1) * move / windows.unit[:, window, 0, 0]  # no costs
        torch.testing.assert_close(grid.rewards[:, window, replica, 0, own], expected)


@pytest.mark.parametrize("orders", [{"stop_loss": 0.05}, {"take_profit": 0.1}])
def test_stops_and_targets_are_refused_where_positions_have_no_entry_price(orders: dict[str, float]) -> None:
    trading = TradingParameters(orders=orders)  # type: ignore[arg-type]
    (name, value), network = next(iter(orders.items())), NetworkParameters()
    with pytest.raises(
        ValueError, match=rf"`trading.orders.{name}` = {value:g}: .* set `training.advantages: sampled`"
    ):
        AgentParameters(network, TrainingParameters(advantages="all_action"), trading)
    AgentParameters(network, TrainingParameters(advantages="sampled"), trading)


def test_an_asset_without_an_allocation_has_one_position_and_no_rewards(market: Markets) -> None:
    named = TradingParameters(allocation={"A": 0.75, "B": 0.0}, masks={"target_volatility": 0.01})  # type: ignore[arg-type]
    windows = windows_of(market(), trading=named)
    grid, _ = grid_of(windows, named)
    assert all(torch.isfinite(part).all() for part in (grid.account, grid.rewards, grid.weight, 1.0 / windows.unit))
    assert not grid.position[..., 1].any()
    assert not grid.rewards[..., 1, :].any()
    assert (grid.legal[..., 1, :] == torch.tensor([False, True, False])).all()
    assert grid.rewards[..., 0, :].any()
