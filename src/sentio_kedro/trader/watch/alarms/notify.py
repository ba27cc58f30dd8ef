"""Messages to people, by apprise. What cannot be delivered is tried again, and costs a line in the log."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import SecretStr

from sentio_kedro.trader.watch.alarms.evaluate import Message
from sentio_kedro.trader.watch.alarms.store import Waiting

if TYPE_CHECKING:
    from apprise import NotifyType

logger = logging.getLogger(__name__)
PAUSE, LONGEST_PAUSE = 10.0, 300.0  # seconds between two deliveries to a target; doubled after each failure


@dataclass(frozen=True)
class Target:
    """Where messages go.

    Attributes:
        id: Stays the same after a restart, and tells nothing of the address.
        address: Of apprise.
    """

    id: str
    address: SecretStr


def targets_of(entries: Iterable[str], credentials: Mapping[str, SecretStr]) -> list[Target]:
    """Return the targets of ``trader.watch.notify``.

    Args:
        entries: Addresses, or names of credentials.
        credentials: Addresses by name.

    Raises:
        ValueError: If apprise does not know an address; the text names the entry and not the address.
    """
    import apprise  # noqa: PLC0415 - imports a hundred services

    found = []
    for number, entry in enumerate(entries, 1):
        address = credentials.get(entry, SecretStr(entry))
        name = entry if entry in credentials else f"target {number}"
        if apprise.Apprise.instantiate(address.get_secret_value()) is None:
            raise ValueError(
                f"Entry {number} of `trader.watch.notify` must be an address that apprise knows, such as "
                "json://127.0.0.1:8080 or mailto://..., or name an entry of conf/local/credentials.yml that has one "
                "under `url`; it is neither."
            )
        digest = hashlib.sha256(address.get_secret_value().encode()).hexdigest()[:12]
        found.append(Target(f"{name} {digest}", address))
    return found


class Notifier:
    """Delivers messages, at most one notification in ``PAUSE`` to a target, with all that waits for it."""

    def __init__(self, trader: str, targets: Sequence[Target], secrets: Sequence[SecretStr] = ()) -> None:
        """Take the targets.

        Args:
            trader: Name in the title.
            targets: Where messages go.
            secrets: What no message may hold, besides the addresses.
        """
        self._trader, self._targets = trader, tuple(targets)
        self._secrets = [*(secret.get_secret_value() for secret in secrets)]
        self._due: dict[str, float] = {}
        self._pause: dict[str, float] = {}
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its warnings may hold addresses

    def waiting(self, messages: Iterable[Message]) -> list[Waiting]:
        """Log messages and address them to all targets."""
        everywhere, waiting = tuple(target.id for target in self._targets), []
        for message in messages:
            clean = replace(message, text=self._clean(message.text))
            level = logging.WARNING if message.kind == "raised" and message.severity != "info" else logging.INFO
            logger.log(level, "%s %s: %s", message.name, message.kind, clean.text)
            waiting.append(Waiting(clean, everywhere))
        return waiting if everywhere else []

    async def deliver(self, waiting: Sequence[Waiting], now: float) -> tuple[Waiting, ...]:
        """Deliver what is due.

        Args:
            waiting: Messages with their targets, the oldest first.
            now: Seconds since 1970.

        Returns:
            What still waits.
        """
        for target in self._targets:
            mine = [item.message for item in waiting if target.id in item.targets]
            if not mine or now < self._due.get(target.id, 0.0):
                continue
            delivered = await asyncio.to_thread(self._send, target, mine)
            pause = PAUSE if delivered else min(LONGEST_PAUSE, 2.0 * self._pause.get(target.id, PAUSE / 2.0))
            self._due[target.id], self._pause[target.id] = now + pause, pause
            if delivered:
                waiting = [
                    replace(item, targets=tuple(name for name in item.targets if name != target.id)) for item in waiting
                ]
            else:
                logger.warning("%s did not take %d messages; tried again in %g s.", target.id, len(mine), pause)
        known = {target.id for target in self._targets}
        return tuple(item for item in waiting if known.intersection(item.targets))

    def _send(self, target: Target, messages: Sequence[Message]) -> bool:
        import apprise  # noqa: PLC0415 - see above

        sender = apprise.Apprise()
        sender.add(target.address.get_secret_value())
        title, body = self.text(messages)
        return bool(sender.notify(body=body, title=title, notify_type=_type(messages)))

    def text(self, messages: Sequence[Message]) -> tuple[str, str]:
        """Return title and body of a notification."""
        first = messages[0]
        others = f" and {len(messages) - 1} more" if len(messages) > 1 else ""
        title = f"[{self._trader}] {first.name} {first.kind}{others}"
        return title, "\n\n".join(f"{item.name} {item.kind} ({item.severity}): {item.text}" for item in messages)

    def _clean(self, text: str) -> str:
        for secret in (*self._secrets, *(target.address.get_secret_value() for target in self._targets)):
            text = text.replace(secret, "***") if secret else text
        return text


def _type(messages: Sequence[Message]) -> NotifyType:
    from apprise import NotifyType  # noqa: PLC0415 - see above

    raised = {message.severity for message in messages if message.kind == "raised"}
    if "critical" in raised:
        return NotifyType.FAILURE
    if "warning" in raised:
        return NotifyType.WARNING
    return NotifyType.INFO if raised else NotifyType.SUCCESS
