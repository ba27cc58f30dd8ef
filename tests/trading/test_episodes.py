"""Episodes: where they start, when they end, observations at their end, and resets."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sentio_kedro.config import CostParameters, TradingParameters
from sentio_kedro.market.purged_folds import Segment
from sentio_kedro.market.tensors import MarketTensors
from sentio_kedro.trading.accounts import AccountState, Decision, open_accounts
from sentio_kedro.trading.action_masks import decode, legal_actions, level_tensor
from sentio_kedro.trading.episodes import Episodes, Observation, Transition, episode_starts
from sentio_kedro.trading.observations import account_features
from sentio_kedro.trading.position_limits import PositionLimits, position_limits
from sentio_kedro.trading.precompute import make_step_data
from sentio_kedro.trading.simulate import PolicyTrace, simulate

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
        "unfilled": "carry",
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
    generator = torch.Generator().manual_seed(seed)
    return Episodes(
        market() if facts is None else facts, segments, parameters, episode_bars, accounts, generator, replicas
    )


def random_legal(observation: Observation, generator: torch.Generator) -> Tensor:
    weights = observation.legal.flatten(0, 1).double()
    return torch.multinomial(weights, 1, generator=generator).view(observation.legal.shape[:2])


def wander(episodes: Episodes, steps: int, seed: int = 1) -> list[tuple[Observation, Tensor, Transition]]:
    """Play random legal actions."""
    generator, observed = torch.Generator().manual_seed(seed), []
    observation = episodes.reset()
    for _ in range(steps):
        action = random_legal(observation, generator)
        transition = episodes.step(action)
        observed.append((observation, action, transition))
        observation = transition.observation
    return observed


class Script:
    """Takes the given actions and records the observations."""

    def __init__(self, actions: Tensor, parameters: TradingParameters) -> None:
        self.actions, self.parameters = actions, parameters

    @property
    def inputs(self) -> PolicyTrace:
        return (self.actions,)

    def decide(
        self, inputs: PolicyTrace, account: AccountState, limits: PositionLimits, legal: Tensor
    ) -> tuple[Decision, PolicyTrace]:
        levels = level_tensor(self.parameters, account.cash)
        return decode(inputs[0], levels), (account_features(account, limits, self.parameters), legal)


@pytest.mark.parametrize("parameters", [PLAIN, STRICT, OVERNIGHT], ids=["plain", "strict", "overnight"])
def test_an_episode_is_a_walk_of_simulate(parameters: TradingParameters) -> None:
    facts = market()
    steps = wander(make(parameters, facts=facts), 60)
    for first in (0, 20, 40):
        part = steps[first : first + 20]
        start = part[0][0].row
        rows = start + torch.arange(21)[:, None]
        step_data = make_step_data(facts, rows, parameters)
        account = open_accounts(
            torch.full((6,), parameters.initial_cash, dtype=torch.float64), 2, parameters.orders.latency_bars
        )
        script = Script(torch.stack([action for _, action, _ in part]), parameters)
        end, (fill, (observed, legal)) = simulate(step_data.part(0, 20), script, account, parameters)
        for index, (observation, _, transition) in enumerate(part):
            assert torch.equal(observation.row, rows[index])
            assert torch.equal(observation.account, observed[index])
            assert torch.equal(observation.legal, legal[index])
            for name in ("equity", "price_pnl", "commission", "spread", "impact", "shares", "financing", "funding"):
                theirs, ours = getattr(fill, name), getattr(transition.fill, name)
                assert (theirs is None) == (ours is None)
                assert theirs is None or torch.equal(theirs[index], ours), name
        assert fill.traded.count_nonzero() > 10  # of 240
        assert not legal.all()
        limits = position_limits(end, step_data.step(20), parameters)
        final = part[-1][2].final_observation
        assert torch.equal(final.account, account_features(end, limits, parameters))
        assert torch.equal(final.legal, legal_actions(end, limits, step_data.step(20), parameters))


def test_the_state_that_ends_an_episode_is_observed_before_the_reset() -> None:
    steps = wander(make(PLAIN), 20)
    *_, (_, _, last) = steps
    assert last.truncated.all()
    assert torch.equal(last.final_observation.row, steps[0][0].row + 20)
    assert (last.final_observation.account[..., 0] != 0.0).any()  # positions are still held
    assert (last.observation.account[..., :3] == 0.0).all()  # the new accounts are flat
    assert (last.observation.row != last.final_observation.row).any()
    before = steps[-2][2]
    assert not before.truncated.any()
    assert all(torch.equal(a, b) for a, b in zip(before.observation, before.final_observation, strict=True))


@pytest.mark.parametrize("parameters", [PLAIN, STRICT], ids=["plain", "strict"])
def test_nothing_of_the_past_survives_a_reset(parameters: TradingParameters) -> None:
    facts = market(sigma=0.03)
    episodes = make(parameters, facts=facts)
    wander(episodes, 20)
    begun, rows = episodes.state, episodes.state.row
    cash, latency = torch.full((6,), parameters.initial_cash, dtype=torch.float64), parameters.orders.latency_bars
    fresh = open_accounts(cash, 2, latency)
    for name, ours, theirs in zip(AccountState._fields, begun.account, fresh, strict=True):
        assert torch.equal(ours, theirs), name
    step_data = make_step_data(facts, rows[None], parameters).step(0)
    limits = position_limits(fresh, step_data, parameters)
    for name in set(PositionLimits._fields) - {"caps"}:
        ours, theirs = getattr(begun.limits, name), getattr(limits, name)
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs.expand_as(ours)), name
    assert begun.remaining.tolist() == [20] * 6


def test_what_follows_a_reset_depends_on_its_start_alone() -> None:
    one_start = (Segment(30, 51),)
    calm, wild = (make(segments=one_start) for _ in range(2))
    first, second = wander(calm, 40, seed=1), wander(wild, 20, seed=2)
    assert not torch.equal(first[19][2].fill.equity, second[19][2].fill.equity)  # the pasts differ
    for index in range(20, 40):
        transition = wild.step(first[index][1])
        expected = first[index][2]
        assert torch.equal(transition.reward, expected.reward)
        for ours, theirs in zip(transition.final_observation, expected.final_observation, strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("parameters", [PLAIN, STRICT], ids=["plain", "strict"])
def test_rewards_of_an_episode_add_up_to_the_log_of_what_became_of_its_money(parameters: TradingParameters) -> None:
    steps = wander(make(parameters, facts=market(sigma=0.03)), 40)
    for first in (0, 20):
        total = sum(transition.reward for _, _, transition in steps[first : first + 20])
        ratio = steps[first + 19][2].fill.equity / parameters.initial_cash
        assert torch.allclose(total, ratio.log(), rtol=0.0, atol=1e-12)
        assert (total != 0.0).any()


@pytest.mark.parametrize("crash", [0.0, 60.0])
def test_termination_and_truncation_exclude_each_other(crash: float) -> None:
    price = torch.full((BARS, 1), 100.0, dtype=torch.float64)
    price[40:] += 2.0 * crash  # a short position of the whole equity is lost
    facts = market(assets=1)._replace(
        close=price, open=price, high=None, low=None, split=None, dividend=None, tradable=price > 0, present=price > 0
    )
    episodes = make(TradingParameters(preset="none"), 10, 3, (Segment(30, 41),), facts)
    observation = episodes.reset()
    assert observation.row.tolist() == [30] * 3
    action = torch.tensor([[1], [2], [3]])  # short, flat, long
    total = torch.zeros(3, dtype=torch.float64)
    for _ in range(9):
        transition = episodes.step(action)
        total += transition.reward
        assert not (transition.terminated | transition.truncated).any()
    transition = episodes.step(action)
    total += transition.reward
    ruined = crash > 0.0
    assert transition.terminated.tolist() == [ruined, False, False]
    assert transition.truncated.tolist() == [not ruined, True, True]
    growth = torch.tensor([1e-3 if ruined else 1.0, 1.0, 2.2 if ruined else 1.0], dtype=torch.float64)
    assert total.tolist() == pytest.approx(growth.log().tolist(), abs=1e-12)
    assert transition.final_observation.legal[0, 0].tolist() == ([True, False, False, False] if ruined else [True] * 4)
    assert transition.observation.row.tolist() == [30] * 3
    assert episodes.state.account.alive.all()


def test_only_the_account_that_ends_early_starts_anew() -> None:
    price = torch.full((BARS, 1), 100.0, dtype=torch.float64)
    price[35:] = 250.0
    facts = market(assets=1)._replace(
        close=price, open=price, high=None, low=None, split=None, dividend=None, tradable=price > 0, present=price > 0
    )
    episodes = make(TradingParameters(preset="none"), 10, 2, (Segment(30, 41),), facts)
    episodes.reset()
    for _ in range(5):
        transition = episodes.step(torch.tensor([[1], [3]]))
    assert transition.terminated.tolist() == [True, False]
    assert episodes.state.row.tolist() == [30, 35]
    assert episodes.state.remaining.tolist() == [10, 5]
    assert episodes.state.account.equity.tolist() == pytest.approx([1e6, 2.5e6])


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
        rows = torch.stack(
            [observation.row for observation, _, _ in steps[first : first + 12]]
            + [steps[first + 11][2].final_observation.row]
        )
        for path in rows.T.tolist():
            assert any(set(path) <= part for part in allowed)
        groups = rows.view(13, -1, replicas)
        assert (groups == groups[..., :1]).all()


def test_the_same_generator_gives_the_same_episodes() -> None:
    first, second, other = (wander(make(seed=seed), 45) for seed in (3, 3, 4))
    assert all(torch.equal(a[2].reward, b[2].reward) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a[0].row, b[0].row) for a, b in zip(first, other, strict=True))


def test_features_are_those_of_the_observed_rows() -> None:
    facts = market()
    episodes = make(facts=facts)
    observation = episodes.reset()
    assert torch.equal(episodes.features(observation)[2], facts.features[observation.row[2]])


def test_what_cannot_be_played_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of `replicas`, were 20, 6 and 4"):
        make(replicas=4)
    with pytest.raises(ValueError, match="below the 20 rows"):
        make(segments=(Segment(0, 20), Segment(50, 60)))
    with pytest.raises(RuntimeError, match="reset"):
        make().step(torch.zeros(6, 2, dtype=torch.int64))
