"""Small agents with random weights, and recorded bars: halts, a split, dividends and funding among them."""

from __future__ import annotations

from dataclasses import replace

import exchange_calendars
import numpy as np
import pytest
import torch

from sentio_kedro.agent.bundle import AgentBundle, AgentSpec
from sentio_kedro.agent.network.encoder import NetworkShape, receptive_field
from sentio_kedro.agent.network.network import build_network
from sentio_kedro.config import FeatureColumn, NetworkParameters, RegimeParameters, TradingParameters
from sentio_kedro.market.indicators import longest_lookback
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.sessions import market_clock
from sentio_kedro.market.regimes import fit_regimes, market_return
from sentio_kedro.market.risk import trading_lookback

SYMBOLS = ("AAA", "BBB", "CCC")
TRAIN, MEMBERS = 900, 2  # bars before the first halt; networks of an agent
BARS = TRAIN + 600
COLUMNS = [
    FeatureColumn(name="return_1", indicator="log_return"),
    FeatureColumn(name="volatility_24", indicator="volatility", bars=24),
    FeatureColumn(name="strength_5", indicator="relative_strength", bars=5),
    FeatureColumn(name="trend_4", indicator="trend_strength", bars=4),
    FeatureColumn(name="histogram_4", indicator="convergence_divergence", bars=4),
    FeatureColumn(name="volume_12", indicator="volume_surprise", bars=12),
    FeatureColumn(name="rank_4", indicator="return_rank", bars=4),
    FeatureColumn(name="day", indicator="time_of_day_sine"),
]
NETWORK = NetworkParameters(width=8, heads=2, window=4, convolution=2, hidden=8, quantiles=5)
TRADING = TradingParameters(
    preset="realistic",
    initial_cash=100_000,
    max_drawdown=0.2,
    memory_sessions=2,
    costs={"commission_bps": 0.1, "half_spread_bps": 0.1, "impact": 0.02},  # type: ignore[arg-type]
    orders={"latency_bars": 1, "participation": 0.2},  # type: ignore[arg-type]
    masks={  # type: ignore[arg-type]
        "position_var": 0.02,
        "target_volatility": 0.008,
        "daily_loss": 0.01,
        "trades_per_day": 12,
        "min_holding_bars": 2,
        "kelly_fraction": 5.0,
        "kelly_bars": 60,
    },
)
REGIMES = RegimeParameters(states=2, memory=64, restarts=1)


