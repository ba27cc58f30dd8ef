"""Parameters of the trader: ``conf/<env>/parameters_trader.yml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sentio_kedro.config.fields import Count, NonNegative, Positive, PositiveFraction, parameters

Mode = Literal["replay", "paper", "venue_paper", "live"]


@parameters
class FeedParameters:
    """Where bars come from.

    Attributes:
        type: ``replay`` (a dataset of bars), ``alpaca`` or ``ccxt``.
        dataset: Of a replay: name of a dataset of bars in the catalog.
        start: Of a replay: ``test``, the first row of the last test block, or a stamp.
        speed: Of a replay: ``max``, or bars a second.
        interval: Length of a bar, such as ``30m``; null takes that of the agents' bars.
        exchange: Of ccxt: its name of the exchange.
        stream: Of Alpaca: ``iex`` or ``sip``.
        url: Another address than the vendor's.
        grace_seconds: Time after a bar's end within which all symbols must come; the missing are halted at that bar.
        max_gap_bars: Bars that may be missed before decisions stop until a person looks.
        source: The feed that these bars count as, such as ``alpaca-sip``: agents trained on another source refuse a
            feed unless it is named here.
    """

    type: Literal["replay", "alpaca", "ccxt"] = "replay"
    dataset: str = "bars"
    start: str = "test"
    speed: Literal["max"] | Positive = "max"
    interval: str | None = None
    exchange: str = "binance"
    stream: Literal["iex", "sip"] = "iex"
    url: str | None = None
    grace_seconds: NonNegative = 20.0
    max_gap_bars: Count = 5
    source: str | None = None


@parameters
class BrokerParameters:
    """Where orders go.

    Attributes:
        type: ``simulated``, ``alpaca`` or ``ccxt``.
        exchange: Of ccxt: its name of the exchange.
        quote: Of ccxt: currency of the cash.
        url: Another address than the vendor's.
        credentials: Entry of ``conf/local/credentials.yml``.
        session_hours: Of Alpaca: ``regular``, or ``extended`` for limit orders before and after the session.
    """

    type: Literal["simulated", "alpaca", "ccxt"] = "simulated"
    exchange: str = "binance"
    quote: str = "USDT"
    url: str | None = None
    credentials: str | None = None
    session_hours: Literal["regular", "extended"] = "regular"


@parameters
class SendingParameters:
    """How orders are sent.

    Attributes:
        style: ``auto`` (at the open for daily bars on an exchange, else marketable limits with a collar), ``open``,
            ``market`` or ``limit``.
        collar_bps: Distance of a limit from the decision's close, beyond which nothing is traded, bps.
        settle_seconds: Time over which an order without a definite answer is looked up three times.
        decide_within: Share of a bar's length after its end within which orders may be sent.
        timeout_seconds: Time for one request.
    """

    style: Literal["auto", "open", "market", "limit"] = "auto"
    collar_bps: Positive = 50.0
    settle_seconds: Positive = 10.0
    decide_within: PositiveFraction = 0.2
    timeout_seconds: Positive = 5.0


@parameters
class TraderLimits:
    """Limits before an order is sent; they know orders, positions, prices and money, and nothing of the model.

    Attributes:
        order_notional: Largest order, fraction of equity.
        symbol_exposure: Largest position, fraction of equity.
        gross: Largest sum of positions, fraction of equity.
        turnover_per_day: Largest sum of orders in 24 hours, multiples of equity.
        orders_per_minute: Largest number of orders in 60 seconds.
        price_deviation: Largest distance of the decision's close from the newest price known, fraction.
        daily_loss: Loss since the last close of the previous session beyond which positions are only reduced, fraction.
        drawdown: The same from the highest equity.
        max_denials: Denials in a row after which the trader halts.
        clock_skew_seconds: Largest difference from the venue's clock.
        symbols: Symbols that may be traded; null is all of the agents'.
        shorts: Whether positions may be short.
    """

    order_notional: Positive = 0.2
    symbol_exposure: Positive = 0.35
    gross: Positive = 1.0
    turnover_per_day: Positive = 3.0
    orders_per_minute: Count = 20
    price_deviation: PositiveFraction = 0.05
    daily_loss: PositiveFraction = 0.02
    drawdown: PositiveFraction = 0.10
    max_denials: Count = 3
    clock_skew_seconds: Positive = 2.0
    symbols: list[str] | None = None
    shorts: bool = True


@parameters
class WatchParameters:
    """The watching process.

    Attributes:
        host: Address that it listens on.
        port: Port.
        dead_after_bars: Bars without a closed one after which the trader counts as dead; 10 s are added.
        on_death: ``cancel`` all orders, ``flatten`` all positions too, or only raise the ``alert``.
        notify: Addresses of apprise; names of entries of ``conf/local/credentials.yml`` or ``json://`` addresses.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 9108
    dead_after_bars: Positive = 2.5
    on_death: Literal["cancel", "flatten", "alert"] = "cancel"
    notify: list[str] = Field(default_factory=list)


@parameters
class TraderParameters:
    """A trader.

    Attributes:
        name: Part of every order's id; one journal for each name.
        model: ``agents`` (the environment's own, of the last fold), ``champion`` or another alias, or a version.
        fold: Fold of ``agents``; null is the last.
        mode: ``replay``, ``paper`` (live feed, simulated broker), ``venue_paper`` (the venue's account) or ``live``.
        live_account: Id of the account that may be traded with money.
        feed: Where bars come from.
        broker: Where orders go.
        orders: How they are sent.
        limits: Limits before they are.
        watch: The watching process.
        journal: Its file.
        lease: Entry of ``conf/local/credentials.yml`` whose ``address`` is a PostgreSQL database that lets one host
            trade at a time; null is none.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")] = "replay"
    model: str = "agents"
    fold: Annotated[int, Field(ge=0)] | None = None
    mode: Mode = "replay"
    live_account: str | None = None
    feed: FeedParameters = Field(default_factory=FeedParameters)
    broker: BrokerParameters = Field(default_factory=BrokerParameters)
    orders: SendingParameters = Field(default_factory=SendingParameters)
    limits: TraderLimits = Field(default_factory=TraderLimits)
    watch: WatchParameters = Field(default_factory=WatchParameters)
    journal: str = "data/09_live/replay.sqlite"
    lease: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> TraderParameters:
        simulated, replayed = self.broker.type == "simulated", self.feed.type == "replay"
        if self.mode in ("replay", "paper") and not simulated:
            raise ValueError(
                f"`trader.broker.type` must be simulated in mode {self.mode}, was {self.broker.type}; set "
                "`trader.mode` to venue_paper for the venue's paper account."
            )
        if self.mode in ("venue_paper", "live") and simulated:
            raise ValueError(
                f"`trader.broker.type` must name a venue in mode {self.mode}, was simulated; write alpaca or ccxt."
            )
        if (self.mode == "replay") != replayed:
            raise ValueError(
                f"`trader.feed.type` must be replay in mode replay and a live feed in others, was {self.feed.type} in "
                f"mode {self.mode}; change one of them."
            )
        if self.mode == "live" and not self.live_account:
            raise ValueError(
                "`trader.live_account` must be the id of the account that is traded in mode live, was null; type it "
                "there. If you do not know it, type a guess: `kedro trader doctor` tells the venue's."
            )
        if self.mode == "live" and self.model != "champion":
            raise ValueError(
                f"`trader.model` must be champion in mode live, was {self.model}; promote a version by `kedro run "
                "--pipeline promotion`."
            )
        return self
