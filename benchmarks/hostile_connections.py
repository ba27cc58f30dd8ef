"""Connections to the served model that break HTTP: garbage, lies about sizes, slow and aborted bodies."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hostile_bodies import Hostile

WAIT = 90.0
POST = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
PING = b"GET /ping HTTP/1.1\r\nHost: x\r\n"
MEBIBYTE = 1024**2

Pieces = Callable[[bytes], Iterator[bytes]]
"""Given a whole good request, the pieces of bytes that are sent."""


@dataclass(frozen=True)
class Connection:
    """A connection of its own.

    Attributes:
        name: What is wrong with it.
        pieces: What is sent.
        statuses: Statuses that are right.
        silent: Whether it is closed before an answer.
        none: Whether no answer is right, too.
    """

    name: str
    pieces: Pieces
    statuses: tuple[int, ...] = (400,)
    silent: bool = False
    none: bool = False

    def answers(self, port: int, good: Hostile) -> list[tuple[int, str]]:
        """Send the pieces until the server hangs up; return status and body of every answer."""
        whole = POST + b"Content-Length: %d\r\n\r\n" % len(good.body) + good.body
        told = b""
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as connection:
            try:
                for piece in self.pieces(whole):
                    connection.sendall(piece)
                if self.silent:
                    return []
                connection.shutdown(socket.SHUT_WR) if self.none else None
                while not _is_whole(told) and (chunk := connection.recv(65536)):
                    told += chunk
            except ConnectionError:
                pass  # the server hung up
        found = re.split(rb"(?=HTTP/1\.1 \d{3})", told)
        answers = [(int(part[9:12]), part.partition(b"\r\n\r\n")[2].decode()) for part in found if part]
        return answers if answers or self.none else [(599, "no answer")]


def _is_whole(told: bytes) -> bool:
    """Whether the bytes hold a whole answer."""
    head, _, body = told.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return bool(length) and len(body) >= int(length.group(1))  # type: ignore[union-attr]


def _raw(*parts: bytes) -> Pieces:
    return lambda _: iter(parts)


def _chunks(count: int) -> Pieces:
    def pieces(_: bytes) -> Iterator[bytes]:
        yield POST + b"Transfer-Encoding: chunked\r\n\r\n"
        for _ in range(count):
            yield b"%x\r\n" % MEBIBYTE + b" " * MEBIBYTE + b"\r\n"
        yield b"0\r\n\r\n"

    return pieces


CONNECTIONS = (
    Connection("garbage", _raw(b"GARBAGE\r\n\r\n")),
    Connection("a greeting of TLS", _raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 99)),
    Connection("HTTP/0.9", _raw(b"GET /ping\r\n\r\n"), (200, 400)),
    Connection("HTTP/9.9", _raw(b"GET /ping HTTP/9.9\r\n\r\n"), (200, 400, 505), none=True),
    Connection("a gibibyte announced", _raw(POST + b"Content-Length: 1073741824\r\n\r\n"), (413,)),
    Connection(
        "a gibibyte, asking first", _raw(POST + b"Expect: 100-continue\r\nContent-Length: 1073741824\r\n\r\n"), (413,)
    ),
    Connection("20 MiB in chunks", _chunks(20), (413,)),
    Connection("a chunk of no size", _raw(POST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nx\r\n"), none=True),
    Connection("a negative length", _raw(POST + b"Content-Length: -1\r\n\r\n")),
    Connection("a length of 30 digits", _raw(POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n")),
    Connection("two lengths", _raw(POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}{")),
    Connection("length and chunks", _raw(POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
    Connection("a header of 200 kB", _raw(PING + b"X: " + b"y" * 200_000 + b"\r\n\r\n"), (200, 400, 431), none=True),
    Connection("bytes in the path", _raw(b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n"), (400, 404), none=True),
    Connection("a path without a slash", _raw(b"GET ping HTTP/1.1\r\nHost: x\r\n\r\n"), (400, 404), none=True),
    Connection("zeros in a header", _raw(PING + b"X: \0\0\r\n\r\n"), (200, 400), none=True),
    Connection("an upgrade", _raw(PING + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), (200, 400), none=True),
    Connection("left before the body", _raw(POST + b"Content-Length: 1000\r\n\r\n{"), silent=True),
    Connection("left before the answer", lambda whole: iter((whole,)), silent=True),
    Connection("left at once", _raw(), silent=True),
    Connection("byte by byte", lambda whole: (whole[i : i + 1] for i in range(200)), silent=True),
    Connection("in small pieces", lambda whole: (whole[i : i + 1000] for i in range(0, len(whole), 1000)), (200,)),
    Connection("a body that never ends", _raw(POST + b"Content-Length: 1000\r\n\r\n{"), (408,)),
)  # fmt: skip
