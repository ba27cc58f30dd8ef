"""One run of a trader from its parts, and the examination of the parts without sending anything."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sentio_kedro.config.live.trader import TraderParameters
from sentio_kedro.trader.clock import seconds_of, stamp_of
from sentio_kedro.trader.contract import Decision
from sentio_kedro.trader.identity import order_id
from sentio_kedro.trader.journal.store import Journal
from sentio_kedro.trader.launch.build import Parts, rules_of
from sentio_kedro.trader.limits import Exposure, check_all
from sentio_kedro.trader.orders import Holdings, Order, UnreadableError
from sentio_kedro.trader.runtime.trader import Trader
from sentio_kedro.trader.sessions import sessions_of
from sentio_kedro.trader.state import State

ENDING = (signal.SIGTERM, signal.SIGINT)


async def trade(parameters: TraderParameters, parts: Parts, journal: Path, facts: Mapping[str, Any]) -> State:
    """Trade until the feed ends, or the process is asked to stop: open orders stay, and the same command goes on.

    Args:
        parameters: The trader.
        parts: Its parts.
        journal: Its file.
        facts: Of this start, for the journal.

    Raises:
        ValueError: If another process writes the journal, another host has the lease, or the account is not the one
            that the parameters name, or nobody answers at the start.
    """
    with Journal(journal) as kept, _answering():
        try:
            if parts.lease is not None:
                facts = {**facts, "epoch": parts.lease.take()}
            await require_account(parameters, parts)
            rules = await rules_of(parameters, parts)
            trader = Trader(
                rules,
                kept,
                parts.broker,
                parts.feed,
                parts.decider,
                parts.clock,
                account=parts.account,
                facts=facts,
                sessions=sessions_of(parts.calendar, parts.clock.now()),
            )
            return await _until_stopped(trader)
        finally:
            await parts.feed.close()
            await parts.broker.close()
            if parts.lease is not None:
                parts.lease.close()


async def _until_stopped(trader: Trader) -> State:
    """Run, and end the run at the next pause if the system asks for it."""
    running, loop = asyncio.ensure_future(trader.run()), asyncio.get_running_loop()
    for number in ENDING:
        with suppress(NotImplementedError, RuntimeError):  # not in a thread, nor on every system
            loop.add_signal_handler(number, running.cancel)
    try:
        return await running
    except asyncio.CancelledError:
        return trader.state
    finally:
        for number in ENDING:
            with suppress(NotImplementedError, RuntimeError):
                loop.remove_signal_handler(number)


@contextmanager
def _answering() -> Iterator[None]:
    """Say in words that a feed or venue does not answer: without it a trader neither starts nor goes on."""
    try:
        yield
    except UnreadableError as error:
        raise ValueError(
            f"The feed or the venue must answer before anything is traded, it does not ({error}). See to the network, "
            "the keys, and `trader.feed.url` and `trader.broker.url`; nothing is lost, and the same command goes on."
        ) from error


async def require_account(parameters: TraderParameters, parts: Parts) -> str:
    """Return the account's id, and refuse money in another account than the one that was typed.

    Raises:
        ValueError: If it is another.
        UnreadableError: If the venue does not say.
    """
    account = await parts.broker.account_id()
    if parameters.mode == "live" and account != parameters.live_account:
        raise ValueError(
            f"`trader.live_account` must be the id of the venue's account, {account}, was {parameters.live_account}; "
            "correct it, or the credentials."
        )
    return account


async def examine(parameters: TraderParameters, parts: Parts) -> dict[str, Any]:
    """Return what a person should know before a start: nothing is sent, nothing is kept.

    Returns:
        Model, feed, newest bar and its age, offset of the venue's clock, account, limits, and the orders that would be
        sent now, each with the limit that would forbid it, and problems.

    Raises:
        ValueError: If the feed does not answer.
    """
    symbols = parts.decider.symbols
    with _answering():
        history, account = await parts.feed.history(parts.decider.required_bars), parts.account
    problems = [parts.note] if parts.note else []
    if not parts.broker.simulated:
        try:
            venue = await parts.broker.holdings()
            traded = {symbol: venue.shares[symbol] for symbol in symbols if venue.shares.get(symbol)}
            account = {"cash": venue.cash, "shares": traded}
        except UnreadableError as error:
            problems.append(f"The orders are those of a new account: {error}")
    decision = parts.decider.start(history, account, frozenset())
    holdings = Holdings(decision.cash, decision.shares) if account is parts.account else venue
    found: dict[str, Any] = {
        "trader": parameters.name,
        "mode": parameters.mode,
        "model": parts.chosen.name,
        "symbols": list(symbols),
        "feed": parts.feed.source,
        "newest_bar": decision.bar,
        "bar_seconds": parts.bar_seconds,
        "bar_age_seconds": parts.clock.now() - seconds_of(decision.bar),
        "time": stamp_of(parts.clock.now()),
        "limits": vars(parameters.limits),
    }
    try:
        found["broker"], found["account"] = parts.broker.name, await parts.broker.account_id()
        found["clock_offset_seconds"] = await parts.broker.now() - parts.clock.now()
        if not parts.broker.simulated:
            found["open_orders"] = [vars(order) for order in await parts.broker.open_orders()]
    except UnreadableError as error:
        problems.append(str(error))
    found["cash"], found["shares"] = holdings.cash, dict(holdings.shares)
    if parameters.mode == "live" and found.get("account") != parameters.live_account:
        problems.append(f"`trader.live_account` is {parameters.live_account}, the venue's is {found.get('account')}.")
    found["orders"] = _would_send(parameters, decision, holdings)
    found["problems"] = problems
    return found


def _would_send(parameters: TraderParameters, decision: Decision, holdings: Holdings) -> list[dict[str, Any]]:
    """Return the orders of a decision with what the limits say of each."""
    equity = holdings.cash + sum(s * decision.closes.get(name, 0.0) for name, s in holdings.shares.items())
    orders = [
        Order(order_id(parameters.name, decision.bar, symbol), decision.bar, symbol, shares, decision.closes[symbol])
        for symbol, shares in decision.orders.items()
    ]
    exposure = Exposure(equity, equity, equity, dict(holdings.shares), decision.closes)
    return [
        {"symbol": order.symbol, "shares": order.shares, "price": order.price, "denied": denied and vars(denied)}
        for order, denied in check_all(orders, exposure, parameters.limits)
    ]
