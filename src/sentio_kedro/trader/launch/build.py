"""The parts of a trader, as its parameters name them. Vendors' libraries are imported by their own adapter alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import SecretStr

from sentio_kedro.config.live.trader import TraderParameters
from sentio_kedro.trader.brokers.simulated import SimulatedBroker
from sentio_kedro.trader.clock import Clock, ReplayClock, SystemClock
from sentio_kedro.trader.contract import Broker, Decider, Feed
from sentio_kedro.trader.launch.models import ChosenAgents, require_source
from sentio_kedro.trader.lease import Lease, LeasedBroker
from sentio_kedro.trader.state import Rules

if TYPE_CHECKING:
    from sentio_kedro.market.ingestion.aligned_bars import AlignedBars

_INTERVAL = re.compile(r"(\d+)([mhd])")
_SECONDS = {"m": 60.0, "h": 3_600.0, "d": 86_400.0}


def interval_seconds(interval: str) -> float:
    """Return the length of a bar such as ``30m``, seconds.

    Raises:
        ValueError: If it is none.
    """
    read = _INTERVAL.fullmatch(interval)
    if read is None or not int(read[1]):
        raise ValueError(f"`trader.feed.interval` must be a length such as 1m, 30m, 1h or 1d, was {interval!r}.")
    return int(read[1]) * _SECONDS[read[2]]


def broker_of(
    parameters: TraderParameters,
    credentials: Mapping[str, SecretStr],
    symbols: Sequence[str],
    bar_seconds: float,
    clock: Clock,
) -> Broker:
    """Return the venue that parameters name.

    Args:
        parameters: The trader.
        credentials: Of the venue: ``api_key`` and ``secret_key``.
        symbols: What is traded.
        bar_seconds: Length of a bar.
        clock: The time.

    Raises:
        ValueError: If credentials are missing.
    """
    chosen, paper = parameters.broker, parameters.mode != "live"
    if chosen.type == "simulated":
        return SimulatedBroker(clock)
    if chosen.type == "alpaca":
        from sentio_kedro.trader.brokers.alpaca_markets import AlpacaBroker  # noqa: PLC0415 - of the extra `alpaca`

        return AlpacaBroker(chosen, parameters.orders, credentials, paper=paper, bar_seconds=bar_seconds, clock=clock)
    from sentio_kedro.trader.brokers.exchanges import ExchangeBroker  # noqa: PLC0415 - of the extra `crypto`

    return ExchangeBroker(chosen, parameters.orders, symbols, credentials, sandbox=paper, clock=clock)


def live_feed_of(
    parameters: TraderParameters,
    credentials: Mapping[str, SecretStr],
    symbols: Sequence[str],
    interval: str,
    calendar: str | None,
    clock: Clock,
) -> Feed:
    """Return the live feed that parameters name.

    Args:
        parameters: The trader.
        credentials: Of the feed's vendor.
        symbols: What agents read.
        interval: Length of a bar, such as ``30m``.
        calendar: The agents' exchange; null never closes.
        clock: The time.
    """
    if parameters.feed.type == "alpaca":
        from sentio_kedro.trader.feeds.alpaca_stream import AlpacaFeed  # noqa: PLC0415 - of the extra `alpaca`

        return AlpacaFeed(parameters.feed, symbols, interval, credentials, clock, calendar or "XNYS")
    from sentio_kedro.trader.feeds.polling import PollingFeed  # noqa: PLC0415 - of the extra `crypto`

    return PollingFeed(parameters.feed, symbols, interval, quote=parameters.broker.quote, clock=clock)


class Project(Protocol):
    """What an environment of the project gives."""

    @property
    def parameters(self) -> TraderParameters:
        """The section ``trader``."""
        ...

    def credentials(self, entry: str | None) -> dict[str, SecretStr]:
        """Return an entry of ``credentials.yml``."""
        ...

    def load(self, name: str) -> Any:
        """Load a dataset."""
        ...

    def aligned(self, dataset: str) -> AlignedBars:
        """Return bars as the pipelines align them."""
        ...

    def agents(self) -> ChosenAgents:
        """Return the agents that trade."""
        ...


@dataclass(frozen=True)
class Parts:
    """A trader before it starts.

    Attributes:
        chosen: Its agents.
        decider: The same, following bars.
        feed: Its bars.
        broker: Its venue.
        clock: Its time.
        bar_seconds: Length of a bar.
        calendar: Exchange whose sessions bars are expected in; null never closes.
        account: State that a simulation begins with; null opens an account.
        lease: The right to trade, to be taken; null needs none.
        note: What a person should know of the feed; empty if there is nothing.
    """

    chosen: ChosenAgents
    decider: Decider
    feed: Feed
    broker: Broker
    clock: Clock
    bar_seconds: float
    calendar: str | None = None
    account: Mapping[str, Any] | None = None
    lease: Lease | None = None
    note: str = ""


def parts_of(project: Project) -> Parts:
    """Return the parts of the trader that a project's parameters name; nothing is connected yet.

    Raises:
        ValueError: If agents, bars or credentials are missing or do not fit.
    """
    from sentio_kedro.trader.decider import SessionDecider  # noqa: PLC0415 - torch

    parameters, chosen = project.parameters, project.agents()
    decider = SessionDecider(chosen.agents, parameters.name, chosen.name)
    if parameters.mode == "replay":
        return _replay(project, chosen, decider)
    spec, clock = chosen.agents[0].spec, SystemClock()
    interval = interval_of(parameters.feed.interval, spec.bars_per_session, spec.trading.calendar)
    seconds = interval_seconds(interval)
    keys = project.credentials(parameters.broker.credentials)
    calendar = spec.trading.calendar or ("XNYS" if parameters.feed.type == "alpaca" else None)
    feed = live_feed_of(parameters, keys, decider.symbols, interval, calendar, clock)
    note = require_source(spec.source, feed.source, parameters.feed.source)
    broker = broker_of(parameters, keys, decider.symbols, seconds, clock)
    lease = None if parameters.lease is None else Lease(_address(project, parameters.lease), parameters.name)
    leased = broker if lease is None else LeasedBroker(broker, lease)
    return Parts(chosen, decider, feed, leased, clock, seconds, calendar, lease=lease, note=note)


def _replay(project: Project, chosen: ChosenAgents, decider: Decider) -> Parts:
    """Replay recorded bars, from the account that the backtest saved or from a stamp with a new one."""
    import numpy as np  # noqa: PLC0415

    from sentio_kedro.market.ingestion.timestamps import most_common_gap  # noqa: PLC0415 - pandas
    from sentio_kedro.trader.feeds.replay import ReplayFeed, before_lockbox, last_block  # noqa: PLC0415

    given, spec, clock = project.parameters.feed, chosen.agents[0].spec, ReplayClock()
    bars = project.aligned(given.dataset)
    account: Mapping[str, Any] | None = None
    start, closing, stop = given.start, None, None
    if given.start == "test":
        folds = project.load("folds")
        require_last_fold(spec.fold, [fold.number for fold in folds.folds])
        start, closing, stop = last_block(folds, bars, spec.trading.orders.latency_bars)
        account = project.load("account_states").get(f"fold_{spec.fold}")
        if account is None:
            raise ValueError(
                f"`account_states` must have an account of fold_{spec.fold}; run `kedro run --pipeline backtest`."
            )
    elif given.dataset == "bars":
        bars = before_lockbox(project.load("folds"), bars)
    pace = None if given.speed == "max" else SystemClock()
    speed = math.inf if given.speed == "max" else given.speed
    feed = ReplayFeed(bars, start, clock, stop=stop, closing=closing, pace=pace, speed=speed)
    seconds = float(most_common_gap(bars.timestamps) / np.timedelta64(1, "s"))
    return Parts(chosen, decider, feed, SimulatedBroker(clock), clock, seconds, account=account)


def require_last_fold(fold: int, folds: Sequence[int]) -> None:
    """Refuse to replay the last test block with agents of an earlier fold, whose account stands elsewhere.

    Raises:
        ValueError: If they are of another fold than the last of ``folds``.
    """
    if fold != folds[-1]:
        raise ValueError(
            f"`trader.feed.start: test` is the last test block, of fold {folds[-1]}, and the agents are of fold "
            f"{fold}; set `trader.fold` to null, or name the stamp to start at."
        )


def interval_of(given: str | None, bars_per_session: float | None, calendar: str | None) -> str:
    """Return the length of the agents' bars, such as ``30m``.

    Args:
        given: The parameter; null asks the agents, whose exchange's sessions leave it open unless bars are daily.
        bars_per_session: Of the bars that agents were trained on; null if unknown.
        calendar: Their exchange; null never closes.

    Raises:
        ValueError: If nobody says it, or the agents say otherwise: their features look back by bars.
    """
    own = None
    if bars_per_session == 1.0:
        own = "1d"
    elif bars_per_session is not None and calendar is None:
        minutes = round(1_440 / bars_per_session)
        own = f"{minutes}m" if minutes % 60 else f"{minutes // 60}h"
    if given is None and own is None:
        raise ValueError(
            "`trader.feed.interval` must be the length of the agents' bars, such as 30m, was null; sessions of an "
            "exchange do not tell it."
        )
    if given is not None and own is not None and interval_seconds(given) != interval_seconds(own):
        raise ValueError(
            f"`trader.feed.interval` must be {own}, the length of the agents' bars, was {given}: their features look "
            f"back by bars; leave it null, or train agents on bars of {given}."
        )
    return str(given or own)


def _address(project: Project, entry: str) -> SecretStr:
    """Return the database's address: an entry of the credentials, since it holds a password."""
    keys = project.credentials(entry)
    if "address" not in keys:
        raise ValueError(
            f"`{entry}` of conf/local/credentials.yml must hold `address`, such as postgresql://user@host/db."
        )
    return keys["address"]


async def rules_of(parameters: TraderParameters, parts: Parts) -> Rules:
    """Return the rules of a trader, with what its venue takes of each symbol."""
    symbols = parts.decider.symbols
    return Rules(
        name=parameters.name,
        symbols=symbols,
        bar_seconds=parts.bar_seconds,
        limits=parameters.limits,
        orders=parameters.orders,
        lattices=await parts.broker.lattices(symbols),
        crosses_zero=parts.broker.crosses_zero,
        simulated=parts.broker.simulated,
    )
