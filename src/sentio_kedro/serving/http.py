"""What ``mlflow models serve`` answers: predictions, or a status and one readable reason.

MLflow has no hook for its scoring server. Its own answers carry stack traces, file names and bare ``NaN``, it drops
unknown ``params``, and reads bodies of any size. So the model, loaded in the server's process before MLflow builds the
application, replaces the decorator that MLflow puts round the endpoint ``/invocations``. All else stays MLflow's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from http import HTTPStatus

from mlflow.pyfunc import scoring_server
from mlflow.version import VERSION
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

MAX_BYTES = 16 * 1024**2
MAX_SECONDS = 30.0  # until a body has arrived: MLflow answers 504 after 60
LONGEST = 4_000  # characters of a reason: it may quote the request
DECORATOR = "_async_catch_mlflow_exception"

Endpoint = Callable[[Request], Awaitable[Response]]

_logger = logging.getLogger(__name__)


def answer_by(respond: Callable[[bytes], str]) -> None:
    """Let MLflow's scoring server, which is not built yet, answer ``/invocations`` by ``respond``.

    Args:
        respond: Turns the body of a request into JSON; raises ``ValueError`` with the reason for what it refuses.

    Raises:
        RuntimeError: If the installed MLflow does not decorate its endpoint as expected.
    """
    if DECORATOR not in scoring_server.init.__code__.co_names:
        raise RuntimeError(
            f"MLflow {VERSION} builds its scoring server without `{DECORATOR}`, so its answers would carry stack "
            "traces; install the version that the model's requirements name."
        )
    endpoint = _endpoint(respond, ThreadPoolExecutor(1))  # a session decides in sequence: more threads hold more memory
    setattr(scoring_server, DECORATOR, lambda _: endpoint)


def _endpoint(respond: Callable[[bytes], str], thread: Executor) -> Endpoint:
    async def invocations(request: Request) -> Response:
        try:
            body = await _read_body(request)
            answer = await asyncio.get_running_loop().run_in_executor(thread, respond, body)
            return Response(answer, media_type="application/json")
        except HTTPException as refusal:
            return _refusal(refusal.status_code, refusal.detail)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody is left to read it
        except ValueError as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error))
        except Exception:
            _logger.exception("A request failed for a reason that is no fault of the request.")
            return _refusal(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "The server failed, which is no fault of the request; its log has the reason.",
            )

    return invocations


async def _read_body(request: Request) -> bytes:
    """Return the body, refusing at once what is announced as, or becomes, too large."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The header `Content-Type` must be application/json, was {kind[:60]!r}; send JSON.",
        )
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > MAX_BYTES:
        raise _too_large(f"was announced with {announced}")
    body = bytearray()
    try:
        async with asyncio.timeout(MAX_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise _too_large("had more")
    except TimeoutError as error:
        raise HTTPException(
            HTTPStatus.REQUEST_TIMEOUT,
            f"The body must arrive within {MAX_SECONDS:g} seconds, {len(body)} bytes had; send it again.",
        ) from error
    return bytes(body)


def _too_large(found: str) -> HTTPException:
    return HTTPException(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body must have at most {MAX_BYTES} bytes, {found}; give fewer bars.",
    )


def _refusal(status: int, reason: str) -> JSONResponse:
    """Return an answer that MLflow's clients read, without a stack."""
    code = "INTERNAL_ERROR" if status == HTTPStatus.INTERNAL_SERVER_ERROR else "BAD_REQUEST"
    content = {"error_code": code, "message": reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}..."}
    closing = {"Connection": "close"} if status == HTTPStatus.REQUEST_TIMEOUT else None
    return JSONResponse(content, status, closing)
