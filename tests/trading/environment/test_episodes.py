"""Episodes: where they start, when they end, observations at their end, and resets."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sentio_kedro.config import CostParameters, TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import open_accounts, terms_of
from sentio_kedro.trading.environment.episodes import Episodes, Transition, episode_starts
from sentio_kedro.trading.environment.play import Observation
from sentio_kedro.trading.facts import market_facts
from sentio_kedro.trading.records import FILL, Accounts, Floats, Integers
from sentio_kedro.trading.simulate import make_scratch, simulate
from sentio_kedro.trading.step.policies import TARGETS, make_policies
from sentio_kedro.trading.step.walk import Ledger, observe

BARS, SESSION = 200, 13
PLAIN = TradingParameters(levels=[-1.0, -0.5, 0.0, 0.5, 1.0], costs=CostParameters(commission_bps=10))
STRICT = TradingParameters(
    preset="realistic",
    initial_cash=20_000.0,
    var_limit=0.005,
    levels=[-1.0, -0.5, 0.0, 0.5, 1.0],
    calendar="XNYS",
    costs={"min_commission": 1.0, "half_spread": "bars"},
    orders={
        "latency_bars": 1,
        "lot_size": 1.0,
        "stop_loss": 0.02,
        "take_profit": 0.03,
        "flat_at_close": True,
    },
    masks={
        "first_minutes": 30.0,
        "overnight": False,
        "trades_per_day": 6,
        "pattern_day_trader": True,
        "min_holding_bars": 2,
        "no_short": ["B"],
    },
)

DELAYED = replace(PLAIN, max_drawdown=0.5, orders={"latency_bars": 2})  # leaves all that an account may remember
OVERNIGHT = replace(STRICT, masks=replace(STRICT.masks, overnight=True))


def market(seed: int = 0, sigma: float = 0.01, assets: int = 2) -> MarketTensors:
    """Random walk with every field of a market."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    returns = (uniform(BARS, assets) - 0.5) * sigma * 12**0.5
    close = 50.0 * returns.cumsum(0).exp()
    open_ = torch.cat([close[:1], close[:-1]]) * (1.0 + 0.2 * sigma * (uniform(BARS, assets) - 0.5))
    present = uniform(BARS, assets) > 0.03
    bar, volume = torch.arange(BARS) % SESSION, 1e3 * (0.2 + uniform(BARS, assets))
    return MarketTensors(
        features=uniform(BARS, assets, 3),
        open=open_,
        close=close,
        tradable=present & (uniform(BARS, assets) > 0.02),
        volatility=torch.full((BARS, assets), sigma, dtype=torch.float64),
        posterior=torch.softmax(3.0 * uniform(BARS, 3), -1),
        high=torch.maximum(open_, close) * 1.004,
        low=torch.minimum(open_, close) * 0.996,
        volume=volume,
        present=present,
        returns=returns,
        daily_volatility=sigma * SESSION**0.5 * (0.5 + uniform(BARS, assets)),
        daily_volume=volume * SESSION,
        elapsed=torch.where(bar == 0, 0.75, 1.0 / 48.0).double(),
        session=torch.arange(BARS) // SESSION,
        minutes_since_open=30.0 * (bar + 1).double(),
        minutes_to_close=30.0 * (SESSION - 1 - bar).double(),
        spread=2e-4 * uniform(BARS, assets),
        dividend=torch.where(uniform(BARS, assets) > 0.98, 0.2, 0.0).double(),
        split=torch.where(uniform(BARS, assets) > 0.99, 2.0, 1.0).double(),
        funding=1e-4 * (uniform(BARS, assets) - 0.5),
        shortable=torch.arange(assets) == 0,
    )


def make(
    parameters: TradingParameters = STRICT,
    episode_bars: int = 20,
    accounts: int = 6,
    segments: tuple[Segment, ...] = (Segment(20, 90), Segment(110, BARS)),
    facts: MarketTensors | None = None,
    replicas: int = 1,
    seed: int = 0,
) -> Episodes:
    generator = np.random.default_rng(seed)
    return Episodes(
        market() if facts is None else facts, segments, parameters, episode_bars, accounts, generator, replicas
    )