def recorded_bars(timestamps: np.ndarray) -> AlignedBars:
    """Prices that go on as they went, calm and wild by turns; after the train rows they halt, split and pay."""
    rng, count = np.random.default_rng(5), len(timestamps)
    scale = np.where(np.arange(count) // 70 % 2, 0.006, 0.002)[:, None]
    noise, market_returns = scale * rng.standard_normal((count, 3)), np.zeros((count, 3))
    for row in range(1, count):
        market_returns[row] = 0.45 * market_returns[row - 1] + noise[row]
    close = 50.0 * np.exp(np.cumsum(market_returns, axis=0))
    opened = np.vstack([close[:1], close[:-1]]) * np.exp(0.2 * scale * rng.standard_normal((count, 3)))
    high = np.maximum(opened, close) * (1.0 + 0.3 * scale * rng.random((count, 3)))
    low = np.minimum(opened, close) / (1.0 + 0.3 * scale * rng.random((count, 3)))
    volume = 2e4 * np.exp(0.5 * rng.standard_normal((count, 3)))
    split, dividend = np.ones((count, 3)), np.zeros((count, 3))
    split[TRAIN + 330, 0], dividend[TRAIN + 300, 1], dividend[TRAIN + 420, 0] = 2.0, 0.8, 0.3
    shares = np.cumprod(split, axis=0)
    prices = (column / shares for column in (opened, high, low, close))
    funding = 1e-5 * rng.standard_normal((count, 3))
    bars = AlignedBars(timestamps, SYMBOLS, *prices, volume * shares, dividend, split, funding=funding)
    missing = np.zeros((count, 3), dtype=bool)
    missing[TRAIN + 290 : TRAIN + 293, 1] = True
    missing[TRAIN + 360 : TRAIN + 385, 0] = True
    missing[TRAIN + 305 : TRAIN + 480, 2] = True  # longer than everything that a decision looks back on
    return bars.without(missing)


def round_the_clock() -> np.ndarray:
    return np.datetime64("2020-01-01T00:30", "ns") + np.arange(BARS) * np.timedelta64(30, "m")


def in_sessions() -> np.ndarray:
    """Ends of half hours of the New York Stock Exchange, half days among them."""
    sessions = exchange_calendars.get_calendar("XNYS", start="2019-06-01", end="2020-03-01")
    half = np.timedelta64(30, "m")
    days = [
        np.arange(opened + half, closed + half, half)
        for opened, closed in zip(
            sessions.opens_nanos.astype("datetime64[ns]"), sessions.closes_nanos.astype("datetime64[ns]"), strict=True
        )
    ]
    return np.concatenate(days)[:BARS]


@pytest.fixture(scope="session", name="bars")
def bars_fixture() -> AlignedBars:
    """Recorded bars round the clock."""
    return recorded_bars(round_the_clock())


@pytest.fixture(scope="session", name="session_bars")
def session_bars_fixture() -> AlignedBars:
    """The same prices in the sessions of an exchange."""
    return recorded_bars(in_sessions())


def random_agent(bars: AlignedBars, seed: int) -> AgentBundle:
    """Two networks whose policies are far from indifferent, and the regimes of the first bars."""
    seen = bars.rows(slice(0, TRAIN))
    regimes = fit_regimes([market_return(seen)], REGIMES, seed=0)
    shape = NetworkShape(len(COLUMNS), len(SYMBOLS), REGIMES.states, len(TRADING.levels))
    weights = []
    for member in range(MEMBERS):
        network = build_network(NETWORK, shape, torch.Generator().manual_seed(MEMBERS * seed + member))
        with torch.no_grad():
            network.head.policy.weight.mul_(300.0)
        weights.append(network.state_dict())
    lookback = trading_lookback(TRADING, market_clock(seen.timestamps, None))
    required = receptive_field(NETWORK) + max(longest_lookback(COLUMNS), REGIMES.memory, lookback)
    spec = AgentSpec(
        fold=3, seed=seed, members=MEMBERS, symbols=list(SYMBOLS), periods_per_year=17520.0, gamma=0.9,
        required_bars=required, train_start="2020-01-01T00:30:00+00:00", train_end="2020-01-19T18:00:00+00:00",
        features=COLUMNS, network=NETWORK, trading=TRADING, regimes=regimes.to_dict(), train_sharpe=0.0,
        validation_sharpe=0.0, hashes={}, bars_per_session=48.0,
    )  # fmt: skip
    return AgentBundle(spec, tuple(weights))


@pytest.fixture(scope="session", name="agents")
def agents_fixture(bars: AlignedBars) -> list[AgentBundle]:
    """Two agents of one fold."""
    return [random_agent(bars, 0), random_agent(bars, 1)]


@pytest.fixture(scope="session", name="agent")
def agent_fixture(agents: list[AgentBundle]) -> AgentBundle:
    """One agent."""
    return agents[0]


@pytest.fixture(scope="session", name="session_agent")
def session_agent_fixture(agent: AgentBundle) -> AgentBundle:
    """The same agent on an exchange, where it must not stay over night."""
    masks = replace(TRADING.masks, overnight=False, first_minutes=30.0)
    trading = replace(TRADING, calendar="XNYS", masks=masks)
    return AgentBundle(replace(agent.spec, trading=trading, bars_per_session=13.0), agent.weights)
