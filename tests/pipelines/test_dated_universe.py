"""A dated universe from bars to backtest: what a symbol does while it is no member changes no byte of anything."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.conftest import synthetic_bars

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.agent.data.resampling import path_levels, relative_bars
from sentio_kedro.agent.data.training_set import TrainingSet, visible_bars
from sentio_kedro.agent.forecasting.inputs.history import forecast_inputs
from sentio_kedro.agent.forecasting.targets import bar_targets
from sentio_kedro.agent.spans import plan_folds
from sentio_kedro.agent.training.population import train_agent
from sentio_kedro.config import (
    AgentParameters,
    BacktestParameters,
    CrossValidationParameters,
    FeatureColumn,
    IngestionParameters,
    NetworkParameters,
    RegimeParameters,
    RobustnessParameters,
    SignalParameters,
    TradingParameters,
    TrainingParameters,
    UniverseParameters,
)
from sentio_kedro.evaluation.backtest.backtest import backtest_folds
from sentio_kedro.evaluation.backtest.baselines.portfolios import trailing_portfolio
from sentio_kedro.evaluation.backtest.baselines.schedules import buy_and_hold, momentum
from sentio_kedro.evaluation.backtest.baselines.supervised import Examples
from sentio_kedro.evaluation.backtest.context import BacktestContext
from sentio_kedro.market.indicators import compute_features, longest_lookback
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars, aligned_to_frame
from sentio_kedro.market.purged_folds import Fold, Segment
from sentio_kedro.market.regimes import RegimeModel, fit_regimes, market_return
from sentio_kedro.serving.accounts import Account
from sentio_kedro.serving.newest import newest_signals
from sentio_kedro.serving.session import DecisionSession
from sentio_kedro.tracking.model import newest_bars

SYMBOLS = ("AAA", "BBB", "CCC", "DDD")
TABLE = """symbol,start,end
AAA,2015-01-01,
BBB,2015-01-01,2016-03-20
CCC,2015-03-01,2016-05-20
DDD,2015-01-01,2016-03-01
"""
BARS, EXIT_BARS, DAY = 520, 3, pd.Timedelta(1, "D")
COLUMNS = [
    FeatureColumn(name="return", indicator="log_return"),
    FeatureColumn(name="volatility", indicator="volatility", bars=5),
    FeatureColumn(name="rank", indicator="return_rank", bars=2),
]
NETWORK = NetworkParameters(width=8, heads=2, window=4, convolution=2, hidden=8, quantiles=5)
TRADING = TradingParameters(
    memory_sessions=5,
    allocation={"AAA": 0.4, "BBB": 0.3, "CCC": 0.3, "DDD": 0.0},  # nobody ever holds DDD
    masks={"kelly_fraction": None, "liquidity": 0.1},
)
TRAINING = TrainingParameters(
    total_steps=256, windows=4, replicas=4, episode_bars=8, members=1, seeds=1, minibatches=2, epochs=1,
    validations=1, block_bars=16, device="cpu",
)  # fmt: skip
REGIMES = RegimeParameters(states=2, memory=16, restarts=1, iterations=5)
BACKTEST = BacktestParameters(
    momentum_bars=10,
    portfolio_bars=20,
    rebalance_days=30,
    baselines=["ridge", "minimum_variance", "regime_rule"],
    robustness=RobustnessParameters(cost_multipliers=None, latency_bars=None, start_shares=None, paths=None),
)


class Nowhere:
    """Neither checkpoints nor progress."""

    def load(self, _: str) -> None:
        return None

    def save(self, *_: Any) -> None: ...

    def update(self, *_: Any) -> None: ...

    def stop(self) -> None: ...


def feed() -> pd.DataFrame:
    """Daily bars that end at 21:00."""
    frame = synthetic_bars(BARS, SYMBOLS)
    return frame.assign(timestamp=frame["timestamp"] + pd.Timedelta(21, "h"))


def spans(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Which bars are of no member and come too late to leave by, and which are those to leave by."""
    table = pd.read_csv(io.StringIO(TABLE), parse_dates=["start", "end"]).set_index("symbol")
    day = frame["timestamp"].dt.tz_localize(None).dt.normalize()
    start, end = (frame["symbol"].map(table[name]) for name in ("start", "end"))
    end = end.fillna(pd.Timestamp("2100-01-01"))
    exits = (day > end) & (day <= end + EXIT_BARS * DAY)
    return (day < start) | ((day > end) & ~exits), exits


