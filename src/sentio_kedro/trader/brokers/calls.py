"""Blocking requests of a client library: off the event loop, once, within a time limit, with an answer in any case."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

THREADS = 16
"""Requests at the same time; as many may hang until their time is over before others wait."""
_REFUSALS = range(400, 500)
_UNDECIDED = {408, 425, 429, 499}  # a gateway spoke, not the venue
_SHOWN = 200  # characters of an answer


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Attributes:
        kind: ``good``; ``refused``, a 4xx answer with the venue's own reason; ``none``, everything else: no answer, or
            one that does not say whether the request was carried out.
        body: Content of a good answer.
        status: HTTP status; 0 without an answer.
        reason: What was wrong.
    """

    kind: str
    body: Any = None
    status: int = 0
    reason: str = ""


class Calls:
    """Makes the requests of one venue.

    A request whose time is over while it waits for a thread is never made; one that is under way by then ends by the
    time limits of its connection.
    """

    def __init__(self, name: str, limit: float, failures: type[Exception], secrets: Collection[str]) -> None:
        """Take a name for the threads, the time for one request, the library's error, and what no text may hold."""
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=name)
        self._limit, self._failures, self._secrets = limit, failures, tuple(secrets)

    def limit(self, session: Any) -> None:
        """Give a session of ``requests`` a time limit, which it has not by itself."""
        send = session.request
        session.request = lambda method, url, **options: send(method, url, **{"timeout": self._limit, **options})

    async def ask(self, request: Callable[[], Any]) -> Answer:
        """Make a request once, by a function that returns the content of the answer."""
        running = asyncio.get_running_loop().run_in_executor(self._pool, request)
        try:
            async with asyncio.timeout(self._limit):
                return Answer("good", await running, 200)
        except TimeoutError:
            return Answer("none", reason=f"no answer within {self._limit:g} s")
        except self._failures as error:
            return self._answer(int(getattr(error, "status_code", None) or 0), str(error))
        except (OSError, ValueError) as error:  # of requests and json; their texts may hold addresses
            return Answer("none", reason=f"no whole answer ({type(error).__name__})")

    def _answer(self, status: int, text: str) -> Answer:
        reason = said(text)
        shown = self.shown(f"status {status}: {reason or text}")
        definite = bool(reason) and status in _REFUSALS and status not in _UNDECIDED
        return Answer("refused" if definite else "none", None, status, shown)

    def shown(self, text: str) -> str:
        """Return the begin of a text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())[:_SHOWN]

    def close(self) -> None:
        """Take no more requests."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def said(text: str) -> str:
    """Return the ``message`` of an answer in JSON, or an empty text."""
    try:
        content = json.loads(text)
    except ValueError:
        return ""
    message = content.get("message") if isinstance(content, dict) else None
    return message if isinstance(message, str) else ""
