"""A connection to a crypto exchange by the package ccxt, for orders and for bars.

It goes by the trader's clock, retries nothing, keeps secrets out of errors and takes nothing but JSON for an answer.

Symbols: an agent's ``BTC`` is ``BTC/USDT`` at the exchange if cash is USDT; a symbol with a slash is ccxt's own name.
What the agents do not trade goes by its currency.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import SecretStr

from sentio_kedro.trader.clock import Clock
from sentio_kedro.trader.orders import Outcome, UnreadableError
from sentio_kedro.vendors.exchanges import moved

CREDENTIALS = {"api_key": "apiKey", "secret_key": "secret", "passphrase": "password"}
"""Keys of an entry of ``conf/local/credentials.yml``, and ccxt's names of them."""

_BURST = 1.0  # seconds' worth of requests that may go at once
_BURSTS = {"binance": 20.0, "binanceus": 20.0}  # the same where the exchange counts by the minute
_logger = logging.getLogger(__name__)
_logger.setLevel(logging.WARNING)  # ccxt's lines for debugging have keys in them

_SETTINGS: dict[str, Any] = {
    "timeout_on_exit": 0,
    "enableRateLimit": True,
    "logger": _logger,
    "options": {
        "defaultType": "spot",
        "fetchMarkets": {"types": ["spot"]},
        "fetchMargins": False,
        "warnOnFetchOpenOrdersWithoutSymbol": False,
        "adjustForTimeDifference": True,  # a wrong clock halts by the limit on its skew, not here
        "maxRetriesOnFailure": 0,  # an order is sent once; aiohttp repeats only what changes nothing twice
    },
}

T = TypeVar("T")


