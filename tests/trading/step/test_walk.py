"""Properties of walks under every option: limits, ledger, threads, chunks, one compiled signature."""

from __future__ import annotations

import threading
from itertools import product
from typing import Any

import numba
import numpy as np
import pytest
from tests.trading.cases import ACCOUNTS, STEPS, Case, random_case, uniform_heads
from tests.trading.exact import account, bar, bars, equity, settle, shares, trading, walk

from sentio_kedro.config import TradingParameters
from sentio_kedro.config.presets import PRESETS
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.records import Accounts
from sentio_kedro.trading.simulate import make_ledger, make_scratch, simulate
from sentio_kedro.trading.step.policies import SAMPLED, TARGETS, make_policies, with_heads
from sentio_kedro.trading.step.walk import Ledger, Route, walk_parallel, walk_serial

SEEDS = range(1000, 1024)


def go(case: Case, accounts: Accounts, **options: Any) -> Ledger:
    return simulate(case.market, accounts, case.policies, case.terms, models=case.models, trace=True, **options)


def thin(case: Case, seed: int) -> Case:
    """The case with bars that trade a hundredth of a volume of some positions."""
    rng = np.random.default_rng(seed)
    facts = case.market.facts
    facts.max_shares = 0.01 * rng.uniform(0.0, 40.0, facts.shape) * 10_000.0 / facts.close
    return case