def wild(frame: pd.DataFrame, rows: pd.Series) -> pd.DataFrame:
    """Let prices rise a hundred times and on, bar by bar, in the ``rows``."""
    factor = np.where(rows, 100.0 * 1.001 ** np.arange(len(frame)), 1.0)
    return frame.assign(**{name: frame[name] * factor for name in ("open", "high", "low", "close")})


def dated(frame: pd.DataFrame) -> AlignedBars:
    table = pd.read_csv(io.StringIO(TABLE))
    return align_bars(frame, IngestionParameters(universe="dated"), table, UniverseParameters(EXIT_BARS))


@pytest.fixture(scope="module", name="pair")
def pair_fixture() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bars without those that nobody may see, and with them, a hundred times as high: those of DDD's exit too."""
    frame = feed()
    outside, exits = spans(frame)
    return frame[~outside], wild(frame, outside | (exits & (frame["symbol"] == "DDD")))


def run(bars: AlignedBars) -> dict[str, Any]:
    """What the stages from features to backtest make of bars."""
    features = compute_features(bars, COLUMNS)
    scheme = CrossValidationParameters(folds=1, first_test=0.6, lockbox=None)
    plan = plan_folds(bars.timestamps, longest_lookback(COLUMNS), scheme, NETWORK, REGIMES, TRAINING, TRADING)
    (fold,) = plan.folds
    returns = market_return(bars)
    model = fit_regimes([returns[slice(*rows)] for rows in fold.train], REGIMES, seed=0)
    seen, values = visible_bars(bars, features, fold, plan.spans)
    training_set = TrainingSet(fold, seen, values, COLUMNS, model, 365.0, TRADING)
    parameters = AgentParameters(NETWORK, TRAINING, TRADING)
    agent, _, _ = train_agent(training_set, 0, plan.spans, parameters, Nowhere(), Nowhere(), {})
    agent = opinionated(agent)
    frames = backtest_folds(bars, features, plan.folds, {agent.name: agent}, TRADING, BACKTEST, 365.0)
    frames.pop("states")
    return {"features": features, "folds": plan.folds, "regimes": model.to_dict(), "agent": agent, **frames}


def opinionated(agent: AgentBundle) -> AgentBundle:
    """The agent with its opinions, which a training of seconds leaves weak, magnified."""
    loud = [{name: 500.0 * x if name == "head.policy.weight" else x for name, x in of.items()} for of in agent.weights]
    return replace(agent, spec=replace(agent.spec, abstains=False), weights=tuple(loud))


def weights(agent: AgentBundle) -> list[np.ndarray]:
    return [value.numpy() for member in agent.weights for _, value in sorted(member.items())]