def random_legal(observation: Observation, generator: np.random.Generator) -> Integers:
    return np.where(observation.legal, generator.random(observation.legal.shape), -1.0).argmax(-1)


def wander(episodes: Episodes, steps: int, seed: int = 1) -> list[tuple[Observation, Integers, Transition]]:
    """Play random legal actions."""
    generator, observed = np.random.default_rng(seed), []
    observation = episodes.reset()
    for _ in range(steps):
        actions = random_legal(observation, generator)
        transition = episodes.step(actions)
        observed.append((observation, actions, transition))
        observation = transition.observation
    return observed


def walked(
    facts: MarketTensors, parameters: TradingParameters, start: Integers, actions: Integers
) -> tuple[Ledger, Accounts]:
    """Ledger and final accounts of ``simulate`` by ``actions`` ``[S, N, A]`` from the rows ``start`` ``[N]``."""
    steps, size, assets = actions.shape
    terms, accounts = terms_of(parameters, assets), open_accounts(size, assets, parameters)
    rows = start[:, None] + np.arange(steps)
    targets = np.full((facts.bars, size, assets), np.nan)
    targets[rows.T, np.arange(size)] = terms.levels[actions] * terms.allocation
    policies = make_policies(np.full(size, TARGETS), assets, len(terms.levels), source=np.arange(size), targets=targets)
    ledger = simulate(
        market_facts(facts, 0, facts.bars, parameters), accounts, policies, terms, rows, np.arange(size), trace=True
    )
    return ledger, accounts


def observed(
    facts: MarketTensors, parameters: TradingParameters, rows: Integers, accounts: Accounts
) -> tuple[Floats, np.ndarray]:
    """Account features and legal levels of accounts at their rows."""
    world, terms = market_facts(facts, 0, facts.bars, parameters), terms_of(parameters, facts.assets)
    scratch = make_scratch(accounts, len(terms.levels))
    for n, row in enumerate(rows):
        observe(n, row, 0, world, accounts, terms, scratch)
    return scratch.features, scratch.legal


@pytest.mark.parametrize("parameters", [PLAIN, STRICT, OVERNIGHT], ids=["plain", "strict", "overnight"])
def test_an_episode_is_a_walk_of_simulate(parameters: TradingParameters) -> None:
    facts = market()
    steps = wander(make(parameters, facts=facts), 60)
    for first in (0, 20, 40):
        part = steps[first : first + 20]
        start = part[0][0].row
        ledger, end = walked(facts, parameters, start, np.stack([actions for _, actions, _ in part]))
        for index, (observation, _, transition) in enumerate(part):
            np.testing.assert_array_equal(observation.row, start + index)
            np.testing.assert_array_equal(observation.account, ledger.features[index])
            np.testing.assert_array_equal(observation.legal, ledger.legal[index])
            np.testing.assert_array_equal(transition.total, ledger.total[index])
            for name in FILL.names or ():
                np.testing.assert_array_equal(transition.fills[name], ledger.fills[name][index], name)
        assert np.count_nonzero(ledger.fills.traded) > 10  # of 240
        assert not ledger.legal.all()
        final = part[-1][2].final_observation
        features, legal = observed(facts, parameters, start + 20, end)
        np.testing.assert_array_equal(final.account, features)
        np.testing.assert_array_equal(final.legal, legal)


def test_the_state_that_ends_an_episode_is_observed_before_the_reset() -> None:
    steps = wander(make(PLAIN), 20)
    *_, (_, _, last) = steps
    assert last.truncated.all()
    np.testing.assert_array_equal(last.final_observation.row, steps[0][0].row + 20)
    assert (last.final_observation.account[..., 0] != 0.0).any()  # positions are still held
    assert (last.observation.account[..., :3] == 0.0).all()  # the new accounts are flat
    assert (last.observation.row != last.final_observation.row).any()
    before = steps[-2][2]
    assert not before.truncated.any()
    assert all(np.array_equal(a, b) for a, b in zip(before.observation, before.final_observation, strict=True))


