"""Requests of a person to a running trader: small files beside the journal, each applied once.

``kedro trader halt`` and its like write one and wait until the journal says that it took effect; without a running
trader they append the fact themselves. The trader looks before every order that it sends.
"""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from sentio_kedro.atomic import replaced_file
from sentio_kedro.damage import fault_in_words

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What a person asks for.

    Attributes:
        id: Unique; the key of the fact that answers it.
        kind: ``active`` (resume), ``reducing``, ``halted`` or ``adopt``.
        reason: Why, in a person's words.
        by: User and host.
        at: When, seconds since 1970.
    """

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    kind: Literal["active", "reducing", "halted", "adopt"]
    reason: str
    by: str
    at: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


_REQUEST = TypeAdapter(Request)


def folder_of(journal: Path) -> Path:
    """Return the folder of a journal's requests, ``replay.requests``."""
    return journal.with_suffix(".requests")


def ask(journal: Path, request: Request) -> None:
    """Leave a request beside a journal; it appears whole or not at all.

    Raises:
        ValueError: If it is none.
        OSError: If it cannot be written.
    """
    content = _REQUEST.dump_json(_REQUEST.validate_python(asdict(request)))
    with replaced_file(_file(journal, request)) as partial:
        partial.write_bytes(content)


def pending(journal: Path) -> list[Request]:
    """Return the requests that wait, the oldest first; a directory listing when there are none.

    A file that is no request is reported once and set aside: its name gets the ending ``.refused``.
    """
    try:
        names = [name for name in os.listdir(folder_of(journal)) if name.endswith(".json") and name[0] != "."]
    except FileNotFoundError:
        return []
    found = [_read(folder_of(journal) / name) for name in names]
    return sorted((one for one in found if one is not None), key=lambda one: (one.at, one.id))


def set_aside_stale(journal: Path) -> None:
    """Set aside what was asked of a trader that has ended, but for ``halted`` and ``reducing``: they add no risk."""
    for request in pending(journal):
        if request.kind not in ("halted", "reducing"):
            logger.error(
                "Request %s of %s to an earlier process (%s) is set aside.", request.kind, request.by, request.id
            )
            _set_aside(_file(journal, request))


def done(journal: Path, request: Request) -> None:
    """Remove a request that the journal has."""
    _file(journal, request).unlink(missing_ok=True)


def _file(journal: Path, request: Request) -> Path:
    return folder_of(journal) / f"{request.id}.json"


def _read(path: Path) -> Request | None:
    """Return the request of a file; None if it is none, or has gone since it was listed."""
    try:
        request = _REQUEST.validate_json(path.read_bytes())
        if request.id != path.stem:
            raise ValueError(f"it has the id {request.id}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.error("The request `%s` %s and is set aside.", path, fault_in_words(error))
        _set_aside(path)
        return None
    return request


def _set_aside(path: Path) -> None:
    path.replace(path.with_suffix(".refused"))