def test_what_symbols_do_while_they_are_no_members_changes_nothing(pair: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    tame, seen = (run(dated(frame)) for frame in pair)
    np.testing.assert_array_equal(seen.pop("features"), tame.pop("features"))
    agents = seen.pop("agent"), tame.pop("agent")
    for one, other in zip(*map(weights, agents), strict=True):
        np.testing.assert_array_equal(one, other)
    for name, value in tame.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(seen[name], value, check_exact=True, obj=name)
        else:
            assert seen[name] == value, name
    held = tame["holdings"].set_index(["account", "symbol"])["position"].abs()
    assert (held.xs("DDD", level="symbol") == 0.0).all()
    assert (held.xs("CCC", level="symbol")[["seed_0", "buy_and_hold", "momentum"]] > 0.0).all()


def whole_market(bars: AlignedBars) -> BacktestContext:
    return BacktestContext.of(bars, compute_features(bars, COLUMNS), {}, TRADING)


def supervised(bars: AlignedBars) -> list[np.ndarray]:
    """What supervised baselines learn from: inputs, targets and the examples that count."""
    context = whole_market(bars)
    examples = Examples.of(context.market, torch.ones((len(bars.timestamps), 1)), 0)
    return [np.where(examples.filled & examples.tradable, examples.targets, 0.0), examples.tradable & examples.filled]


def training_facts(bars: AlignedBars) -> list[np.ndarray]:
    """What rewards of training on the history are made of."""
    fold = Fold(0, (Segment(20, BARS - 40),), (), ())
    model = RegimeModel(*(np.array(x) for x in ([0.0], [0.01], [[1.0]], [1.0])), 4)
    training_set = TrainingSet(fold, bars, compute_features(bars, COLUMNS), COLUMNS, model, 365.0, TRADING)
    facts = training_set.facts.facts
    return [facts[name] for name in ("open", "high", "low", "close", "next_close", "reward_unit", "fillable")]


def rule_positions(bars: AlignedBars) -> list[np.ndarray]:
    market, stop = whole_market(bars).market, len(bars.timestamps) - 1
    return [
        momentum(market, bars.timestamps, 50, stop, BACKTEST, TRADING, 365.0),
        buy_and_hold(market, 50, stop, TRADING),
        trailing_portfolio("minimum_variance", market, bars.timestamps, 50, stop, BACKTEST, TRADING),
    ]


def path_parts(bars: AlignedBars) -> list[np.ndarray]:
    relative = relative_bars(bars)
    return [relative.close, relative.volume, path_levels(relative, [Segment(20, BARS - 40)]).price]


def risks(bars: AlignedBars) -> list[np.ndarray]:
    market = whole_market(bars).market
    return [np.asarray(getattr(market, name)) for name in ("daily_volatility", "daily_volume", "returns")]


CONSUMERS: dict[str, Callable[[AlignedBars], list[np.ndarray]]] = {
    "features and ranks": lambda bars: [compute_features(bars, [column]) for column in COLUMNS],
    "market return": lambda bars: [market_return(bars)],
    "risk": risks,
    "supervised baselines": supervised,
    "other baselines": rule_positions,
    "resampled paths": path_parts,
    "training on the history": training_facts,
    "inputs of forecasts": lambda bars: [forecast_inputs(bars).values],
    "targets of forecasts": lambda bars: [bar_targets(bars, np.full(bars.close.shape, 0.01), 0)],
}


@pytest.mark.parametrize("consumer", CONSUMERS.values(), ids=CONSUMERS)
def test_no_consumer_sees_other_bars_and_each_would_show_it(
    pair: tuple[pd.DataFrame, pd.DataFrame], consumer: Callable[[AlignedBars], list[np.ndarray]]
) -> None:
    tame, seen = (consumer(dated(frame)) for frame in pair)
    for one, other in zip(tame, seen, strict=True):
        np.testing.assert_array_equal(one, other)
    ignored = [consumer(align_bars(frame, IngestionParameters())) for frame in pair]
    assert all(not np.array_equal(one, other, equal_nan=True) for one, other in zip(*ignored, strict=True))


def test_where_only_others_earn_nobody_earns() -> None:
    frame = feed()
    outside, _ = spans(frame)
    first = frame.groupby("symbol")["close"].transform("first")
    flat = 1.0 + 1e-4 * (np.arange(len(frame)) // len(SYMBOLS) % 2)
    rise = np.where(outside, 1.05 ** (np.arange(len(frame)) // len(SYMBOLS) % 50), 1.0)
    price = first * flat * rise
    planted = frame.assign(open=price, high=price, low=price, close=price)
    accounts = run(dated(planted))["accounts"]
    growth = (1.0 + accounts["return"]).groupby(accounts["account"]).prod()
    assert {"seed_0", "buy_and_hold", "equal_weight", "momentum", "ridge"} <= set(growth.index)
    assert (growth <= 1.0 + 1e-3).all()


def test_signals_close_what_has_left_and_leave_it_alone(pair: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    bars = dated(pair[0])
    agent = run(bars)["agent"]
    left = int(np.flatnonzero(bars.leavers.bars.present[:, 2])[0])  # first bar of CCC outside
    stamp = pd.Timestamp(bars.timestamps[left], tz="UTC").to_pydatetime()
    account = Account(cash=1e5, shares={"CCC": 100.0}, time=stamp)
    for last, held in ((left, 100.0), (left + 1, 0.0), (len(bars.timestamps) - 1, 0.0)):
        signals = newest_signals([agent], bars.rows(slice(0, last + 1)), SignalParameters(), account)
        found = signals.set_index("symbol").loc[["BBB", "CCC", "DDD"]]
        assert (found["target"] == 0.0).all()
        assert found["order"].tolist() == [0.0, -held, 0.0]
    assert "member" not in aligned_to_frame(newest_bars({agent.name: agent}, bars))
    session = DecisionSession([agent], traced=False)
    session.start(bars.rows(slice(0, left)))
    with pytest.raises(ValueError, match="start it again with a history of the newest table `universe`"):
        session.decide(bars.rows(slice(left, left + 1)))