@pytest.mark.parametrize("parameters", [DELAYED, STRICT], ids=["delayed", "strict"])
def test_nothing_of_the_past_survives_a_reset(parameters: TradingParameters) -> None:
    facts = market(sigma=0.03)
    episodes, fresh = make(parameters, facts=facts), open_accounts(6, 2, parameters)
    steps = wander(episodes, 19)
    for name, ours, theirs in zip(Accounts._fields, episodes.state.accounts, fresh, strict=True):
        assert parameters is STRICT or (ours != theirs).any(), name
    last = episodes.step(steps[-1][1])
    begun, places, _ = episodes.state
    for name, ours, theirs in zip(Accounts._fields, begun, fresh, strict=True):
        np.testing.assert_array_equal(ours, theirs, name)
    features, legal = observed(facts, parameters, places.row, fresh)
    np.testing.assert_array_equal(last.observation.account, features)
    np.testing.assert_array_equal(last.observation.legal, legal)
    assert places.remaining.tolist() == [20] * 6


def test_what_follows_a_reset_depends_on_its_start_alone() -> None:
    one_start = (Segment(30, 51),)
    calm, wild = (make(segments=one_start) for _ in range(2))
    first, second = wander(calm, 40, seed=1), wander(wild, 20, seed=2)
    assert not np.array_equal(first[19][2].total.equity, second[19][2].total.equity)  # the pasts differ
    for index in range(20, 40):
        transition = wild.step(first[index][1])
        expected = first[index][2]
        np.testing.assert_array_equal(transition.reward, expected.reward)
        for ours, theirs in zip(transition.final_observation, expected.final_observation, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("parameters", [PLAIN, STRICT], ids=["plain", "strict"])
def test_rewards_of_an_episode_add_up_to_the_log_of_what_became_of_its_money(parameters: TradingParameters) -> None:
    steps = wander(make(parameters, facts=market(sigma=0.03)), 40)
    for first in (0, 20):
        total = np.sum([transition.reward for _, _, transition in steps[first : first + 20]], axis=0)
        ratio = steps[first + 19][2].total.equity / parameters.initial_cash
        np.testing.assert_allclose(total, np.log(ratio), rtol=0.0, atol=1e-12)
        assert (total != 0.0).any()


def priced(price: Tensor) -> MarketTensors:
    """One asset that trades at ``price`` ``[T, 1]`` all day."""
    return market(assets=1)._replace(
        close=price, open=price, high=None, low=None, split=None, dividend=None, tradable=price > 0, present=price > 0
    )


@pytest.mark.parametrize("crash", [0.0, 60.0])
def test_termination_and_truncation_exclude_each_other(crash: float) -> None:
    price = torch.full((BARS, 1), 100.0, dtype=torch.float64)
    price[40:] += 2.0 * crash  # a short position of the whole equity is lost
    episodes = make(TradingParameters(preset="none"), 10, 3, (Segment(30, 41),), priced(price))
    observation = episodes.reset()
    assert observation.row.tolist() == [30] * 3
    actions = np.array([[0], [1], [2]])  # short, flat, long
    total = np.zeros(3)
    for _ in range(9):
        transition = episodes.step(actions)
        total += transition.reward
        assert not (transition.terminated | transition.truncated).any()
    transition = episodes.step(actions)
    total += transition.reward
    ruined = crash > 0.0
    assert transition.terminated.tolist() == [ruined, False, False]
    assert transition.truncated.tolist() == [not ruined, True, True]
    growth = np.array([1e-3 if ruined else 1.0, 1.0, 2.2 if ruined else 1.0])
    assert total.tolist() == pytest.approx(np.log(growth).tolist(), abs=1e-12)
    assert transition.final_observation.legal[0, 0].tolist() == ([False, True, False] if ruined else [True] * 3)
    assert transition.observation.row.tolist() == [30] * 3
    assert episodes.state.accounts.account.alive.all()


def test_only_the_account_that_ends_early_starts_anew() -> None:
    price = torch.full((BARS, 1), 100.0, dtype=torch.float64)
    price[35:] = 250.0
    episodes = make(TradingParameters(preset="none"), 10, 2, (Segment(30, 41),), priced(price))
    episodes.reset()
    for _ in range(5):
        transition = episodes.step(np.array([[0], [2]]))
    assert transition.terminated.tolist() == [True, False]
    accounts, places, _ = episodes.state
    assert places.row.tolist() == [30, 35]
    assert places.remaining.tolist() == [10, 5]
    assert accounts.account.equity.tolist() == pytest.approx([1e6, 2.5e6])


def test_a_thread_plays_what_the_main_thread_plays() -> None:
    played: list[list[tuple[Observation, Integers, Transition]]] = []
    thread = threading.Thread(target=lambda: played.append(wander(make(), 45)))
    thread.start()
    thread.join()
    for (*_, ours), (*_, theirs) in zip(wander(make(), 45), played[0], strict=True):
        np.testing.assert_array_equal(ours.reward, theirs.reward)
        np.testing.assert_array_equal(ours.observation.legal, theirs.observation.legal)


def test_no_later_step_changes_what_one_has_returned() -> None:
    episodes = make()
    steps = wander(episodes, 3)
    arrays = [array for _, _, transition in steps for array in (*transition.observation, *transition[2:])]
    kept = [array.tobytes() for array in arrays]
    for _ in range(25):
        episodes.step(steps[0][1])
    episodes.reset()
    assert kept == [array.tobytes() for array in arrays]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_row_of_every_episode_lies_in_one_segment(data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, BARS), min_size=2, max_size=8), label="cuts"))
    segments = [Segment(*pair) for pair in zip(cuts[::2], cuts[1::2], strict=False)]
    longest = max(part.stop - part.start for part in segments)
    episode_bars = data.draw(st.integers(1, 40), label="episode_bars")
    inside = [set(range(part.start, part.stop)) for part in segments]
    if longest <= episode_bars:
        with pytest.raises(ValueError, match="episode_bars"):
            episode_starts(segments, episode_bars, BARS)
        return
    starts = episode_starts(segments, episode_bars, BARS).tolist()
    expected = [row for row in range(BARS) if any(set(range(row, row + episode_bars + 1)) <= part for part in inside)]
    assert starts == expected


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), replicas=st.sampled_from([1, 2, 4]))
def test_accounts_stay_in_the_segments_and_replicas_on_one_path(seed: int, replicas: int) -> None:
    segments = (Segment(5, 30), Segment(50, 63), Segment(100, 140))
    allowed = [set(range(part.start, part.stop)) for part in segments]
    episodes = make(PLAIN, 12, 8, segments, replicas=replicas, seed=seed)
    steps = wander(episodes, 36, seed=seed % 1000)
    for first in (0, 12, 24):
        rows = np.stack(
            [observation.row for observation, _, _ in steps[first : first + 12]]
            + [steps[first + 11][2].final_observation.row]
        )
        for path in rows.T.tolist():
            assert any(set(path) <= part for part in allowed)
        groups = rows.reshape(13, -1, replicas)
        assert (groups == groups[..., :1]).all()


