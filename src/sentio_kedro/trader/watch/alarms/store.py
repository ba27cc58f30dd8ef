"""What the watching process must not forget: a small file beside the journal, replaced whole."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sentio_kedro.atomic import replaced_file
from sentio_kedro.trader.watch.alarms.evaluate import Message, Standing, standing_of

logger = logging.getLogger(__name__)
KEPT = 200  # messages that wait for a target that fails


@dataclass(frozen=True)
class Waiting:
    """A message that some targets do not have yet.

    Attributes:
        message: The message.
        targets: Ids of these targets.
    """

    message: Message
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    """All of it.

    Attributes:
        standing: What is raised.
        waiting: Messages to deliver, the oldest first.
        death: Last closed bar of the death that was treated.
    """

    standing: Standing = field(default_factory=Standing)
    waiting: Sequence[Waiting] = ()
    death: str = ""


def memory_path(journal: Path) -> Path:
    """Return the file of a journal."""
    return journal.with_name(f"{journal.name}.watch.json")


def remember(journal: Path, memory: Memory) -> None:
    """Replace the file."""
    data = {
        "standing": memory.standing.data(),
        "waiting": [{"message": asdict(item.message), "targets": item.targets} for item in memory.waiting[-KEPT:]],
        "death": memory.death,
    }
    with replaced_file(memory_path(journal)) as path:
        path.write_text(json.dumps(data, indent=1), encoding="utf-8")


def recall(journal: Path) -> Memory | None:
    """Read the file; None if there is none, or none that can be read: alarms that stand are told once more then."""
    path = memory_path(journal)
    if not path.exists():
        return None
    try:
        return _memory_of(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError):
        logger.warning("%s cannot be read and is begun anew: alarms that stand are told again.", path.name)
        return None


def _memory_of(data: Mapping[str, Any]) -> Memory:
    waiting = tuple(Waiting(Message(**item["message"]), tuple(item["targets"])) for item in data["waiting"])
    return Memory(standing_of(data["standing"]), waiting, str(data["death"]))
