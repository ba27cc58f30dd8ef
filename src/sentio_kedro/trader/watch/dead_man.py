"""The dead-man switch: when a trader has died, its orders are cancelled by the venue's credentials alone."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sentio_kedro.config.live.trader import WatchParameters
from sentio_kedro.trader.clock import Clock
from sentio_kedro.trader.contract import Broker
from sentio_kedro.trader.orders import UnreadableError
from sentio_kedro.trader.watch.view import View

logger = logging.getLogger(__name__)
AGAIN = 1.0  # seconds after which a venue that did not answer is asked again
GIVE_UP = 60.0  # seconds after which the switch lets go, to be tried anew at the next look


@dataclass(frozen=True)
class Treated:
    """What came of a death.

    Attributes:
        done: Whether the venue says that no order is open, and after ``flatten`` that nothing is held.
        text: In words.
    """

    done: bool
    text: str


def death_of(view: View) -> str:
    """Return what makes a death one of its own: the last closed bar, and the start after it."""
    return f"{view.closed} {view.started:.0f}"


async def treat(
    on_death: WatchParameters | str,
    broker: Callable[[], Broker],
    clock: Clock,
    flatten: Callable[[Broker], Awaitable[bool]] | None = None,
) -> Treated:
    """Cancel all orders, or flatten, as ``trader.watch.on_death`` says; the venue is asked until it answers.

    Args:
        on_death: The parameters, or their ``on_death``.
        broker: Makes a connection.
        clock: The time.
        flatten: Closes all positions and returns whether nothing is held.

    Returns:
        What came of it. Not done: try again.
    """
    wanted = on_death if isinstance(on_death, str) else on_death.on_death
    if wanted == "alert":
        return Treated(True, "The trader is dead; nothing was done, as trader.watch.on_death is alert.")
    venue, begin = broker(), clock.now()
    try:
        while clock.now() - begin < GIVE_UP:
            if await _without_orders(venue):
                if wanted == "cancel" or flatten is None:
                    return Treated(True, "The trader is dead; all its orders are cancelled, positions stay.")
                if await flatten(venue):
                    return Treated(True, "The trader is dead; all orders are cancelled and all positions closed.")
                return Treated(False, "The trader is dead and not all positions could be closed yet.")
            await clock.wait_until(clock.now() + AGAIN)
        return Treated(False, "The trader is dead and the venue did not cancel all orders yet.")
    finally:
        await venue.close()


async def _without_orders(venue: Broker) -> bool:
    """Cancel all orders; return whether the venue says that none is left."""
    try:
        await venue.cancel_all()
        return not await venue.open_orders()
    except UnreadableError as error:
        logger.warning("The venue did not answer: %s", error)
        return False