def test_the_same_generator_gives_the_same_episodes() -> None:
    first, second, other = (wander(make(seed=seed), 45) for seed in (3, 3, 4))
    assert all(np.array_equal(a[2].reward, b[2].reward) for a, b in zip(first, second, strict=True))
    assert not all(np.array_equal(a[0].row, b[0].row) for a, b in zip(first, other, strict=True))


def test_features_are_those_of_the_observed_rows() -> None:
    facts = market()
    episodes = make(facts=facts)
    observation = episodes.reset()
    np.testing.assert_array_equal(episodes.features(observation)[2], facts.features[observation.row[2]])


def test_what_cannot_be_played_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of `replicas`, were 20, 6 and 4"):
        make(replicas=4)
    with pytest.raises(ValueError, match="below the 20 rows"):
        make(segments=(Segment(0, 20), Segment(50, 60)))
    with pytest.raises(RuntimeError, match="reset"):
        make().step(np.zeros((6, 2), np.int64))
    episodes = make()
    episodes.reset()
    with pytest.raises(ValueError, match=r"`actions` must have the shape \(6, 2\).*was \(6,\)"):
        episodes.step(np.zeros(6, np.int64))
    for level in (-1, 5):
        with pytest.raises(ValueError, match=r"`actions` must be from 0 to 4, indices of the 5 levels"):
            episodes.step(np.full((6, 2), level))