class ExchangeClient:
    """An exchange of ccxt, asynchronous.

    Attributes:
        exchange: ccxt's object.
        symbols: ccxt's names by the agents' symbols.
        expected: What a request may raise; whatever it is, the request's effect is to be judged by ``outcome``.
    """

    def __init__(
        self,
        name: str,
        symbols: Sequence[str],
        quote: str,
        clock: Clock,
        *,
        timeout_seconds: float,
        url: str | None = None,
        sandbox: bool = False,
        credentials: Mapping[str, SecretStr] | None = None,
    ) -> None:
        """Prepare a connection; nothing is sent yet.

        Args:
            name: ccxt's name of the exchange.
            symbols: The agents' symbols.
            quote: Currency of the cash.
            clock: The trader's clock.
            timeout_seconds: Time for one request.
            url: Another address than the exchange's.
            sandbox: Whether to use the exchange's test network.
            credentials: Secrets by ``CREDENTIALS``; null asks for public data alone.

        Raises:
            ValueError: If the exchange, its test network, a symbol or a secret is not there.
        """
        import ccxt.async_support as ccxt  # noqa: PLC0415 - slow to import, and of the extra `crypto`

        if name not in ccxt.exchanges:
            raise ValueError(f"The exchange must be one that ccxt knows, was {name!r}; write binance or another.")
        self._quote = quote
        self.symbols = {symbol: self.name_of(symbol) for symbol in symbols}
        self._agents = {name: symbol for symbol, name in self.symbols.items()}
        self._clock, self._ccxt = clock, ccxt
        self._secrets = tuple(secret.get_secret_value() for secret in (credentials or {}).values())
        self.exchange: Any = getattr(ccxt, name)(_SETTINGS | _keys(name, credentials or {}))
        self.exchange.timeout = round(timeout_seconds * 1000)
        self._prepare(name, sandbox=sandbox, url=url)
        failures = (ccxt.BaseError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError)
        self.expected: tuple[type[Exception], ...] = failures  # the rest: an answer that ccxt cannot parse
        self._refusals = (
            ccxt.InsufficientFunds,
            ccxt.BadRequest,
            ccxt.OperationRejected,
            ccxt.AuthenticationError,
            ccxt.InvalidOrder,
            ccxt.InvalidNonce,  # a timestamp outside of the exchange's window
            ccxt.NotSupported,
            ccxt.ArgumentsRequired,
        )
        self.absent: type[Exception] = ccxt.OrderNotFound

    def _prepare(self, name: str, *, sandbox: bool, url: str | None) -> None:
        exchange, clock = self.exchange, self._clock
        if sandbox and url is None:
            try:
                exchange.set_sandbox_mode(True)
            except (self._ccxt.NotSupported, TypeError):
                raise ValueError(
                    f"`trader.broker.exchange` must have a test network in mode venue_paper, {name} has none; use mode "
                    "paper, which simulates orders on live bars."
                ) from None
        if url is not None:
            exchange.urls["api"] = moved(exchange.urls["api"], url)
        exchange.has["fetchCurrencies"] = False  # a key that may only trade is not let
        exchange.milliseconds = lambda: round(clock.now() * 1000)
        exchange.throttle = _paced(clock, exchange.rateLimit / 1000, _BURSTS.get(name, _BURST))
        exchange.fetch = self._strict(exchange.fetch)

    def _strict(self, fetch: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Refuse what is no JSON: ccxt reads the page of a proxy as an empty list, which means flat."""

        async def strict(*args: Any, **kwargs: Any) -> Any:
            answer = await fetch(*args, **kwargs)
            if not isinstance(answer, dict | list):
                raise self._ccxt.BadResponse(f"{self.exchange.id} answered with something else than JSON")
            return answer

        return strict

    async def ask(self, question: Awaitable[T]) -> T:
        """Return an answer.

        Raises:
            UnreadableError: If there is no definite one.
        """
        try:
            return await question
        except self.expected as error:
            raise UnreadableError(self.told(error)) from None

    def outcome(self, error: Exception) -> Outcome:
        """Return what an error says of a request that changes something.

        A definite answer alone is a refusal. A duplicate is none: the order may be there.
        """
        text = self.told(error)
        unsure = isinstance(error, self.absent | self._ccxt.DuplicateOrderId) or "duplicate" in text.lower()
        definite = isinstance(error, self._refusals) and not unsure
        return Outcome("refused" if definite else "unknown", reason=text)

    def told(self, error: Exception) -> str:
        """Return an error's text without keys and signatures."""
        text = re.sub(r"(https?://[^\s?]+)\?\S*", r"\1", f"{type(error).__name__} {error}")
        for secret in self._secrets:
            text = text.replace(secret, "**********")
        return text

    async def now(self) -> float:
        """Return the exchange's clock; later requests are dated by it.

        Raises:
            UnreadableError: If it does not tell.
        """
        told = await self.ask(self.exchange.fetch_time())
        if told is None:
            raise UnreadableError(f"{self.exchange.id} did not tell the time.")
        if "timeDifference" in self.exchange.options:
            self.exchange.options["timeDifference"] = self.exchange.milliseconds() - told
        return float(told) / 1000

    def name_of(self, symbol: str) -> str:
        """Return ccxt's name of a symbol.

        Raises:
            ValueError: If it is traded against another currency than the cash, or is no spot market.
        """
        name = symbol if "/" in symbol else f"{symbol}/{self._quote}"
        base, _, against = name.partition("/")
        if against != self._quote:
            raise ValueError(
                f"A symbol must be traded on the spot market against {self._quote} (`trader.broker.quote`), was "
                f"{symbol!r}; write {base} or {base}/{self._quote}, or set the quote currency."
            )
        return name

    def symbol_of(self, name: str) -> str:
        """Return the agents' symbol of a market by ccxt's name, or its currency if they do not trade it."""
        base, _, against = name.partition("/")
        return self._agents.get(name, base if against == self._quote else name)

    async def markets(self, symbols: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return ccxt's markets by symbol.

        Raises:
            UnreadableError: If the exchange does not tell.
            ValueError: If it does not trade a symbol.
        """
        known, names = (
            await self.ask(self.exchange.load_markets()),
            {symbol: self.name_of(symbol) for symbol in symbols},
        )
        for symbol, name in names.items():
            if name not in known:
                raise ValueError(
                    f"The symbol {symbol} must be traded at {self.exchange.id}, which has no {name}; set "
                    "`trader.broker.quote` to the currency it trades against, or take another exchange."
                )
        return {symbol: known[name] for symbol, name in names.items()}

    async def close(self) -> None:
        """Close the connection."""
        await self.exchange.close()


def _keys(exchange: str, credentials: Mapping[str, SecretStr]) -> dict[str, str]:
    strange = [key for key in credentials if key not in CREDENTIALS]
    if strange:
        raise ValueError(
            f"Credentials of {exchange} must be named {', '.join(CREDENTIALS)}, was {', '.join(strange)}; correct the "
            "entry in conf/local/credentials.yml."
        )
    return {CREDENTIALS[key]: secret.get_secret_value() for key, secret in credentials.items()}


def _paced(clock: Clock, seconds: float, burst: float) -> Callable[..., Awaitable[None]]:
    """Return ccxt's throttle by the trader's clock: requests go at once until ``burst`` seconds' worth is ahead."""
    free = -burst

    async def throttle(cost: float | None = None) -> None:
        nonlocal free
        now = clock.now()
        free = max(free, now - burst) + seconds * (1.0 if cost is None else cost)
        if free > now:
            await clock.wait_until(free)

    return throttle
