"""The time, asked for in one place."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from sentio_kedro.trader.stamps import seconds_of, stamp_of

__all__ = ["Clock", "ReplayClock", "SystemClock", "seconds_of", "stamp_of"]


class Clock(Protocol):
    """Where the trader asks for the time."""

    def now(self) -> float:
        """Return seconds since 1970, UTC."""
        ...

    async def wait_until(self, when: float) -> None:
        """Return at ``when``, or as soon as another task has run if that is past."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return seconds since 1970, UTC."""
        return time.time()

    async def wait_until(self, when: float) -> None:
        """Return at ``when``."""
        await asyncio.sleep(max(0.0, when - time.time()))


class ReplayClock:
    """A clock that recorded bars move: waiting jumps to the end of the wait."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        """Return the latest time that anybody waited for."""
        return self._now

    def set(self, when: float) -> None:
        """Move on to ``when``, never back."""
        self._now = max(self._now, when)

    async def wait_until(self, when: float) -> None:
        """Jump to ``when``."""
        self.set(when)
        await asyncio.sleep(0)
