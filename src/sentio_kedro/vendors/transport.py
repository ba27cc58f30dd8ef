"""Polite requests: a rate, a time limit, waiting and asking again; what is no data is refused in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException
from typing import Any, Protocol
from urllib.parse import urlsplit

from sentio_kedro.vendors.contract import Clock, VendorError

TRIES = 5
TIMEOUT = 30.0  # seconds without an answer
LONGEST_WAIT = 900.0  # seconds; a vendor that asks for more is asked again by the next run
_AGAIN = {408, 418, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524}
_SHOWN = 200  # characters of an answer
_OK, _BAD = 200, 400


class Reply(Protocol):
    """What an HTTP client returns."""

    status_code: int
    headers: Mapping[str, str]
    text: str


class Transport:
    """Sends the requests of one vendor.

    Attributes:
        venue_time: The vendor's clock, seconds since 1970, as of its last answer; None before the first.
    """

    def __init__(
        self,
        vendor: str,
        per_minute: float,
        secrets: tuple[str, ...] = (),
        clock: Clock | None = None,
        *,
        tries: int = TRIES,
        timeout: float = TIMEOUT,
    ) -> None:
        """Take the vendor's name, the largest number of requests a minute and what no message may hold.

        Args:
            vendor: Name for messages.
            per_minute: Largest number of requests a minute.
            secrets: What no message may hold.
            clock: Time and waiting; null is the system's.
            tries: How often a request is made before it has failed.
            timeout: Seconds without an answer.
        """
        self.clock = clock or Clock()
        self.venue_time: float | None = None
        self._vendor = vendor
        self._pause = 60.0 / per_minute
        self._secrets = secrets
        self._next = 0.0
        self._tries, self._timeout = tries, timeout

    def now(self) -> float:
        """Return the vendor's clock, or ours before its first answer; seconds since 1970."""
        return self.clock.now() if self.venue_time is None else self.venue_time

    def attach(
        self,
        session: Any,
        moved: Callable[[str], str] = str,
        data: Callable[[str], bool] | None = None,
        keys: tuple[str, ...] = (),
        own: tuple[int, ...] = (),
    ) -> None:
        """Make a session of ``requests``, or one like it, send its requests through this transport.

        The client libraries then see good answers only: retries of their own never begin.

        Args:
            session: The session of a client library.
            moved: Gives the address to send to for the one that the library asks for.
            data: Tells which addresses hold data as JSON; others are passed on as they are. Null is all.
            keys: The JSON must hold one of these; empty takes any.
            own: Statuses that the library answers itself.
        """
        send = session.request

        def request(method: str, url: str, **options: Any) -> Any:
            target, options = moved(url), {**options, "timeout": self._timeout}
            if data is not None and not data(target):
                return send(method, target, **options)
            fault = partial(fault_of_json, keys=keys)
            return self.reply(lambda: send(method, target, **options), target, fault, own)

        session.request = request

    def reply(
        self, send: Callable[[], Any], url: str, fault: Callable[[str], str | None], own: tuple[int, ...] = ()
    ) -> Any:
        """Return the first good answer to a request.

        Args:
            send: Sends it.
            url: Its address, of which messages show host and path.
            fault: Returns what is wrong with the text of an answer, or None.
            own: Statuses that are good, too.

        Raises:
            VendorError: If the vendor refuses, or no answer is good.
        """
        problem = ""
        for attempt in range(self._tries):
            self._wait_for_turn()
            answer, problem = self._answer(send, fault)
            if not problem or (answer is not None and answer.status_code in own):
                return answer
            if answer is not None and _BAD <= answer.status_code and answer.status_code not in _AGAIN:
                raise VendorError(self._text(url, problem, answer.status_code, 1))
            if attempt + 1 < self._tries:
                self.clock.sleep(self._wait(answer, attempt, url))
        raise VendorError(self._text(url, problem, 0 if answer is None else answer.status_code, self._tries))

    def _wait_for_turn(self) -> None:
        wait = self._next - self.clock.now()
        if wait > 0.0:
            self.clock.sleep(wait)
        self._next = self.clock.now() + self._pause

    def _answer(self, send: Callable[[], Any], fault: Callable[[str], str | None]) -> tuple[Any, str]:
        try:
            answer = send()
        except (OSError, HTTPException) as error:  # of requests, curl_cffi and urllib; its text may hold the address
            return None, f"the connection failed ({type(error).__name__})"
        date = answer.headers.get("Date")
        if date:
            try:
                self.venue_time = parsedate_to_datetime(date).timestamp()
            except ValueError:
                self.venue_time = None
        if answer.status_code != _OK:
            return answer, f"the answer has status {answer.status_code}: {self._shown(answer.text)}"
        wrong = fault(answer.text)
        return answer, "" if wrong is None else f"the answer of status 200 {wrong}: {self._shown(answer.text)}"

    def _shown(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return repr(" ".join(text[: 2 * _SHOWN].split())[:_SHOWN])

    def _wait(self, answer: Any, attempt: int, url: str) -> float:
        """Return seconds to wait: what the vendor asks for, else 1, 2, 4, ... with jitter."""
        asked = None if answer is None else answer.headers.get("Retry-After")
        wait = (0.5 + self.clock.chance()) * 2.0**attempt if asked is None else self._seconds(asked)
        if wait > LONGEST_WAIT:
            problem = f"the vendor asks to wait for {wait:,.0f} s"
            raise VendorError(self._text(url, problem, answer.status_code, attempt + 1))
        return wait

    def _seconds(self, asked: str) -> float:
        try:
            return max(float(asked), 0.0)
        except ValueError:
            pass
        try:
            return max(parsedate_to_datetime(asked).timestamp() - self.now(), 0.0)
        except ValueError:
            return 1.0

    def _text(self, url: str, problem: str, status: int, tries: int) -> str:
        parts = urlsplit(url)
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        return f"`{self._vendor}` must answer with bars at {address}, in {tries} tries {problem}; {_remedy(status)}"


def _remedy(status: int) -> str:
    known = {
        0: "check the network, then type the same command, which continues",
        200: "open the address in a browser: it may have moved, or want a login",
        401: "check the vendor's entry in conf/local/credentials.yml",
        403: "check the vendor's entry in conf/local/credentials.yml and what your plan allows",
        404: "check the symbol and `interval`",
        418: "lower `rate.per_minute`, wait, then type the same command, which continues",
        429: "lower `rate.per_minute`, wait, then type the same command, which continues",
    }
    again = "try later: the same command continues"
    return f"{known.get(status, again if status in _AGAIN else 'change what it refuses, such as the span')}."


def fault_of_json(text: str, keys: tuple[str, ...] = ()) -> str | None:
    """Return what is wrong with an answer that must be JSON with one of ``keys``, or None."""
    if text.lstrip()[:1] == "<":
        return "is a page, not data"
    try:
        content = json.loads(text)
    except ValueError:
        return "is no whole JSON"
    if keys and not (isinstance(content, dict) and any(content.get(key) is not None for key in keys)):
        return f"has no `{'`, `'.join(keys)}`"
    return None