def towards_flat(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.where(position * target > 0.0, np.sign(position) * np.minimum(np.abs(position), np.abs(target)), 0.0)


def identical(first: Any, second: Any) -> bool:
    """Bit by bit, but for the padding of records."""

    def bits(array: np.ndarray) -> list[bytes]:
        return [array[name].tobytes() for name in array.dtype.names] if array.dtype.names else [array.tobytes()]

    return all(bits(a) == bits(b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("seed", SEEDS)
def test_orders_at_work_never_carry_an_account_beyond_its_joint_limits(seed: int) -> None:
    case = thin(random_case(seed), seed)
    rules, facts, clock = case.terms.rules[0], case.market.facts, case.market.clock
    case.terms.charges.lot_size = 0.0
    ledger = go(case, case.accounts.copy())
    fills, total = ledger.fills, ledger.total
    before = np.concatenate([np.zeros_like(fills.shares[:1]), fills.shares[:-1]]) * facts.split[:, None]
    exposure = (facts.close / facts.split)[:, None] / np.maximum(total.equity_before, 1e-9)[..., None]
    held, after = before * exposure, fills.filled_shares * exposure  # [S, N, A] at the decision's prices
    kept = towards_flat(held, after)
    free = ledger.alive & ~total.called & (total.shortfall == 0.0) & (total.equity > 0.0)
    guarded = case.accounts.account.guarded[None] & free

    def within(measure: Any, limit: Any, where: np.ndarray, slack: float = 1e-9) -> None:
        most = np.maximum(limit, measure(kept)) * (1.0 + 1e-9) + slack
        assert (measure(after) <= most)[where].all()

    def value_at_risk(position: np.ndarray) -> np.ndarray:
        risk, c = position * facts.value_at_risk[:, None], clock.correlation[:, None]
        if rules.var_is_sum:
            return np.abs(risk).sum(-1)
        return np.sqrt(np.maximum((1.0 - c) * (risk**2).sum(-1) + c * risk.sum(-1) ** 2, 0.0))

    within(lambda x: np.abs(x).sum(-1), rules.gross_limit * total.headroom, free)
    within(lambda x: np.abs(x.sum(-1)), rules.net_limit, guarded, slack=2e-6)
    within(value_at_risk, rules.var_limit, guarded, slack=1e-8)
    assert (np.abs(fills.traded)[free] > 0.0).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_delayed_and_partly_filled_orders_never_turn_or_enlarge_a_position_beyond_what_was_decided(seed: int) -> None:
    case = thin(random_case(seed), seed)
    rules, facts = case.terms.rules, case.market.facts
    for name in ("close", "open", "high", "low", "next_close"):
        facts[name] = 20.0
    facts.split, facts.dividend, facts.funding, facts.half_spread, facts.impact = 1.0, 0.0, 0.0, 0.0, 0.0
    for name in ("commission", "commission_per_share", "min_commission", "borrow_rate"):
        case.terms.charges[name] = 0.0
    rules.financing_rate = 0.0
    rules.interest_rate, rules.delisting_return, rules.max_position, rules.rebalance_band = 0.0, 0.0, 0.3, 0.0
    case.policies.kind[:] = TARGETS
    signs = np.where(facts.shortable[:, None], np.where(np.arange(3) == 0, 0.0, -1.0)[None, :, None], 0.0)
    case.policies.targets[:] = np.maximum(case.policies.targets, np.where(signs == 0.0, 0.0, -9.0))
    ledger = go(case, case.accounts.copy())
    position = ledger.fills.filled_shares * 20.0 / ledger.total.equity_before[..., None]
    assert (np.abs(position) <= 0.3 + 1e-9).all()
    never_short = case.policies.source == 0
    assert (position[:, never_short] >= -1e-9).all()
    assert (np.moveaxis(position, -1, 0)[~facts.shortable[0]] >= -1e-9).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_every_step_of_the_ledger_adds_up_with_every_option_on(seed: int) -> None:
    case = random_case(seed)
    accounts = case.accounts.copy()
    ledger = go(case, accounts)
    fills, total = ledger.fills, ledger.total
    costs = fills.commission + fills.spread + fills.impact + fills.borrow + fills.funding
    change = (fills.price_pnl + fills.dividends - costs).sum(-1) - total.financing + total.shortfall
    size = np.maximum(total.equity_before, total.equity) + np.abs(fills.price_pnl).sum(-1) + fills.traded.sum(-1)
    assert (np.abs(total.equity - total.equity_before - change) <= 1e-9 * size).all()
    assert (total.equity_before[1:] == total.equity[:-1]).all()
    worth = accounts.account.cash + (accounts.holdings.shares * case.market.facts.next_close[-1]).sum(-1)
    assert (np.abs(accounts.account.equity - worth) <= 1e-9 * (size[-1] + 1.0)).all()


@pytest.mark.parametrize("seed", list(SEEDS)[:6])
def test_threads_and_chunks_change_no_bit(seed: int) -> None:
    case = random_case(seed)
    results = []
    before = numba.get_num_threads()
    for run, threads in ((walk_serial, 1), (walk_parallel, 1), (walk_parallel, before)):
        numba.set_num_threads(threads)
        accounts = case.accounts.copy()
        ledger = make_ledger(STEPS, accounts, len(case.terms.levels), fills=True, trace=True, layers=True)
        route = Route(np.arange(STEPS)[None], np.zeros(ACCOUNTS, np.int64), case.models, 0)
        scratch = make_scratch(accounts, len(case.terms.levels), 1)
        run(route, case.market, accounts, case.terms, case.policies, scratch, ledger)
        results.append((*ledger, *accounts))
    numba.set_num_threads(before)
    accounts = case.accounts.copy()
    parts = [
        go(case, accounts, rows=np.arange(start, start + 5)[None], first_step=start, layers=True)
        for start in range(0, STEPS, 5)
    ]
    results.append((*(np.concatenate(part) for part in zip(*parts, strict=True)), *accounts))
    assert all(identical(results[0], other) for other in results[1:])


def test_a_walk_in_another_thread_gives_the_same_numbers() -> None:
    case = random_case(7)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(go(case, case.accounts.copy()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(identical(go(case, case.accounts.copy()), ledger) for ledger in found)
    assert len(found) == 2


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_the_walk_is_compiled_once_for_all_presets_assets_and_levels() -> None:
    grids = ([0.0, 1.0], [-1.0, 0.0, 1.0], [-1.0, -0.5, 0.0, 0.5, 1.0])
    for preset, levels, assets, count in product(PRESETS, grids, (1, 3, 5), (1, 2)):
        setting = TradingParameters(preset=preset, levels=levels)
        market = bar([100.0] * assets, [100.0] * assets, [101.0] * assets)
        noise = np.zeros((1, 1, assets, len(levels)))
        policies = make_policies(np.full(count, SAMPLED), assets, len(levels), noise=noise)
        policies = with_heads(policies, uniform_heads(1, 1, assets, len(levels)))
        simulate(market, open_accounts(count, assets, setting), policies, terms_of(setting, assets))
    assert len(walk_serial.signatures) == 1
    assert len(walk_parallel.signatures) == 1


def test_on_a_path_of_pieces_prices_go_on_from_the_piece_before() -> None:
    market = bars(bar(100.0, 100.0, 110.0), bar(110.0, 110.0, 120.0), bar(50.0, 50.0, 55.0), bar(55.0, 55.0, 44.0))
    trader = account()
    ledger = walk(trader, [1.0, None, None, None], market, trading(), rows=np.array([[0, 2, 3]]))
    assert ledger.total.equity[:, 0] == pytest.approx([1100.0, 1210.0, 968.0])  # +10 %, +10 %, -20 %
    assert shares(trader) == pytest.approx([22.0])  # 10 at 110 are 22 at 50
    assert trader.holdings.entry_price[0, 0] == pytest.approx(100.0 * 50.0 / 110.0)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"targets": np.ones((4, 1, 1))}, "rows of `targets`"),
        ({"source": np.array([1])}, "columns of `targets`"),
        ({"kind": np.array([SAMPLED]), "projected": np.zeros((5, 1, 1, 1, 1))}, "rows of `noise`"),
        ({"first_row": np.array([1])}, "rows of `targets`"),
    ],
)
def test_indices_that_lead_outside_of_an_array_are_refused(changes: dict[str, Any], name: str) -> None:
    market, setting = bars(*[bar()] * 5), trading()
    policies = make_policies(np.array([TARGETS]), 1, 3, targets=np.ones((5, 1, 1)))
    opened, terms = open_accounts(1, 1, setting), terms_of(setting, 1)
    simulate(market, opened.copy(), policies, terms)
    with pytest.raises(ValueError, match=name):
        simulate(market, opened.copy(), policies._replace(**changes), terms)


@pytest.mark.parametrize(("name", "value"), [("latency", 1), ("latency", -1), ("session_slot", 1)])
def test_accounts_whose_places_lie_outside_of_their_arrays_are_refused(name: str, value: int) -> None:
    market, setting = bars(*[bar()] * 5), trading()
    opened = open_accounts(1, 1, setting)
    opened.account[name] = value
    with pytest.raises(ValueError, match=name):
        simulate(
            market, opened, make_policies(np.array([TARGETS]), 1, 3, targets=np.ones((5, 1, 1))), terms_of(setting, 1)
        )


def test_a_jump_to_before_an_assets_first_bar_pays_its_position_out() -> None:
    market = bars(bar(1.0, 1.0, 1.0), bar(1.0, 100.0, 100.0), bar(100.0, 100.0, 110.0), bar(110.0, 110.0, 121.0))
    market.facts.unlisted[:2], market.facts.tradable[:2] = True, False
    trader = account()
    ledger = walk(trader, [None, None, 1.0, None], market, trading(), rows=np.array([[2, 0, 1, 3]]))
    assert ledger.total.equity[:, 0] == pytest.approx([1100.0] * 4)  # the step from 1 to 100 is no gain
    assert shares(trader) == [0.0]
    assert trader.account.cash[0] == pytest.approx(1100.0)


def test_accounts_send_orders_from_their_start_and_close_all_at_their_end() -> None:
    market = bars(*[bar()] * 5)
    policies = make_policies(
        np.array([TARGETS] * 2), 1, 3, starts=np.array([0, 2]), closes=np.array([3, 9]), targets=np.ones((5, 1, 1))
    )
    setting = trading()
    ledger = simulate(market, open_accounts(2, 1, setting), policies, terms_of(setting, 1))
    held = ledger.fills.filled_shares[..., 0] / 10_000.0
    assert held.T.tolist() == [[1.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 1.0]]


def test_a_dead_account_is_never_resurrected() -> None:
    trader = account()
    fill, total = settle(trader, -1.0, bar(100.0, 100.0, 250.0), trading())
    assert (equity(trader), total.shortfall, shares(trader)) == (0.0, 500.0, [0.0])  # the broker's loss
    for level in (1.0, -1.0):
        fill, total = settle(trader, level, bar(250.0, 250.0, 10.0), trading())
        assert (fill.traded, total.equity, trader.account.alive[0]) == (0.0, 0.0, False)
